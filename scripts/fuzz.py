"""Damaged and hostile inputs for every reader: each gives its result or an EvalkitError, and does nothing else.

    python scripts/fuzz.py --count 10000            all readers; or name some: python scripts/fuzz.py images recipes

Of each case: no other exception, no crash of the process, no file written outside its own folder, no code run, no
program started (watched by an audit hook), at most SECONDS of computing and MEMORY. A case depends on reader, seed and
number alone: `--first 4711 --count 1` repeats one. Exit code 1 where a case failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

SECONDS, MEMORY = 10, 3 * 2**30  # of a case: computing time, and address space beyond that of the process before
WAIT = 300  # seconds that a case may take on a busy machine; one that waits for a pipe waits longer

# what is watched


class Watch:
    """Tells what a case did besides reading; Python cannot remove an audit hook, so it is switched."""

    ACTS = (
        *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.kill", "subprocess.Popen"),
        *("socket.connect", "socket.bind", "pickle.find_class", "ctypes.dlopen", "webbrowser.open"),
    )
    CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
    TRUSTED = tuple({*sysconfig.get_paths().values(), str(Path(__file__).resolve().parents[1]), "<frozen"})

    def __init__(self) -> None:
        self.folder = ""
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple) -> None:
        if not self.folder:
            return
        if event in self.ACTS or (event in self.CHANGES and not self.inside(arguments[0])):
            self.seen.append(f"{event} {arguments[:2]!r}"[:200])
        elif event == "open":
            path, mode, flags = arguments
            writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
            if flags & writes and not self.inside(path) and path != os.devnull:
                self.seen.append(f"open for writing: {path!r} {mode!r}"[:200])
        elif event in ("exec", "compile"):
            name = arguments[0].co_filename if event == "exec" else str(arguments[1])
            if not name.startswith(self.TRUSTED) and not _importing():
                self.seen.append(f"{event} of {name}")

    def inside(self, path: Any) -> bool:
        return isinstance(path, int) or os.path.realpath(os.fsdecode(path)).startswith(self.folder)


def _importing() -> bool:
    """Whether a module is being loaded: that runs code of the installation, not of the case."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


# the readers


def readers() -> dict[str, Callable[[Path], Any]]:
    import fuzz_readers

    return fuzz_readers.READERS


# running


def run(name: str, count: int, first: int, seed: int) -> dict[str, Any]:
    """Cases `first` to `first + count` of a reader. Findings are (case, what); the time is the longest of a case."""
    watch, found, longest, fine = Watch(), [], 0.0, 0
    with tempfile.TemporaryDirectory(prefix="evalkit-fuzz-") as folder:
        place = Path(os.path.realpath(folder))
        reader = readers()[name](place / "about")
        for file, content in reader.files:  # as they are they must be read; and what is imported late is now there
            (place / file).write_bytes(content)
            results = [_call(call, place / file) for call in reader.calls]
            if not any(result == "read" for result in results):
                raise SystemExit(f"{name}: the valid file {file} is not read: {results}")
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, _late)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for case in range(first, first + count):
            rng = Random(f"{name}-{seed}-{case}")
            file, content = rng.choice(reader.files)
            path = place / file
            path.write_bytes(rng.choice(reader.mutators)(content, rng))
            print(f"case {case}", file=sys.stderr, flush=True)
            watch.folder, watch.seen, started = str(place), [], time.process_time()
            for call in reader.calls:
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                signal.setitimer(signal.ITIMER_REAL, WAIT)
                result = _call(call, path)
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
                fine += result == "read"
                if result not in ("read", "refused"):
                    found.append((case, result))
            watch.folder = ""
            longest = max(longest, time.process_time() - started)
            found += [(case, f"did more than read: {act}") for act in watch.seen]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    return {"reader": name, "cases": count, "read": fine, "found": found, "seconds": longest, "mb": grown}


def _late(*_: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} s")


def _call(call: Callable[[Path], Any], path: Path) -> str:
    from evalkit.errors import EvalkitError

    try:
        call(path)
        return "read"
    except EvalkitError as error:
        str(error).encode(errors="backslashreplace")
        return "refused"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-3:]
        places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(where))
        return f"{type(error).__name__}: {str(error)[:150]!a} at {places}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", help=", ".join(readers()))
    parser.add_argument("--count", type=int, default=300, help="cases per reader")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=2025)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run(given.readers[0], given.count, given.first, given.seed)))
        return
    failed = False
    for name in given.readers or readers():
        arguments = [name, "--one", "--count", given.count, "--first", given.first, "--seed", given.seed]
        started = time.monotonic()
        # in a process of its own: a crash is a finding, and its limits are its own
        with tempfile.TemporaryFile("w+") as log:
            done = subprocess.run(
                [sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, stderr=log, text=True
            )
            log.seek(0)
            last = log.read().splitlines()[-3:]
        result = {"found": [(-1, f"the process ended with {done.returncode} at {last}")], "cases": 0}
        with contextlib.suppress(ValueError, IndexError):
            result = json.loads(done.stdout.splitlines()[-1])
        found = result["found"]
        failed |= bool(found)
        took = f"longest {result.get('seconds', 0):.2f} s, +{result.get('mb', 0)} MB"
        total = f"{time.monotonic() - started:.0f} s"
        print(f"{name}: {result['cases']} cases, {result.get('read', 0)} reads, {len(found)} findings, {took}, {total}")
        for what in dict.fromkeys(what for _, what in found):
            cases = [case for case, other in found if other == what]
            print(f"  {len(cases)} x {what}, e.g. case {cases[0]}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
