"""Edges: `evalkit.metrics.fusion.gradient` for batches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evalkit.metrics.image import once
from evalkit.metrics.torch.batch import Batch, BatchPair, Values, added, mean, total
from evalkit.metrics.torch.filters import sobel


def spatial_frequency(batch: Batch) -> Values:
    """SF: sqrt(mean dx^2 + mean dy^2) of forward differences."""
    batch.need(2, "differences need")
    x = batch.x
    dx, dy = x[..., 1:] - x[..., :-1], x[:, 1:] - x[:, :-1]
    return Values((mean(dx.square_()) + mean(dy.square_())).sqrt())


@once
def gradient_magnitude(batch: Batch) -> Tensor:
    """Sum of sqrt(gx^2 + gy^2) over each image, (N,), of central differences, one-sided at the border."""
    batch.need(2, "gradients need")
    gy, gx = torch.gradient(batch.x, dim=(1, 2))
    return total(gx.square_().add_(gy.square_()).sqrt_())


def average_gradient_magnitude(batch: Batch) -> Values:
    """AG as mean of sqrt(gx^2 + gy^2)."""
    return Values(gradient_magnitude(batch) / batch.pixels[0].numel())


def average_gradient(batch: Batch) -> Values:
    """AG: mean of sqrt((gx^2 + gy^2) / 2)."""
    return average_gradient_magnitude(batch) * (1 / math.sqrt(2))


def average_gradient_over_inner_size(batch: Batch) -> Values:
    """AG: sum of sqrt((gx^2 + gy^2) / 2) over (M - 1)(N - 1)."""
    rows, columns = batch.shape
    return Values(gradient_magnitude(batch) / math.sqrt(2) / ((rows - 1) * (columns - 1)))


def edge_intensity(batch: Batch) -> Values:
    """EI: mean Sobel magnitude, the border repeated."""
    return Values(mean(edges(batch, "replicate")[0]))


@once
def edges(batch: Batch, border: str) -> tuple[Tensor, Tensor]:
    """Sobel magnitude and orientation atan(sy / sx), y upwards, in (-pi/2, pi/2], pi/2 where sx = 0; both (N, H, W).

    Args:
        batch: gray 0..255.
        border: "constant" pads with zeros, "replicate" repeats the border.
    """
    sx, sy = sobel(batch.x, border)
    orientation = (sy / sx).atan_().neg_()
    orientation.masked_fill_(sx == 0, math.pi / 2)
    return sx.square_().add_(sy.square_()).sqrt_(), orientation


@once
def _weight(source: Batch, border: str) -> Tensor:
    return total(edges(source, border)[0])


def _preservation(fused: Batch, source: Batch, border: str, equal_is_one: bool) -> Tensor:
    """Q^{SF}: how much of the source's edge strength g and orientation alpha the fused image keeps, 0..1, (N, H, W)."""
    (g_f, a_f), (g_s, a_s) = edges(fused, border), edges(source, border)
    strength = torch.minimum(g_f, g_s).div_(torch.maximum(g_f, g_s))
    equal = g_f == g_s
    strength = strength.masked_fill_(equal, 1) if equal_is_one else torch.where(equal, g_f, strength)
    orientation = (a_s - a_f).abs_()
    # constants of Xydeas and Petrovic: Gamma, kappa, sigma for strength (g) and orientation (alpha)
    kept = strength.mul_(-15).add_(15 * 0.5).exp_().add_(1)
    kept *= orientation.mul_(22 * 2 / math.pi).sub_(22 * (1 - 0.8)).exp_().add_(1)
    return kept.reciprocal_().mul_(0.9994 * 0.9879)


def edge_transfer(pair: BatchPair, border: str = "replicate", equal_is_one: bool = True) -> Values:
    """Qabf; undefined where neither source has an edge.

    Args:
        pair: images of one size.
        border: how the Sobel operator pads, see `edges`.
        equal_is_one: False where equal edge strengths count as the strength itself, as widespread evaluators have it.
    """
    kept = [
        total(_preservation(pair.fused, source, border, equal_is_one).mul_(edges(source, border)[0]))
        for source in pair.sources
    ]
    weight = added(_weight(source, border) for source in pair.sources)
    return Values(added(kept) / weight, ((weight == 0, "Qabf is 0/0: neither source has an edge"),))
