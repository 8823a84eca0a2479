"""Runs to compare: the command line in a process of its own, and what its folder holds in the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEPT = ("table.csv", "table.tex", "table.md", "table.html", "table.json", "scores", "fused")


def start(arguments: list[str], **options: object) -> subprocess.Popen:
    """`evalkit ARGUMENTS`, silent."""
    command = [sys.executable, "-m", "evalkit.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]


def finish(process: subprocess.Popen) -> None:
    """Wait for the end; a failure ends this program with what the run said (missing values, exit code 3, are none)."""
    _, error = process.communicate()
    if process.returncode not in (0, 3):
        sys.exit(f"evalkit ended with {process.returncode}: {error}")


def contents(folder: Path) -> dict[str, bytes]:
    """The files that must not depend on how a run went: tables, scores and fused images; not times and versions."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] in KEPT]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """The names of files that differ or are missing in one of both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@contextmanager
def dask_cluster(workers: int, **options: object) -> Iterator:
    """A cluster of processes on this machine, one thread each."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0", **options) as cluster:
        yield cluster
