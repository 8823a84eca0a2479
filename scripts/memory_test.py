"""Peak memory of a run on few and on many generated pairs: main process and workers together.

python scripts/memory_test.py OUT [--counts 50,5000] [--workers 2] [--size 64x64] [--methods average,laplacian]
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path

import numpy as np
from runs import finish, start

from evalkit.data.images import write_png


def write_pairs(root: Path, count: int, rows: int, columns: int) -> None:
    """A data set in TNO's layout."""
    ramp = np.linspace(0, 120, columns)[None] + np.linspace(0, 80, rows)[:, None]
    for i in range(count):
        random = np.random.default_rng(i)
        for role in ("ir", "vi"):
            image = np.clip(ramp + random.normal(20, 12, (rows, columns)), 0, 255).astype(np.uint8)
            write_png(root / "TNO" / role / f"{i:05d}.png", image)


def group_memory(group: int) -> dict[str, int]:
    """Bytes that the processes of a group hold now: command -> resident memory."""
    found: dict[str, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                kind = "main" if int(entry.name) == group else "workers"
                pages = int((entry / "statm").read_text().split()[1])
                found[kind] = found.get(kind, 0) + pages * os.sysconf("SC_PAGESIZE")
        except OSError:
            continue  # it just ended
    return found


def peak(arguments: list[str]) -> dict[str, int]:
    """The most that main process, workers and all together held during a run."""
    run = start(arguments, start_new_session=True)
    most: dict[str, int] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            now = group_memory(run.pid)
            for kind, size in (now | {"all": sum(now.values())}).items():
                most[kind] = max(most.get(kind, 0), size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    finish(run)
    ended.set()
    watcher.join()
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--counts", default="50,5000")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--size", default="64x64")
    parser.add_argument("--methods", default="average,laplacian")
    options = parser.parse_args()
    rows, columns = map(int, options.size.split("x"))
    all_together = []
    for count in map(int, options.counts.split(",")):
        root, out = options.out / f"data{count}", options.out / f"run{count}"
        write_pairs(root, count, rows, columns)
        arguments = ["reproduce", "smfnet-table1", "--datasets", "TNO", "--methods", options.methods]
        most = peak([*arguments, "--data-root", str(root), "--out", str(out), "--workers", options.workers])
        print(f"{count} pairs: " + ", ".join(f"{k} {v / 2**20:.0f} MiB" for k, v in sorted(most.items())), flush=True)
        all_together.append(most["all"])
    growth = all_together[-1] / all_together[0] - 1
    print(f"growth {100 * growth:+.1f} %")
    sys.exit(1 if growth > 0.2 else 0)


if __name__ == "__main__":
    main()
