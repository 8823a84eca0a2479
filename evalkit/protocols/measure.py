"""Fusing and measuring the rows of one data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from evalkit.data.hashes import digest, file_hash
from evalkit.data.images import png_text
from evalkit.data.pairs import PairSet
from evalkit.engine.base import chunks
from evalkit.engine.processes import on_threads
from evalkit.errors import DataError
from evalkit.methods.fuse import FuseJob, fuse_jobs
from evalkit.metrics.card import Definition
from evalkit.metrics.evaluate import REVISION, MeasureJob, Names, Scores, measure_job, names_of
from evalkit.protocols.plan import Row, Settings
from evalkit.records.store import ScoreFile

Hashes = dict[Path, str]
HASHED = 64  # files that are hashed as one unit of work on other machines
MEASURED = 8  # fused images that are measured as one unit of work, about


def hash_files(files: Iterable[Path], settings: Settings) -> Hashes:
    """SHA-256 per file; "unreadable" where it cannot be read (measuring it will say why)."""
    files = list(files)
    if settings.engine.remote:
        units = settings.engine.map(_hash_unit, chunks(files, HASHED))
        return dict(zip(files, (sha for unit in units for sha in unit), strict=True))
    return dict(zip(files, on_threads(_hash, files, settings.workers), strict=True))


def _hash_unit(files: Sequence[Path]) -> list[str]:
    return [_hash(file) for file in files]


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except DataError:
        return "unreadable"


def fuse_row(row: Row, pairs: PairSet, hashes: Hashes, settings: Settings) -> None:
    """Fuse the pairs whose fused image is not there yet; a pair that cannot be fused is left out, with the reason."""
    assert row.fuser is not None
    todo: list[FuseJob] = []
    for pair in pairs.pairs:
        made_from = digest(row.fuser.identity, hashes[pair.infrared], hashes[pair.visible])
        path = row.fused[pair.stem]
        # the fused image itself says what it was made from, so one of other sources is never taken for this pair's
        if settings.existing == "replace" or not path.is_file() or png_text(path).get("evalkit") != made_from:
            todo.append(FuseJob(pair, path, made_from))
    fused = fuse_jobs(row.fuser, todo, settings.engine)
    for job, reason in settings.progress(fused, len(todo), f"fuse {pairs.dataset} with {row.method}"):
        if reason:
            del row.fused[job.pair.stem]
            row.not_fused[job.pair.stem] = settings.named(reason)


def measure_unit(jobs: Sequence[MeasureJob], names: Names) -> list[dict[str, Scores]]:
    """Scores by method, per pair."""
    return [measure_job(job, names) for job in jobs]


def units_of(jobs: list[MeasureJob], slots: int) -> list[Sequence[MeasureJob]]:
    """Pairs with all their methods, whose sources are then read and prepared once, a few together where there are many;
    method by method where there are fewer pairs than it takes to keep every worker busy.
    """
    if len(jobs) < 2 * slots:
        jobs = [replace(job, fused={method: path}) for job in jobs for method, path in job.fused.items()]
    methods = max((len(job.fused) for job in jobs), default=1)
    return chunks(jobs, max(1, min(MEASURED // methods, len(jobs) // (8 * slots))))


def measure_rows(
    pairs: PairSet, rows: list[Row], wanted: Mapping[str, Definition], hashes: Hashes, settings: Settings
) -> dict[str, dict[str, Scores]]:
    """Method -> image -> scores: what earlier runs measured on the same images, and the rest measured now."""
    names = ",".join(definition.full_name + definition.code for definition in wanted.values())
    measured: dict[str, dict[str, Scores]] = {}
    files: dict[str, ScoreFile] = {}
    keys: dict[str, dict[str, str]] = {}
    for row in rows:
        files[row.method] = ScoreFile(settings.scores_file(pairs.dataset, row.method), wanted)
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
            jobs.append(MeasureJob(pair.stem, pair.infrared, pair.visible, todo))
    engine = settings.engine
    units = units_of(jobs, engine.slots())
    count = sum(len(unit) for unit in units)
    results = engine.map(partial(measure_unit, names=names_of(wanted)), units)
    done = (pair for unit, scores in zip(units, results, strict=True) for pair in zip(unit, scores, strict=True))
    for job, by_method in settings.progress(done, count, f"measure {pairs.dataset}"):
        for method, value in by_method.items():
            value.holes = {metric: settings.named(reason) for metric, reason in value.holes.items()}
            files[method].append(job.stem, keys[method][job.stem], value)
            measured[method][job.stem] = value
    for method, file in files.items():
        if keys[method]:
            file.finish(measured[method], keys[method])
    return measured
