"""What it takes to write the leaderboards' site: `cli.py site`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

COMMANDS: dict[str, list[str]] = {"leaderboard build": [], "leaderboard build --no-plots": ["--no-plots"]}


def bench_site(
    repeats: int, progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items
) -> list[dict[str, Any]]:
    """A row per command: medians of processor and wall seconds of a process of its own, and the size of the site.

    Args:
        repeats: times that each command is run.
        progress: wraps the runs, given their number and what is done.
    """
    rows = []
    for command, options in COMMANDS.items():
        runs = [_run(options) for _ in progress(range(repeats), repeats, command)]
        rows.append({"command": command} | {key: median(run[key] for run in runs) for key in runs[0]})
    return rows


def _run(options: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "site"
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "evalkit", "leaderboard", "build", str(out), *options], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        return {
            "processor": usage.ru_utime + usage.ru_stime,
            "wall": time.perf_counter() - start,
            "peak_mb": usage.ru_maxrss / 1024,
            "files_mb": size / 1e6,
        }
