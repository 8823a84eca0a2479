"""Multi-scale structural similarity, MS-SSIM (Wang et al. 2003, doi:10.1109/ACSSC.2003.1292216)."""

from __future__ import annotations

import functools
import math
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.compiled import kernels
from evalkit.metrics.card import describes
from evalkit.metrics.fusion.similarity import gaussian
from evalkit.metrics.image import Array, Image, UndefinedError, once

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five scales, finest first; they sum to 1
LAST = len(EXPONENTS) - 1
SMALLEST = 161  # halved four times and rounded up, it still holds one 11 x 11 window
SMALLEST_RESIZED = 16  # halved four times and rounded down, one pixel is left


def _need(image: Image, side: int) -> None:
    if min(image.shape) < side:
        raise UndefinedError(f"the image is {image.shape[1]}x{image.shape[0]}: MS-SSIM needs {side}x{side} pixels")


# How a side of odd length is halved: its last row or column repeated behind it (Wang's way), the first row and column
# repeated before both sides if one of them is odd (the library piq's; a side that is then odd loses its last row or
# column), or a row or column of zeros before it, which counts in the mean (average pooling with padding).
OddSide = Literal["last repeated", "first repeated", "zeros first"]
WANG: OddSide = "last repeated"


def halve(x: Array, odd: OddSide = WANG) -> Array:
    """Means of 2 x 2 pixels, (ceil(H / 2), ceil(W / 2)).

    Args:
        x: (H, W).
        odd: how a side of odd length is made even.
    """
    rows, columns = (n % 2 for n in x.shape)
    if rows or columns:
        if odd == "last repeated":
            x = cv2.copyMakeBorder(x, 0, rows, 0, columns, cv2.BORDER_REPLICATE)
        elif odd == "zeros first":
            x = cv2.copyMakeBorder(x, rows, 0, columns, 0, cv2.BORDER_CONSTANT)
        else:
            x = cv2.copyMakeBorder(x, 1, 0, 1, 0, cv2.BORDER_REPLICATE)
            x = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


@once
def at_scale(image: Image, scale: int, odd: OddSide) -> Array:
    """The image after `scale` halvings, 0..4.

    Args:
        image: gray 0..255.
        scale: 0 is the image itself.
        odd: as for `halve`.
    """
    return image.x if scale == 0 else halve(at_scale(image, scale - 1, odd), odd)


@once
def moments(image: Image, scale: int, odd: OddSide) -> tuple[Array, Array]:
    """Local mean and variance at a scale, of the 11 x 11 Gaussian windows inside the image.

    Args:
        image: gray 0..255.
        scale: 0..4.
        odd: as for `halve`.
    """
    x = at_scale(image, scale, odd)
    mean = gaussian.mean(x)
    return mean, gaussian.mean(x * x) - mean * mean


def _contrast_structure(variance_f: Array, variance_s: Array, covariance: Array, L: float) -> Array:
    c2 = (0.03 * L) ** 2
    return (2 * covariance + c2) / (variance_f + variance_s + c2)


def _luminance(mean_f: Array, mean_s: Array, L: float) -> Array:
    c1 = (0.01 * L) ** 2
    return (2 * mean_f * mean_s + c1) / (mean_f * mean_f + mean_s * mean_s + c1)


@describes(
    "MS-SSIM",
    "Multi-scale structural similarity",
    better="higher",
    range="0 .. 1",
    unit="1",
    definition="Product over five scales of contrast-structure, and luminance at the last.",
    source="Wang, Simoncelli and Bovik 2003, doi:10.1109/ACSSC.2003.1292216",
)
@once
def ms_ssim(fused: Image, source: Image, L: float = 255, odd: OddSide = WANG) -> float:
    """MS-SSIM against one source: prod_{j<5} mean(cs_j)^w_j times mean(l cs)_5^w_5, K1 = .01, K2 = .03.

    cs_j is contrast times structure of SSIM at scale j, l its luminance term, taken at the last scale only. Windows are
    11 x 11 Gaussian (standard deviation 1.5) and lie inside the image; a negative mean counts as 0. 0..1, 1 for F = S,
    higher is better; symmetric in the two images.

    Args:
        L: the dynamic range.
        odd: how odd sides are halved, see `halve`; "first repeated" gives piq's numbers.

    Raises:
        UndefinedError: a side is shorter than 161 pixels.
    """
    _need(fused, SMALLEST)
    value = 1.0
    large = kernels.compiled() and fused.large
    for scale, exponent in enumerate(EXPONENTS):
        if large:
            f, s = at_scale(fused, scale, odd), at_scale(source, scale, odd)
            value *= max(0.0, _mean_similarity(f, s, scale, L)) ** exponent
            continue
        mean_f, variance_f = moments(fused, scale, odd)
        mean_s, variance_s = moments(source, scale, odd)
        product = at_scale(fused, scale, odd) * at_scale(source, scale, odd)
        covariance = gaussian.mean(product) - mean_f * mean_s
        similarity = _contrast_structure(variance_f, variance_s, covariance, L)
        if scale == LAST:
            similarity *= _luminance(mean_f, mean_s, L)
        value *= max(0.0, float(similarity.mean())) ** exponent
    return value


