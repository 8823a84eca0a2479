"""Similarity of fused image and sources in local windows: Piella's Q_S, Q_W and Q_E, Cvejic's Q_C, Yang's Q_Y."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.card import describes
from evalkit.metrics.fusion.rounding import gaussian_weights, in_blocks, window_means
from evalkit.metrics.fusion.similarity import Window, gaussian, gaussian_7, uniform_7, uniform_8
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, strips

SIMILAR = 0.75  # Yang: sources more similar than this are averaged, of others the better one counts
PREWITT_SUM, PREWITT_DIFFERENCE = np.ones(3), np.array([-1.0, 0.0, 1.0])


@dataclass(frozen=True)
class Index:
    """A structural similarity in windows.

    Args:
        window: over which means and variances are taken.
        c1, c2: constants that stabilise luminance and structure; 0 is the universal image quality index of Wang and
            Bovik, whose parts are 1 where they are 0/0.
        rounding: whether the covariance of two windows is what Octave's rounding makes of it where both have one level
            each ("constants"), or also where one of fused image and source has ("covariances"); else it is 0.
    """

    window: Window
    c1: float
    c2: float
    rounding: Literal["", "constants", "covariances"] = ""

    def of(self, mean_x: Array, mean_y: Array, variance_x: Array, variance_y: Array, covariance: Array) -> Array:
        """The similarity of two images, window by window."""
        luminance = _ratio(2 * mean_x * mean_y + self.c1, mean_x * mean_x + mean_y * mean_y + self.c1)
        return luminance * _ratio(2 * covariance + self.c2, variance_x + variance_y + self.c2)


def _ratio(numerator: Array, denominator: Array, at_zero: float = 1.0) -> Array:
    """numerator / denominator, `at_zero` where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, at_zero), where=denominator != 0)


UNIVERSAL = Index(uniform_8, 0, 0)  # Wang and Bovik 2002, doi:10.1109/97.995823: 8 x 8 windows, exact for integers
STRUCTURAL_7 = Index(uniform_7, (0.01 * 255) ** 2, (0.03 * 255) ** 2)
# Z. Liu's toolbox: Wang's SSIM for Piella's indices; constants of 2e-16 for Cvejic's and Yang's
LIU_11 = Index(gaussian, (0.01 * 255) ** 2, (0.03 * 255) ** 2, rounding="constants")
LIU_EDGES = Index(gaussian, LIU_11.c1, LIU_11.c2)  # windows without contrast weigh nothing in Q_W
LIU_7 = Index(gaussian_7, 2e-16, 2e-16, rounding="constants")
LIU_7_COVARIANCES = Index(gaussian_7, 2e-16, 2e-16, rounding="covariances")
DEVIATION = 1.5  # of these Gaussian windows


class Moments(NamedTuple):
    """Local means, variances and covariances of fused image (f) and sources (a, b), each (rows, columns)."""

    mean_f: Array
    mean_a: Array
    mean_b: Array
    f: Array
    a: Array
    b: Array
    fa: Array
    fb: Array
    ab: Array


PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # of fused image and sources: f, a, b, fa, fb, ab


def moments(images: tuple[Array, Array, Array], index: Index, name: str) -> Iterator[Moments]:
    """The moments of fused image and two sources, strip by strip, of the windows inside the image.

    Args:
        images: fused, one source, the other; (H, W).
        index: whose window is taken.
        name: of the measure, for the message.

    Raises:
        UndefinedError: the image is smaller than the window.
    """
    rows, columns = images[0].shape
    side = index.window.side
    if min(rows, columns) < side:
        raise UndefinedError(f"the image is {columns}x{rows}: {name} needs {side}x{side} pixels")
    whole = rows - side + 1
    for strip in strips(whole):
        x = [np.ascontiguousarray(image[strip.start : strip.stop + side - 1]) for image in images]
        mean = [index.window.mean(part) for part in x]
        second = [index.window.mean(x[i] * x[j]) - mean[i] * mean[j] for i, j in PAIRS]
        flat = [_flat(part, side) for part in x]
        for (i, j), values in zip(PAIRS, second, strict=True):
            values[flat[i] | flat[j]] = 0
        found = Moments(*mean, *second)
        if index.rounding:
            _round_flat_windows(found, x, flat, index, in_blocks(np.arange(strip.start, strip.stop), whole))
        yield found


