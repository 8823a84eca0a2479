"""Many pairs at once: each pair's sources are read and prepared once for all methods, pairs run in processes."""

from __future__ import annotations

import ctypes
import functools
import os
import warnings
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
from evalkit.metrics.registry import Definition, definitions

Job = TypeVar("Job")
Result = TypeVar("Result")
Names = tuple[tuple[str, str], ...]  # (column, full name) of the metrics to compute


@dataclass(frozen=True)
class MeasureJob:
    """The sources of one scene and its fused images by method; a source that is missing is None."""

    stem: str
    infrared: Path | None
    visible: Path | None
    fused: Mapping[str, Path]


def names_of(wanted: Mapping[str, Definition]) -> Names:
    """What a worker needs to know of the metrics: definitions hold functions, which do not travel."""
    return tuple((column, definition.full_name) for column, definition in wanted.items())


@functools.cache
def _definitions(names: Names) -> dict[str, Definition]:
    return {column: next(iter(definitions([full], "textbook").values())) for column, full in names}


def measure_job(job: MeasureJob, names: Names) -> dict[str, Scores]:
    """Scores by method. What cannot be measured is a hole in every metric, with the reason."""
    wanted = _definitions(names)
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


def _count(workers: int | None) -> int:
    count = default_workers() if workers is None else workers
    if count < 1:
        raise EvalkitError(f"workers is {count}, expected 1 or more.")
    return count


def in_processes(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int | None) -> Iterator[Result]:
    """Results of `function` in the order of the jobs, computed by `workers` processes, few of them ahead.

    Every job runs on one thread, so that `workers` means what it says and the results do not depend on it. One worker,
    or one job, runs in this process.

    Raises:
        EvalkitError: a worker died, e.g. because memory ran out.
    """
    jobs = list(jobs)
    count = min(_count(workers), len(jobs))
    alone = functools.partial(_alone, function)
    if count <= 1:
        yield from map(alone, jobs)
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    run = Parallel(n_jobs=count, return_as="generator", batch_size=1, pre_dispatch=2 * count)
    results = run(delayed(alone)(job) for job in jobs)
    try:
        for result in results:  # noqa: UP028 - so that the results are closed below, not by `yield from`
            yield result
    except TerminatedWorkerError:
        raise EvalkitError(
            "a worker process died, probably because memory ran out. "
            "Run again with fewer --workers: what was done is kept."
        ) from None
    finally:
        with warnings.catch_warnings(action="ignore"):  # of results that nobody waits for after an error
            results.close()


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MB that were freed instead of giving them back to the system after each array.

    Arrays of megabytes come and go with every metric; fetching fresh pages for them took a third of the time.
    """
    trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return
    mallopt(trim_threshold, 2**28)
    mallopt(mmap_threshold, 2**25)


def _alone(function: Callable[[Job], Result], job: Job) -> Result:
    keep_freed_memory()
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return function(job)
    finally:
        cv2.setNumThreads(before)


def on_threads(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int | None) -> Iterator[Result]:
    """As `in_processes`, on threads: for reading and hashing files, which let go of the interpreter."""
    count = _count(workers)
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
