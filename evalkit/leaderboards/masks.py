"""A folder of predicted class masks against the true ones: one confusion matrix over the test set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.data.card import LabelClass
from evalkit.data.labels import read_mask
from evalkit.data.pairs import image_files
from evalkit.errors import DataError, EvalkitError
from evalkit.metrics.segmentation import confusion, segmentation_scores


@dataclass(frozen=True)
class MaskScores:
    """Scores of a test set; `missing` says why masks and scores have no value. One that is missing leaves no means."""

    masks: int
    ignored: int  # pixels of the true masks that do not count
    pixels: int  # of all true masks
    scores: dict[str, Any]
    missing: dict[str, str]


def segmentation_folder(
    predictions: Path,
    truths: Path,
    classes: Iterable[LabelClass],
    ignore: int | None = 255,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
) -> MaskScores:
    """Measure every true mask's prediction, paired by file name without suffix.

    Args:
        predictions: folder of the predicted masks: a class id per pixel, each of its true mask's height and width.
        truths: folder of the true masks.
        classes: of the data set, with the ids 0, 1, 2, ...
        ignore: id of the pixels of the true masks that do not count; None where all do.
        progress: wraps the masks as they are measured, given their number and what is done.

    Raises:
        DataError: a folder is missing or empty, or the classes' ids are not 0, 1, 2, ...
    """
    names = {label.id: label.name for label in classes}
    if sorted(names) != list(range(len(names))) or not names:
        raise DataError("the data set's card names no classes with ids 0, 1, 2, ...: it has no segmentation labels.")
    predicted, masks = image_files(predictions), image_files(truths)
    matrix = np.zeros((len(names), len(names)), np.int64)
    missing: dict[str, str] = {}
    ignored = pixels = 0
    for stem, mask in progress(masks.items(), len(masks), "measure"):
        try:
            if stem not in predicted:
                raise DataError(f"no mask of this name in {predictions}")
            truth = read_mask(mask)
            matrix += confusion(read_mask(predicted[stem]), truth, len(names), ignore)
            pixels += truth.size
            ignored += 0 if ignore is None else int(np.count_nonzero(truth == ignore))
        except EvalkitError as error:
            missing[stem] = str(error)
    if missing:
        return MaskScores(len(masks) - len(missing), ignored, pixels, {}, missing)
    scores = segmentation_scores(matrix, [names[i] for i in range(len(names))])
    return MaskScores(len(masks), ignored, pixels, scores, missing | scores.pop("missing"))
