"""Semantic segmentation: a confusion matrix summed over the test set, and IoU and accuracy read from it.

With n_ij the pixels of class i predicted as class j (Long, Shelhamer, Darrell 2015, doi:10.1109/CVPR.2015.7298965,
section 5):

    IoU_i = n_ii / (sum_j n_ij + sum_j n_ji - n_ii)    Acc_i = n_ii / sum_j n_ij
    mIoU, mAcc = means over the classes                aAcc = sum_i n_ii / sum_ij n_ij

Means of per-image scores are other numbers: an image without a class has no IoU for it. Add the images' matrices, then
score once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import EvalkitError, ImageError
from evalkit.metrics.card import MetricCard

CARDS = (
    MetricCard(
        "IoU", "Intersection over union", "higher", "0 .. 1", "1",
        "Per class, from the confusion matrix of the whole test set.",
        "Long, Shelhamer and Darrell 2015, doi:10.1109/CVPR.2015.7298965", "segmentation",
    ),
    MetricCard(
        "Acc", "Class accuracy", "higher", "0 .. 1", "1",
        "Per class: its pixels found, of the whole test set.",
        "Long, Shelhamer and Darrell 2015, doi:10.1109/CVPR.2015.7298965", "segmentation",
    ),
    MetricCard(
        "mIoU", "Mean intersection over union", "higher", "0 .. 1", "1",
        "Mean of the classes' IoU.",
        "Long, Shelhamer and Darrell 2015, doi:10.1109/CVPR.2015.7298965", "segmentation",
    ),
    MetricCard(
        "mAcc", "Mean class accuracy", "higher", "0 .. 1", "1",
        "Mean of the classes' accuracies.",
        "Long, Shelhamer and Darrell 2015, doi:10.1109/CVPR.2015.7298965", "segmentation",
    ),
    MetricCard(
        "aAcc", "Pixel accuracy", "higher", "0 .. 1", "1",
        "Pixels of the right class.",
        "Long, Shelhamer and Darrell 2015, doi:10.1109/CVPR.2015.7298965", "segmentation",
    ),
)  # fmt: skip


def confusion(prediction: NDArray, truth: NDArray, classes: int, ignore: int | None = 255) -> NDArray[np.int64]:
    """Pixel counts of one image; add those of a test set with `+`.

    Args:
        prediction: class ids 0..classes-1, integers of shape (H, W).
        truth: class ids, integers of the same shape.
        classes: how many classes there are, the background included.
        ignore: the id in `truth` whose pixels are left out, whatever is predicted there; None counts every pixel.

    Returns:
        int64 (classes, classes): row = true class, column = predicted class.

    Raises:
        ImageError: not label maps, or of different sizes. EvalkitError: a class id out of range.
    """
    if classes < 1:
        raise EvalkitError(f"{classes} classes: at least one is needed.")
    for name, labels in (("prediction", prediction), ("truth", truth)):
        if not isinstance(labels, np.ndarray) or labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
            is_array = isinstance(labels, np.ndarray)
            given = f"{labels.dtype} of shape {labels.shape}" if is_array else f"a {type(labels).__name__}"
            raise ImageError(f"{name} is {given}, expected a label map: an integer array (H, W) of class ids.")
    if prediction.shape != truth.shape:
        raise ImageError(
            f"prediction is {prediction.shape[1]}x{prediction.shape[0]} pixels, "
            f"truth {truth.shape[1]}x{truth.shape[0]}. Resize the logits, not the labels, to the truth."
        )
    if ignore is not None:
        counted = truth != ignore
        prediction, truth = prediction[counted], truth[counted]
    for name, labels in (("prediction", prediction), ("truth", truth)):
        if labels.size and (labels.min() < 0 or labels.max() >= classes):
            wrong = int(labels.max() if labels.max() >= classes else labels.min())
            raise EvalkitError(f"{name} holds class id {wrong}, but ids run from 0 to {classes - 1}.")
    pairs = truth.astype(np.int64).ravel() * classes + prediction.ravel().astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def segmentation_scores(matrix: NDArray[np.int64], names: Sequence[str] | None = None) -> dict:
    """Scores of a test set from its confusion matrix, each in [0, 1], higher is better.

    Args:
        matrix: (C, C) pixel counts summed over the set: row = true class, column = predicted class.
        names: the classes' names, by id; "0", "1", ... if not given.

    Returns:
        "IoU", "Acc": class name -> value. "mIoU", "mAcc", "aAcc": values. "missing": what has no value -> why.
        A class in neither truth nor prediction has no IoU, one absent from the truth no Acc: these are NaN, and so is
        the mean over all classes. The mean over the others is then under "mIoU (defined classes)" and "mAcc (defined
        classes)", names that are there only where they are needed, so that they are not taken for the full means.

    Raises:
        EvalkitError: not a square matrix of counts, or names that do not fit it.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise EvalkitError(f"confusion matrix has shape {matrix.shape}, expected (C, C).")
    if not np.issubdtype(matrix.dtype, np.integer) or matrix.min() < 0:
        raise EvalkitError("confusion matrix holds something else than pixel counts (integers, none negative).")
    names = [str(i) for i in range(len(matrix))] if names is None else list(names)
    if len(names) != len(matrix) or len(set(names)) != len(names):
        raise EvalkitError(f"{len(matrix)} classes need as many different names, not {len(names)}: {', '.join(names)}.")

    right, true, predicted = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    missing_values: dict[str, str] = {}
    scores: dict = {}
    for measure, pixels, where in (
        ("IoU", true + predicted - right, "in neither truth nor prediction"),
        ("Acc", true, "not in the truth"),
    ):
        values = np.where(pixels > 0, right / np.maximum(pixels, 1), np.nan)
        scores[measure] = dict(zip(names, values.tolist(), strict=True))
        scores[f"m{measure}"] = float(values.mean())
        missing = [name for name, count in zip(names, pixels, strict=True) if not count]
        if missing:
            missing_values |= {f"{measure} {name}": f"class {name} is {where}" for name in missing}
            missing_values[f"m{measure}"] = f"no {measure} of class {', '.join(missing)}"
            defined = values[pixels > 0]
            scores[f"m{measure} (defined classes)"] = float(defined.mean()) if defined.size else float("nan")
    total = matrix.sum()
    scores["aAcc"] = float(right.sum() / total) if total else float("nan")
    if not total:
        missing_values["aAcc"] = "no pixel was counted"
    return scores | {"missing": missing_values}
