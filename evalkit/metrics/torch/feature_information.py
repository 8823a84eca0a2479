"""Feature mutual information, FMI: `evalkit.metrics.fusion.feature_information` for batches."""

from __future__ import annotations

import torch
from torch import Tensor

from evalkit.metrics.fusion.feature_information import CELLS, SIDE, SMALLEST_PROBABILITY
from evalkit.metrics.image import once
from evalkit.metrics.torch.batch import Batch, Values

BLOCK = {"cpu": 2**13, "cuda": 2**20}  # windows at a time: what follows takes some 80 arrays of them


@once
def windows(batch: Batch) -> Tensor:
    """The 3 x 3 windows of all images, column by column, uint8 (9, N times the number of windows)."""
    h, w = batch.shape
    x = batch.pixels
    return torch.stack(
        [x[:, i : h - SIDE + 1 + i, j : w - SIDE + 1 + j].flatten() for j in range(SIDE) for i in range(SIDE)]
    )


def distribution(pixels: Tensor) -> Tensor:
    """Each window stretched from minimum..maximum to 0..1 and divided by its sum; constant windows are uniform."""
    p = pixels - pixels.amin(0)
    height = p.sum(0)
    return torch.where(height == 0, 1 / CELLS, p / height)


def _entropy_terms(p: Tensor) -> Tensor:
    """-p log2 |p|, summed over the first axis of a matrix; 0 log 0 = 0."""
    smallest = max(SMALLEST_PROBABILITY, torch.finfo(p.dtype).tiny)
    terms = p * p.abs().clamp_(min=smallest).log2_()
    return -terms if p.ndim == 1 else -terms.sum(0)


def _index_moments(p: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the cell's number, 0..8, under each distribution."""
    index = torch.arange(CELLS, dtype=p.dtype, device=p.device)
    mean = index @ p
    return mean, (index**2 @ p - mean * mean).clamp_(min=0).sqrt_()


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson correlation of the pixels of two windows, exactly 0 where one is constant or they do not covary."""
    covariance = CELLS * (one * other).sum(0) - one.sum(0) * other.sum(0)
    spread = torch.ones_like(covariance)
    for x in (one, other):
        spread *= CELLS * (x * x).sum(0) - x.sum(0) ** 2
    return torch.where(spread > 0, covariance / spread.sqrt(), 0.0)


def upper_bound_cells(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The joint distribution of p and q with the largest correlation of the cell numbers (upper Frechet bound).

    Returns:
        Of its cells, each (17, number of windows): the probability, p times q there, and the product of the two cell
        numbers (0..8).
    """
    n = p.shape[1]
    tops = [x.cumsum(0) for x in (p, q)]
    for top in tops:
        top[-1] = 2  # more than 1: the last cell is never left
    probability, product, number = (p.new_empty(2 * CELLS - 1, n) for _ in range(3))
    i, j = (torch.zeros(1, n, dtype=torch.int64, device=p.device) for _ in range(2))  # the cell that each stands in
    reached = p.new_zeros(n)
    for cell in range(2 * CELLS - 1):
        top_p, top_q = tops[0].gather(0, i)[0], tops[1].gather(0, j)[0]
        next_reached = torch.minimum(top_p, top_q).clamp_(max=1)
        probability[cell] = next_reached - reached
        product[cell] = p.gather(0, i)[0] * q.gather(0, j)[0]
        number[cell] = i[0] * j[0]
        reached = next_reached
        step = top_p < top_q
        i += step
        j += ~step & (top_q < 2)
    return probability, product, number


def joint_entropy(p: Tensor, q: Tensor, c: Tensor, marginal: Tensor) -> Tensor:
    """Entropy of the joint distribution (1 - t) p q + t (Frechet bound), per window, in bits.

    Args:
        p, q: distributions, (9, number of windows).
        c: the correlation of the pixels.
        marginal: sum of the entropies of p and q.
    """
    q = torch.where(c < 0, q.flip(0), q)
    bound, product, number = upper_bound_cells(p, q)
    mean_p, spread_p = _index_moments(p)
    mean_q, spread_q = _index_moments(q)
    covariance = (bound * number).sum(0) - mean_p * mean_q
    usable = (spread_p > 0) & (spread_q > 0) & (covariance > 0)
    t = torch.where(usable, c.abs() * spread_p * spread_q / covariance, 0.0)
    rest = 1 - t
    product *= rest
    bound *= t
    bound += product
    return rest * marginal + _entropy_terms(rest) + _entropy_terms(bound) - _entropy_terms(product)


def _window_fmi(fused: Tensor, source: Tensor) -> Tensor:
    """2 I / (H + H) of each pair of windows, 1 where they are equal, (number of windows,)."""
    p, q = distribution(fused), distribution(source)
    both = _entropy_terms(p) + _entropy_terms(q)
    information = both - joint_entropy(p, q, correlation(fused, source), both)
    value = torch.where(both > 0, 2 * information / both, 0.0)
    return value.masked_fill_((fused == source).all(0), 1)


@once
def mean_window_fmi(fused: Batch, source: Batch) -> Values:
    """FMI of the gray levels: mean of 2 I / (H + H) over all 3 x 3 windows of fused images and sources."""
    fused.need(SIDE, "FMI needs")
    f, s = windows(fused), windows(source)
    block = BLOCK.get(f.device.type, 2**16)
    values = [
        _window_fmi(f[:, start : start + block].to(fused.dtype), s[:, start : start + block].to(fused.dtype))
        for start in range(0, f.shape[1], block)
    ]
    return Values(torch.cat(values).view(len(fused.pixels), -1).mean(1, dtype=torch.float64))
