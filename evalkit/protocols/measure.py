"""Fusing and measuring the rows of one data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from evalkit.data.images import png_text, write_png
from evalkit.data.pairs import ImagePair, PairSet, file_hash
from evalkit.errors import DataError, EvalkitError
from evalkit.methods.fuse import digest
from evalkit.metrics.evaluate import REVISION, Scores
from evalkit.metrics.parallel import MeasureJob, in_processes, measure_job, names_of, on_threads
from evalkit.metrics.registry import Definition
from evalkit.protocols.plan import Row, Settings
from evalkit.records.store import ScoreFile

Hashes = dict[Path, str]


def hash_files(files: Iterable[Path], workers: int | None) -> Hashes:
    """SHA-256 per file; "unreadable" where it cannot be read (measuring it will say why)."""
    files = list(files)
    return dict(zip(files, on_threads(_hash, files, workers), strict=True))


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except DataError:
        return "unreadable"


def fuse_row(row: Row, pairs: PairSet, hashes: Hashes, settings: Settings) -> None:
    """Fuse the pairs whose fused image is not there yet; a pair that cannot be fused is left out, with the reason."""
    assert row.fuser is not None
    todo: list[tuple[ImagePair, str]] = []
    for pair in pairs.pairs:
        made_from = digest(row.fuser.identity, hashes[pair.infrared], hashes[pair.visible])
        path = row.fused[pair.stem]
        # the fused image itself says what it was made from, so one of other sources is never taken for this pair's
        if settings.existing == "replace" or not path.is_file() or png_text(path).get("evalkit") != made_from:
            todo.append((pair, made_from))
    fused = zip(todo, row.fuser.fuse(pair for pair, _ in todo), strict=True)
    for (pair, made_from), image in settings.progress(fused, len(todo), f"fuse {pairs.dataset} with {row.method}"):
        if isinstance(image, EvalkitError):
            del row.fused[pair.stem]
            row.not_fused[pair.stem] = str(image)
        else:
            write_png(row.fused[pair.stem], image, {"evalkit": made_from})


def measure_rows(
    pairs: PairSet, rows: list[Row], wanted: Mapping[str, Definition], hashes: Hashes, settings: Settings
) -> dict[str, dict[str, Scores]]:
    """Method -> image -> scores: what earlier runs measured on the same images, and the rest measured now."""
    names = ",".join(definition.full_name for definition in wanted.values())
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
    results = in_processes(partial(measure_job, names=names_of(wanted)), jobs, settings.workers)
    for job, scores in settings.progress(zip(jobs, results, strict=True), len(jobs), f"measure {pairs.dataset}"):
        for method, value in scores.items():
            files[method].append(job.stem, keys[method][job.stem], value)
            measured[method][job.stem] = value
    for method, file in files.items():
        if keys[method]:
            file.finish(measured[method], keys[method])
    return measured
