"""Edges: spatial frequency, average gradient and the Xydeas-Petrovic edge transfer, with their kin."""

from __future__ import annotations

import math
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.compiled import kernels
from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once, strips


@describes(
    "SF",
    "Spatial frequency",
    better="higher",
    range="0 .. 361",
    unit="gray level",
    definition="sqrt(mean dx^2 + mean dy^2) of the fused image's forward differences.",
    source="Eskicioglu and Fisher 1995, doi:10.1109/26.477498",
)
@once
def spatial_frequency(image: Image) -> float:
    """SF: sqrt(mean dx^2 + mean dy^2) of forward differences (Eskicioglu and Fisher 1995, doi:10.1109/26.477498).

    Raises:
        UndefinedError: fewer than 2 x 2 pixels.
    """
    _need(image, 2, "differences")
    if kernels.compiled():
        across, down = kernels.squared_differences(image.pixels)
        rows, columns = image.shape
        return math.sqrt(across / (rows * (columns - 1)) + down / ((rows - 1) * columns))
    x = image.x
    dx, dy = (x[:, 1:] - x[:, :-1]).ravel(), (x[1:] - x[:-1]).ravel()
    return math.sqrt(np.dot(dx, dx) / dx.size + np.dot(dy, dy) / dy.size)


def gradient_magnitude(image: Image) -> Array:
    """sqrt(gx^2 + gy^2), (H, W), of central differences, one-sided at the border.

    Raises:
        UndefinedError: fewer than 2 x 2 pixels.
    """
    _need(image, 2, "gradients")
    replicate = cv2.BORDER_REPLICATE  # leaves half of the one-sided difference at the border
    gx = cv2.Sobel(image.x, cv2.CV_64F, 1, 0, ksize=1, scale=0.5, borderType=replicate)
    gy = cv2.Sobel(image.x, cv2.CV_64F, 0, 1, ksize=1, scale=0.5, borderType=replicate)
    gx[:, [0, -1]] *= 2
    gy[[0, -1]] *= 2
    return cv2.magnitude(gx, gy)


@once
def gradient_sum(image: Image) -> float:
    """The sum of `gradient_magnitude`. Raises UndefinedError: fewer than 2 x 2 pixels."""
    _need(image, 2, "gradients")
    return kernels.gradient_sum(image.pixels) if kernels.compiled() else float(gradient_magnitude(image).sum())


@describes(
    "AG",
    "Average gradient",
    better="higher",
    range="0 .. 361",
    unit="gray level",
    definition="Mean gradient magnitude of the fused image.",
    source="Cui et al. 2015, doi:10.1016/j.optcom.2014.12.032",
)
def average_gradient(image: Image) -> float:
    """AG: mean of sqrt((gx^2 + gy^2) / 2) (Cui et al. 2015, doi:10.1016/j.optcom.2014.12.032)."""
    return average_gradient_magnitude(image) / math.sqrt(2)


def average_gradient_magnitude(image: Image) -> float:
    """AG as some tables print it: mean of sqrt(gx^2 + gy^2), sqrt(2) times the definition."""
    return gradient_sum(image) / image.pixels.size


def average_gradient_over_inner_size(image: Image) -> float:
    """AG: sum of sqrt((gx^2 + gy^2) / 2) over (M - 1)(N - 1), though there are M N gradients."""
    rows, columns = image.shape
    return gradient_sum(image) / math.sqrt(2) / ((rows - 1) * (columns - 1))


@describes(
    "EI",
    "Edge intensity",
    better="higher",
    range="0 .. 1140",
    unit="gray level",
    definition="Mean Sobel magnitude of the fused image.",
    source="Rajalingam and Priya 2018, International Journal of Engineering Science Invention",
)
def edge_intensity(image: Image) -> float:
    """EI: mean Sobel magnitude with replicated border; 0..1140.

    Rajalingam and Priya 2018, Int. J. of Engineering Science Invention.
    """
    return float(sobel(image, cv2.BORDER_REPLICATE)[0].mean())


def _need(image: Image, side: int, operation: str) -> None:
    if min(image.shape) < side:
        raise UndefinedError(f"the image is {image.shape[1]}x{image.shape[0]}: {operation} need {side}x{side} pixels")


