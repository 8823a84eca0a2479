"""How measuring grows with workers, methods and pixels: `cli.py scale`, its chart, and a paper estimate.

Two clocks: the wall, which other programs on the machine slow down, and the processors' own time, which they hardly do.
The estimate is made from the second one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_metrics import NINE

from evalkit.data.images import read_image, to_gray, write_png
from evalkit.data.samples.samples import make_scene
from evalkit.engine.base import Local
from evalkit.errors import EvalkitError
from evalkit.leaderboards.plots.style import Drawing, colour, panels, style
from evalkit.methods.classical import FUSERS
from evalkit.metrics.evaluate import MeasureJob, Names, measure_job

WORKERS, METHODS, SIZES = (1, 2), (1, 3, 6, 12), ("240x320", "480x640", "768x1024", "1024x1280")
MIDDLE = "480x640"  # where workers and methods are varied
LLVIP, LLVIP_SIZE, LLVIP_METHODS, CORES = 3463, "1024x1280", 12, (1, 16, 256)


@dataclass(frozen=True)
class Point:
    """One setting: `varied` says which of the three grew. Seconds are of all pairs together."""

    varied: str
    workers: int
    methods: int
    size: str
    pairs: int
    wall: float
    processor: float  # over all workers
    decoding: float  # the part of `processor` that reading and decoding the images takes
    decoded: int  # bytes of pixels

    @property
    def rate(self) -> float:
        """Pairs per second, each with all its methods."""
        return self.pairs / self.wall


def bench_scale(
    workers: Iterable[int] = WORKERS,
    methods: Iterable[int] = METHODS,
    sizes: Iterable[str] = SIZES,
    pairs: int = 16,
    progress: Callable = lambda items, total, text: items,
) -> list[Point]:
    """Measure the nine common metrics on generated pairs: for each count of workers, of methods, and each size.

    Raises:
        EvalkitError: a size that cannot be read, or a count below 1.
    """
    methods, sizes = list(methods), list(sizes)
    settings = [("workers", count, 1, MIDDLE) for count in workers]
    settings += [("methods", 1, count, MIDDLE) for count in methods]
    settings += [("pixels", 1, 1, size) for size in sizes]
    settings.append(("paper", 1, LLVIP_METHODS, LLVIP_SIZE))
    for _, count, rows, _ in settings:
        if min(count, rows, pairs) < 1:
            raise EvalkitError("workers, methods and pairs must be 1 or more.")
    points = []
    with tempfile.TemporaryDirectory() as folder:
        jobs = {size: write_pairs(Path(folder) / size, size, pairs) for size in dict.fromkeys(s[3] for s in settings)}
        for varied, count, rows, size in progress(settings, len(settings), "bench"):
            few = jobs[size][: 4 if varied == "paper" else pairs]
            points.append(measure(varied, count, rows, size, few))
    return points


def write_pairs(folder: Path, size: str, count: int) -> list[MeasureJob]:
    """Generated pairs of one size, each with a fused image: a scene that is rolled a little further each time."""
    rows, _, columns = size.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise EvalkitError(f"{size!r} is not a size, expected ROWSxCOLUMNS such as 768x1024.")
    scene = make_scene(0, 0, int(columns), int(rows))
    fused = FUSERS["laplacian"](scene.infrared, to_gray(scene.visible))
    jobs = []
    for i in range(count):
        paths = [folder / role / f"{i}.png" for role in ("ir", "vi", "fused")]
        for path, image in zip(paths, (scene.infrared, scene.visible, fused), strict=True):
            write_png(path, np.ascontiguousarray(np.roll(image, 7 * i, axis=1)))
        jobs.append(MeasureJob(str(i), paths[0], paths[1], {"": paths[2]}))
    return jobs


def measure(varied: str, workers: int, methods: int, size: str, jobs: Sequence[MeasureJob]) -> Point:
    """The time of one setting; the worker processes are there before it starts."""
    names: Names = tuple((name, f"{name}[smfnet]") for name in NINE)
    # the same fused image under several names: methods differ in nothing that takes time
    todo = [replace(job, fused={str(m): job.fused[""] for m in range(methods)}) for job in jobs]
    engine, run = Local(workers), partial(timed, names=names)
    list(engine.map(run, todo[: 2 * workers]))
    start = time.perf_counter()
    spent = list(engine.map(run, todo))
    wall = time.perf_counter() - start
    decoding, decoded = decode(todo)
    return Point(varied, workers, methods, size, len(todo), wall, sum(spent), decoding, decoded)


def timed(job: MeasureJob, names: Names) -> float:
    """Processor seconds of measuring one pair."""
    start = time.thread_time()
    scores = measure_job(job, names)
    assert all(not one.missing for one in scores.values())
    return time.thread_time() - start


def decode(jobs: Sequence[MeasureJob]) -> tuple[float, int]:
    """Processor seconds that reading the images alone takes, and the bytes of pixels they hold."""
    start, decoded = time.thread_time(), 0
    for job in jobs:
        for path in (job.infrared, job.visible, *job.fused.values()):
            assert path is not None
            decoded += read_image(path).nbytes
    return time.thread_time() - start, decoded


def estimate(points: Iterable[Point], cores: Iterable[int] = CORES) -> list[dict[str, Any]]:
    """Measuring LLVIP, 3,463 pairs of 1280x1024, with 12 methods: seconds, and the floor, decoding its images alone.

    Work is divided evenly: what a scheduler, a file server or shared memory bandwidth cost is not in it.
    """
    point = next(point for point in points if point.varied == "paper")
    times, seconds = LLVIP / point.pairs, {}
    for name in ("processor", "decoding"):
        seconds[name] = times * getattr(point, name)
    return [
        {"cores": n, "seconds": seconds["processor"] / n, "floor": seconds["decoding"] / n,
         "decoded_gb": times * point.decoded / 1e9}
        for n in cores
    ]  # fmt: skip


def chart(points: Sequence[Point]) -> Drawing:
    """Pairs per second over workers, methods and megapixels, and the paper estimate with its floor."""
    with style():
        figure, axes = panels(4, "page", 1.9, 4)
        for axis, varied, label in zip(
            axes, ("workers", "methods", "pixels"), ("workers", "methods per pair", "megapixels"), strict=False
        ):
            some = [point for point in points if point.varied == varied]
            where = [x_of(point) for point in some]
            axis.plot(where, [point.rate for point in some], "o-", color=colour(0), label="by the wall clock")
            own = [point.pairs / point.processor * point.workers for point in some]
            axis.plot(where, own, "s--", color=colour(1), label="by processor time")
            axis.set(xlabel=label, ylabel="pairs per second" if varied == "workers" else "", ylim=(0, None))
            if varied != "pixels":  # counts
                axis.set_xticks(where)
        axes[0].legend(frameon=False)
        rows = estimate(points)
        names = [str(row["cores"]) for row in rows]
        axes[3].plot(names, [row["seconds"] / 3600 for row in rows], "o-", color=colour(0), label="measuring")
        axes[3].plot(names, [row["floor"] / 3600 for row in rows], "s--", color=colour(1), label="decoding alone")
        axes[3].set(xlabel="cores", ylabel="hours, LLVIP, 12 methods", yscale="log")
        axes[3].yaxis.set_major_formatter(lambda y, _: f"{y:g}")  # powers would need the mathematics that is off
        axes[3].legend(frameon=False)
    return Drawing(figure, "Nine metrics, decoding included.")


def x_of(point: Point) -> float:
    """Where a setting stands on its axis."""
    if point.varied == "pixels":
        rows, _, columns = point.size.partition("x")
        return int(rows) * int(columns) / 1e6
    return point.workers if point.varied == "workers" else point.methods