def _flat(x: Array, side: int) -> NDArray[np.bool_]:
    """Which windows have one value only."""
    square = np.ones((side, side), np.uint8)
    first = side // 2
    inside = np.s_[first : first + x.shape[0] - side + 1, first : first + x.shape[1] - side + 1]
    return (cv2.dilate(x, square) == cv2.erode(x, square))[inside]


def _round_flat_windows(
    found: Moments, x: list[Array], flat: list[NDArray[np.bool_]], index: Index, one_rounding: NDArray[np.bool_]
) -> None:
    """Variances and covariances, in place, of the windows in which images have one level, as Octave rounds them."""
    weights = gaussian_weights(index.window.side, DEVIATION)
    inside = tuple(slice(0, n) for n in flat[0].shape)
    black = [flat[i] & (x[i][inside] == 0) for i in range(3)]  # their noise is 0
    for (i, j), values in zip(PAIRS, found[3:], strict=True):
        one_is_enough = index.rounding == "covariances" and i == 0 < j  # of the fused image and a source
        needed = flat[i] | flat[j] if one_is_enough else flat[i] & flat[j]
        rows, columns = np.nonzero(needed & ~(black[i] | black[j]))
        if rows.size == 0:
            continue
        fused_steps = one_rounding[rows]
        means = [
            window_means([x[k] for k in of], (rows, columns), weights, fused_steps, constant[rows, columns])
            for of, constant in (((i, j), flat[i] & flat[j]), ((i,), flat[i]), ((j,), flat[j]))
        ]
        values[rows, columns] = means[0] - means[1] * means[2]


# --- Piella ----------------------------------------------------------------------------------------------------------


def _levels(pair: Pair) -> tuple[Array, Array, Array]:
    return pair.fused.x, pair.infrared.x, pair.visible.x


def edge_magnitude(image: Image) -> Array:
    """Magnitude of Prewitt's gradient, (H, W), the image surrounded by zeros."""
    zeros = cv2.BORDER_CONSTANT
    gx = cv2.sepFilter2D(image.x, cv2.CV_64F, PREWITT_DIFFERENCE, PREWITT_SUM, borderType=zeros)
    gy = cv2.sepFilter2D(image.x, cv2.CV_64F, PREWITT_SUM, PREWITT_DIFFERENCE, borderType=zeros)
    return cv2.magnitude(gx, gy)


def _piella(images: tuple[Array, Array, Array], index: Index, name: str) -> tuple[float, float]:
    """Mean of the local quality over all windows, and its mean weighted by the larger of the sources' variances."""
    total = weighted = weights = 0.0
    count = 0
    for m in moments(images, index, name):
        share = _ratio(m.a, m.a + m.b, at_zero=0.5)
        quality = share * index.of(m.mean_f, m.mean_a, m.f, m.a, m.fa)
        quality += (1 - share) * index.of(m.mean_f, m.mean_b, m.f, m.b, m.fb)
        weight = np.maximum(m.a, m.b)
        total += float(quality.sum())
        weighted += float((quality * weight).sum())
        weights += float(weight.sum())
        count += quality.size
    return total / count, weighted / weights if weights > 0 else np.nan


def _defined(value: float, name: str) -> float:
    if np.isnan(value):
        raise UndefinedError(f"{name} is 0/0: no window of either source has any contrast")
    return value


