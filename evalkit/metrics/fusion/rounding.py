"""Weighted means as a public program rounds them, addition by addition.

Where a window is of one gray level its variance is 0, and what a program makes of E(x^2) - E(x)^2 there is rounding
noise alone. Measures without stabilising constants divide such noise by such noise, so that their values follow the
order of the additions. The order kept here is that of GNU Octave's `filter2` on a processor with fused multiply-add:
the window's columns from the last to the first, in each the rows from the last to the first; BLAS takes 16 rows of the
result at a time with one rounding per step, and the rows that are left at its lower end with two. It is written in
plain operations that IEEE 754 defines, so that the noise is the same on every machine.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.image import Array

Indices = NDArray[np.int64]
BLOCK = 8192  # windows at a time: their values stay in the processor's cache
ROWS_OF_BLAS = 16
_LOW_BITS = np.int64(0xFFFF)


def gaussian_weights(side: int, deviation: float) -> Array:
    """The (side, side) window of MATLAB's `fspecial`, its sum taken column by column, divided once more by it."""
    r = side // 2
    h = np.array(
        [[math.exp(-(x * x + y * y) / (2 * deviation**2)) for x in range(-r, r + 1)] for y in range(-r, r + 1)]
    )
    h /= sum(h.T.ravel().tolist())
    return h / sum(sum(column) for column in h.T.tolist())


def in_blocks(row: Indices, rows: int) -> NDArray[np.bool_]:
    """Which rows of a result of so many rows are added up in blocks of 16, with one rounding per step."""
    return row < rows // ROWS_OF_BLAS * ROWS_OF_BLAS


def window_means(
    images: list[Array],
    windows: tuple[Indices, Indices],
    weights: Array,
    fused_steps: NDArray[np.bool_],
    constant: NDArray[np.bool_],
) -> Array:
    """Weighted means of an image, or of the product of several, rounded after each step.

    Args:
        images: (H, W), whole numbers whose product is under 2^16.
        windows: first rows and first columns of K windows.
        weights: (side, side).
        fused_steps: (K,); where True, a product is not rounded before it is added.
        constant: (K,); where True, the window has one value: each such value is added up once.

    Returns:
        (K,)
    """
    width, side = images[0].shape[1], len(weights)
    first = windows[0] * width + windows[1]

    def pixels(at: Indices) -> Array:
        return functools.reduce(np.multiply, [image.take(at) for image in images])

    means = np.empty(first.size)
    for fused in (True, False):
        one_value = constant & (fused_steps == fused)
        level = pixels(first[one_value]).astype(np.int64)
        levels = np.flatnonzero(np.bincount(level))
        of_level = np.zeros(levels.max(initial=0) + 1)
        of_level[levels] = _sum([[levels.astype(np.float64)] * side] * side, weights, fused)
        means[one_value] = of_level[level]
        several = np.flatnonzero(~constant & (fused_steps == fused))
        for start in range(0, several.size, BLOCK):
            block = several[start : start + BLOCK]
            columns = [[pixels(first[block] + (i * width + j)) for i in range(side)] for j in range(side)]
            means[block] = _sum(columns, weights, fused)
    return means


def _sum(columns: list[list[Array]], weights: Array, fused: bool) -> Array:
    """sum(weights * values) of many windows, whose values are given column by column."""
    add = _add_fused if fused else _add
    total: Array = np.zeros(columns[0][0].shape)
    for j in reversed(range(len(weights))):
        for i in reversed(range(len(weights))):
            total = add(total, weights[i, j], columns[j][i])
    return total


def _add(total: Array, weight: np.float64, x: Array) -> Array:
    return total + weight * x


def _add_fused(total: Array, weight: np.float64, x: Array) -> Array:
    """total + weight * x with one rounding: the weight in two parts, whose products with 16-bit x are exact."""
    high = (np.array(weight).view(np.int64) & ~_LOW_BITS).view(np.float64)
    product = high * x
    rounded = total + product
    taken = rounded - total
    error = (total - (rounded - taken)) + (product - taken)  # Knuth's two-sum: total + product - rounded
    return rounded + (error + (weight - high) * x)
