"""Classical fusion rules: gray images in, gray image out, deterministic, any size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.data.images import Gray

Array = NDArray[np.float64]


def average(infrared: Gray, visible: Gray) -> Gray:
    """Mean of the two images, halves rounded to even."""
    return to_8bit((infrared.astype(np.float64) + visible) / 2)


def maximum(infrared: Gray, visible: Gray) -> Gray:
    """The brighter of the two pixels."""
    return np.maximum(infrared, visible)


def laplacian(infrared: Gray, visible: Gray) -> Gray:
    """Laplacian pyramid (Burt and Adelson 1983, doi:10.1109/TCOM.1983.1095851).

    Of every detail coefficient the one larger in magnitude is kept, the coarsest level is averaged. The pyramid ends
    before a side falls under 16 pixels.
    """
    a, b = _pyramid(infrared.astype(np.float64)), _pyramid(visible.astype(np.float64))
    fused = (a[-1] + b[-1]) / 2
    for detail_a, detail_b in zip(a[-2::-1], b[-2::-1], strict=True):
        fused = _up(fused, detail_a) + np.where(np.abs(detail_a) >= np.abs(detail_b), detail_a, detail_b)
    return to_8bit(fused)


def _pyramid(image: Array) -> list[Array]:
    """Detail levels, finest first, and the coarsest image."""
    levels = []
    while min(image.shape) >= 32:
        smaller = cv2.pyrDown(image)
        levels.append(image - _up(smaller, image))
        image = smaller
    return [*levels, image]


def _up(image: Array, like: Array) -> Array:
    return cv2.pyrUp(image, dstsize=(like.shape[1], like.shape[0]))


def to_8bit(image: Array) -> Gray:
    """Round to the nearest integer and clip to 0..255."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


FUSERS = {"average": average, "maximum": maximum, "laplacian": laplacian}