def _mean_similarity(f: Array, s: Array, scale: int, L: float) -> float:
    """Mean contrast times structure, at the last scale times luminance, without an array of intermediate values."""
    assert gaussian.weights is not None
    both, contrast = kernels.ssim_parts(f, s, gaussian.weights, (0.01 * L) ** 2, (0.03 * L) ** 2)
    return both if scale == LAST else contrast


def _mirrored(x: Array) -> Array:
    """An image with the border that an 11 x 11 window at its edge reaches."""
    return cv2.copyMakeBorder(x, 5, 5, 5, 5, cv2.BORDER_REFLECT_101)


def _blurred(x: Array) -> Array:
    """11 x 11 Gaussian mean at every pixel, the image mirrored at its border, (H, W)."""
    return cv2.GaussianBlur(x, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101)


@functools.lru_cache(maxsize=64)
def halfway(side: int) -> tuple[NDArray[np.int64], Array]:
    """Where the pixels of an axis of half the length (rounded down) lie: the pixel before, and the next one's weight.

    This is bilinear interpolation as OpenCV has it, in double precision; its own depends on the processor.
    """
    half = side // 2
    place: Array = (np.arange(half, dtype=np.float64) + 0.5) * (side / half) - 0.5
    before = place.astype(np.int64)
    return before, place - before


def _interpolated(x: Array) -> Array:
    """The rows of an image at half their number, rounded down."""
    if len(x) % 2 == 0:
        return (x[::2] + x[1::2]) / 2
    before, weight = halfway(len(x))
    rows = x[before]
    rows += (x[before + 1] - rows) * weight[:, None]
    return rows


@once
def resized(image: Image, scale: int) -> Array:
    """The image after `scale` halvings by bilinear interpolation, sides rounded down."""
    if scale == 0:
        return image.x
    return np.ascontiguousarray(_interpolated(_interpolated(resized(image, scale - 1)).T).T)


@once
def resized_moments(image: Image, scale: int) -> tuple[Array, Array]:
    """Local mean and variance at a scale, with windows that reach over the border."""
    x = resized(image, scale)
    mean = _blurred(x)
    return mean, _blurred(x * x) - mean * mean


@once
def ms_ssim_smfnet(fused: Image, infrared: Image) -> float:
    """MS-SSIM as SMFNet's evaluator computes it: against the infrared image alone, windows over the mirrored border.

    Its term of the visible image is always 0, because that image's contrasts are never stored. 0..1.

    Raises:
        UndefinedError: a side is shorter than 16 pixels, or a scale's mean similarity is negative (not a number there).
    """
    _need(fused, SMALLEST_RESIZED)
    means = []
    large = kernels.compiled() and fused.large
    for scale in range(len(EXPONENTS)):
        if large:
            f, s = _mirrored(resized(fused, scale)), _mirrored(resized(infrared, scale))
            means.append(_mean_similarity(f, s, scale, 255))
            continue
        mean_f, variance_f = resized_moments(fused, scale)
        mean_s, variance_s = resized_moments(infrared, scale)
        covariance = _blurred(resized(fused, scale) * resized(infrared, scale)) - mean_f * mean_s
        similarity = _contrast_structure(variance_f, variance_s, covariance, 255)
        if scale == LAST:
            similarity *= _luminance(mean_f, mean_s, 255)
        means.append(float(similarity.mean()))
    if min(means) < 0:
        raise UndefinedError("MS-SSIM is not a number: a scale's mean similarity is negative, its exponent a fraction")
    return math.prod(np.power(means, EXPONENTS).tolist())
