"""Feature mutual information, FMI: what small windows of the fused image tell about the same windows of the sources."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once

SIDE = 3
CELLS = SIDE * SIDE
BLOCK = 8192  # windows at a time: few enough for the processor's cache, enough for NumPy to be fast
SMALLEST_PROBABILITY = 1e-300  # stands for 0 under the logarithm: 0 log 0 = 0


def windows(image: Image) -> NDArray[np.uint8]:
    """The 3 x 3 windows, column by column, (9, number of windows)."""
    h, w = image.shape
    x = image.pixels
    views = [x[i : h - SIDE + 1 + i, j : w - SIDE + 1 + j].ravel() for j in range(SIDE) for i in range(SIDE)]
    return np.stack(views)


def distribution(pixels: Array) -> Array:
    """Each window stretched from minimum..maximum to 0..1 and divided by its sum; constant windows are uniform."""
    p = pixels - pixels.min(axis=0)
    total = p.sum(axis=0)
    constant = total == 0
    p[:, constant] = 1
    total[constant] = CELLS
    p /= total
    return p


def _entropy_terms(p: Array) -> Array:
    """-sum p log2 |p| over the first axis (of a vector: each term); 0 log 0 = 0."""
    size = np.abs(p)
    np.maximum(size, SMALLEST_PROBABILITY, out=size)
    np.log2(size, out=size)
    return -(p * size) if p.ndim == 1 else -np.einsum("kn,kn->n", p, size)


def _index_moments(p: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the cell's number, 0..8, under each distribution."""
    index = np.arange(CELLS, dtype=np.float64)
    mean = index @ p
    return mean, np.sqrt(np.maximum(index**2 @ p - mean * mean, 0))


def correlation(one: Array, other: Array) -> Array:
    """Pearson correlation of the pixels of two windows, exactly 0 where one of them is constant or they do not covary.

    Pixels are integers, so the sums are exact; the stretch to a distribution does not change a correlation.
    """
    covariance = CELLS * (one * other).sum(axis=0) - one.sum(axis=0) * other.sum(axis=0)
    spread = np.ones_like(covariance)
    for x in (one, other):
        spread *= CELLS * (x * x).sum(axis=0) - x.sum(axis=0) ** 2
    return np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)


def upper_bound_cells(p: Array, q: Array) -> tuple[Array, Array, Array]:
    """The joint distribution of p and q with the largest correlation of the cell numbers (upper Frechet bound).

    It runs through both distributions in order, as two piles of equal height are compared from the ground: of its
    9 x 9 cells at most 17 are filled.

    Returns:
        Of those cells, each (17, number of windows): the probability, p times q there, and the product of the two cell
        numbers (0..8).
    """
    n = p.shape[1]
    tops = [x.cumsum(axis=0) for x in (p, q)]
    for top in tops:
        top[-1] = 2  # more than 1: the last cell is never left
    cells = np.empty((2 * CELLS - 1, n)), np.empty((2 * CELLS - 1, n)), np.empty((2 * CELLS - 1, n))
    i, j = np.arange(n), np.arange(n)  # where each window stands in p and q: cell number * n + window
    number_p, number_q = np.zeros(n), np.zeros(n)
    reached = np.zeros(n)
    for probability, product, number in zip(*cells, strict=True):
        top_p, top_q = tops[0].take(i), tops[1].take(j)
        next_reached = np.minimum(np.minimum(top_p, top_q), 1)
        np.subtract(next_reached, reached, out=probability)
        np.multiply(p.take(i), q.take(j), out=product)
        np.multiply(number_p, number_q, out=number)
        reached = next_reached
        step = top_p < top_q
        i += step * n
        number_p += step
        np.logical_not(step, out=step)
        step &= top_q < 2
        j += step * n
        number_q += step
    return cells


def joint_entropy(p: Array, q: Array, c: Array, marginal: Array) -> Array:
    """Entropy of the joint distribution (1 - t) p q + t (Frechet bound), per window, in bits.

    The bound is the joint distribution with the largest correlation of the cell numbers for c > 0 and with the
    smallest for c < 0; t = c / (correlation of the bound). t can exceed 1, which makes cells negative: then log2 |cell|
    stands for the logarithm, as in the published code.

    Args:
        marginal: sum of the entropies of p and q.
    """
    q = np.where(c < 0, q[::-1], q)  # the smallest correlation is the largest one to the cells in reverse
    bound, product, number = upper_bound_cells(p, q)
    mean_p, spread_p = _index_moments(p)
    mean_q, spread_q = _index_moments(q)
    covariance = np.einsum("kn,kn->n", bound, number) - mean_p * mean_q
    usable = (spread_p > 0) & (spread_q > 0) & (covariance > 0)
    t = np.divide(np.abs(c) * spread_p * spread_q, covariance, out=np.zeros_like(c), where=usable)
    # all cells as if the bound were 0 there, then the cells where it is not
    rest = 1 - t
    product *= rest
    bound *= t
    bound += product
    return rest * marginal + _entropy_terms(rest) + _entropy_terms(bound) - _entropy_terms(product)


def _window_fmi(fused: Array, source: Array) -> Array:
    """2 I / (H + H) of each pair of windows, 1 where they are equal, (number of windows,)."""
    p, q = distribution(fused), distribution(source)
    total = _entropy_terms(p) + _entropy_terms(q)
    information = total - joint_entropy(p, q, correlation(fused, source), total)
    value = np.divide(2 * information, total, out=np.zeros_like(total), where=total > 0)
    value[(fused == source).all(axis=0)] = 1
    return value


@once
def mean_window_fmi(fused: Image, source: Image) -> float:
    """Mean of 2 I / (H + H) over all 3 x 3 windows of fused image and source.

    Raises:
        UndefinedError: smaller than 3 x 3 pixels.
    """
    if min(fused.shape) < SIDE:
        raise UndefinedError(f"the image is {fused.shape[1]}x{fused.shape[0]}: FMI needs {SIDE}x{SIDE} pixels")
    f, s = windows(fused), windows(source)
    total = 0.0
    for start in range(0, f.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        total += float(_window_fmi(f[:, block].astype(np.float64), s[:, block].astype(np.float64)).sum())
    return total / f.shape[1]


@describes(
    "FMI",
    "Feature mutual information",
    better="higher",
    range="0 .. 1",
    unit="1",
    definition="Normalised mutual information of the features in local windows of fused image and sources.",
    source="Haghighat, Aghagolzadeh and Seyedarabi 2011, doi:10.1016/j.compeleceng.2011.07.012",
)
def fmi_pixel(pair: Pair) -> float:
    """FMI of the gray levels themselves: mean over both sources of 2 I(F; S) / (H(F) + H(S)), in 3 x 3 windows.

    A window, stretched to 0..1 and divided by its sum, is taken as the probability distribution of its nine cells,
    counted column by column. The joint distribution of two windows is the mixture of their product and the Frechet
    bound whose cell numbers are as correlated as the two windows' gray levels are. Windows that are equal count 1.
    1 for F = A = B, higher is better; about 0..1, though the mixture is a distribution only where its share of the
    bound is <= 1. Symmetric in the sources; it does change when the images are turned or mirrored.

    Haghighat et al. 2011, doi:10.1016/j.compeleceng.2011.07.012; Haghighat and Razian 2014,
    doi:10.1109/ICAICT.2014.7036000. Checked against all 81 cells summed one by one in the tests, not against values
    of the authors' program; that program starts from edges, not from gray levels, if no feature is named.

    Raises:
        UndefinedError: smaller than 3 x 3 pixels.
    """
    return sum(mean_window_fmi(pair.fused, source) for source in pair.sources) / 2
