"""Scores of a folder of fused images, image by image, with their means."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.data.images import parse_depth, parse_gray
from evalkit.data.pairs import image_files, natural_key
from evalkit.data.patterns import parse_pattern
from evalkit.data.stems import hint
from evalkit.engine.base import Engine, Local
from evalkit.engine.hashed import expected_by
from evalkit.errors import DataError, EvalkitError
from evalkit.files.names import to_cell
from evalkit.metrics.evaluate import Crop, MeasureJob, Reading, Scores, all_missing, evaluate
from evalkit.metrics.jobs import affordable, measure_units, metrics_device, units_of
from evalkit.metrics.registry import definitions

if TYPE_CHECKING:
    import pandas as pd

ANY_NAME = "{stem}"  # file names are the stems


def image_scores(
    fused: Path,
    infrared: Path,
    visible: Path,
    metrics: Iterable[str] | None,
    convention: str,
    depth: int | str | None = None,
    crop: Crop = "",
    gray: str = "",
) -> pd.DataFrame:
    """A frame like that of `evaluate_folder`, for one image.

    Args:
        fused, infrared, visible: the files.
        metrics, convention, depth, crop, gray: as in `evaluate_folder`.
    """
    import pandas as pd  # a third of a second, which workers and tables do without

    scores = evaluate(fused, infrared, visible, metrics, convention, depth, crop, gray)
    frame = pd.DataFrame([scores], index=pd.Index([fused.stem], name="image"))
    frame.attrs["missing"] = {(fused.stem, metric): reason for metric, reason in scores.missing.items()}
    frame.attrs["notes"] = notes_of({fused.stem: scores})
    return frame


def evaluate_folder(
    fused_dir: str | os.PathLike[str],
    infrared_dir: str | os.PathLike[str],
    visible_dir: str | os.PathLike[str],
    metrics: Iterable[str] | str | None = None,
    convention: str = "textbook",
    workers: int | None = None,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
    name: str = ANY_NAME,
    infrared_name: str = ANY_NAME,
    visible_name: str = ANY_NAME,
    depth: int | str | None = None,
    crop: Crop = "",
    gray: str = "",
    device: str = "auto",
    engine: Engine | None = None,
) -> pd.DataFrame:
    """Measure every fused image of a folder against the sources of the same stem.

    Args:
        fused_dir, infrared_dir, visible_dir: folders of images, paired by file name without suffix.
        metrics, convention: as in `evaluate`.
        workers: processes; None for one per processor. The numbers do not depend on it.
        progress: wraps the images while they are measured, called with (items, count, text).
        name, infrared_name, visible_name: how the names in each folder are made of the stem, e.g. "{stem}_fused",
            "IR{stem}", "{stem:05}" (the stem 1 is 00001); other files are passed over.
        depth: as in `evaluate`.
        crop: "end" or "centre": where fused images that are larger than their sources lose what is too much, see
            `Reading`.
        gray: as in `evaluate`.
        device: "auto" and "cpu" measure with NumPy; "cuda" or "cuda:N" with PyTorch on that GPU, while the processes
            read the images, "torch" with PyTorch on the processor. Metrics without a form for PyTorch are NumPy's.
        engine: where the work is done, instead of `workers`; the folders are absolute paths where it is remote.

    Returns:
        One row per fused image and per pair of sources without one (index "image", natural order), one column per
        metric. NaN where a value is undefined or an image is missing or could not be measured; `.attrs["missing"]` maps
        (image, metric) to the reason, `.attrs["hint"]` says which names would pair more images, if any, and
        `.attrs["notes"]` maps what else to know (as `.notes` of `evaluate`) to the images.

    Raises:
        UnknownNameError: metric, convention or gray.
        DataError: a folder is missing or empty, or not one fused image has both sources.
        EvalkitError: PyTorch or the device is not there.
    """
    import pandas as pd  # a third of a second, which workers and tables do without

    columns = definitions(metrics, convention)
    reading = Reading(parse_depth(depth), crop, parse_gray(gray), metrics_device(device))
    folders = {
        "fused": (fused_dir, name),
        "infrared": (infrared_dir, infrared_name),
        "visible": (visible_dir, visible_name),
    }
    (fused, infrared, visible), hint = _by_stem(folders)
    engine = affordable(Local(workers) if engine is None else engine, list(fused.values()))
    files = {stem: (infrared.get(stem), visible.get(stem), path) for stem, path in fused.items()}
    hashed = expected_by(engine, [[path for path in group if path] for group in files.values()])
    jobs = [
        MeasureJob(stem, *files[stem][:2], {"": path}, expected)
        for (stem, path), expected in zip(fused.items(), hashed, strict=True)
    ]
    results = measure_units(units_of(jobs, engine.slots(), engine.remote), columns, reading, engine)
    measured = {job.stem: scores[""] for job, scores in progress(results, len(fused), "measure")}
    missing = (infrared.keys() & visible.keys()) - fused.keys()
    measured |= {stem: all_missing(columns, "there is no fused image of this name") for stem in missing}
    rows = {stem: measured[stem] for stem in sorted(measured, key=natural_key)}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns))
    frame.index.name = "image"
    frame.attrs["missing"] = {(stem, column): why for stem, row in rows.items() for column, why in row.missing.items()}
    frame.attrs["hint"] = hint
    frame.attrs["notes"] = notes_of(rows)
    return frame


def notes_of(scores: Mapping[str, Scores]) -> dict[str, list[str]]:
    """Note -> the images that it is about."""
    notes: dict[str, list[str]] = {}
    for stem, row in scores.items():
        for note in row.notes:
            notes.setdefault(note, []).append(stem)
    return notes


def pairing_hint(
    fused: str | os.PathLike[str], infrared: str | os.PathLike[str], visible: str | os.PathLike[str]
) -> str:
    """Which names would pair images of these folders, as options of `evalkit evaluate`; empty where none would."""
    try:
        return hint(
            {role: image_files(path) for role, path in zip(OPTIONS, (fused, infrared, visible), strict=True)}, OPTIONS
        )
    except DataError:  # said where the images are measured
        return ""


OPTIONS = {"fused": "--name", "infrared": "--infrared-name", "visible": "--visible-name"}


def _by_stem(folders: Mapping[str, tuple[str | os.PathLike[str], str]]) -> tuple[list[dict[str, Path]], str]:
    """The images of each role by stem, and a hint where names do not pair.

    Args:
        folders: role -> folder and pattern of its names.

    Raises:
        EvalkitError: a folder is missing or empty, a pattern that is none or fits no name, or not one fused image
            with both sources.
    """
    files = {role: image_files(folder, allow_empty="/" in text) for role, (folder, text) in folders.items()}
    paired = []
    for role, (folder, text) in folders.items():
        pattern = parse_pattern(text).fill(method=Path(os.path.abspath(folder)).name)
        if more := pattern.fields - {"stem"}:
            raise EvalkitError(f"{OPTIONS[role]} is {text!r}: there is no {more.pop()} to put in. Write its name.")
        paired.append(pattern.listing(Path(folder))[0])
        if not paired[-1]:
            example = f": {next(iter(files[role].values())).name}, for one" if files[role] else ""
            raise DataError(f"no image in {folder} has a name like {text}{example}. Give another {OPTIONS[role]}.")
    fused, infrared, visible = paired
    both = infrared.keys() & visible.keys()
    cure = "" if fused.keys() <= both else hint(files, OPTIONS, len(fused.keys() & both))
    if not fused.keys() & both:
        lacks_infrared = not fused.keys() & infrared.keys()
        role, others = ("infrared", infrared) if lacks_infrared else ("visible", visible)
        raise DataError(
            f"no image in {folders['fused'][0]} has both its sources: it holds {next(iter(fused))}, "
            f"{folders[role][0]} {next(iter(others))}. Images are paired by file name. {cure}".rstrip()
        )
    return paired, cure


def mean_scores(frame: pd.DataFrame) -> dict[str, float | None]:
    """Mean per metric; None where an image has no value: no mean is taken over missing values."""
    means = {}
    for metric in frame.columns:
        values = frame[metric].tolist()
        means[metric] = None if any(map(math.isnan, values)) else math.fsum(values) / len(values)
    return means


def scores_csv(frame: pd.DataFrame) -> str:
    """A row per image; an empty cell where there is no value."""
    return frame.rename(index=to_cell).to_csv(lineterminator="\n")


def scores_dict(frame: pd.DataFrame, convention: str) -> dict[str, Any]:
    """Scores, means and missing values, JSON-able; None where there is no value."""
    rows = frame.astype(object).where(frame.notna(), None)
    return {
        "convention": convention,
        "images": len(frame),
        "mean": mean_scores(frame),
        "scores": rows.to_dict(orient="index"),
        "missing": [{"image": i, "metric": m, "reason": why} for (i, m), why in frame.attrs["missing"].items()],
    } | {key: frame.attrs[key] for key in ("hint", "notes") if frame.attrs.get(key)}
