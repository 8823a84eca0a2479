"""Edges in a Haar wavelet decomposition that the fused image keeps: Wang and Liu's Q_M."""

from __future__ import annotations

import functools

import numpy as np

from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once

EXPONENTS = (2 / 3, 1 / 3)  # of the levels, finest first
SMALLEST = 4  # pixels a side that two levels need
Bands = tuple[Array, Array, Array]  # horizontal, vertical and diagonal details


@once
def decomposed(image: Image, level: int) -> tuple[Array, Bands]:
    """Approximation and details of a level, 0 or 1, of the orthonormal Haar transform; a last odd row is left out."""
    x = image.x if level == 0 else decomposed(image, level - 1)[0]
    rows, columns = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    a, b = x[:rows:2, :columns:2], x[:rows:2, 1:columns:2]
    c, d = x[1:rows:2, :columns:2], x[1:rows:2, 1:columns:2]
    top, bottom, left, right = a + b, c + d, a - b, c - d
    return (top + bottom) / 2, ((top - bottom) / 2, (left + right) / 2, (left - right) / 2)


def _weights(source: Image, level: int) -> Array:
    return functools.reduce(np.add, [band * band for band in decomposed(source, level)[1]])


def _kept(fused: Image, source: Image, level: int, weights: Array) -> float:
    """sum of the source's weights times exp(-|its detail - the fused image's|), over bands and places."""
    bands = zip(decomposed(fused, level)[1], decomposed(source, level)[1], strict=True)
    kept = functools.reduce(np.add, [np.exp(-np.abs(f - s)) for f, s in bands])
    return float((kept * weights).sum())


@describes(
    "QM",
    "Multi-scale quality",
    better="higher",
    range="0 .. 1; without division by the bands: 0 .. 3",
    unit="1",
    definition="How closely the fused image's Haar details follow the sources', weighted by their energy, two levels.",
    source="Wang and Liu 2008, 9th International Conference on Signal Processing, 965-968",
)
def multiscale_quality(pair: Pair, bands: int = 3) -> float:
    """Q_M = Q_1^(2/3) Q_2^(1/3), Q_l the energy-weighted mean over the level of exp(-|difference of details|).

    1 for F = A = B; symmetric in the sources.

    Wang and Liu 2008, 9th International Conference on Signal Processing, 965-968.

    Args:
        bands: by which the sum over the three detail bands is divided.

    Raises:
        UndefinedError: fewer than 4 x 4 pixels, or neither source has any detail in a level.
    """
    if min(pair.fused.shape) < SMALLEST:
        rows, columns = pair.fused.shape
        raise UndefinedError(f"the image is {columns}x{rows}: QM needs {SMALLEST}x{SMALLEST} pixels")
    value = 1.0
    for level, exponent in enumerate(EXPONENTS):
        weights = [_weights(source, level) for source in pair.sources]
        total = sum(float(of_source.sum()) for of_source in weights)
        if total == 0:
            raise UndefinedError(f"QM is 0/0: neither source has a detail in level {level + 1}")
        kept = sum(_kept(pair.fused, source, level, w) for source, w in zip(pair.sources, weights, strict=True))
        value *= (kept / total / bands) ** exponent
    return value
