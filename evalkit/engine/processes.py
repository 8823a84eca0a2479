"""Many units of work at once, in processes and on threads of this machine."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing.resource_tracker
import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import cv2

from evalkit.errors import EvalkitError, PluginError, PluginWarning
from evalkit.registry import Plugins

Job = TypeVar("Job")
Result = TypeVar("Result")
HUNG = 75  # exit code of a process that took too long; EX_TEMPFAIL
TRIES = 3  # a pair whose turn ends so often with a dead or hanging process ends the run


def default_workers() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_at_hand() -> int | None:
    """Bytes that processes may still take: what the machine has free, within the limit of a container; None where the
    system does not tell.
    """
    free: list[int] = []
    with suppress(OSError, ValueError, StopIteration), open("/proc/meminfo", encoding="ascii") as file:
        free.append(next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:")) * 1024)
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # "max" where there is no limit
        limit, used = (int((group / name).read_text("ascii")) for name in ("memory.max", "memory.current"))
        free.append(max(0, limit - used))
    return min(free) if free else None


def affordable_workers(each: int) -> int:
    """As many processes as there are processors, fewer where each takes so many bytes that memory would run out."""
    memory = memory_at_hand()
    return default_workers() if memory is None else max(1, min(default_workers(), memory // each))


def _count(workers: int | None) -> int:
    count = default_workers() if workers is None else workers
    if count < 1:
        raise EvalkitError(f"workers is {count}, expected 1 or more.")
    return count


def in_processes(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int | None, timeout: float | None = None
) -> Iterator[Result]:
    """Results of `function` in the order of the jobs, computed by `workers` processes, few of them ahead.

    Every job runs on one thread, so that `workers` means what it says and the results do not depend on it. One worker
    without a timeout, or one job, runs in this process. Where a process dies or a job takes longer than `timeout`
    seconds, all processes are started anew and what was not yet given out is computed again.

    Args:
        function: what is done with a job; picklable where it does not run in this process.
        jobs: all are read before the first begins.
        workers: number of processes; one per processor when not given.
        timeout: of one job, in seconds; none when not given.

    Raises:
        EvalkitError: the same job's turn came TRIES times and each time a process died or took too long.
    """
    jobs = list(jobs)
    count = min(_count(workers), len(jobs))
    if count <= 1 and (timeout is None or not jobs):
        yield from map(functools.partial(_alone, function), jobs)
        return
    import joblib  # a tenth of a second, which one process does not need

    loky = joblib.externals.loky
    # loky replaces a process whose memory has grown, as a training's does, and says so to whoever reads the terminal
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    # a lone worker with a timeout is a process of its own: of two, one waits
    processes, ahead = (count, 2 * count) if count > 1 else (2, 1)
    done = failed = 0
    plugins, folder = Plugins.here(), _folder()
    while done < len(jobs):
        pool = joblib.Parallel(
            n_jobs=processes,
            return_as="generator",
            batch_size=1,
            pre_dispatch=ahead,
            backend="loky",
            initializer=_start_worker,
            initargs=(os.getpid(), plugins),
        )
        for tracker in (loky.backend.resource_tracker, multiprocessing.resource_tracker):
            tracker.ensure_running()  # else it starts inside, and unblocks the signal for all that start after it
        with deaf_children():
            results = pool(joblib.delayed(_elsewhere)(folder, plugins, timeout, function, job) for job in jobs[done:])
        try:
            for result in results:
                done, failed = done + 1, 0
                yield result
        except loky.process_executor.TerminatedWorkerError as error:
            failed += 1
            if failed == TRIES:
                hung = f"({HUNG})" in str(error)  # the exit code
                raise EvalkitError(_why(timeout if hung else None)) from None
        finally:
            with warnings.catch_warnings(action="ignore"):  # of results that nobody waits for after an error
                results.close()


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started inside do not hear Ctrl-C, which a terminal sends to all: the starting one ends them.

    Here it waits until the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _why(timeout: float | None) -> str:
    if timeout is not None:
        return (
            f"a worker process hung, {TRIES} times in a row: it gave nothing for {timeout:g} seconds. "
            "Raise --timeout if the images are large: what was done is kept."
        )
    return (
        f"a worker process died, {TRIES} times in a row, probably because memory ran out. "
        "Run again with fewer --workers: what was done is kept."
    )


def within(timeout: float | None, function: Callable[[Job], Result], job: Job) -> Result:
    """The result; where it takes longer than `timeout` seconds, this process ends with the exit code HUNG.

    A call that hangs cannot be stopped, its process can: whoever waits for the result gives the job to another one.

    Args:
        timeout: in seconds; none where the job may take as long as it takes.
        function: what is done with the job.
        job: its only argument.
    """
    if timeout is None:
        return function(job)
    limit = threading.Timer(timeout, os._exit, [HUNG])
    limit.daemon = True
    limit.start()
    try:
        return function(job)
    finally:
        limit.cancel()


def _folder() -> str | None:
    """The folder that relative paths begin in; None where it is not there any more."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _elsewhere(
    folder: str | None, plugins: Plugins, timeout: float | None, function: Callable[[Job], Result], job: Job
) -> Result:
    if folder is not None:  # a process that is used again stands where its parent stood when it was started
        os.chdir(folder)
    plugins.need()
    return within(timeout, function, job)


def _start_worker(parent: int, plugins: Plugins) -> None:
    """First of all in a new worker: it ends with the process that started it, however that one ends.

    Plug-ins are loaded before a job arrives, which may hold their functions.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    if os.name == "posix":  # elsewhere an orphan keeps its parent's id; it ends when it had nothing to do for minutes
        threading.Thread(target=watch, daemon=True).start()
    cv2.setNumThreads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore", PluginWarning)  # the process that started it has said it
    with suppress(PluginError):  # told with the first job
        plugins.need()


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # names of malloc.h


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        return library if library.mallopt and library.malloc_trim else None
    except (OSError, AttributeError, TypeError):  # another C library
        return None


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MB that were freed instead of giving them back to the system after each array.

    Arrays of megabytes come and go with every metric; fetching fresh pages for them took a third of the time.
    """
    if library := _glibc():
        library.mallopt(_TRIM_THRESHOLD, 2**28)
        library.mallopt(_MMAP_THRESHOLD, 2**25)


@contextmanager
def keeping_large_memory() -> Iterator[Callable[[], None]]:
    """Let glibc keep, as long as this lasts, arrays of any size that were freed: the activations of a network.

    It maps each one above 32 MB anew otherwise; fetching their pages took two fifths of a network's time.

    Yields:
        Gives back to the system what lies free: between images of different sizes, whose arrays fit no gap.
    """
    if (library := _glibc()) is None:
        yield lambda: None
        return

    def give_back() -> None:
        library.malloc_trim(0)

    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**30)
    try:
        yield give_back
    finally:
        library.mallopt(_MMAP_MAX, 65536)  # glibc's own
        library.mallopt(_TRIM_THRESHOLD, 2**28)
        give_back()


def _alone(function: Callable[[Job], Result], job: Job) -> Result:
    keep_freed_memory()
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return function(job)
    finally:
        cv2.setNumThreads(before)


def on_threads(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int | None) -> Iterator[Result]:
    """As `in_processes`, on threads: for reading and hashing files, which let go of the interpreter.

    Args:
        function: what is done with a job.
        jobs: read as they are needed, two per thread ahead.
        workers: number of threads; one per processor when not given.

    Raises:
        EvalkitError: `workers` is less than 1.
    """
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
