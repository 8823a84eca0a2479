"""What the classical methods share: rounding to bytes, the choice between two coefficients, filters that go round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evalkit.data.images import Gray

Array = NDArray[np.float64]


def to_8bit(image: NDArray[np.floating]) -> Gray:
    """Round to the nearest integer, halves to even, and clip to 0..255.

    Seven decimals first: the mean of two bytes is often a half, and a transform's rounding errors would decide it, not
    the same way on every machine.
    """
    return np.clip(np.rint(np.round(image, 7)), 0, 255).astype(np.uint8)


def choose_max(a: Array, b: Array) -> Array:
    """The coefficient larger in magnitude, the mean of the two where they tie."""
    return choose(a, b, np.abs(a) - np.abs(b))


def choose(a: Array, b: Array, lead: NDArray) -> Array:
    """`a` where `lead` is positive, `b` where it is negative, the mean of the two where it is zero.

    The mean keeps the rule symmetric: which source is called `a` never matters.

    Args:
        a, b: coefficients of the two sources, of one shape.
        lead: by how much `a` is ahead of `b`, of the same shape.
    """
    return np.where(lead > 0, a, np.where(lead < 0, b, (a + b) / 2))


def laid_out(filters: Array, shape: tuple[int, ...]) -> Array:
    """Filters (K, h, w) on images (K, H, W), their first tap on the first pixel.

    They go round where the image is smaller than they are, as circular convolutions have them.
    """
    images = np.zeros((len(filters), *shape))
    for row, column in np.ndindex(filters.shape[1:]):
        images[:, row % shape[0], column % shape[1]] += filters[:, row, column]
    return images
