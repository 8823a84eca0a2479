"""Salient-object measures of a map against a binary truth, in the convention of PySODMetrics 1.6.2.

The prediction is stretched to [0, 1] by its own minimum and maximum (a constant one is only divided by 255), the truth
is `> 128`. One count of pixels by quadrant, truth and 8-bit level is the sufficient statistic of every measure but the
weighted F; the 256 thresholds of the curves cost one cumulative sum.

- MAE: mean of abs(P - G). Perazzi et al. 2012, doi:10.1109/CVPR.2012.6247743
- F: 1.3 PR / (0.3 P + R), adaptive threshold min(2 mean, 1). Achanta et al. 2009, doi:10.1109/CVPR.2009.5206596
- weighted F: 2 PR / (P + R) with errors weighted by place. Margolin et al. 2014, doi:10.1109/CVPR.2014.39
- S: 0.5 object + 0.5 region similarity. Fan et al. 2017, doi:10.1109/ICCV.2017.487
- E: mean of (1 + alignment)^2 / 4 of the binary maps. Fan et al. 2018, doi:10.24963/ijcai.2018/97

All are better when higher, MAE when lower. MAE, F, S lie in [0, 1]; E divides by N - 1 as its authors do, so a perfect
map of N pixels has E = N / (N - 1).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.data.arrays import to_array
from evalkit.data.images import Gray, check_array, read_image, to_gray
from evalkit.data.labels import OBJECT, empty_by_level
from evalkit.errors import EvalkitError, ImageError
from evalkit.metrics.card import MetricCard

CARDS = (
    MetricCard(
        "MAE", "Mean absolute error", "lower", "0 .. 1", "1",
        "Mean absolute difference of the stretched map and the mask.",
        "Perazzi et al. 2012, doi:10.1109/CVPR.2012.6247743", "saliency",
    ),
    MetricCard(
        "S", "Structure measure", "higher", "0 .. 1", "1",
        "Half object-aware, half region-aware structural similarity of map and mask.",
        "Fan et al. 2017, doi:10.1109/ICCV.2017.487", "saliency",
    ),
    MetricCard(
        "F_adaptive", "F-measure, adaptive threshold", "higher", "0 .. 1", "1",
        "F with beta^2 = 0.3 at the threshold min(2 mean, 1).",
        "Achanta et al. 2009, doi:10.1109/CVPR.2009.5206596", "saliency",
    ),
    MetricCard(
        "F_mean", "F-measure, mean over thresholds", "higher", "0 .. 1", "1",
        "Mean over 256 thresholds of F with beta^2 = 0.3.",
        "Achanta et al. 2009, doi:10.1109/CVPR.2009.5206596", "saliency",
    ),
    MetricCard(
        "F_max", "F-measure, best threshold", "higher", "0 .. 1", "1",
        "Largest F with beta^2 = 0.3 over 256 thresholds, of the curve averaged over the images.",
        "Achanta et al. 2009, doi:10.1109/CVPR.2009.5206596", "saliency",
    ),
    MetricCard(
        "F_weighted", "Weighted F-measure", "higher", "0 .. 1", "1",
        "F with beta^2 = 1 of errors weighted by where they are.",
        "Margolin et al. 2014, doi:10.1109/CVPR.2014.39", "saliency",
    ),
    MetricCard(
        "E_adaptive", "Enhanced alignment, adaptive threshold", "higher", "0 .. 1.001 (N / (N - 1) of N pixels)", "1",
        "Enhanced-alignment measure at the threshold min(2 mean, 1).",
        "Fan et al. 2018, doi:10.24963/ijcai.2018/97", "saliency",
    ),
    MetricCard(
        "E_mean", "Enhanced alignment, mean over thresholds", "higher", "0 .. 1.001 (N / (N - 1) of N pixels)", "1",
        "Mean over 256 thresholds of the enhanced-alignment measure.",
        "Fan et al. 2018, doi:10.24963/ijcai.2018/97", "saliency",
    ),
    MetricCard(
        "E_max", "Enhanced alignment, best threshold", "higher", "0 .. 1.001 (N / (N - 1) of N pixels)", "1",
        "Largest enhanced-alignment measure over 256 thresholds, of the averaged curve.",
        "Fan et al. 2018, doi:10.24963/ijcai.2018/97", "saliency",
    ),
)  # fmt: skip


ImageLike = NDArray[np.uint8] | str | os.PathLike[str]
Floats = NDArray[np.float64]

BETA2 = 0.3
ALPHA = 0.5
EPS = np.spacing(1)  # MATLAB's eps, where the reference adds it
AVERAGED = ("MAE", "S", "F_adaptive", "F_weighted", "E_adaptive")  # a data set's value is the mean over its images
REACH = 3  # pixels from the centre to the edge of the weighted F's 7x7 window

# Steps from a pixel to its nearest object pixel, for pixels within that window of one. Of equally near ones the lowest
# column counts, then the lowest row: as scipy's distance transform, which the reference uses, decides.
_R = range(-REACH - 1, REACH + 2)
_STEPS = sorted((y * y + x * x, x, y) for y in _R for x in _R if 0 < y * y + x * x <= 2 * REACH**2)
_WINDOW = np.exp(-(np.arange(-REACH, REACH + 1.0) ** 2) / (2 * 5.0**2))
_WINDOW /= _WINDOW.sum()


# column of the papers' tables -> the measure; SMR-Net's captions say that F and E are the adaptive ones
MEASURES = {"S": "S", "F": "F_adaptive", "E": "E_adaptive", "MAE": "MAE"}


@dataclass(frozen=True)
class SaliencyCurves:
    """Precision, recall, F and E of the map binarised at `level >= t`, t = 0..255; each float64 (256,)."""

    precision: Floats
    recall: Floats
    f: Floats
    e: Floats


@dataclass(frozen=True)
class SaliencyDataset:
    """The measures of a data set.

    Attributes:
        images: one row of `saliency` per image, in the order given.
        scores: MAE, S, adaptive and weighted values are means over images; mean and max F and E are taken on the curve
            averaged over images, so F_max is that of one threshold for all images, not the mean of the images' F_max.
        curves: averaged over images.
        missing: measure -> which images have no value. That measure is NaN; no mean is taken over a missing value.
    """

    images: tuple[dict[str, float], ...]
    scores: dict[str, float]
    curves: SaliencyCurves
    missing: dict[str, str]


def saliency(prediction: ImageLike, ground_truth: ImageLike) -> dict[str, float]:
    """All measures of one map.

    Args:
        prediction: saliency map, uint8 (H, W), colour (H, W, 3) (its luminance is used), or the path of an image.
        ground_truth: object mask, 0 and 255 (object where > 128), of the same size.

    Returns:
        "MAE", "S", "F_adaptive", "F_mean", "F_max", "F_weighted", "E_adaptive", "E_mean", "E_max".
        Without an object F and the weighted F are 0, S is 1 - mean(P), E the part of background found; where all is
        object S is mean(P), E the part found. E of a single pixel is NaN: it divides by N - 1 (the reference gives
        4.5e15). Where the object hugs the lower or right border so that S has empty quadrants, they weigh nothing (the
        reference gives NaN).

    Raises:
        ImageError: unreadable, not uint8, sizes that differ, or a mask of 0 and 1.
    """
    return _row(_count(prediction, ground_truth))


def saliency_curves(prediction: ImageLike, ground_truth: ImageLike) -> SaliencyCurves:
    """Precision, recall, F and E at the 256 thresholds; arguments and errors as `saliency`.

    Precision is 0 where nothing is predicted, recall where there is no object.
    """
    return _curves(_count(prediction, ground_truth))


def saliency_dataset(pairs: Iterable[tuple[ImageLike, ImageLike]]) -> SaliencyDataset:
    """All measures of a data set; only one image and the running sums are held at a time.

    Args:
        pairs: (prediction, ground truth) of every image, as for `saliency`.

    Raises:
        EvalkitError: no pairs. ImageError: as `saliency`.
    """
    rows: list[dict[str, float]] = []
    total = np.zeros((4, 256))
    for prediction, truth in pairs:
        counted = _count(prediction, truth)
        curves = _curves(counted)
        rows.append(_row(counted, curves))
        total += (curves.precision, curves.recall, curves.f, curves.e)
    if not rows:
        raise EvalkitError("no saliency maps to measure: give at least one (prediction, ground truth) pair.")
    mean = SaliencyCurves(*total / len(rows))
    averages = {name: float(np.mean([row[name] for row in rows])) for name in AVERAGED}
    scores = _in_order(averages, mean)
    missing = {
        name: "no value for image " + ", ".join(str(i) for i, row in enumerate(rows) if np.isnan(row[name]))
        for name in scores
        if np.isnan(scores[name])
    }
    return SaliencyDataset(tuple(rows), scores, mean, missing)


@dataclass(frozen=True)
class _Counted:
    """A pair and its sufficient statistic."""

    stretched: Floats  # (H, W)
    truth: NDArray[np.bool_]  # (H, W)
    levels: Floats  # (256,), the stretched value of each 8-bit level
    quadrants: NDArray[np.int64]  # (2, 2, 2, 256): pixels above/below, left/right of the centroid, by truth and level
    quadrant_means: Floats  # (2, 2), of the stretched map

    @property
    def pixels(self) -> NDArray[np.int64]:
        """Pixels of the whole image by truth and level, (2, 256)."""
        return self.quadrants.sum(axis=(0, 1))


def _count(prediction: ImageLike, ground_truth: ImageLike) -> _Counted:
    p, g = _gray(prediction, "prediction"), _gray(ground_truth, "ground truth")
    if p.shape != g.shape:
        raise ImageError(
            f"prediction is {p.shape[1]}x{p.shape[0]} pixels, ground truth {g.shape[1]}x{g.shape[0]}. "
            "Resize the prediction to the size of the ground truth."
        )
    if reason := empty_by_level(g):
        raise ImageError(reason)
    truth = g > OBJECT
    levels = np.arange(256) / 255
    low, high = levels[p.min()], levels[p.max()]
    if low < high:
        levels = (levels - low) / (high - low)
    stretched = levels[p]

    row, column = _centroid(truth)
    code = p + (truth.astype(np.uint16) << 8)
    quadrants, means = np.zeros((2, 2, 512), np.int64), np.zeros((2, 2))
    for i, rows in enumerate((slice(0, row), slice(row, None))):
        for j, columns in enumerate((slice(0, column), slice(column, None))):
            part = code[rows, columns]
            if part.size:
                quadrants[i, j] = np.bincount(part.ravel(), minlength=512)
                # not from the counts: whether a flat quadrant deviates from its own mean by a rounding error decides
                # between 0 and 1 in the reference
                means[i, j] = stretched[rows, columns].mean()
    return _Counted(stretched, truth, levels, quadrants.reshape(2, 2, 2, 256), means)


def _gray(image: ImageLike, name: str) -> Gray:
    if isinstance(image, str | os.PathLike):
        image = read_image(image)
    image = to_array(image, name)
    check_array(image, name)
    return to_gray(image)


def _centroid(truth: NDArray[np.bool_]) -> tuple[int, int]:
    """Rows and columns up to and with the object's centroid, rounded; the middle where there is no object."""
    count = np.count_nonzero(truth)
    if not count:
        return truth.shape[0] // 2, truth.shape[1] // 2
    centre = (np.count_nonzero(truth, axis=1 - k) @ np.arange(truth.shape[k]) / count for k in (0, 1))
    row, column = (int(np.round(c)) + 1 for c in centre)
    return row, column


