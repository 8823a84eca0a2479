"""Workers of a cluster, as processes of their own, that see other files than the process that plans."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evalkit.data.images import write_png
from inject.faults import Bench, Outcome, fault, picture

HERE = Path("/proc/self/cwd")  # each process sees its own working folder there


@contextmanager
def cluster(views: list[Path], folder: Path) -> Iterator[str]:
    """A scheduler and a worker per view, each in a process of its own; the scheduler's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    port = address.rpartition(":")[2]
    started = [subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"], **quiet)]  # type: ignore[call-overload]
    paths = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    for number, view in enumerate(views):
        place = folder / f"worker{number}"
        command = [*dask, "worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
        command += ["--local-directory", str(place), "--name", f"view{number}"]
        environment = os.environ | {"PYTHONPATH": paths}
        started.append(subprocess.Popen(command, cwd=view, env=environment, **quiet))  # type: ignore[call-overload]
    try:
        from distributed import Client

        with Client(address, timeout=60) as client:
            client.wait_for_workers(len(views), timeout=60)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@fault("worker with other bytes")
def other_bytes(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """Two workers: of one, a role's images are others, or are not there."""
    if not HERE.is_dir():
        return
    bench = Bench(folder / "head")
    before = Path.cwd()
    for role in ("data/TNO/ir", "data/TNO/vi", "outputs/CDDFuse/TNO"):
        for missing in (False, True):
            view = folder / "view"
            shutil.rmtree(view, ignore_errors=True)
            for part in ("data", "outputs"):
                shutil.copytree(bench.folder / part, view / part)
            for path in (view / role).glob("*.png"):
                if missing:
                    path.unlink()
                else:
                    write_png(path, picture(500 + int(path.stem)))
            real = bench.data, bench.outputs
            with cluster([bench.folder, view], folder) as address:
                os.chdir(bench.folder)
                try:
                    bench.data, bench.outputs = HERE / "data", HERE / "outputs"
                    begin = time.monotonic()
                    told = bench.run(engine="dask", address=address, workers=None)
                finally:
                    bench.data, bench.outputs = real
                    os.chdir(before)
            says = "does not see" if missing else "sees other bytes in"
            named = "the worker tcp://" in told and f"{says} {HERE}/{role}/" in told
            outcome = bench.outcome(told, says)
            wrong = outcome.wrong or ("" if named else "worker or file are not named")
            yield (
                f"{role} {'without files' if missing else 'others'}, {time.monotonic() - begin:.0f} s",
                Outcome(wrong, told),
            )
