"""Feature mutual information, FMI: what small windows of the fused image tell about the same windows of the sources.

The features of a window are its gray levels, or its values in a map of edges, in the image's cosine transform or in its
wavelet transform.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pywt
import scipy  # loads scipy.fft, a quarter of a second that few metrics need, when it is asked for
from numpy.typing import NDArray

from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once

SIDE = 3
CELLS = SIDE * SIDE
BLOCK = 8192  # windows at a time: few enough for the processor's cache, enough for NumPy to be fast
SMALLEST_PROBABILITY = 1e-300  # stands for 0 under the logarithm: 0 log 0 = 0
STRONG_EDGE = 4  # an edge's squared gradient is above so many times the mean of all
ROUNDING = 1e-13  # coefficients are multiples of this part of the largest one: below it is rounding noise

Feature = Callable[[Image], NDArray]


def levels(image: Image) -> Array:
    """The gray levels themselves, (H, W)."""
    return image.x


@once
def edge_map(image: Image) -> NDArray[np.bool_]:
    """Edges as MATLAB's `edge` finds them without a threshold, (H, W): Sobel gradients that are strong and a maximum.

    The squared gradient is above four times its mean, above the next pixel's on one side and not below on the other, in
    the direction of the larger derivative; outside the image it is 0.
    """
    gx, gy = (
        np.abs(cv2.Sobel(image.x, cv2.CV_64F, dx, 1 - dx, ksize=3, borderType=cv2.BORDER_REPLICATE)) for dx in (1, 0)
    )
    squared = gx * gx + gy * gy
    around = cv2.copyMakeBorder(squared, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    left, right, up, down = around[1:-1, :-2], around[1:-1, 2:], around[:-2, 1:-1], around[2:, 1:-1]
    across = (gx >= gy) & (left <= squared) & (squared > right)
    across |= (gy >= gx) & (up <= squared) & (squared > down)
    return across & (squared > STRONG_EDGE * squared.mean())


@once
def cosine_coefficients(image: Image) -> Array:
    """The orthonormal cosine transform (type 2) of the whole image, (H, W)."""
    return _without_noise(scipy.fft.dctn(image.x, norm="ortho"))


@once
def wavelet_coefficients(image: Image) -> Array:
    """One level of the discrete Meyer wavelet, [mean, horizontal; vertical, diagonal] as one array.

    The filters have 62 taps, the image is mirrored with its border pixels repeated: each part has floor((n + 61) / 2)
    rows and columns.
    """
    mean, (horizontal, vertical, diagonal) = pywt.dwt2(image.x, "dmey", mode="symmetric")
    return _without_noise(np.block([[mean, horizontal], [vertical, diagonal]]))


def _without_noise(coefficients: Array) -> Array:
    """Rounded where only rounding noise would change: flat parts of an image then are as flat on every machine."""
    step = ROUNDING * np.abs(coefficients).max()
    return np.rint(coefficients / step) * step if step > 0 else coefficients


def windows(x: NDArray) -> Array:
    """The 3 x 3 windows, column by column, (9, number of windows)."""
    h, w = x.shape
    views = [x[i : h - SIDE + 1 + i, j : w - SIDE + 1 + j].ravel() for j in range(SIDE) for i in range(SIDE)]
    return np.stack(views).astype(np.float64)


def _window_pairs(f: NDArray, s: NDArray) -> Iterator[tuple[Array, Array, NDArray[np.int64] | None]]:
    """Windows of the fused image's features, the source's, and how often they occur (None: once), in blocks."""
    rows = max(1, BLOCK // f.shape[1])
    blocks = [slice(top, top + rows + SIDE - 1) for top in range(0, len(f) - SIDE + 1, rows)]
    if f.dtype != bool:
        yield from ((windows(f[block]), windows(s[block]), None) for block in blocks)
        return
    numbers = 2.0 ** np.arange(CELLS)  # of windows of edges 2^9 are different
    counts = np.zeros(4**CELLS, np.int64)
    for block in blocks:
        pairs = (numbers @ windows(f[block])) * 2**CELLS + numbers @ windows(s[block])
        counts += np.bincount(pairs.astype(np.int64), minlength=counts.size)
    (found,) = np.nonzero(counts)
    bits = [(code // numbers.astype(np.int64)[:, None] % 2).astype(np.float64) for code in np.divmod(found, 2**CELLS)]
    yield bits[0], bits[1], counts[found]


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


def correlation(p: Array, q: Array) -> Array:
    """Pearson correlation of the cells of two distributions, exactly 0 where one of them is uniform."""
    p, q = p - 1 / CELLS, q - 1 / CELLS  # their means
    spread = np.einsum("kn,kn->n", p, p) * np.einsum("kn,kn->n", q, q)
    covariance = np.einsum("kn,kn->n", p, q)
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


def _window_fmi(fused: Array, source: Array, constants_agree: bool) -> Array:
    """2 I / (H + H) of each pair of windows, 1 where they are equal, (number of windows,)."""
    p, q = distribution(fused), distribution(source)
    total = _entropy_terms(p) + _entropy_terms(q)
    information = total - joint_entropy(p, q, correlation(p, q), total)
    value = np.divide(2 * information, total, out=np.zeros_like(total), where=total > 0)
    equal = (fused == source).all(axis=0)
    if constants_agree:
        equal |= (np.ptp(fused, axis=0) == 0) & (np.ptp(source, axis=0) == 0)
    value[equal] = 1
    return value


@once
def mean_window_fmi(fused: Image, source: Image, feature: Feature = levels, constants_agree: bool = False) -> float:
    """Mean of 2 I / (H + H) over all 3 x 3 windows of a feature of fused image and source.

    Args:
        fused, source: gray 0..255, of one size.
        feature: image -> (rows, columns) of what is compared.
        constants_agree: two windows without contrast count 1 even at different levels (0 otherwise).

    Raises:
        UndefinedError: smaller than 3 x 3 pixels.
    """
    if min(fused.shape) < SIDE:
        raise UndefinedError(f"the image is {fused.shape[1]}x{fused.shape[0]}: FMI needs {SIDE}x{SIDE} pixels")
    total, count = 0.0, 0
    for f, s, times in _window_pairs(feature(fused), feature(source)):
        values = _window_fmi(f, s, constants_agree)
        total += float(values.sum() if times is None else values @ times)
        count += values.size if times is None else int(times.sum())
    return total / count


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
    doi:10.1109/ICAICT.2014.7036000. Equal to the authors' program, which starts from edges if no feature is named, but
    for windows without contrast: two of different levels count 0 here, and 1 or 0 there, as rounding has it.

    Raises:
        UndefinedError: smaller than 3 x 3 pixels.
    """
    return sum(mean_window_fmi(pair.fused, source) for source in pair.sources) / 2


