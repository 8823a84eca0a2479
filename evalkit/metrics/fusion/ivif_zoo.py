"""The convention `zoo`: the numbers of IVIF_ZOO's evaluator in PyTorch, its slips included.

It belongs to the survey "Infrared and Visible Image Fusion: From Data Compatibility to Task Adaption".

The evaluator computes in float32, which moves its values by 1e-7 in most metrics and by up to 1e-4 where it divides by
small variances (SSIM, VIF); the values here are in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from evalkit.metrics.card import describes
from evalkit.metrics.fusion.artifacts import TANG_PYTHON, nabf
from evalkit.metrics.fusion.gradient import average_gradient, edge_transfer, sobel, spatial_frequency
from evalkit.metrics.fusion.information import (
    correlation,
    entropy_with_offset,
    mean_squared_error,
    mutual_information,
    psnr,
    standard_deviation,
    sum_of_correlations_of_differences,
)
from evalkit.metrics.fusion.joint_information import correlation_information
from evalkit.metrics.fusion.local_similarity import SIMILAR
from evalkit.metrics.fusion.multiscale import ms_ssim
from evalkit.metrics.fusion.perceptual import contrast_kept, masked_contrast_of, seen_by_chen_blum
from evalkit.metrics.fusion.similarity import gaussian, ssim
from evalkit.metrics.fusion.vif import EPSILON as VIF_EPSILON
from evalkit.metrics.fusion.vif import NOISE, SCALES
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once

Metric = Callable[[Pair], float]
EPSILON = 1e-10
BITS = 1 / math.log(2)


# --- information


def _mutual_information(pair: Pair) -> float:
    return BITS * sum(mutual_information(pair.fused, source) for source in pair.sources)


def _normalised_mutual_information(pair: Pair) -> float:
    return (
        2 * _mutual_information(pair) / (sum(entropy_with_offset(source, EPSILON) for source in pair.sources) + EPSILON)
    )


@describes(
    "TE",
    "Tsallis entropy",
    better="higher",
    range="-8 .. 16",
    unit="bit",
    definition="Entropies of the two sources less that of the fused image, in Shannon's sense (q = 1).",
    source="Cvejic, Canagarajah and Bull 2006, Electronics Letters 42(11):626-627",
)
def entropy_balance(pair: Pair) -> float:
    """H(A) + H(B) - H(F), which the evaluator calls Tsallis entropy: with q = 1 it is Shannon's. In bits."""
    infrared, visible = pair.sources
    return (
        entropy_with_offset(infrared, EPSILON)
        + entropy_with_offset(visible, EPSILON)
        - entropy_with_offset(pair.fused, EPSILON)
    )


def _sigmoid_of_levels() -> tuple[Array, Array]:
    """The logistic function of the levels 0..255 as float32 rounds it, and the same kept off 0 and 1 by 1e-7."""
    denominator = (1 + np.exp(-np.arange(256.0)).astype(np.float32).astype(np.float64)).astype(np.float32)
    value = (1 / denominator.astype(np.float64)).astype(np.float32)
    return value, np.clip(value, np.float32(1e-7), np.float32(1 - 1e-7)).astype(np.float64)


_SIGMOID, _CLIPPED = _sigmoid_of_levels()
_LOG, _LOG_OF_REST = np.log(_CLIPPED), np.log1p(-_CLIPPED)


def _binary_cross_entropy(pair: Pair) -> float:
    """Cross entropy of sigmoid(F) against the mean sigmoid of the sources: of gray levels, nearly all of them are 1."""
    infrared, visible = (_SIGMOID[source.pixels] for source in pair.sources)
    target = np.clip((infrared + visible) / np.float32(2), np.float32(1e-7), np.float32(1 - 1e-7)).astype(np.float64)
    fused = pair.fused.pixels
    return -float((target * _LOG[fused] + (1 - target) * _LOG_OF_REST[fused]).mean())


def _correlation_entropy(pair: Pair) -> float:
    """QNCIE with Pearson's correlations in the place of the nonlinear ones.

    Raises:
        UndefinedError: an image is constant.
    """
    infrared, visible = pair.sources
    one, other = correlation(pair.fused, infrared), correlation(pair.fused, visible)
    between = correlation(infrared, visible)
    return correlation_information(np.array([[0, between, one], [between, 0, other], [one, other, 0]]))


# --- edges and perception


def _edge_intensity(pair: Pair) -> float:
    return float(sobel(pair.fused, cv2.BORDER_CONSTANT)[0].mean())


def _qabf(pair: Pair) -> float:
    return edge_transfer(pair, cv2.BORDER_CONSTANT, equal_is_one=False)


