"""Edges that fusion loses (Labf) or adds (Nabf): `evalkit.metrics.fusion.artifacts` for batches."""

from __future__ import annotations

import math

import cv2
import torch
from torch import Tensor

from evalkit.metrics.fusion.artifacts import (
    GAMMA_A,
    GAMMA_G,
    KAPPA_A,
    KAPPA_G,
    KUMAR,
    SIGMA_A,
    SIGMA_G,
    STRONG_EDGE,
    WEAK_WEIGHT,
    WEIGHT_EXPONENT,
    EdgeModel,
)
from evalkit.metrics.image import once
from evalkit.metrics.torch.batch import Batch, BatchPair, Values, added, total
from evalkit.metrics.torch.filters import sobel

# a margin of one pixel: repeating the border and mirroring it before its last pixel are the same
PADDING = {cv2.BORDER_REFLECT_101: "reflect", cv2.BORDER_REFLECT: "replicate"}


@once
def edges(batch: Batch, model: EdgeModel) -> tuple[Tensor, Tensor]:
    """Edge strength, and its angle, 0 where there is no edge; both (N, H, W)."""
    batch.need(2, "gradients need")
    dx, dy = (difference.mul_(model.gain).add_(0.0) for difference in sobel(batch.x, PADDING[model.border]))
    angle = torch.atan2(dy, dx) if model.directed else torch.atan2(dx, dy)
    return dx.square_().add_(dy.square_()).sqrt_(), angle


@once
def weights(source: Batch, model: EdgeModel) -> Tensor:
    """What each pixel of a source counts: strength^1.5 of a strong edge, 0.001 of a weak one, (N, H, W)."""
    strength = edges(source, model)[0]
    return torch.where(strength >= STRONG_EDGE, model.strong_gain * strength**WEIGHT_EXPONENT, WEAK_WEIGHT)


def _sigmoid(x: Tensor, gamma: float, kappa: float, sigma: float) -> Tensor:
    return gamma / (1 + torch.exp(-kappa * (x - sigma)))


@once
def preservation(fused: Batch, source: Batch, model: EdgeModel) -> Tensor:
    """Q^{SF}: how much of the source's edge strength and orientation the fused image keeps, (N, H, W)."""
    g_f, angle_f = edges(fused, model)
    g_s, angle_s = edges(source, model)
    stronger = torch.maximum(g_f, g_s)
    strength = torch.where(stronger > 0, torch.minimum(g_f, g_s) / stronger, 0.0)
    turn = (angle_s - angle_f).abs_()
    if not model.directed:
        turn.remainder_(math.pi)
    orientation = (turn - math.pi / 2).abs_() * (2 / math.pi)
    kept = _sigmoid(strength, GAMMA_G, KAPPA_G, SIGMA_G)
    kept *= _sigmoid(orientation, GAMMA_A, KAPPA_A, SIGMA_A)
    return kept.sqrt_()


Terms = list[tuple[Tensor, Tensor]]  # of each source: Q^{SF} and the weights


def _terms(pair: BatchPair, model: EdgeModel) -> Terms:
    return [(preservation(pair.fused, source, model), weights(source, model)) for source in pair.sources]


def _share(terms: Terms, where: Tensor) -> Tensor:
    """Weighted mean of 1 - Q^{SF} over both sources, counted `where` only, (N,)."""
    missing = added(total((1 - kept) * weight * where) for kept, weight in terms)
    return missing / added(total(weight) for _, weight in terms)


def _stronger(batch: Batch, others: tuple[Batch, ...], model: EdgeModel) -> Tensor:
    """Where the images' edge is stronger than the others' edges, (N, H, W) bool."""
    g = edges(batch, model)[0]
    return torch.stack([g > edges(other, model)[0] for other in others]).all(0)


def nabf(pair: BatchPair, model: EdgeModel = KUMAR, over_both: bool = True) -> Values:
    """Nabf: share of the edge information that is neither source's but fusion's own.

    Args:
        pair: images of one size.
        model: how edges are measured.
        over_both: False looks at the infrared image alone.
    """
    sources = pair.sources if over_both else (pair.infrared,)
    return Values(_share(_terms(pair, model), _stronger(pair.fused, sources, model)))


def nabf_of_infrared(pair: BatchPair) -> Values:
    """Nabf with fused and infrared image in each other's place."""
    fused, (infrared, visible) = pair.fused, pair.sources
    terms = [
        (preservation(fused, infrared, KUMAR), weights(fused, KUMAR)),
        (preservation(infrared, visible, KUMAR), weights(visible, KUMAR)),
    ]
    return Values(_share(terms, _stronger(infrared, (fused, visible), KUMAR)))


def labf(pair: BatchPair) -> Values:
    """Labf: share of the sources' edge information that is lost; undefined where neither source has an edge."""
    edgeless = [~edges(source, KUMAR)[0].flatten(1).any(1) for source in pair.sources]
    value = _share(_terms(pair, KUMAR), ~_stronger(pair.fused, pair.sources, KUMAR))
    return Values(value, ((edgeless[0] & edgeless[1], "Labf is 0/0: neither source has an edge"),))