def fmi_of_feature(pair: Pair, feature: Feature) -> float:
    """FMI of a feature as the authors' MATLAB program and its copies have it: two windows without contrast count 1.

    Raises:
        UndefinedError: smaller than 3 x 3 pixels.
    """
    return sum(mean_window_fmi(pair.fused, source, feature, True) for source in pair.sources) / 2


@describes(
    "FMI-edge",
    "Feature mutual information of edges",
    better="higher",
    range="0 .. 1",
    unit="1",
    definition="FMI of the Sobel edge maps of fused image and sources.",
    source="Haghighat and Razian 2014, doi:10.1109/ICAICT.2014.7036000",
)
def fmi_edge(pair: Pair) -> float:
    """FMI of the edge maps; see `edge_map` and `fmi_of_feature`. Raises UndefinedError below 3 x 3 pixels."""
    return fmi_of_feature(pair, edge_map)


@describes(
    "FMI-dct",
    "Feature mutual information of cosine coefficients",
    better="higher",
    range="0 .. 1",
    unit="1",
    definition="FMI of the cosine transforms of whole fused image and sources.",
    source="Haghighat and Razian 2014, doi:10.1109/ICAICT.2014.7036000",
)
def fmi_dct(pair: Pair) -> float:
    """FMI of the images' cosine transforms; see `fmi_of_feature`. Raises UndefinedError below 3 x 3 pixels."""
    return fmi_of_feature(pair, cosine_coefficients)


@describes(
    "FMI-w",
    "Feature mutual information of wavelet coefficients",
    better="higher",
    range="0 .. 1",
    unit="1",
    definition="FMI of one level of the discrete Meyer wavelet transforms of fused image and sources.",
    source="Haghighat and Razian 2014, doi:10.1109/ICAICT.2014.7036000",
)
def fmi_wavelet(pair: Pair) -> float:
    """FMI of the images' Meyer wavelet transforms; see `fmi_of_feature`. Raises UndefinedError below 3 x 3 pixels."""
    return fmi_of_feature(pair, wavelet_coefficients)