@describes(
    "QS",
    "Piella's fusion quality index",
    better="higher",
    range="-1 .. 1",
    unit="1",
    definition="Mean over local windows of the similarity to both sources, weighted by their variances.",
    source="Piella and Heijmans 2003, doi:10.1109/ICIP.2003.1247209",
)
def piella_quality(pair: Pair, index: Index = UNIVERSAL) -> float:
    """Q_S: mean over windows of l Q(A, F) + (1 - l) Q(B, F), l the share of A in the sources' variances.

    l is 0.5 where neither source varies. 1 for F = A = B; symmetric in the sources.

    Piella and Heijmans 2003, doi:10.1109/ICIP.2003.1247209.

    Args:
        index: the similarity Q; the paper takes Wang and Bovik's universal image quality index.

    Raises:
        UndefinedError: the image is smaller than the window.
    """
    return _piella(_levels(pair), index, "QS")[0]


@describes(
    "QW",
    "Piella's weighted fusion quality index",
    better="higher",
    range="-1 .. 1",
    unit="1",
    definition="Piella's local quality, windows weighted by the larger of the two sources' variances.",
    source="Piella and Heijmans 2003, doi:10.1109/ICIP.2003.1247209",
)
def piella_weighted_quality(pair: Pair, index: Index = UNIVERSAL) -> float:
    """Q_W: Q_S with each window weighted by max(var A, var B).

    Raises:
        UndefinedError: the image is smaller than the window, or both sources are constant.
    """
    return _defined(_piella(_levels(pair), index, "QW")[1], "QW")


def piella_edge_quality(pair: Pair, index: Index) -> float:
    """Q_W of the edge images alone: the second factor of Q_E.

    Raises:
        UndefinedError: as for `piella_weighted_quality`.
    """
    edges = edge_magnitude(pair.fused), edge_magnitude(pair.infrared), edge_magnitude(pair.visible)
    return _defined(_piella(edges, index, "QW")[1], "QW")


@describes(
    "QE",
    "Piella's edge-dependent fusion quality index",
    better="higher",
    range="-1 .. 1",
    unit="1",
    definition="Piella's weighted quality of the images times that of their edge images.",
    source="Piella and Heijmans 2003, doi:10.1109/ICIP.2003.1247209",
)
def piella_edge_dependent_quality(pair: Pair, index: Index = UNIVERSAL) -> float:
    """Q_E = Q_W(A, B, F) Q_W(A', B', F'), the exponent alpha of the second factor being 1.

    A', B', F' are edge images; the paper leaves the operator open, here it is the magnitude of Prewitt's gradient.

    Raises:
        UndefinedError: as for `piella_weighted_quality`.
    """
    return piella_weighted_quality(pair, index) * piella_edge_quality(pair, index)


# --- Cvejic and Yang -------------------------------------------------------------------------------------------------


@describes(
    "QC",
    "Cvejic's similarity",
    better="higher",
    range="-1 .. 1",
    unit="1",
    definition="Mean over local windows of the similarity to both sources, weighted by their covariances with the "
    "fused image.",
    source="Cvejic, Loza, Bull and Canagarajah 2005, Int. J. of Signal Processing 2(3):178-182",
)
def cvejic_similarity(pair: Pair, index: Index = UNIVERSAL) -> float:
    """Q_C: mean over windows of s Q(A, F) + (1 - s) Q(B, F), s = cov(A, F) / (cov(A, F) + cov(B, F)) cut to 0..1.

    s is 0.5 where the covariances' sum is 0. 1 for F = A = B. Not symmetric in the sources where the two covariances
    have opposite signs and cancel.

    Cvejic, Loza, Bull and Canagarajah 2005, Int. J. of Signal Processing 2(3):178-182.

    Raises:
        UndefinedError: the image is smaller than the window.
    """
    total, count = 0.0, 0
    for m in moments(_levels(pair), index, "QC"):
        share = np.clip(_ratio(m.fa, m.fa + m.fb, at_zero=0.5), 0, 1)
        quality = share * index.of(m.mean_a, m.mean_f, m.a, m.f, m.fa)
        quality += (1 - share) * index.of(m.mean_b, m.mean_f, m.b, m.f, m.fb)
        total += float(quality.sum())
        count += quality.size
    return total / count


