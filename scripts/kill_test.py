"""SIGKILL at random moments of a run, each then resumed: the final tables, scores and images must be those of an
undisturbed run, byte for byte. A moment is a random count of steps (images, rows, records, tables) that are done, and
a random hundredth of a second after it, so that moments spread over the whole run on a busy machine too.

    python scripts/kill_test.py OUT [--kills 20] [--seed 0] -- reproduce smfnet-table1 --sample
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from runs import contents, differences, finish, start


def state(folder: Path) -> dict[str, int]:
    """The steps that a run has done."""
    rows = 0
    for path in folder.glob("scores/*/*.csv*"):
        with contextlib.suppress(FileNotFoundError):  # a journal that is finished just now
            rows += max(0, path.read_bytes().count(b"\n") - 1)
    images = len(list(folder.glob("data/**/*.png"))) + len(list(folder.glob("fused/**/*.png")))
    records, tables = len(list(folder.glob("records/*.json"))), len(list(folder.glob("table.*")))
    return {"images": images, "rows": rows, "records": records, "tables": tables}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    split = sys.argv.index("--")
    options, arguments = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    whole = options.out / "whole"
    finish(start([*arguments, "--out", str(whole)]))
    wanted, steps = contents(whole), state(whole)
    print(f"undisturbed: {len(wanted)} files, {steps}", flush=True)
    chance, bad, number = random.Random(options.seed), 0, 0
    while number < options.kills:
        folder = options.out / f"killed-{number + 1}"
        shutil.rmtree(folder, ignore_errors=True)
        moment = chance.randrange(sum(steps.values()))
        run = start([*arguments, "--out", str(folder)])
        while run.poll() is None and sum(state(folder).values()) < moment:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.01))
        run.send_signal(signal.SIGKILL)
        run.communicate()
        if run.returncode != -signal.SIGKILL:
            continue  # it was faster
        number += 1
        before = state(folder)
        finish(start([*arguments, "--out", str(folder)]))
        different = differences(wanted, contents(folder))
        left = [path.name for path in folder.rglob("*") if path.name.endswith((".partial", ".lock"))]
        bad += bool(different or left)
        verdict = f"{len(different)} files differ {different[:3]}" if different or left else "identical"
        print(f"{number:2} killed after {before}: {verdict} {left or ''}", flush=True)
        shutil.rmtree(folder)
    print(f"{options.kills - bad} of {options.kills} resumed runs are byte-identical to the undisturbed one")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