@once
def sobel(image: Image, border: int) -> tuple[Array, Array]:
    """Sobel magnitude and orientation atan(sy / sx), y upwards, in (-pi/2, pi/2], pi/2 where sx = 0; both (H, W).

    `border` is OpenCV's border type: BORDER_CONSTANT pads with zeros, BORDER_REPLICATE repeats the border.
    """
    sx = cv2.Sobel(image.x, cv2.CV_64F, 1, 0, ksize=3, borderType=border)
    sy = cv2.Sobel(image.x, cv2.CV_64F, 0, 1, ksize=3, borderType=border)
    with np.errstate(divide="ignore", invalid="ignore"):
        orientation = -sy / sx  # y upwards: with pi/2 at sx = 0 the sign matters
    np.arctan(orientation, out=orientation)
    np.copyto(orientation, np.pi / 2, where=sx == 0)
    return cv2.magnitude(sx, sy), orientation


def _preservation(g_f: Array, a_f: Array, g_s: Array, a_s: Array, equal_is_one: bool) -> Array:
    """Q^{SF}: how much of the source's edge strength g and orientation alpha the fused image keeps, 0..1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        strength = np.minimum(g_f, g_s)
        strength /= np.maximum(g_f, g_s)
    np.copyto(strength, 1.0 if equal_is_one else g_f, where=g_f == g_s)
    orientation = a_s - a_f
    np.abs(orientation, out=orientation)
    # constants of Xydeas and Petrovic: Gamma, kappa, sigma for strength (g) and orientation (alpha)
    strength *= -15
    strength += 15 * 0.5
    orientation *= 22 * 2 / np.pi
    orientation -= 22 * (1 - 0.8)
    kept = cv2.exp(strength)  # eight times as fast as NumPy's, 1e-15 apart
    kept += 1
    orientation = cv2.exp(orientation)
    orientation += 1
    kept *= orientation
    return np.divide(0.9994 * 0.9879, kept, out=kept)


def _compiled_transfer(pair: Pair, border: int, equal_is_one: bool) -> tuple[float, float]:
    """The edge strength of both sources that the fused image keeps, and all of it."""
    kept, total = np.zeros(2), np.zeros(2)
    for part, rows in pair.parts():
        fused = _bordered(part.fused, border)[rows.start : rows.stop + 2]
        first, second = ([values[rows] for values in _edges(source, border)] for source in part.sources)
        kernels.edges_kept(fused, first, second, equal_is_one, kept, total)
    return float(kept.sum()), float(total.sum())


def _bordered(image: Image, border: int) -> NDArray[np.uint8]:
    return cv2.copyMakeBorder(image.pixels, 1, 1, 1, 1, border)


@once
def _edges(image: Image, border: int) -> tuple[Array, Array]:
    return kernels.edges(_bordered(image, border))


@describes(
    "Qabf",
    "Edge-based fusion quality",
    better="higher",
    range="0 .. 1",
    unit="1",
    definition="Edge strength and orientation that the fused image keeps of both sources, "
    "weighted by their edge strength.",
    source="Xydeas and Petrovic 2000, doi:10.1049/el:20000267",
)
def edge_transfer(pair: Pair, border: int = cv2.BORDER_REPLICATE, equal_is_one: bool = True) -> float:
    """Qabf: edge information transferred from both sources, weighted by their edge strength (L = 1).

    Xydeas and Petrovic 2000, doi:10.1049/el:20000267.

    Args:
        pair: images of one size.
        border: OpenCV's border type of the Sobel operator.
        equal_is_one: False is the widespread evaluators' slip: where both edge strengths are equal, the ratio is the
            strength itself instead of 1.

    Raises:
        UndefinedError: neither source has an edge.
    """
    kept = total = 0.0
    if kernels.compiled():
        kept, total = _compiled_transfer(pair, border, equal_is_one)
    for source in pair.sources if not kernels.compiled() else ():
        weight = sobel(source, border)[0]
        (g_f, a_f), (g_s, a_s) = sobel(pair.fused, border), sobel(source, border)
        for rows in strips(len(weight)):
            preserved = _preservation(g_f[rows], a_f[rows], g_s[rows], a_s[rows], equal_is_one)
            preserved *= weight[rows]
            kept += float(preserved.sum())
        total += float(weight.sum())
    if total == 0:
        raise UndefinedError("Qabf is 0/0: neither source has an edge")
    return kept / total


NO_EDGE = 1e-5  # what Z. Liu's toolbox puts in the place of a Sobel value of 0


@once
def _sobel_liu(image: Image) -> tuple[Array, Array]:
    """Sobel magnitude and the angle atan(sy / sx), sx = 0 replaced by 1e-5, the image surrounded by zeros; (H, W)."""
    sx = cv2.Sobel(image.x, cv2.CV_64F, 1, 0, ksize=3, borderType=cv2.BORDER_CONSTANT)
    sy = cv2.Sobel(image.x, cv2.CV_64F, 0, 1, ksize=3, borderType=cv2.BORDER_CONSTANT)
    magnitude = cv2.magnitude(sx, sy)
    sx[sx == 0] = NO_EDGE
    sy /= sx
    return magnitude, np.arctan(sy, out=sy)


@describes(
    "QG",
    "Gradient-based fusion quality",
    better="higher",
    range="0 .. 1",
    unit="1",
    definition="Mean over the pixels of the edge strength and orientation that the fused image keeps, weighted by the "
    "sources' edge strengths there.",
    source="Xydeas and Petrovic 2000, doi:10.1049/el:20000267",
)
def gradient_quality_liu(pair: Pair) -> float:
    """Q_G of Z. Liu's toolbox: Qabf's preservation, but its weighted mean is taken pixel by pixel, then averaged.

    Xydeas and Petrovic 2000, doi:10.1049/el:20000267, divide the sum over all pixels by the sum of all weights.
    Where the first source (`pair.infrared`) has an edge and the fused image none the ratio of strengths is 0, for the
    second one it is 1e-5 over its strength: the sources are not quite alike, by 1e-9.
    """
    kept, total = np.zeros(pair.fused.shape), np.zeros(pair.fused.shape)
    g_f, a_f = _sobel_liu(pair.fused)
    for first, source in zip((True, False), pair.sources, strict=True):
        g_s, a_s = _sobel_liu(source)
        for rows in strips(len(kept)):
            strength = np.where(g_s[rows] == 0, NO_EDGE, g_s[rows])
            of_fused = np.where(g_f[rows] == 0, NO_EDGE, g_f[rows])
            ratio = np.minimum(strength, of_fused) / np.maximum(strength, of_fused)
            if first:
                ratio[(g_f[rows] == 0) & (g_s[rows] > 0)] = 0
            turn = np.abs(np.abs(a_s[rows] - a_f[rows]) - np.pi / 2)
            preserved = 1 / ((1 + cv2.exp(-10 * (ratio - 0.5))) * (1 + cv2.exp(-20 * (turn * (2 / np.pi) - 0.75))))
            kept[rows] += preserved * strength
            total[rows] += strength
    return float((kept / total).mean())


DIAGONAL_WEIGHT = math.sqrt(0.5)


def _differences(image: Image) -> tuple[Array, Array, Array, Array]:
    x = image.x
    return x[:, 1:] - x[:, :-1], x[1:] - x[:-1], x[1:, 1:] - x[:-1, :-1], x[1:, :-1] - x[:-1, 1:]


def _extended_frequency(differences: Iterable[Array]) -> float:
    """sqrt(sum of the squared differences, those along diagonals times sqrt(1/2)); over sqrt(M N) it is SF."""
    weights = (1, 1, DIAGONAL_WEIGHT, DIAGONAL_WEIGHT)
    return math.sqrt(sum(w * float(np.dot(d.ravel(), d.ravel())) for w, d in zip(weights, differences, strict=True)))


@once
def _reference_frequency(infrared: Image, visible: Image) -> float:
    pairs = zip(_differences(infrared), _differences(visible), strict=True)
    return _extended_frequency(np.maximum(np.abs(a), np.abs(b)) for a, b in pairs)


@describes(
    "QSF",
    "Ratio of spatial frequency error",
    better="higher",
    range=">= -1; 0 is perfect, more is over-fused",
    unit="1",
    definition="Spatial frequency of the fused image in four directions against the sources' larger differences.",
    source="Zheng, Essock, Hansen and Haun 2007, Information Fusion 8(2):177-192",
)
def spatial_frequency_error(pair: Pair) -> float:
    """Q_SF = (SF_F - SF_R) / SF_R, SF over four directions; SF_R takes the larger |difference| of the two sources.

    >= -1; negative: detail is lost, positive: there is more than in the sources (over-fused or noise). Symmetric.

    Zheng, Essock, Hansen and Haun 2007, Information Fusion 8(2):177-192.

    Raises:
        UndefinedError: fewer than 2 x 2 pixels, or both sources are constant.
    """
    _need(pair.fused, 2, "differences")
    reference = _reference_frequency(*pair.sources)
    if reference == 0:
        raise UndefinedError("QSF is 0/0: both sources are constant")
    return (_extended_frequency(_differences(pair.fused)) - reference) / reference
