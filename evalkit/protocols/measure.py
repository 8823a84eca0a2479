"""Fusing and measuring the rows of one data set."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evalkit.data.expected import Expected, hash_now
from evalkit.data.hashes import digest
from evalkit.data.images import pixel_digest, png_text, read_image
from evalkit.data.pairs import PairSet
from evalkit.engine.processes import on_threads
from evalkit.errors import ImageError, OutputError
from evalkit.methods.fuse import PIXELS, FuseJob, fuse_jobs
from evalkit.metrics.card import Definition
from evalkit.metrics.evaluate import REVISION, MeasureJob, Scores
from evalkit.metrics.jobs import affordable, measure_units, units_of
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


@dataclass(frozen=True)
class MeasuredRows:
    """The scores of a run's methods on one data set. They lie on disk: a run of very many images holds few of them.

    Attributes:
        files: method -> its score file, whose journal has this run's rows.
        keys: method -> image -> key of the row.
        passing: method -> image -> what was not measured for a trouble that may pass, and is not stored.
    """

    files: dict[str, ScoreFile]
    keys: dict[str, dict[str, str]]
    passing: dict[str, dict[str, Scores]]

    def finish(self, method: str) -> dict[str, Scores]:
        """Image -> scores of one method, in the order of the pairs; its finished file is written.

        Raises:
            OutputError: the file cannot be written, or what was written cannot be read back.
        """
        keys = self.keys.get(method)
        if not keys:
            return {}
        file, passing = self.files[method], self.passing[method]
        rows = file.read(keys) | passing
        if lost := keys.keys() - rows.keys():
            raise OutputError(
                f"{file.journal} has lost {len(lost)} rows that this run wrote ({min(lost)} for one). "
                "Run the same command again."
            )
        file.finish(rows, keys)
        return {image: rows[image] for image in keys}


def measure_rows(
    pairs: PairSet, rows: list[Row], definitions: Mapping[str, Definition], hashes: Hashes, settings: Settings
) -> MeasuredRows:
    """Measure what earlier runs did not measure on the same images.

    Args:
        pairs: the data set's pairs.
        rows: those without a reason: their `fused` images are there.
        definitions: column -> definition of the metric.
        hashes: content hashes of the sources and of the rows' fused images.
        settings: the run's; with existing "replace" nothing of earlier runs is used.
    """
    names = settings.reading.key(definitions.values())
    measured = MeasuredRows({}, {}, {row.method: {} for row in rows})
    earlier: dict[str, Set[str]] = {}
    for row in rows:
        file = ScoreFile(settings.scores_file(pairs.dataset, row.method), definitions)
        keys = {
            pair.stem: digest(
                REVISION, names, hashes[pair.infrared], hashes[pair.visible], hashes[row.fused[pair.stem]]
            )
            for pair in pairs.pairs
            if pair.stem in row.fused
        }
        if settings.existing == "replace":
            file.discard()
        measured.files[row.method], measured.keys[row.method] = file, keys
        earlier[row.method] = file.resume(keys)
    jobs = []
    for pair in pairs.pairs:
        todo = {
            row.method: row.fused[pair.stem]
            for row in rows
            if pair.stem in row.fused and pair.stem not in earlier[row.method]
        }
        if todo:
            files_of = (pair.infrared, pair.visible, *todo.values())
            expected = Expected({path: hashes[path] for path in files_of}, settings.engine.remote)
            jobs.append(MeasureJob(pair.stem, pair.infrared, pair.visible, todo, expected))
    engine = affordable(settings.engine, [pair.visible for pair in pairs.pairs])
    units = units_of(jobs, engine.slots(), engine.remote)
    done = measure_units(units, definitions, settings.reading, engine)
    count = sum(len(unit) for unit in units)
    for job, by_method in settings.progress(done, count, f"measure {pairs.dataset}"):
        for method, value in by_method.items():
            value.missing = {metric: settings.named(reason) for metric, reason in value.missing.items()}
            if value.passing:
                measured.passing[method][job.stem] = value
            else:
                measured.files[method].append(job.stem, measured.keys[method][job.stem], value)
    return measured