@once
def _contrast(image: Image) -> Array:
    """Masked contrast of the image in 0..1, unrounded, its frequencies half of those of Z. Liu's toolbox.

    Raises:
        UndefinedError: the image is constant.
    """
    low, high = image.x.min(), image.x.max()
    if low == high:
        raise UndefinedError(f"the {image.name} image is constant: it cannot be stretched to 0..1")
    return masked_contrast_of(seen_by_chen_blum((image.x - low) / (high - low), 1 / 60), EPSILON)


def _chen_blum(pair: Pair) -> float:
    return contrast_kept(_contrast(pair.fused), [_contrast(source) for source in pair.sources], EPSILON)


# --- visual information fidelity: borders of zeros, windows off their centre


DOUBTFUL = 1e-5  # local variances below are computed again; at the first scale only a flat window has less
FLAT = 1e-6  # the range of a window whose variance is certainly below VIF_EPSILON


def _window(scale: int) -> Array:
    """N = 2^(5 - scale) + 1 samples from -(N + 1) / 2 to (N - 1) / 2: stretched, and half a sample off the centre."""
    n = 2 ** (5 - scale) + 1
    weights = np.exp(-(np.linspace(-(n + 1) / 2, (n - 1) / 2, n) ** 2) / (2 * (n / 5) ** 2))
    return weights / weights.sum()


_WINDOWS = {scale: _window(scale) for scale in SCALES}


def _smooth(x: Array, scale: int) -> Array:
    return cv2.sepFilter2D(x, cv2.CV_64F, _WINDOWS[scale], _WINDOWS[scale], borderType=cv2.BORDER_CONSTANT)


@once
def _at_scale(image: Image, scale: int) -> tuple[Array, Array, Array]:
    """The image at a scale, its local mean and its local variance, never negative."""
    x = image.x if scale == 1 else np.ascontiguousarray(_smooth(_at_scale(image, scale - 1)[0], scale)[::2, ::2])
    mean = _smooth(x, scale)
    variance = np.maximum(_smooth(x * x, scale) - mean * mean, 0)
    r = len(_WINDOWS[scale]) // 2
    _settle(variance[r:-r, r:-r], x, _WINDOWS[scale])
    return x, mean, variance


