"""One worker here against a dask cluster of two workers, and against the same with a worker killed in mid-run.

python scripts/engine_test.py OUT [--after 200] -- reproduce smfnet-table1 --data-root DATA --datasets MSRS ...
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from runs import contents, dask_cluster, differences, finish, start


def lines_done(folder: Path) -> int:
    """Rows of scores that the run has written so far."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("scores/*/*.partial"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--after", type=int, default=200, help="a worker is killed each time so many more rows are done"
    )
    split = sys.argv.index("--")
    options, arguments = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    out = options.out
    begin = time.monotonic()
    finish(start([*arguments, "--engine", "local", "--workers", "1", "--out", str(out / "local")]))
    wanted = contents(out / "local")
    print(f"local, 1 worker: {len(wanted)} files, {time.monotonic() - begin:.0f} s", flush=True)
    bad = killed = 0
    for name, kills in (("dask", 0), ("dask-killed", 2)):
        with dask_cluster(2) as cluster:
            begin = time.monotonic()
            folder = out / name
            run = start([*arguments, "--engine", "dask", "--address", cluster.scheduler_address, "--out", str(folder)])
            for kill in range(kills):
                rows = lines_done(folder) + options.after
                while run.poll() is None and lines_done(folder) < rows:
                    time.sleep(0.02)
                if run.poll() is None:
                    pid = cluster.workers[kill].pid
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                    print(f"killed worker {pid} after {lines_done(folder)} rows of scores", flush=True)
            finish(run)
        different = differences(wanted, contents(folder))
        bad += len(different)
        print(
            f"{name}, 2 workers: {len(different)} files differ {different[:5]}, {time.monotonic() - begin:.0f} s",
            flush=True,
        )
    sys.exit(1 if bad or not killed else 0)


if __name__ == "__main__":
    main()
