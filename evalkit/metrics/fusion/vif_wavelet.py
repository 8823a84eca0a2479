"""Visual information fidelity in the wavelet domain (Sheikh and Bovik 2006, doi:10.1109/TIP.2005.859378).

The wavelets are a steerable pyramid (Simoncelli and Freeman 1995) of four levels and six orientations, two of which
VIF looks at: the vertical and the horizontal derivative. Details that the paper leaves open are those of its authors'
release "vifvec". The filters' coefficients are data of the toolbox matlabPyrTools, as its continuation pyrtools 1.1.1
has them (MIT licence, Copyright (c) 2016 LabForComputationalVision).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from evalkit.metrics.card import describes
from evalkit.metrics.fusion.vif import log_sum
from evalkit.metrics.image import Array, Image, UndefinedError, once, strips

LEVELS = 4
BLOCK = 3  # side of the blocks of coefficients, which the model takes for vectors of nine
CELLS = BLOCK * BLOCK
NOISE = 0.4  # sigma_n^2, the variance of the visual noise, in squared gray levels
EPSILON = 1e-15
SINGULAR = 1e-12  # smallest over largest eigenvalue of a covariance that cannot be inverted
SMALLEST = 72  # halved three times, it still holds the 9 x 9 low-pass filter


def _even(octant: tuple[tuple[float, ...], ...]) -> Array:
    """A filter that is its own mirror image and transpose, from an eighth of it: rows from the border to the centre."""
    n = len(octant)
    return _mirrored([[octant[max(i, j)][min(i, j)] for j in range(n)] for i in range(n)], 1)


def _mirrored(quarter: list[list[float]], vertical: int) -> Array:
    """A filter from its upper left quarter; its lower half is the upper one times `vertical`, 1 or -1."""
    x = np.array(quarter)
    half = np.hstack([x, x[:, -2::-1]])
    return np.vstack([half, vertical * half[-2::-1]])


_FIRST = _even(  # low-pass, before the first level
    (
        (0.00341614,),
        (-0.01551246, 0.05586982),
        (-0.03848215, 0.1592557, 0.40304148),
    )
)
_BETWEEN = _even(  # low-pass, before every second row and column is left out
    (
        (0.00170808,),
        (-0.00489834, -0.01046562),
        (-0.00775624, -0.01322234, 0.02793492),
        (-0.01888864, 0.008212, 0.06554076, 0.12852666),
        (-0.01924108, 0.02005976, 0.07962786, 0.16339236, 0.2019308),
    )
)
_VERTICAL = _mirrored(  # the derivative from above to below; the other one is its transpose
    [
        [0.00277643, 0.00496194, 0.01026699, 0.01455399],
        [-0.00986904, -0.00893064, 0.01189859, 0.02755155],
        [-0.01021852, -0.03075356, -0.08226445, -0.11732297],
        [0.0, 0.0, 0.0, 0.0],
    ],
    -1,
)


def _filtered(x: Array, weights: Array) -> Array:
    """The image mirrored at its border, seen through a filter (not turned), (H, W)."""
    return cv2.filter2D(x, cv2.CV_64F, weights, borderType=cv2.BORDER_REFLECT_101)


@once
def _low_pass(image: Image, level: int) -> Array:
    """What a level's derivatives are taken of."""
    if level == 0:
        return _filtered(image.x, _FIRST)
    return np.ascontiguousarray(_filtered(_low_pass(image, level - 1), _BETWEEN)[::2, ::2])