def _settle(variance: Array, x: Array, kernel: Array) -> None:
    """Compute doubtful local variances again, in their place, from differences to the window's middle.

    A mean of squares less the square of a mean errs by 1e-11, another way on every processor. Where next to nothing
    varies, which is in and around flat parts, that is all there is, or decides what is below VIF_EPSILON.

    Args:
        variance: of the windows inside the image, (H - n + 1, W - n + 1).
        x: the image, (H, W).
        kernel: along rows and columns, (n,), n odd.
    """
    if not (doubtful := variance < DOUBTFUL).any():
        return
    n = len(kernel)
    inside = np.s_[n // 2 : x.shape[0] - n // 2, n // 2 : x.shape[1] - n // 2]
    window = np.ones((n, n), np.uint8)
    flat = (cv2.dilate(x, window) - cv2.erode(x, window))[inside] < FLAT
    np.copyto(variance, 0, where=flat)
    places, weights = np.argwhere(doubtful & ~flat), np.outer(kernel, kernel).ravel()
    windows = np.lib.stride_tricks.sliding_window_view(x, (n, n))
    for start in range(0, len(places), 1024):
        rows, columns = places[start : start + 1024].T
        apart = windows[rows, columns].reshape(len(rows), -1)
        apart -= apart[:, [n * n // 2]]
        variance[rows, columns] = np.square(apart) @ weights - np.square(apart @ weights)


@once
def _vif(fused: Image, source: Image) -> float:
    """VIFP of the fused image against a source, at every pixel of every scale.

    Raises:
        UndefinedError: the source is black.
    """
    kept = present = 0.0
    for scale in SCALES:
        (x_s, mean_s, variance_s), (x_f, mean_f, variance_f) = _at_scale(source, scale), _at_scale(fused, scale)
        covariance = _smooth(x_s * x_f, scale) - mean_s * mean_f
        gain = covariance / (variance_s + VIF_EPSILON)
        gain[(variance_s < VIF_EPSILON) | (variance_f < VIF_EPSILON) | (gain < 0)] = 0
        noise = np.maximum(variance_f - gain * covariance, VIF_EPSILON)
        in_source = np.where(variance_s < VIF_EPSILON, 0, variance_s)
        kept += float(np.log10(1 + gain * gain * in_source / (noise + NOISE)).sum())
        present += float(np.log10(1 + in_source / NOISE).sum())
    if present == 0:
        raise UndefinedError(f"VIF is 0/0: the {source.name} image is black")
    return kept / present


# --- Yang's similarity with a window that sums up to 7

_ROW = np.exp(-((np.arange(7) - 3) ** 2) / (2 * 1.5**2))
_ROW /= _ROW.sum()
_C1, _C2 = 0.01**2, 0.03**2


def _sum_of_rows(x: Array) -> Array:
    """Sum over seven rows of the Gaussian mean of each, the image surrounded by zeros."""
    return cv2.sepFilter2D(x, cv2.CV_64F, _ROW, np.ones(7), borderType=cv2.BORDER_CONSTANT)


@once
def _sums(image: Image) -> tuple[Array, Array]:
    mean = _sum_of_rows(image.x)
    return mean, _sum_of_rows(image.x * image.x) - mean * mean


@once
def _similarity(image: Image, other: Image) -> Array:
    (mean, variance), (mean_o, variance_o) = _sums(image), _sums(other)
    covariance = _sum_of_rows(image.x * other.x) - mean * mean_o
    luminance = (2 * mean * mean_o + _C1) / (mean * mean + mean_o * mean_o + _C1)
    return luminance * ((2 * covariance + _C2) / (variance + variance_o + _C2))


def _yang(pair: Pair) -> float:
    infrared, visible = pair.sources
    variance, variance_o = _sums(infrared)[1], _sums(visible)[1]
    share = variance / (variance + variance_o + EPSILON)
    one, other = _similarity(pair.fused, infrared), _similarity(pair.fused, visible)
    alike = _similarity(infrared, visible) >= SIMILAR
    return float(np.where(alike, share * one + (1 - share) * other, np.maximum(one, other)).mean())


def _mean_squared_error(pair: Pair) -> float:
    return sum(mean_squared_error(pair.fused, source) for source in pair.sources) / 2 / 255**2


ZOO: dict[str, tuple[Metric, str]] = {
    "EN": (lambda pair: entropy_with_offset(pair.fused), "bits, 1e-7 added under the logarithm"),
    "SD": (lambda pair: standard_deviation(pair.fused), "population, 8-bit gray"),
    "SF": (lambda pair: spatial_frequency(pair.fused), "row and column differences, 8-bit gray"),
    "AG": (lambda pair: average_gradient(pair.fused), "central differences, mean sqrt((gx^2 + gy^2) / 2)"),
    "EI": (_edge_intensity, "mean Sobel magnitude, the image surrounded by zeros"),
    "MI": (_mutual_information, "sum over the sources, bits"),
    "NMI": (_normalised_mutual_information, "2 (I(F; A) + I(F; B)) / (H(A) + H(B)): not normalised by H(F)"),
    "TE": (entropy_balance, "Shannon's entropies (q = 1), 1e-10 added under the logarithm"),
    "CE": (
        _binary_cross_entropy,
        "binary cross entropy of the logistic function of gray levels, which is 1 from level 17 on: no information",
    ),
    "QNCIE": (_correlation_entropy, "Pearson's correlations in the place of the nonlinear ones"),
    "SCD": (sum_of_correlations_of_differences, "sum over the sources"),
    "CC": (lambda pair: sum(correlation(pair.fused, s) for s in pair.sources) / 2, "mean over the sources"),
    "MSE": (_mean_squared_error, "mean over the sources, images in 0..1"),
    "PSNR": (lambda pair: psnr(255, _mean_squared_error(pair)), "peak 255 though the MSE is of images in 0..1"),
    "VIF": (
        lambda pair: sum(_vif(pair.fused, source) for source in pair.sources),
        "sum over the sources; borders of zeros at each scale, windows stretched and half a pixel off their centre",
    ),
    "Qabf": (_qabf, "Sobel padded with zeros; equal edge strengths count as the strength itself"),
    "SSIM": (
        lambda pair: sum(ssim(pair.fused, source, gaussian, 1) for source in pair.sources),
        "sum over the sources, 11 x 11 Gaussian, L = 1 on 0..255 values",
    ),
    "MS-SSIM": (
        lambda pair: sum(ms_ssim(pair.fused, source, 1, "zeros first") for source in pair.sources),
        "sum over the sources, odd sides halved with zeros, L = 1 on 0..255 values",
    ),
    "Nabf": (lambda pair: nabf(pair, TANG_PYTHON), "Sobel / 8, edges weaker than 2 do not count"),
    "QY": (_yang, "window of seven equal rows whose weights sum to 7, borders of zeros, L = 1 on 0..255 values"),
    "CB": (_chen_blum, "each image stretched to 0..1, frequencies half of Z. Liu's, 1e-10 added to denominators"),
}
