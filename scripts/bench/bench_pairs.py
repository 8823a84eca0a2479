"""A benchmark of very many small pairs on a dask cluster: what grows with their number in the process that starts it.

A scheduler, workers and the run itself are processes of their own; the run's memory is sampled from outside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from evalkit.data.images import write_png
from evalkit.engine.processes import in_processes
from evalkit.errors import EvalkitError

TEN = ("average", "maximum", "laplacian", "PCA", "DWT", "DTCWT", "contrast", "RP", "MSVD", "GFF")
CHEAP = ("EN", "SD", "SF", "AG")  # what is asked is the number of pairs, not the time of metrics
EVERY = 0.25  # seconds between two looks at the memory
CHUNK = 500  # pairs that a process writes at once


@dataclass(frozen=True)
class Sample:
    """The run at one moment: seconds since its start, its resident memory, its processor seconds, and how far it is."""

    seconds: float
    megabytes: float
    processor: float
    rows: int  # bytes of the journals of scores, which grow while pairs are measured


@dataclass(frozen=True)
class ManyPairs:
    """What the run of many pairs took."""

    pairs: int
    methods: int
    workers: int
    samples: list[Sample]
    run_megabytes: float  # of the run's folder, by the sizes of its files
    run_files: int

    def megabytes_at(self, share: float) -> float:
        """The most memory of the starting process in the tenth of the run around a share of its time."""
        end = self.samples[-1].seconds
        near = [s.megabytes for s in self.samples if abs(s.seconds / end - share) <= 0.05]
        return max(near)

    def seconds(self) -> dict[str, float]:
        """Wall seconds: the whole run, until the first row of scores, while rows came, and from then to the table."""
        moving = [s.seconds for s, after in zip(self.samples, self.samples[1:], strict=False) if after.rows > s.rows]
        end = self.samples[-1].seconds
        first, last = (moving[0], moving[-1]) if moving else (end, end)
        return {"whole": end, "fuse": first, "measure": last - first, "table": end - last}


def bench_pairs(
    folder: Path,
    pairs: int = 20_000,
    methods: Sequence[str] = TEN,
    size: int = 32,
    workers: int = 2,
    progress: Callable = lambda items, total, text: items,
) -> ManyPairs:
    """Generate pairs and run a benchmark of classical methods on them, by the workers of a cluster on this machine.

    Args:
        folder: for the images, the benchmark's file, the run and the logs; must not hold a run.
        pairs: how many.
        methods: names of classical methods.
        size: rows and columns of an image.
        workers: processes of the cluster, one thread each.
        progress: wraps the writing of the images.

    Raises:
        EvalkitError: the folder holds a run, or the run fails.
    """
    folder = folder.absolute()
    if (folder / "run").exists():
        raise EvalkitError(f"{folder} holds a run: name another folder.")
    starts = range(0, pairs, CHUNK)
    jobs = [(folder, start, min(start + CHUNK, pairs), size) for start in starts]
    for _ in progress(in_processes(write_pairs, jobs, workers), len(jobs), "write pairs"):
        pass
    bench = {
        "title": f"{pairs} generated pairs",
        "convention": "smfnet",
        "metrics": list(CHEAP),
        "datasets": {"many": {"infrared": "ir/{stem}", "visible": "vi/{stem}", "root": "data"}},
        "methods": dict.fromkeys(methods, "classical"),
    }
    (folder / "bench.yaml").write_text(json.dumps(bench, indent=1) + "\n", encoding="utf-8")
    with cluster(folder, workers) as file:
        arguments = ["reproduce", str(folder / "bench.yaml"), "--out", str(folder / "run")]
        with open(folder / "run.log", "wb") as log:
            run = subprocess.Popen(
                [sys.executable, "-m", "evalkit", *arguments, "--engine", "dask", "--scheduler-file", str(file)],
                stdout=log,
                stderr=log,
            )
            samples = list(watch(run, folder / "run"))
    if run.returncode not in (0, 3):  # 3: a value is not defined on a generated pair
        raise EvalkitError(f"the run ended with {run.returncode}: see {folder / 'run.log'}.")
    sizes = [path.stat().st_size for path in (folder / "run").rglob("*") if path.is_file()]
    return ManyPairs(pairs, len(methods), workers, samples, sum(sizes) / 2**20, len(sizes))


def write_pairs(job: tuple[Path, int, int, int]) -> None:
    """Generated pairs with these numbers: fields of random blobs with noise, the visible one in colour."""
    folder, start, stop, size = job
    for i in range(start, stop):
        random = np.random.default_rng(i)
        for role, channels in (("ir", 1), ("vi", 3)):
            blobs = cv2.resize(random.uniform(30, 220, (6, 6, channels)), (size, size), interpolation=cv2.INTER_CUBIC)
            image = blobs.reshape(size, size, channels) + random.normal(0, 6, (size, size, channels))
            image = np.clip(image, 0, 255).astype(np.uint8)
            write_png(folder / "data" / role / f"{i:06d}.png", image[..., 0] if channels == 1 else image)


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Path]:
    """A scheduler and its workers; the file that says where it is."""
    file, dask = folder / "scheduler.json", [sys.executable, "-m", "dask"]
    file.unlink(missing_ok=True)
    local = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    commands = [[*dask, "scheduler", "--port", "0", *local]]
    place = ["--local-directory", str(folder / "scratch")]
    commands += [[*dask, "worker", *local, "--nthreads", "1", "--no-nanny", *place]] * workers
    with open(folder / "cluster.log", "wb") as log:
        started = [subprocess.Popen(command, stdout=log, stderr=log) for command in commands]
    try:
        deadline = time.monotonic() + 60
        while not file.exists():
            if time.monotonic() > deadline or started[0].poll() is not None:
                raise EvalkitError(f"the scheduler did not start: see {folder / 'cluster.log'}.")
            time.sleep(0.1)
        yield file
    finally:
        for process in reversed(started):  # the scheduler last: workers that have lost it may never end by themselves
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def watch(run: subprocess.Popen, folder: Path) -> Iterator[Sample]:
    """Samples of a process until it ends."""
    start, ticks, page = time.monotonic(), os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGESIZE")
    while run.poll() is None:
        try:
            resident = int(Path(f"/proc/{run.pid}/statm").read_text().split()[1]) * page
            fields = Path(f"/proc/{run.pid}/stat").read_text().rpartition(")")[2].split()
            rows = sum(path.stat().st_size for path in folder.glob("scores/*/*.partial"))
        except OSError:  # it just ended, or a journal just became a file
            time.sleep(EVERY)
            continue
        processor = (int(fields[11]) + int(fields[12])) / ticks
        if resident:
            yield Sample(time.monotonic() - start, resident / 2**20, processor, rows)
        time.sleep(EVERY)
