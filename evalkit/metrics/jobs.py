"""Measuring many images: units of work for the engine, with NumPy or on a device with PyTorch."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from evalkit.data.images import header_size
from evalkit.engine.base import Engine, Local, chunks
from evalkit.engine.processes import affordable_workers
from evalkit.errors import EvalkitError
from evalkit.metrics.card import Definition
from evalkit.metrics.evaluate import (
    DEVICE,
    MeasureJob,
    Names,
    Reading,
    Scores,
    measure_job,
    names_of,
)
from evalkit.metrics.planes import Unit

MEASURED = 8  # fused images that are measured as one unit of work, about
FAR = 40  # the same on a cluster, whose scheduler takes a millisecond or two per unit
PROCESS, PIXEL = 300 * 2**20, 200  # bytes of a process, and per pixel of a pair that is measured by many metrics
SIZED = 8  # images whose size stands for that of all
Measured = Iterator[tuple[MeasureJob, dict[str, Scores]]]


def memory_for(paths: Iterable[Path]) -> int:
    """Bytes that a process takes, about, which measures images of the size of the largest of these."""
    sizes = [size for path in paths if (size := header_size(path)) is not None]
    return PROCESS + PIXEL * max((width * height for width, height in sizes), default=0)


def affordable(engine: Engine, paths: Sequence[Path]) -> Engine:
    """The engine, with as many processes as memory allows for images of this size where their number is not given."""
    if not isinstance(engine, Local) or engine.workers is not None:
        return engine
    return replace(engine, workers=affordable_workers(memory_for(paths[:SIZED])))


def units_of(jobs: list[MeasureJob], slots: int, remote: bool = False) -> list[Unit]:
    """Pairs with all their methods, whose sources are then read and prepared once, a few together where there are many;
    method by method where there are fewer pairs than it takes to keep every worker busy.
    """
    if len(jobs) < 2 * slots:
        jobs = [replace(job, fused={method: path}) for job in jobs for method, path in job.fused.items()]
    methods = max((len(job.fused) for job in jobs), default=1)
    return chunks(jobs, max(1, min((FAR if remote else MEASURED) // methods, len(jobs) // (8 * slots))))


def measure_units(
    units: Sequence[Unit], columns: Mapping[str, Definition], reading: Reading, engine: Engine
) -> Measured:
    """Each job with its scores by method, in order.

    Args:
        units: of work, see `units_of`.
        columns: column -> definition of the metric.
        reading: how files become pixels, and where these are measured.
        engine: does the work, or where a device measures, the reading.
    """
    if reading.device:
        # PyTorch: an extra, and slow to import
        from evalkit.metrics.torch.device import measure_on_device

        results = measure_on_device(units, columns, reading, engine)
    else:
        parts = engine.map(partial(_measure_unit, names=names_of(columns), reading=reading), units)
        results = (scores for part in parts for scores in part)
    yield from zip((job for unit in units for job in unit), results, strict=True)


def _measure_unit(jobs: Unit, names: Names, reading: Reading) -> list[dict[str, Scores]]:
    return [measure_job(job, names, reading) for job in jobs]


def metrics_device(device: str) -> str:
    """What `Reading.device` is for the option `--device`: empty where NumPy measures. Raises EvalkitError.

    Args:
        device: "auto" or "cpu" for NumPy, "cuda" or "cuda:N" for PyTorch on that GPU, "torch" for PyTorch on the
            processor, which does what a GPU would do.
    """
    if device in ("auto", "cpu"):
        return ""
    if device != "torch" and not re.fullmatch(DEVICE, device):
        raise EvalkitError(f"--device {device}: expected auto, cpu, cuda, cuda:N or torch.")
    if importlib.util.find_spec("torch") is None:
        raise EvalkitError(f"--device {device} needs PyTorch: pip install 'evalkit[networks]'.")
    return "cpu" if device == "torch" else device