def cvejic_similarity_liu(pair: Pair, left_out: bool = False) -> float:
    """Q_C of Z. Liu's toolbox: 0 where the share s is negative and 1 where it is above 1, whatever the similarity.

    Where the covariances have opposite signs a window so counts 0 or 1 by the order of the sources; the first one is
    `pair.infrared`.

    Args:
        left_out: windows that are 0/0 are left out; otherwise one of them makes the measure undefined.

    Raises:
        UndefinedError: the image is smaller than 7 x 7 pixels, or 0/0.
    """
    total, count = 0.0, 0
    for m in moments(_levels(pair), LIU_7_COVARIANCES, "QC"):
        with np.errstate(divide="ignore", invalid="ignore"):
            share = m.fa / (m.fa + m.fb)
            quality = share * LIU_7_COVARIANCES.of(m.mean_a, m.mean_f, m.a, m.f, m.fa)
            quality += (1 - share) * LIU_7_COVARIANCES.of(m.mean_b, m.mean_f, m.b, m.f, m.fb)
        quality[share < 0] = 0
        quality[share > 1] = 1
        total, count = _add_defined(quality, total, count, left_out, "QC")
    return _mean(total, count, "QC")


@describes(
    "QY",
    "Yang's similarity",
    better="higher",
    range="-1 .. 1",
    unit="1",
    definition="Local SSIM to both sources, averaged by variance where the sources are alike; to the more similar "
    "one elsewhere.",
    source="Yang, Zhang, Wang and Liu 2008, Information Fusion 9(2):156-160",
)
def yang_similarity(pair: Pair, index: Index = STRUCTURAL_7) -> float:
    """Q_Y: mean over windows of l S(A, F) + (1 - l) S(B, F) where S(A, B) >= 0.75, of max(S(A, F), S(B, F)) elsewhere.

    l is the share of A in the sources' variances, 0.5 where neither varies. 1 for F = A = B; symmetric in the sources.

    Yang, Zhang, Wang and Liu 2008, Information Fusion 9(2):156-160.

    Raises:
        UndefinedError: the image is smaller than the window.
    """
    total, count = 0.0, 0
    for m in moments(_levels(pair), index, "QY"):
        quality = _yang(m, index, _ratio(m.a, m.a + m.b, at_zero=0.5))
        total += float(quality.sum())
        count += quality.size
    return total / count


def yang_similarity_liu(pair: Pair, left_out: bool = False) -> float:
    """Q_Y of Z. Liu's toolbox, whose share of the variances is 0/0 where the sources' are 0.

    Args:
        left_out: windows that are 0/0 are left out; otherwise one of them makes the measure undefined.

    Raises:
        UndefinedError: the image is smaller than 7 x 7 pixels, or 0/0.
    """
    total, count = 0.0, 0
    for m in moments(_levels(pair), LIU_7, "QY"):
        with np.errstate(divide="ignore", invalid="ignore"):
            quality = _yang(m, LIU_7, m.a / (m.a + m.b))
        total, count = _add_defined(quality, total, count, left_out, "QY")
    return _mean(total, count, "QY")


def _yang(m: Moments, index: Index, share: Array) -> Array:
    """Yang's quality of each window."""
    to_a = index.of(m.mean_a, m.mean_f, m.a, m.f, m.fa)
    to_b = index.of(m.mean_b, m.mean_f, m.b, m.f, m.fb)
    alike = index.of(m.mean_a, m.mean_b, m.a, m.b, m.ab) >= SIMILAR
    return np.where(alike, share * to_a + (1 - share) * to_b, np.maximum(to_a, to_b))


def _add_defined(quality: Array, total: float, count: int, left_out: bool, name: str) -> tuple[float, int]:
    undefined = ~np.isfinite(quality)
    if undefined.any():
        if not left_out:
            raise UndefinedError(f"{name} is 0/0 in a window where neither source varies with the fused image")
        quality = quality[~undefined]
    return total + float(quality.sum()), count + quality.size


def _mean(total: float, count: int, name: str) -> float:
    if count == 0:
        raise UndefinedError(f"{name} is 0/0 in every window")
    return total / count
