"""Structural similarity (Wang et al. 2004, doi:10.1109/TIP.2003.819861)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from evalkit.compiled import kernels
from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, UndefinedError, once, strips


@dataclass(frozen=True)
class Window:
    """The weights of a local mean, and what a weighted mean square deviation is multiplied with to be a variance.

    Attributes:
        mean: (H, W) -> (H - side + 1, W - side + 1), or (H, W) where the border is padded.
        weights: (side,) of a separable window; None for equal ones.
        padded: whether the border is repeated, so that every pixel counts.
    """

    side: int
    correction: float
    mean: Callable[[Array], Array]
    weights: Array | None = field(default=None, compare=False)
    padded: bool = False


def _uniform_7(x: Array) -> Array:
    return cv2.boxFilter(x, cv2.CV_64F, (7, 7))[3:-3, 3:-3]


def _uniform_8(x: Array) -> Array:
    return cv2.boxFilter(x, cv2.CV_64F, (8, 8), anchor=(0, 0))[:-7, :-7]


def _gaussian(side: int) -> Array:
    weights = np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * 1.5**2))
    return weights / weights.sum()


_GAUSSIAN_7, _GAUSSIAN_11 = _gaussian(7), _gaussian(11)


def _gaussian_7(x: Array) -> Array:
    return kernels.filtered(x, _GAUSSIAN_7)


def _gaussian_11(x: Array) -> Array:
    return kernels.filtered(x, _GAUSSIAN_11)


def _gaussian_11_everywhere(x: Array) -> Array:
    return kernels.filtered(np.pad(x, 5, mode="edge"), _GAUSSIAN_11)


uniform = Window(7, 49 / 48, _uniform_7)  # scikit-image's default, which divides by n - 1
uniform_7 = Window(7, 1.0, _uniform_7)  # the same without that correction
uniform_8 = Window(8, 1.0, _uniform_8)  # Wang and Bovik's of 2002; 1/64 is exact, so these means of integers are, too
gaussian_7 = Window(7, 1.0, _gaussian_7, _GAUSSIAN_7)  # Z. Liu's, standard deviation 1.5
gaussian = Window(11, 1.0, _gaussian_11, _GAUSSIAN_11)  # Wang's, standard deviation 1.5
matlab_gaussian = Window(11, 1.0, _gaussian_11_everywhere, _GAUSSIAN_11, padded=True)  # MATLAB's


@once
def local_moments(image: Image, window: Window) -> tuple[Array, Array]:
    """Local mean and variance of one image."""
    mean = window.mean(image.x)
    return mean, _centred(window.mean(image.x * image.x), mean * mean, window)


def _centred(mean_of_product: Array, product_of_means: Array, window: Window) -> Array:
    mean_of_product -= product_of_means
    mean_of_product *= window.correction
    return mean_of_product


@describes(
    "SSIM",
    "Structural similarity",
    better="higher",
    range="-1 .. 1; a sum: -2 .. 2",
    unit="1",
    definition="SSIM of the fused image and each source.",
    source="Wang et al. 2004, doi:10.1109/TIP.2003.819861",
)
@once
def ssim(fused: Image, source: Image, window: Window, L: float) -> float:
    """Mean SSIM with K1 = 0.01, K2 = 0.03 and dynamic range L, over the windows that `window` takes.

    Args:
        fused, source: gray 0..255, of one size.
        window: over which means and variances are taken.
        L: the dynamic range, e.g. 255.

    Raises:
        UndefinedError: the image is smaller than the window.
    """
    if min(fused.shape) < window.side:
        raise UndefinedError(
            f"the image is {fused.shape[1]}x{fused.shape[0]}: SSIM needs {window.side}x{window.side} pixels"
        )
    c1, c2 = (0.01 * L) ** 2, (0.03 * L) ** 2
    if kernels.compiled():
        if window.weights is None:
            return kernels.ssim_box(fused.pixels, source.pixels, window.side, window.correction, c1, c2)
        pad = window.side // 2 if window.padded else 0
        f, s = (np.pad(image.x, pad, mode="edge") if pad else image.x for image in (fused, source))
        return kernels.ssim(f, s, window.weights, window.correction, c1, c2)
    moments = (*local_moments(fused, window), *local_moments(source, window))
    height = len(moments[0])
    margin = fused.shape[0] - height  # rows that the windows reach beyond the result; none where the border is padded
    padded = window.mean(fused.x * source.x) if margin == 0 else None
    total = 0.0
    for rows in strips(height):
        mean_f, variance_f, mean_s, variance_s = (part[rows] for part in moments)
        luminance = mean_f * mean_s
        wider = slice(rows.start, rows.stop + margin)
        mean_of_product = window.mean(fused.x[wider] * source.x[wider]) if padded is None else padded[rows]
        similarity = _centred(mean_of_product, luminance, window)
        similarity *= 2
        similarity += c2
        luminance *= 2
        luminance += c1
        similarity *= luminance
        similarity /= mean_f * mean_f + mean_s * mean_s + c1
        similarity /= variance_f + variance_s + c2
        total += float(similarity.sum())
    return total / moments[0].size