def _row(counted: _Counted, curves: SaliencyCurves | None = None) -> dict[str, float]:
    background, objects = counted.pixels
    threshold = min(2 * counted.stretched.mean(), 1)
    positive = counted.levels >= threshold
    tp, fp = objects[positive].sum(keepdims=True), background[positive].sum(keepdims=True)
    errors = background @ np.abs(counted.levels) + objects @ np.abs(counted.levels - 1)
    values = {
        "MAE": float(errors / counted.truth.size),
        "S": _s_measure(counted),
        "F_adaptive": float(_precision_recall_f(tp, fp, objects.sum())[2][0]),
        "F_weighted": _weighted_f(counted.stretched, counted.truth),
        "E_adaptive": float(_e_measure(tp, fp, objects.sum(), counted.truth.size)[0]),
    }
    return _in_order(values, curves or _curves(counted))


def _in_order(values: dict[str, float], curves: SaliencyCurves) -> dict[str, float]:
    f, e = curves.f, curves.e
    values = values | {"F_mean": f.mean(), "F_max": f.max(), "E_mean": e.mean(), "E_max": e.max()}
    order = ("MAE", "S", "F_adaptive", "F_mean", "F_max", "F_weighted", "E_adaptive", "E_mean", "E_max")
    return {name: float(values[name]) for name in order}


