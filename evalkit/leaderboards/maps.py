"""A folder of saliency maps against its masks: per map, and for the data set."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.data.images import read_image
from evalkit.data.labels import read_salient
from evalkit.data.pairs import image_files
from evalkit.errors import DataError, ImageError
from evalkit.files.names import to_cell
from evalkit.metrics.saliency import SaliencyCurves, saliency_dataset

CURVES = ("precision", "recall", "f", "e")


@dataclass(frozen=True)
class MapScores:
    """Measures by map and for the data set. `missing`: map or measure -> why it has no value; then there is no mean."""

    images: dict[str, dict[str, float]]
    scores: dict[str, float]
    curves: SaliencyCurves
    missing: dict[str, str]


def saliency_folder(
    predictions: Path,
    truths: Path,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
) -> MapScores:
    """Measure every mask's map, paired by file name without suffix.

    Args:
        predictions: folder of the maps: gray images of 8 bits, 0 .. 255, each of its mask's height and width.
        truths: folder of the masks.
        progress: wraps the masks as they are measured, given their number and what is done.

    Raises:
        DataError: a folder is missing or empty, or not one map can be measured.
    """
    maps, masks = image_files(predictions), image_files(truths)
    missing: dict[str, str] = {}
    measured: list[str] = []

    def readable() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        for stem, mask in progress(masks.items(), len(masks), "measure"):
            if stem not in maps:
                missing[stem] = f"no map of this name in {predictions}"
                continue
            try:
                pair = read_image(maps[stem]), read_salient(mask)
            except DataError as error:
                missing[stem] = str(error)
                continue
            if pair[0].shape[:2] != pair[1].shape[:2]:
                missing[stem] = f"the map is {pair[0].shape[:2]}, the mask {pair[1].shape[:2]} (height, width)"
                continue
            measured.append(stem)
            yield pair

    try:
        result = saliency_dataset(readable())
    except ImageError as error:
        raise DataError(f"{truths}/{measured[-1]}: {error}") from None
    except Exception:
        if measured:
            raise
        first = next(iter(missing.items()), ("", "no maps"))
        raise DataError(f"no map could be measured; the first: {first[0]}: {first[1]}") from None
    scores = dict.fromkeys(result.scores, math.nan) if missing else result.scores
    return MapScores(dict(zip(measured, result.images, strict=True)), scores, result.curves, missing | result.missing)


def scores_csv(result: MapScores) -> str:
    """A row per map."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["image", *result.scores])
    for stem, row in result.images.items():
        writer.writerow([to_cell(stem), *("" if math.isnan(v) else repr(v) for v in row.values())])
    return buffer.getvalue()


def curves_csv(result: MapScores) -> str:
    """A row per threshold 0..255, averaged over the maps."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["threshold", *CURVES])
    columns = [getattr(result.curves, name) for name in CURVES]
    for threshold, values in enumerate(zip(*columns, strict=True)):
        writer.writerow([threshold, *(repr(float(v)) for v in values)])
    return buffer.getvalue()


def saliency_json(result: MapScores) -> dict[str, Any]:
    """JSON-able; None where there is no value."""

    def plain(row: dict[str, float]) -> dict[str, float | None]:
        return {name: None if math.isnan(value) else value for name, value in row.items()}

    return {
        "convention": "pysodmetrics",
        "maps": len(result.images),
        "scores": plain(result.scores),
        "images": {stem: plain(row) for stem, row in result.images.items()},
        "curves": {name: [float(v) for v in getattr(result.curves, name)] for name in CURVES},
        "missing": result.missing,
    }
