"""A dask scheduler and its workers as processes of their own, as on a cluster: what a test kills, slows or sets up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import evalkit

Client = pytest.importorskip("distributed").Client

SOURCE = Path(evalkit.__file__).parents[1]
QUICK = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "60s",
    "OMP_NUM_THREADS": "1",
}


@dataclass
class Head:
    """A scheduler that is running, and its workers. No port is fixed: its file says where it is."""

    folder: Path
    scheduler: subprocess.Popen
    workers: list[subprocess.Popen] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.json"

    def add_worker(self, *options: str, nanny: bool = False, **environment: str) -> subprocess.Popen:
        """A worker with one thread. Without a nanny it is not started again when it dies."""
        number = len(self.workers)
        command = ["worker", "--scheduler-file", str(self.file), "--nthreads", "1", "--no-dashboard"]
        command += ["--nanny" if nanny else "--no-nanny", *options]
        command += ["--local-directory", str(self.folder / f"worker{number}")]
        self.workers.append(start(command, self.folder / f"worker{number}.log", environment))
        return self.workers[-1]

    def wait_for(self, count: int) -> None:
        """Until so many workers are there."""
        with Client(scheduler_file=str(self.file), timeout=30, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def units_done(self) -> dict[str, int]:
        """By the name of a worker."""
        with Client(scheduler_file=str(self.file), timeout=30, set_as_default=False) as client:
            counts = client.run(lambda dask_worker: (dask_worker.name, dask_worker.state.executed_count))
            return dict(counts.values())

    def stop_workers(self) -> None:
        """Their processes are gone, and the scheduler knows it."""
        for process in self.workers:
            end(process)
        with Client(scheduler_file=str(self.file), timeout=30, set_as_default=False) as client:
            deadline = time.monotonic() + 30
            while client.nthreads() and time.monotonic() < deadline:
                time.sleep(0.02)

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob("*.log")))


def start(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen:
    """`dask ARGUMENTS` in a process, with this evalkit unless the environment names another PYTHONPATH."""
    paths = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH", "")]))
    with open(log, "wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            stdout=file,
            stderr=file,
            cwd=log.parent,  # which is where -m looks first
            env=os.environ | QUICK | {"PYTHONPATH": paths} | dict(environment),
        )


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


@contextmanager
def head(folder: Path, *options: str) -> Iterator[Head]:
    """A scheduler; it and what was added to it ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "scheduler.json"
    command = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    cluster = Head(folder, start([*command, *options], folder / "scheduler.log", {}))
    try:
        deadline = time.monotonic() + 60
        while not file.exists():
            assert cluster.scheduler.poll() is None, cluster.logs()
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.05)
        yield cluster
    finally:
        for process in (*cluster.workers, cluster.scheduler):
            end(process)