def _curves(counted: _Counted) -> SaliencyCurves:
    level = (np.clip(counted.levels, 0, 1) * 255).astype(np.uint8)  # truncated, as the reference does
    background, objects = (np.bincount(level, weights=n, minlength=256) for n in counted.pixels)
    tp, fp = (np.cumsum(n[::-1])[::-1] for n in (objects, background))
    precision, recall, f = _precision_recall_f(tp, fp, objects.sum())
    return SaliencyCurves(precision, recall, f, _e_measure(tp, fp, objects.sum(), counted.truth.size))


def _precision_recall_f(tp: NDArray, fp: NDArray, objects: float) -> tuple[Floats, Floats, Floats]:
    precision = tp / np.maximum(tp + fp, 1)
    recall = tp / max(objects, 1)
    product = (1 + BETA2) * precision * recall
    f = product / np.where(product == 0, 1, BETA2 * precision + recall)
    return precision, recall, f


def _e_measure(tp: NDArray, fp: NDArray, objects: float, size: int) -> Floats:
    """E of binary maps from their true and false positives: the alignment takes four values, one a region."""
    if size == 1:
        return np.full(len(tp), np.nan)
    positive = tp + fp
    if objects == 0:
        total = size - positive
    elif objects == size:
        total = positive
    else:
        p, g = positive / size, objects / size  # the means, which the binary values are taken from
        regions = ((tp, 1 - p, 1 - g), (fp, 1 - p, -g), (objects - tp, -p, 1 - g), (size - objects - fp, -p, -g))
        total = sum(count * (1 + 2 * a * b / (a * a + b * b + EPS)) ** 2 / 4 for count, a, b in regions)
    return total / (size - 1)


