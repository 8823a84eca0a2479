"""Measuring many pairs: each pair's sources are read and prepared once for all methods, pairs run in parallel."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2

from evalkit.errors import EvalkitError
from evalkit.metrics.evaluate import Scores, load, measure
from evalkit.metrics.image import Image, Pair
from evalkit.metrics.registry import Definition

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class MeasureJob:
    """The sources of one scene and its fused images by method; a source that is missing is None."""

    stem: str
    infrared: Path | None
    visible: Path | None
    fused: Mapping[str, Path]


def measure_job(job: MeasureJob, wanted: Mapping[str, Definition]) -> dict[str, Scores]:
    """Scores by method. What cannot be measured is a hole in every metric, with the reason."""
    try:
        sources = [_source(job.infrared, "infrared", job.stem), _source(job.visible, "visible", job.stem)]
    except EvalkitError as error:
        return {method: all_holes(wanted, str(error)) for method in job.fused}
    results = {}
    for method, path in job.fused.items():
        try:
            results[method] = measure(Pair(load(path, "fused"), *sources), wanted)
        except EvalkitError as error:
            results[method] = all_holes(wanted, f"{path.name}: {error}")
    return results


def _source(path: Path | None, role: str, stem: str) -> Image:
    if path is None:
        raise EvalkitError(f"there is no {role} image named {stem}")
    return load(path, role)


def all_holes(wanted: Iterable[str], reason: str) -> Scores:
    """Scores in which every metric is a hole for one reason."""
    return Scores(dict.fromkeys(wanted, float("nan")), dict.fromkeys(wanted, reason))


def default_workers() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int | None) -> Iterator[Result]:
    """Results of `function` in the order of the jobs, computed by `workers` threads, few of them ahead.

    Threads suffice: OpenCV, NumPy and the decoders let go of the interpreter while they work. OpenCV's own threads are
    switched off meanwhile, so that `workers` means what it says.
    """
    count = default_workers() if workers is None else workers
    if count < 1:
        raise EvalkitError(f"workers is {count}, expected 1 or more.")
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(count) as pool:
            waiting: deque[Future[Result]] = deque()
            try:
                for job in jobs:
                    waiting.append(pool.submit(function, job))
                    if len(waiting) >= 2 * count:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    finally:
        cv2.setNumThreads(before)