def _derivative(image: Image, band: int) -> Array:
    low = _low_pass(image, band // 2)
    rows, columns = (n // BLOCK * BLOCK for n in low.shape)
    weights = _VERTICAL.T if band % 2 else _VERTICAL
    return np.ascontiguousarray(_filtered(low, weights)[:rows, :columns])


_remembered = once(_derivative)


def subband(image: Image, band: int) -> Array:
    """One of the two derivatives at the four levels, cut to whole blocks of 3 x 3 coefficients.

    Args:
        image: gray 0..255.
        band: 0..7: twice the level, finest first, plus 1 for the horizontal derivative.
    """
    return (_derivative if image.large else _remembered)(image, band)


def _side(band: int) -> int:
    """Side of the windows of a subband: 17, 9, 5, 3 from the finest level to the coarsest."""
    return 2 ** (LEVELS - band // 2) + 1


def _sums(x: Array, side: int) -> Array:
    """Sums over the windows around the centres of the blocks, (rows / 3, columns / 3); see `_inner`."""
    return cv2.boxFilter(x, cv2.CV_64F, (side, side), normalize=False)[1::BLOCK, 1::BLOCK].copy()


@once
def _window_sums(image: Image, band: int) -> tuple[Array, Array]:
    """Of a subband's windows: sum, and sum of squared deviations (never negative)."""
    x, side = subband(image, band), _side(band)
    total = _sums(x, side)
    return total, np.maximum(_sums(x * x, side) - total * total / side**2, 0)


class Model(NamedTuple):
    """The reference's Gaussian scale mixture in a subband."""

    scales: Array  # S of each block, (rows / 3, columns / 3)
    eigenvalues: Array  # of the covariance of blocks, (9,)


@once
def _model(reference: Image, band: int) -> Model:
    """How the reference's blocks are distributed: covariance of all blocks, and each block's share in it.

    Raises:
        UndefinedError: the covariance is singular: the reference has no texture in this direction.
    """
    x = subband(reference, band)
    rows, columns = (n - BLOCK + 1 for n in x.shape)
    moment, total = np.zeros((CELLS, CELLS)), np.zeros(CELLS)
    for strip in strips(rows):
        vectors = _vectors(x, strip, columns)
        moment += vectors @ vectors.T
        total += vectors @ np.ones(vectors.shape[1])
    mean = total / (rows * columns)
    covariance = moment / (rows * columns) - np.outer(mean, mean)
    eigenvalues, axes = np.linalg.eigh(covariance)
    if eigenvalues[0] <= SINGULAR * eigenvalues[-1]:
        raise UndefinedError(
            f"wavelet VIF is undefined: the {reference.name} image has no texture in one direction, so that the "
            "covariance of its wavelet coefficients cannot be inverted"
        )
    blocks = x.reshape(x.shape[0] // BLOCK, BLOCK, -1, BLOCK).transpose(1, 3, 0, 2)
    scales = np.empty(blocks.shape[2:])
    for strip in strips(len(scales)):
        along = axes.T @ blocks[:, :, strip].reshape(CELLS, -1)
        scales[strip] = (1 / eigenvalues @ (along * along) / CELLS).reshape(scales[strip].shape)  # x' C^-1 x / 9
    return Model(scales, eigenvalues)


def _vectors(x: Array, rows: slice, columns: int) -> Array:
    """The overlapping 3 x 3 blocks that begin in these rows, (9, number of blocks)."""
    cells = [(i, j) for i in range(BLOCK) for j in range(BLOCK)]
    return np.stack([x[rows.start + i : rows.stop + i, j : j + columns].ravel() for i, j in cells])


def _inner(x: Array, band: int) -> Array:
    """The blocks whose windows lie inside the subband."""
    margin = math.ceil((_side(band) // 2) / BLOCK)
    return x[margin:-margin, margin:-margin]


@once
def _reference_information(reference: Image, band: int, noise: float) -> float:
    """Information of the reference that reaches the eye, in nats."""
    model = _model(reference, band)
    signal = _inner(model.scales, band) / noise
    return sum(log_sum(1 + signal * eigenvalue) for eigenvalue in model.eigenvalues)


def _kept(distorted: Image, reference: Image, band: int, noise: float, epsilon: float) -> float:
    """Information of the reference that reaches the eye through the distorted image, in nats."""
    side = _side(band)
    total_r, variance_r = _window_sums(reference, band)
    total_d, variance_d = _window_sums(distorted, band)
    covariance = _sums(subband(distorted, band) * subband(reference, band), side) - total_d * total_r / side**2
    gain = covariance / (variance_r + epsilon)
    unexplained = (variance_d - gain * covariance) / side**2
    flat_r, flat_d, negative = variance_r < epsilon, variance_d < epsilon, gain < 0
    gain[flat_r | flat_d | negative] = 0  # a negative gain keeps nothing
    np.copyto(unexplained, variance_d, where=flat_r | negative)  # a sum and no mean: so the release has it
    unexplained[flat_d] = 0
    np.maximum(unexplained, epsilon, out=unexplained)
    model = _model(reference, band)
    signal = _inner(gain * gain * model.scales / (unexplained + noise), band)
    return sum(log_sum(1 + signal * eigenvalue) for eigenvalue in model.eigenvalues)


@describes(
    "VIF-wavelet",
    "Visual information fidelity in the wavelet domain",
    better="higher",
    range=">= 0",
    unit="1",
    definition="VIF of the fused image against each source, in eight subbands of a steerable pyramid.",
    source="Sheikh and Bovik 2006, doi:10.1109/TIP.2005.859378",
)
@once
def wavelet_vif(distorted: Image, reference: Image, unit: float = 1.0) -> float:
    """VIF of a distorted image against its reference: information kept over information present.

    The reference's subbands are a Gaussian scale mixture of 3 x 3 blocks, the distortion a local gain and noise, the
    eye one more noise. 1 for the reference itself, more where contrast is enhanced; >= 0, higher is better.

    Args:
        distorted, reference: gray 0..255, of one size.
        unit: gray levels that count as 1; 255 takes the images for 0..1, where the eye's noise of 0.4 hides nearly all.

    Raises:
        UndefinedError: smaller than 72 x 72 pixels, or the reference has no texture in one direction.
    """
    if min(distorted.shape) < SMALLEST:
        rows, columns = distorted.shape
        raise UndefinedError(f"the image is {columns}x{rows}: wavelet VIF needs {SMALLEST}x{SMALLEST} pixels")
    noise, epsilon = NOISE * unit**2, EPSILON * unit**2
    bands = range(2 * LEVELS)
    present = sum(_reference_information(reference, band, noise) for band in bands)
    return sum(_kept(distorted, reference, band, noise, epsilon) for band in bands) / present
