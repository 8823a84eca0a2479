"""Fusing and measuring the rows of one data set."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from evalkit.data.expected import Expected, hash_now
from evalkit.data.hashes import digest
from evalkit.data.images import pixel_digest, png_text, read_image
from evalkit.data.pairs import PairSet
from evalkit.engine.base import Local
from evalkit.engine.processes import affordable_workers, on_threads
from evalkit.errors import ImageError
from evalkit.methods.fuse import PIXELS, FuseJob, fuse_jobs
from evalkit.metrics.card import Definition
from evalkit.metrics.evaluate import REVISION, MeasureJob, Scores
from evalkit.metrics.jobs import SIZED, measure_units, memory_for, units_of
from evalkit.protocols.plan import Row, Settings
from evalkit.records.store import ScoreFile

Hashes = dict[Path, str]


def hash_files(files: Iterable[Path], settings: Settings) -> Hashes:
    """SHA-256 per file, UNREADABLE where it cannot be read (measuring it will say why).

    They are hashed by the process that plans: workers compare what they read with it, whatever they see.
    """
    files = list(dict.fromkeys(files))
    return dict(zip(files, on_threads(hash_now, files, settings.workers), strict=True))


def fuse_row(row: Row, pairs: PairSet, hashes: Hashes, settings: Settings) -> None:
    """Fuse the pairs whose fused image is not there yet; a pair that cannot be fused is left out, with the reason.

    Args:
        row: its `fused` says where the images go; what cannot be fused moves to `not_fused`. Its fuser is set.
        pairs: the data set's pairs.
        hashes: content hashes, at least of the pairs' infrared and visible files.
        settings: the run's; with existing "replace" every pair is fused again.
    """
    assert row.fuser is not None
    jobs: list[FuseJob] = []
    for pair in pairs.pairs:
        made_from = digest(row.fuser.identity, hashes[pair.infrared], hashes[pair.visible])
        expected = Expected({path: hashes[path] for path in (pair.infrared, pair.visible)}, settings.engine.remote)
        jobs.append(FuseJob(pair, row.fused[pair.stem], made_from, expected))
    if settings.existing == "replace":
        todo = jobs
    else:
        states = list(on_threads(state_of, jobs, settings.workers))
        todo = [job for job, state in zip(jobs, states, strict=True) if state != "as fused"]
        if changed := [job.pair.stem for job, state in zip(jobs, states, strict=True) if state == "changed"]:
            logging.getLogger("evalkit").warning(
                f"{len(changed)} fused images of {row.method} on {pairs.dataset} are not as they were fused "
                f"({', '.join(changed[:5])}{', ...' if len(changed) > 5 else ''}): they are fused again."
            )
    fused = fuse_jobs(row.fuser, todo, settings.engine)
    for job, reason in settings.progress(fused, len(todo), f"fuse {pairs.dataset} with {row.method}"):
        if reason:
            del row.fused[job.pair.stem]
            row.not_fused[job.pair.stem] = settings.named(reason)


def state_of(job: FuseJob) -> Literal["as fused", "changed", "other"]:
    """Whether the fused image that is there was made from this pair, by what its text says, and has its own pixels.

    "changed" are other pixels than those its text tells, or an image of a version that told none; "other" is none, or
    one of other sources or other code.
    """
    text = png_text(job.path)
    if text.get("evalkit") != job.made_from:
        return "other"
    try:
        own = text.get(PIXELS) == pixel_digest(read_image(job.path))
    except ImageError:
        own = False
    return "as fused" if own else "changed"


def measure_rows(
    pairs: PairSet, rows: list[Row], definitions: Mapping[str, Definition], hashes: Hashes, settings: Settings
) -> dict[str, dict[str, Scores]]:
    """Method -> image -> scores: what earlier runs measured on the same images, and the rest measured now.

    Args:
        pairs: the data set's pairs.
        rows: those without a reason: their `fused` images are there.
        definitions: column -> definition of the metric.
        hashes: content hashes of the sources and of the rows' fused images.
        settings: the run's; with existing "replace" nothing of earlier runs is used.
    """
    names = settings.reading.key(definitions.values())
    measured: dict[str, dict[str, Scores]] = {}
    files: dict[str, ScoreFile] = {}
    keys: dict[str, dict[str, str]] = {}
    for row in rows:
        files[row.method] = ScoreFile(settings.scores_file(pairs.dataset, row.method), definitions)
        keys[row.method] = {
            pair.stem: digest(
                REVISION, names, hashes[pair.infrared], hashes[pair.visible], hashes[row.fused[pair.stem]]
            )
            for pair in pairs.pairs
            if pair.stem in row.fused
        }
        if settings.existing == "replace":
            files[row.method].discard()
        measured[row.method] = files[row.method].read(keys[row.method])
    jobs = []
    for pair in pairs.pairs:
        todo = {
            row.method: row.fused[pair.stem]
            for row in rows
            if pair.stem in row.fused and pair.stem not in measured[row.method]
        }
        if todo:
            files_of = (pair.infrared, pair.visible, *todo.values())
            expected = Expected({path: hashes[path] for path in files_of}, settings.engine.remote)
            jobs.append(MeasureJob(pair.stem, pair.infrared, pair.visible, todo, expected))
    engine = settings.engine
    if isinstance(engine, Local) and engine.workers is None:
        engine = replace(engine, workers=affordable_workers(memory_for([pair.visible for pair in pairs.pairs[:SIZED]])))
    units = units_of(jobs, engine.slots())
    done = measure_units(units, definitions, settings.reading, engine)
    count = sum(len(unit) for unit in units)
    for job, by_method in settings.progress(done, count, f"measure {pairs.dataset}"):
        for method, value in by_method.items():
            value.missing = {metric: settings.named(reason) for metric, reason in value.missing.items()}
            if not value.passing:
                files[method].append(job.stem, keys[method][job.stem], value)
            measured[method][job.stem] = value
    for method, file in files.items():
        if keys[method]:
            file.finish(measured[method], keys[method])
    return measured
