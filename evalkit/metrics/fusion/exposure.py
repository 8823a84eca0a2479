"""MEF-SSIM and MEF-MS-SSIM: structural similarity to the best that a window of both sources holds.

Ma, Zeng and Wang 2015, doi:10.1109/TIP.2015.2442920, made them for images of several exposures; infrared and visible
images are measured as if they were two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from evalkit.metrics.card import describes
from evalkit.metrics.fusion.multiscale import EXPONENTS, WANG, at_scale
from evalkit.metrics.fusion.similarity import gaussian
from evalkit.metrics.image import Array, Pair, UndefinedError, strips

SIDE = gaussian.side
CELLS = SIDE * SIDE
C = (0.03 * 255) ** 2
EPSILON = np.finfo(float).eps
CONTRAST_OFFSET = 0.001
STEEPEST = 10.0  # largest exponent of the weights
SCALES = 3
SMALLEST = 41  # halved twice and rounded up, it still holds one window


def _box(x: Array) -> Array:
    """Sums over the windows that lie inside, (H - 10, W - 10); exact where x is a whole number."""
    return cv2.boxFilter(x, cv2.CV_64F, (SIDE, SIDE), normalize=False)[5:-5, 5:-5]


def _squared_norm(sum_of_squares: Array, total: Array) -> Array:
    """||x - mean||^2 of each window."""
    return np.maximum((CELLS * sum_of_squares - total * total) / CELLS, 0)


def _best_weights(a: Array, b: Array) -> tuple[Array, Array]:
    """What the best window takes of each source's deviations from its mean, (H - 10, W - 10).

    Contrasts e weigh (e / 11)^p, p from 0 (opposite structures) to 10 (equal ones); the sum is stretched to the
    larger of the two contrasts.
    """
    sum_a, sum_b = _box(a), _box(b)
    square_a, square_b = _squared_norm(_box(a * a), sum_a), _squared_norm(_box(b * b), sum_b)
    product = (CELLS * _box(a * b) - sum_a * sum_b) / CELLS
    norms = np.sqrt(square_a), np.sqrt(square_b)
    of_sum = np.sqrt(np.maximum(square_a + square_b + 2 * product, 0))
    consistency = np.clip((of_sum + EPSILON) / (norms[0] + norms[1] + EPSILON), EPSILON, 1 - EPSILON)
    contrasts = [norm + CONTRAST_OFFSET for norm in norms]
    exponent = np.minimum(np.tan(np.pi / 2 * consistency), STEEPEST)
    weights = [(contrast / SIDE) ** exponent + EPSILON for contrast in contrasts]
    whole = weights[0] + weights[1]
    of_a, of_b = (weight / whole / contrast for weight, contrast in zip(weights, contrasts, strict=True))
    length = np.sqrt(np.maximum(of_a**2 * square_a + of_b**2 * square_b + 2 * of_a * of_b * product, 0))
    stretch = np.divide(np.maximum(*contrasts), length, out=np.ones_like(length), where=length > 0)
    return of_a * stretch, of_b * stretch


def _covariances(images: list[Array]) -> Iterator[Array]:
    """Of fused image and sources f, a, b in Gaussian windows: ff, aa, bb, fa, fb, ab."""
    means = [gaussian.mean(x) for x in images]
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        yield gaussian.mean(images[i] * images[j]) - means[i] * means[j]


def similarity_to_best(pair: Pair, scale: int) -> float:
    """Mean over the windows of the similarity of the fused image and the best window, at a scale from 0 to 2."""
    x = [at_scale(image, scale, WANG) for image in (pair.fused, *pair.sources)]
    rows = len(x[0]) - SIDE + 1
    total = 0.0
    for strip in strips(rows):
        part = [np.ascontiguousarray(image[strip.start : strip.stop + SIDE - 1]) for image in x]
        of_a, of_b = _best_weights(part[1], part[2])
        ff, aa, bb, fa, fb, ab = _covariances(part)
        variance = of_a**2 * aa + of_b**2 * bb + 2 * of_a * of_b * ab
        similarity = 2 * (of_a * fa + of_b * fb) + C
        similarity /= variance + ff + C
        total += float(similarity.sum())
    return total / (rows * (x[0].shape[1] - SIDE + 1))


def _need(pair: Pair, side: int, name: str) -> None:
    rows, columns = pair.fused.shape
    if min(rows, columns) < side:
        raise UndefinedError(f"the image is {columns}x{rows}: {name} needs {side}x{side} pixels")


@describes(
    "MEF-SSIM",
    "Structural similarity of multi-exposure fusion",
    better="higher",
    range="-1 .. 1",
    unit="1",
    definition="Mean over local windows of the structural similarity of fused image and the best mixture of the "
    "sources' structures.",
    source="Ma, Zeng and Wang 2015, doi:10.1109/TIP.2015.2442920",
)
def mef_ssim(pair: Pair) -> float:
    """MEF-SSIM: contrast and structure of the fused image against the best that each 11 x 11 window could have.

    The best window has the larger contrast of the two sources and a mixture of their structures. Mean gray levels do
    not count. 1 for F = A = B; symmetric in the sources.

    Raises:
        UndefinedError: smaller than 11 x 11 pixels.
    """
    _need(pair, SIDE, "MEF-SSIM")
    return similarity_to_best(pair, 0)


@describes(
    "MEF-MS-SSIM",
    "Multi-scale structural similarity of multi-exposure fusion",
    better="higher",
    range="0 .. 1",
    unit="1",
    definition="Weighted geometric mean of MEF-SSIM at three scales.",
    source="Ma, Zeng and Wang 2015, doi:10.1109/TIP.2015.2442920",
)
def mef_ms_ssim(pair: Pair) -> float:
    """MEF-MS-SSIM: MEF-SSIM at three scales to the powers .0448, .2856 and .3001 over their sum, multiplied.

    Raises:
        UndefinedError: smaller than 41 x 41 pixels, or a scale's similarity is negative.
    """
    _need(pair, SMALLEST, "MEF-MS-SSIM")
    values = [similarity_to_best(pair, scale) for scale in range(SCALES)]
    if min(values) < 0:
        raise UndefinedError(
            "MEF-MS-SSIM is not a number: a scale's mean similarity is negative, its exponent a fraction"
        )
    used = EXPONENTS[:SCALES]
    return math.prod(value ** (exponent / sum(used)) for value, exponent in zip(values, used, strict=True))