def _s_measure(counted: _Counted) -> float:
    levels, (background, objects), size = counted.levels, counted.pixels, counted.truth.size
    if not objects.any() or not background.any():
        mean = counted.stretched.mean()
        return float(mean if objects.any() else 1 - mean)
    part = objects.sum() / size
    s_object = part * _object_score(levels, objects) + (1 - part) * _object_score(1 - levels, background)
    s_region = sum(
        counts.sum() / size * _region_score(levels, counts[0], counts[1], mean)
        for counts, mean in zip(counted.quadrants.reshape(4, 2, 256), counted.quadrant_means.flat, strict=True)
        if counts.any()
    )
    return float(max(0.0, ALPHA * s_object + (1 - ALPHA) * s_region))


def _object_score(levels: Floats, counts: NDArray[np.int64]) -> float:
    """2 m / (m^2 + 1 + s) of the map's mean and standard deviation where it should be 1."""
    n = counts.sum()
    mean = counts @ levels / n
    deviation = np.sqrt(counts @ (levels - mean) ** 2 / max(n - 1, 1))
    return 2 * mean / (mean**2 + 1 + deviation + EPS)


def _region_score(levels: Floats, background: NDArray[np.int64], objects: NDArray[np.int64], x: float) -> float:
    """SSIM without constants of a quadrant: 4 x y s_xy / ((x^2 + y^2) (s_x + s_y))."""
    n, n_objects = background.sum() + objects.sum(), objects.sum()
    y = n_objects / n
    s_x = (background + objects) @ (levels - x) ** 2 / (n - 1 + EPS)
    s_y = (n_objects * (1 - y) ** 2 + (n - n_objects) * y**2) / (n - 1 + EPS)
    s_xy = (objects @ (levels - x) * (1 - y) - background @ (levels - x) * y) / (n - 1 + EPS)
    numerator = 4 * x * y * s_xy
    denominator = (x**2 + y**2) * (s_x + s_y)
    if numerator == 0:
        return float(denominator == 0)
    return numerator / (denominator + EPS)


def _weighted_f(stretched: Floats, truth: NDArray[np.bool_]) -> float:
    """Weighted F, beta^2 = 1.

    An object pixel's error is forgiven as far as its neighbourhood is right; a background pixel's counts the
    more, up to twice, the farther it is from the object.
    """
    objects = np.count_nonzero(truth)
    if not objects:
        return 0.0
    error = np.abs(stretched - truth)
    smooth = cv2.sepFilter2D(_extend(error, truth), -1, _WINDOW, _WINDOW, borderType=cv2.BORDER_CONSTANT)
    missed = np.minimum(error, smooth)[truth].sum()
    distance = cv2.distanceTransform((~truth).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    weight = 2 - np.exp2(distance / -5)  # float32 is enough: the transform is good to 1e-7
    false = np.sum(error * weight, where=~truth)
    recall = 1 - missed / objects
    precision = (objects - missed) / (objects - missed + false + EPS)
    return float(2 * recall * precision / (recall + precision + EPS))


def _extend(error: Floats, truth: NDArray[np.bool_]) -> Floats:
    """The error, with that of the nearest object pixel at every background pixel a window of the object can reach."""
    border = REACH + 1
    inside = np.pad(truth, border)
    extended = np.pad(error, border)
    window = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    reachable = cv2.dilate(inside.view(np.uint8), window).view(bool) & ~inside
    reachable[:border] = reachable[-border:] = reachable[:, :border] = reachable[:, -border:] = False
    flat, is_object, pixels = extended.reshape(-1), inside.reshape(-1), np.flatnonzero(reachable)
    for _, x, y in _STEPS:
        step = y * inside.shape[1] + x
        near = is_object[pixels + step]
        reached, pixels = pixels[near], pixels[~near]
        flat[reached] = flat[reached + step]
        if not pixels.size:
            break
    return np.ascontiguousarray(extended[border:-border, border:-border])
