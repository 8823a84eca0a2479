"""Pyramid fusion: Laplacian, ratio of low-pass, contrast.

All three share Burt and Adelson's Gaussian pyramid G_0, G_1, ... (5-tap kernel [1 4 6 4 1]/16, borders reflected) and
its EXPAND; they differ in what a level holds and in which of two coefficients is kept. The coarsest level is averaged,
and the pyramid ends before a side falls under 16 pixels (4 levels at 640x480).
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from evalkit.data.images import Gray
from evalkit.methods.rules import Array, choose_max, to_8bit

SMALLEST_SIDE = 16


def laplacian(infrared: Gray, visible: Gray) -> Gray:
    """Laplacian pyramid (Burt and Adelson 1983, doi:10.1109/TCOM.1983.1095851).

    Of every detail coefficient G_i - EXPAND(G_{i+1}) the one larger in magnitude is kept, the coarsest level is
    averaged.
    """
    a, b = laplacian_pyramid(infrared.astype(np.float64)), laplacian_pyramid(visible.astype(np.float64))
    details = [np.where(np.abs(x) >= np.abs(y), x, y) for x, y in zip(a[:-1], b[:-1], strict=True)]
    return to_8bit(from_laplacian([*details, (a[-1] + b[-1]) / 2]))


def ratio(infrared: Gray, visible: Gray) -> Gray:
    """Ratio-of-low-pass pyramid, RP (Toet 1989, doi:10.1016/0167-8655(89)90003-2).

    A level is R_i = G_i / EXPAND(G_{i+1}); the larger ratio is kept, as in O. Rockinger's fusion toolbox (1999).
    Keeping the larger |R_i - 1| would make it `contrast`.
    """
    a, b = ratio_pyramid(infrared.astype(np.float64)), ratio_pyramid(visible.astype(np.float64))
    ratios = [np.maximum(x, y) for x, y in zip(a[:-1], b[:-1], strict=True)]
    return to_8bit(from_ratios([*ratios, (a[-1] + b[-1]) / 2]))


def contrast(infrared: Gray, visible: Gray) -> Gray:
    """Contrast pyramid (Toet, van Ruyven and Valeton 1989, doi:10.1117/12.7977034).

    The luminance contrast of a level is C_i = G_i / EXPAND(G_{i+1}) - 1; the one larger in magnitude is kept.
    """
    a, b = ratio_pyramid(infrared.astype(np.float64)), ratio_pyramid(visible.astype(np.float64))
    contrasts = [choose_max(x - 1, y - 1) for x, y in zip(a[:-1], b[:-1], strict=True)]
    return to_8bit(from_ratios([*(c + 1 for c in contrasts), (a[-1] + b[-1]) / 2]))


def laplacian_pyramid(image: Array) -> list[Array]:
    """Details G_i - EXPAND(G_{i+1}), finest first, and the coarsest image."""
    levels = gaussian_pyramid(image)
    return [*(fine - expand(coarse, fine) for fine, coarse in pairwise(levels)), levels[-1]]


def from_laplacian(levels: list[Array]) -> Array:
    """The image of a Laplacian pyramid."""
    image = levels[-1]
    for detail in levels[-2::-1]:
        image = expand(image, detail) + detail
    return image


def ratio_pyramid(image: Array) -> list[Array]:
    """Ratios G_i / EXPAND(G_{i+1}) of an image without negative values, finest first, and the coarsest image.

    Black on black, 0 / 0, has the ratio 1, no contrast. No other division by zero arises: the kernels are positive, so
    EXPAND is zero only where the level itself is.
    """
    levels = gaussian_pyramid(image)
    ratios = []
    for fine, coarse in pairwise(levels):
        around = expand(coarse, fine)
        ratios.append(np.divide(fine, around, out=np.ones_like(fine), where=around > 0))
    return [*ratios, levels[-1]]


def from_ratios(levels: list[Array]) -> Array:
    """The image of a ratio pyramid."""
    image = levels[-1]
    for factor in levels[-2::-1]:
        image = expand(image, factor) * factor
    return image


def gaussian_pyramid(image: Array) -> list[Array]:
    """The image and its reductions by two, each smoothed before."""
    levels = [image]
    while min(levels[-1].shape) >= 2 * SMALLEST_SIDE:
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def expand(image: Array, like: Array) -> Array:
    """The image interpolated to twice its size, that of `like`."""
    return cv2.pyrUp(image, dstsize=(like.shape[1], like.shape[0]))
