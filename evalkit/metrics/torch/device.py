"""Measuring on a device while worker processes read the images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from evalkit.data.images import Gray
from evalkit.engine.base import Engine
from evalkit.errors import EvalkitError
from evalkit.metrics.card import Definition
from evalkit.metrics.evaluate import DEVICE, Names, Reading, Scores, all_missing, definitions_of, names_of
from evalkit.metrics.planes import Planes, Read, Unit, read_unit
from evalkit.metrics.torch.forms import form_of
from evalkit.metrics.torch.sources import Sources, pixels_at_a_time

FUSED, INFRARED, VISIBLE = range(3)


def choose_device(device: str) -> str:
    """`auto` is a GPU where PyTorch sees one, `torch` the processor. Raises EvalkitError for what is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "torch":
        return "cpu"
    if not re.fullmatch(DEVICE, device):
        raise EvalkitError(f"--device {device}: expected auto, cpu, cuda, cuda:N or torch.")
    there = torch.cuda.device_count() if device != "cpu" else 0
    if device != "cpu" and int(device.partition(":")[2] or 0) >= there:
        sees = f"{there} GPUs here, counted from 0" if there else "no GPU here"
        raise EvalkitError(f"--device {device}: PyTorch sees {sees}. Use --device {'cuda' if there else 'cpu'}.")
    return device


def measure_on_device(
    units: Sequence[Unit], columns: Mapping[str, Definition], reading: Reading, engine: Engine
) -> Iterator[dict[str, Scores]]:
    """Scores by method of each job of the units, in order.

    The engine's workers read images and measure what has no form for tensors; the device, here, measures the rest. An
    engine of other machines has workers with a device each, which do both.

    Args:
        units: of work.
        columns: column -> definition of the metric.
        reading: how files become pixels, and the device.
        engine: whose workers read.
    """
    if engine.remote:
        work = partial(_measure_there, names=names_of(columns), reading=reading)
        for part in engine.map(work, units, gpu=True):
            yield from part
        return
    choose_device(reading.device)
    read = engine.map(_reader(columns, reading), units)
    yield from _measured((job for part in read for job in part), columns, reading)


def _measure_there(jobs: Unit, names: Names, reading: Reading) -> list[dict[str, Scores]]:
    columns = definitions_of(names)
    choose_device(reading.device)
    return list(_measured(_reader(columns, reading)(jobs), columns, reading))


def _by_gray(columns: Mapping[str, Definition], reading: Reading) -> dict[str, dict[str, Definition]]:
    """The metrics with a form for tensors, by how colour becomes gray for them."""
    by_gray: dict[str, dict[str, Definition]] = {}
    for column, definition in columns.items():
        if form_of(definition) is not None:
            by_gray.setdefault(reading.gray or definition.gray, {})[column] = definition
    return by_gray


def _reader(columns: Mapping[str, Definition], reading: Reading) -> partial[list[Read]]:
    others = {column: definition for column, definition in columns.items() if form_of(definition) is None}
    grays = tuple(_by_gray(columns, reading))
    return partial(read_unit, columns=tuple(columns), grays=grays, names=names_of(others), reading=reading)


def _measured(jobs: Iterable[Read], columns: Mapping[str, Definition], reading: Reading) -> Iterator[dict[str, Scores]]:
    """Scores by method of each job, in order; jobs are measured together where they can."""
    by_gray = _by_gray(columns, reading)
    for window in _windows(jobs, pixels_at_a_time(reading.device)):
        results: list[dict[str, Scores]] = [{} for _ in window]
        alike: dict[tuple, dict[int, dict[str, Planes]]] = {}  # of one size, with the same methods
        for n, job in enumerate(window):
            planes = {method: read for method, read in job.items() if isinstance(read, Planes)}
            alike.setdefault((_size(job), *planes), {})[n] = planes
        for members in alike.values():
            for n, scores in zip(members, _measure(list(members.values()), by_gray, reading.device), strict=True):
                results[n] = scores
        for job, scores in zip(window, results, strict=True):
            yield {
                method: _in_order(scores[method], columns) if isinstance(read, Planes) else read
                for method, read in job.items()
            }


def _windows(jobs: Iterable[Read], pixels: int) -> Iterator[list[Read]]:
    """Consecutive jobs whose images have so many pixels together, or one more than that."""
    window: list[Read] = []
    size = 0
    for job in jobs:
        window.append(job)
        rows, columns = _size(job)
        size += rows * columns
        if size >= pixels:
            yield window
            window, size = [], 0
    if window:
        yield window


def _size(job: Read) -> tuple[int, int]:
    """Height and width of a job's images; 1 x 1 where there is nothing to measure."""
    for read in job.values():
        for levels in read.levels.values() if isinstance(read, Planes) else ():
            return levels[FUSED].shape
    return 1, 1


def _measure(
    jobs: list[dict[str, Planes]], by_gray: Mapping[str, Mapping[str, Definition]], device: str
) -> list[dict[str, Scores]]:
    """Scores by method of each of the jobs, whose images are of one size and of the same methods.

    Where the device's memory runs out, half of them are measured at a time.
    """
    results = [{method: planes.scores for method, planes in job.items()} for job in jobs]
    try:
        for gray, columns in by_gray.items():
            levels = [{method: planes.levels[gray] for method, planes in job.items()} for job in jobs]
            measured = _batches(levels, columns, device)
            for result, scores in zip(results, measured, strict=True):
                result |= {method: _together(result[method], scores[method]) for method in scores}
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        half = len(jobs) // 2
        if half == 0:
            columns_of_all = [column for columns in by_gray.values() for column in columns]
            short = all_missing(columns_of_all, f"the memory of {device} ran out")
            short.passing = True
            return [{method: _together(planes.scores, short) for method, planes in job.items()} for job in jobs]
        return _measure(jobs[:half], by_gray, device) + _measure(jobs[half:], by_gray, device)
    return results


def _batches(
    jobs: list[dict[str, tuple[Gray, Gray, Gray]]], columns: Mapping[str, Definition], device: str
) -> list[dict[str, Scores]]:
    """As `_measure`, for metrics of one gray: sources are prepared once for all methods."""

    def stack(method: str, role: int) -> Tensor:
        return torch.from_numpy(np.stack([job[method][role] for job in jobs])).to(device)

    results: list[dict[str, Scores]] = [{} for _ in jobs]
    if not jobs[0]:
        return results
    any_method = next(iter(jobs[0]))
    sources = Sources(stack(any_method, INFRARED), stack(any_method, VISIBLE), as_on_gpu=True)
    for method in jobs[0]:
        for result, scores in zip(results, sources.measure(stack(method, FUSED), columns).per_image(), strict=True):
            result[method] = scores
    return results


def _together(scores: Scores, more: Scores) -> Scores:
    """The metrics of both, with the notes of the first."""
    both = Scores(scores | more, scores.missing | more.missing)
    both.notes, both.passing = scores.notes, scores.passing or more.passing
    return both


def _in_order(scores: Scores, columns: Iterable[str]) -> Scores:
    ordered = Scores({column: scores[column] for column in columns})
    ordered.missing = {column: scores.missing[column] for column in columns if column in scores.missing}
    ordered.notes, ordered.passing = scores.notes, scores.passing
    return ordered
