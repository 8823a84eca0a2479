"""Measures of the joint histogram beyond mutual information: Tsallis information and nonlinear correlation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.card import describes
from evalkit.metrics.fusion.information import (
    entropy_of,
    histogram,
    joint_histogram,
    mutual_information,
    normalised_mutual_information,
)
from evalkit.metrics.fusion.perceptual import stretched
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once

LEVELS = 256
ROUNDING = 1e-12  # an eigenvalue that is 0, of two equal images, may come out as little below 0
Q_CVEJIC, Q_NAVA = 1.85, 0.43137  # Tsallis' exponents


# --- Z. Liu's toolbox stretches each image to 0..255 first, which keeps its levels apart but moves them


@once
def _moved_levels(image: Image) -> NDArray[np.int64]:
    """Where the stretch puts each of the 256 levels, (256,) whole numbers; a black image stays as it is.

    Raises:
        UndefinedError: the image is constant and not black.
    """
    table = np.arange(LEVELS, dtype=np.int64)
    if image.pixels.any():
        present = np.flatnonzero(histogram(image))
        ends = Image(present.astype(np.uint8)[None], image.name)
        table[present] = stretched(ends)[0]
    return table


@once
def _stretched_probabilities(image: Image, other: Image) -> Array:
    """Joint probabilities of the stretched levels of `other` (rows) and `image` (columns), (256, 256)."""
    joint = np.zeros((LEVELS, LEVELS))
    rows, columns = np.nonzero(joint_histogram(image, other))
    moved = _moved_levels(other)[rows], _moved_levels(image)[columns]
    joint[moved] = joint_histogram(image, other)[rows, columns]
    return joint / joint.sum()


@once
def tsallis_information_liu(image: Image, other: Image, q: float) -> float:
    """(1 - sum p_ij^q / (f_i x_j)^(q - 1)) / (1 - q) of the stretched levels, the marginals in each other's place.

    i is a level of `other` and j one of `image`, but f are the probabilities of `image` and x those of `other`. Cells
    where f_i x_j is 0 are left out.

    Args:
        q: Tsallis' exponent.

    Raises:
        UndefinedError: an image is constant and not black.
    """
    p = _stretched_probabilities(image, other)
    marginals = np.outer(p.sum(0), p.sum(1))
    cells = (p > 0) & (marginals > 0)
    return (1 - float((p[cells] ** q / marginals[cells] ** (q - 1)).sum())) / (1 - q)


@describes(
    "QTE185",
    "Mutual information in Tsallis' sense",
    better="higher",
    range=">= 0",
    unit="1",
    definition="Sum over the sources of the Tsallis mutual information with the fused image, exponent 1.85.",
    source="Cvejic, Canagarajah and Bull 2006, Electronics Letters 42(11):626-627",
)
def tsallis_sum_liu(pair: Pair) -> float:
    """Q_TE with Cvejic's q = 1.85: the sum over the sources, as Z. Liu's toolbox computes it.

    Cvejic, Canagarajah and Bull 2006, Electronics Letters 42(11):626-627.

    Raises:
        UndefinedError: an image is constant and not black.
    """
    return sum(tsallis_information_liu(pair.fused, source, Q_CVEJIC) for source in pair.sources)


@describes(
    "QTE",
    "Normalised mutual information in Tsallis' sense",
    better="higher",
    range=">= 0",
    unit="1",
    definition="Tsallis mutual information of fused image and sources over the sources' own, exponent 0.43137.",
    source="Nava, Cristobal and Escalante-Ramirez 2007, SPIE Newsroom",
)
def tsallis_ratio_liu(pair: Pair) -> float:
    """Q_TE with q = 0.43137: [T(A, F) + T(B, F)] / [H(A)^q + H(B)^q + T(A, B)], as Z. Liu's toolbox computes it.

    Nava, Cristobal and Escalante-Ramirez 2007.

    Raises:
        UndefinedError: an image is constant and not black, or the sources have no information.
    """
    infrared, visible = pair.sources
    entropies = [entropy_of(histogram(source)) / math.log(2) for source in pair.sources]
    between = tsallis_information_liu(infrared, visible, Q_NAVA)  # the same the other way round
    total = sum(entropy**Q_NAVA for entropy in entropies) + between
    if total == 0:
        raise UndefinedError("QTE is 0/0: both sources are black")
    return sum(tsallis_information_liu(pair.fused, source, Q_NAVA) for source in pair.sources) / total


@describes(
    "QMI",
    "Normalised mutual information",
    better="higher",
    range="0 .. 2",
    unit="1",
    definition="Sum over the sources of twice their mutual information with the fused image over both entropies.",
    source="Hossny, Nahavandi and Creighton 2008, doi:10.1049/el:20081754",
)
def normalised_mutual_information_liu(pair: Pair) -> float:
    """Q_MI: NMI, which the stretch to 0..255 does not change, where there is a stretch.

    Hossny, Nahavandi and Creighton 2008, doi:10.1049/el:20081754.

    Raises:
        UndefinedError: an image is constant and not black, or fused image and a source are black.
    """
    _need_stretch(pair)
    return sum(normalised_mutual_information(pair.fused, source) for source in pair.sources)


def _need_stretch(pair: Pair) -> None:
    for image in (pair.fused, *pair.sources):
        _moved_levels(image)


@describes(
    "QNCIE",
    "Nonlinear correlation information entropy",
    better="higher",
    range="about 0.8 .. 1",
    unit="1",
    definition="1 minus the entropy of the eigenvalues of the matrix of nonlinear correlations of the three images.",
    source="Wang, Shen and Zhang 2005, Physica D 200(3-4):287-295",
)
def nonlinear_correlation(pair: Pair) -> float:
    """Q_NCIE: 1 + sum r / 3 log_256(r / 3) over the eigenvalues r of the nonlinear correlation matrix.

    The nonlinear correlation coefficient of two images is H(X) + H(Y) - H(X, Y) with logarithms to the base 256, on
    the diagonal 1. 0.802 for images that know nothing of each other; symmetric in the sources.

    Wang, Shen and Zhang 2005, Physica D 200(3-4):287-295; for fusion Wang, Shen and Jin 2008.

    Raises:
        UndefinedError: an eigenvalue is negative: it has no logarithm.
    """
    infrared, visible = pair.sources
    one, other = mutual_information(pair.fused, infrared), mutual_information(pair.fused, visible)
    between = mutual_information(infrared, visible)
    coefficients = np.array([[0, between, one], [between, 0, other], [one, other, 0]]) / math.log(LEVELS)
    return correlation_information(coefficients)


def correlation_information(coefficients: Array) -> float:
    """1 + sum r / 3 log_256(r / 3) over the eigenvalues r of the (3, 3) coefficients, 1 on the diagonal.

    Raises:
        UndefinedError: an eigenvalue is negative.
    """
    shares = np.linalg.eigvalsh(coefficients + np.eye(3)) / 3
    if shares.min() < -ROUNDING:
        raise UndefinedError("QNCIE: an eigenvalue of the correlation matrix is negative and has no logarithm")
    shares = shares[shares > 0]
    return 1 + float((shares * np.log(shares)).sum()) / math.log(LEVELS)


def nonlinear_correlation_liu(pair: Pair) -> float:
    """Q_NCIE where there is a stretch of the three images to 0..255, which does not change it.

    Raises:
        UndefinedError: an image is constant and not black, or an eigenvalue is negative.
    """
    _need_stretch(pair)
    return nonlinear_correlation(pair)
