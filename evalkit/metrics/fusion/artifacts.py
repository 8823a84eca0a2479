"""Edges that fusion loses (Labf) or adds (Nabf): the accounts that Petrovic and Xydeas keep beside Qabf."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once

# Gamma, kappa and sigma of the two sigmoids, for edge strength (g) and orientation (alpha)
GAMMA_G, KAPPA_G, SIGMA_G = 0.9999, 19, 0.5
GAMMA_A, KAPPA_A, SIGMA_A = 0.9995, 22, 0.5
STRONG_EDGE = 2  # T_d: weaker edges get WEAK_WEIGHT
WEIGHT_EXPONENT = 1.5  # L_g
WEAK_WEIGHT = 0.001


@dataclass(frozen=True)
class EdgeModel:
    """How edges are measured and weighted; the defaults are those of B. K. Shreyamsha Kumar's published measure.

    Args:
        gain: factor on the Sobel sums.
        border: OpenCV's border type.
        directed: compare directions (a full turn) instead of orientations (half a turn). The formula that follows is
            made for orientations; directions let it exceed 1.
        strong_gain: factor on the weights of strong edges.
        weak_weight: what a weak edge counts.
        unit_range: images in 0..1, `gain` 1/8, their sums rounded step by step in the order of a MATLAB program: there
            rounding decides which of two edges of one strength is the stronger one.
    """

    gain: float = 1 / 8
    border: int = cv2.BORDER_REFLECT_101
    directed: bool = False
    strong_gain: float = 1.0
    weak_weight: float = WEAK_WEIGHT
    unit_range: bool = False


KUMAR = EdgeModel()
# SMFNet's evaluator: unscaled Sobel, border pixels repeated, arctan2, and the weak edges' weight on strong ones too
SMFNET = EdgeModel(gain=1.0, border=cv2.BORDER_REFLECT, directed=True, strong_gain=WEAK_WEIGHT)
TANG_PYTHON = EdgeModel(weak_weight=0)  # Metric_Python: weak edges do not count
UNIT_RANGE = EdgeModel(unit_range=True)  # H. Li's toolbox: in 0..1 no edge is a strong one, so all count the same


def _gradients(x: Array, model: EdgeModel) -> tuple[Array, Array]:
    """Sobel sums over columns and rows, (H, W)."""
    dx = cv2.Sobel(x, cv2.CV_64F, 1, 0, ksize=3, scale=model.gain, borderType=model.border)
    dy = cv2.Sobel(x, cv2.CV_64F, 0, 1, ksize=3, scale=model.gain, borderType=model.border)
    return dx, dy


def _unit_gradients(x: Array) -> tuple[Array, Array]:
    """The same, mirrored and divided by 8, added up within the columns of a window and then over them."""
    rows, columns = x.shape
    extended = cv2.copyMakeBorder(x, 1, 1, 1, 1, cv2.BORDER_REFLECT_101) / 8
    window = [[extended[i : i + rows, j : j + columns] for j in range(3)] for i in range(3)]
    left, right = (window[0][j] + 2 * window[1][j] + window[2][j] for j in (0, 2))
    down = [window[2][j] - window[0][j] for j in range(3)]
    return right - left, down[0] + 2 * down[1] + down[2]


@once
def edges(image: Image, model: EdgeModel) -> tuple[Array, Array]:
    """Edge strength, and its angle, 0 where there is no edge; both (H, W).

    Directions are counted from the x axis, orientations from the y axis. Only pixels without an edge see the
    difference: there 0 is the angle of a real edge as well.

    Raises:
        UndefinedError: fewer than 2 x 2 pixels.
    """
    if min(image.shape) < 2:
        raise UndefinedError(f"the image is {image.shape[1]}x{image.shape[0]}: gradients need 2x2 pixels")
    dx, dy = _unit_gradients(image.x / 255) if model.unit_range else _gradients(image.x, model)
    strength = np.sqrt(dx * dx + dy * dy)
    dx += 0.0  # no -0, whose angle would be pi
    dy += 0.0
    return strength, np.arctan2(dy, dx) if model.directed else np.arctan2(dx, dy)


@once
def weights(source: Image, model: EdgeModel) -> Array:
    """What each pixel of a source counts: strength^1.5 of a strong edge, a constant of a weak one, (H, W)."""
    strength = edges(source, model)[0]
    return np.where(strength >= STRONG_EDGE, model.strong_gain * strength**WEIGHT_EXPONENT, model.weak_weight)


def _sigmoid(x: Array, gamma: float, kappa: float, sigma: float) -> Array:
    return gamma / (1 + np.exp(-kappa * (x - sigma)))


@once
def preservation(fused: Image, source: Image, model: EdgeModel) -> Array:
    """Q^{SF}: how much of the source's edge strength and orientation the fused image keeps, (H, W).

    Args:
        fused, source: gray 0..255, of one size.
        model: how edges are measured.
    """
    g_f, angle_f = edges(fused, model)
    g_s, angle_s = edges(source, model)
    stronger = np.maximum(g_f, g_s)
    strength = np.divide(np.minimum(g_f, g_s), stronger, out=np.zeros_like(g_f), where=stronger > 0)
    turn = np.abs(angle_s - angle_f)
    if not model.directed:
        turn %= np.pi
    orientation = np.abs(turn - np.pi / 2) * (2 / np.pi)
    kept = _sigmoid(strength, GAMMA_G, KAPPA_G, SIGMA_G)
    kept *= _sigmoid(orientation, GAMMA_A, KAPPA_A, SIGMA_A)
    return np.sqrt(kept)


Terms = list[tuple[Array, Array]]  # of each source: Q^{SF} and the weights


def _terms(pair: Pair, model: EdgeModel) -> Terms:
    return [(preservation(pair.fused, source, model), weights(source, model)) for source in pair.sources]


def _share(
    pair: Pair,
    model: EdgeModel,
    counted: Callable[[Pair], NDArray[np.bool_]],
    terms: Callable[[Pair, EdgeModel], Terms] = _terms,
) -> float:
    """Weighted mean of 1 - Q^{SF} over both sources, of the pixels that are `counted` only."""
    missing = total = 0.0
    for part, rows in pair.parts():
        where = counted(part)[rows]
        for kept, weight in terms(part, model):
            missing += float(((1 - kept[rows]) * weight[rows])[where].sum())
            total += float(weight[rows].sum())
    if total == 0:
        raise UndefinedError("the share of artifacts is 0/0: neither source has an edge that counts")
    return missing / total


def _stronger(image: Image, others: tuple[Image, ...], model: EdgeModel) -> NDArray[np.bool_]:
    """Where the image's edge is stronger than the others' edges, (H, W)."""
    g = edges(image, model)[0]
    return np.logical_and.reduce([g > edges(other, model)[0] for other in others])


@describes(
    "Nabf",
    "Fusion artifacts",
    better="lower",
    range="0 .. 1",
    unit="1",
    definition="Edge information of the fused image that comes from neither source.",
    source="Shreyamsha Kumar 2013, doi:10.1007/s11760-012-0361-x",
)
def nabf(pair: Pair, model: EdgeModel = KUMAR, over_both: bool = True) -> float:
    """Nabf: share of the edge information that is neither source's but fusion's own.

    sum (1 - Q^{AF}) w_A + (1 - Q^{BF}) w_B over the pixels where the fused edge is stronger than both sources' edges,
    divided by sum (w_A + w_B). With it Qabf + Labf + Nabf = 1, where this family's Qabf is `qabf` below, with
    constants of its own. 0..1, 0 for F = A = B, lower is better; symmetric in the sources for `over_both`.

    Shreyamsha Kumar 2013, doi:10.1007/s11760-012-0361-x, after Petrovic and Xydeas 2005, doi:10.1109/ICCV.2005.175.

    Args:
        model: KUMAR, or another one for that evaluator's numbers.
        over_both: False looks at the infrared image alone, as SMFNet's evaluator does.

    Raises:
        UndefinedError: fewer than 2 x 2 pixels, or (where weak edges do not count) no strong edge.
    """
    return _share(
        pair, model, lambda part: _stronger(part.fused, part.sources if over_both else (part.infrared,), model)
    )


def nabf_of_infrared(pair: Pair) -> float:
    """Nabf as a widespread MATLAB evaluator calls it by mistake: fused and infrared image in each other's place.

    The share of edges that the infrared image has beyond those of the fused and the visible one. 0..1; not symmetric.

    Raises:
        UndefinedError: fewer than 2 x 2 pixels.
    """
    return _share(pair, KUMAR, lambda part: _stronger(part.infrared, (part.fused, part.visible), KUMAR), _slipped_terms)


def _slipped_terms(pair: Pair, model: EdgeModel) -> Terms:
    fused, (infrared, visible) = pair.fused, pair.sources
    return [
        (preservation(fused, infrared, model), weights(fused, model)),  # Q is symmetric in its two images
        (preservation(infrared, visible, model), weights(visible, model)),
    ]


@describes(
    "Labf",
    "Fusion loss",
    better="lower",
    range="0 .. 1",
    unit="1",
    definition="Edge information of the sources that the fused image lost.",
    source="Petrovic and Xydeas 2005, doi:10.1109/ICCV.2005.175",
)
def labf(pair: Pair, model: EdgeModel = KUMAR) -> float:
    """Labf: share of the sources' edge information that is lost, where a source's edge is at least the fused one's.

    Defined as `nabf`, over all the other pixels. 0..1, lower is better; symmetric in the sources. Where nothing has
    an edge, Q is 0.009 and not 1, so F = A = B does not give 0.

    Petrovic and Xydeas 2005, doi:10.1109/ICCV.2005.175.

    Raises:
        UndefinedError: fewer than 2 x 2 pixels, or neither source has an edge that could be lost.
    """
    if not any(edges(source, model)[0][rows].any() for part, rows in pair.parts() for source in part.sources):
        raise UndefinedError("Labf is 0/0: neither source has an edge")
    return _share(pair, model, lambda part: ~_stronger(part.fused, part.sources, model))


def qabf(pair: Pair, model: EdgeModel = KUMAR) -> float:
    """The Qabf that belongs to Labf and Nabf: 1 - Labf - Nabf, not the Qabf of Xydeas and Petrovic 2000."""
    return 1 - _share(pair, model, lambda part: np.full(part.fused.shape, True))
