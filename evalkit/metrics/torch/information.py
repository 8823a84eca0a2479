"""Statistics of gray levels: `evalkit.metrics.fusion.information` for batches.

All of them come from histograms, whose counts and moments are integers: the numbers are exact whatever the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evalkit.metrics.image import once
from evalkit.metrics.torch.batch import Batch, BatchPair, Values

LEVELS = 256
EXACT = 2**23  # pixels: 4 * 127.5^2 of them squared is less than 2^63
INFINITE = "PSNR is infinite: the fused image equals both sources"
BLACK = "PSNR is minus infinity: the peak is 0 (black fused image)"


@once
def histogram(batch: Batch) -> Tensor:
    """Counts of the gray levels, int64 (N, 256)."""
    return _count(batch.pixels, LEVELS)


@once
def joint_histogram(fused: Batch, source: Batch) -> Tensor:
    """Counts of (source level, fused level), int64 (N, 256, 256)."""
    return _count(source.pixels.int() * LEVELS + fused.pixels, LEVELS**2).unflatten(1, (LEVELS, LEVELS))


def _count(index: Tensor, bins: int) -> Tensor:
    """How often each bin occurs in each image, (N, bins), of (N, H, W)."""
    images = len(index)
    if images > 1:
        index = index.long() + bins * torch.arange(images, device=index.device).view(-1, 1, 1)
    return torch.bincount(index.flatten(), minlength=images * bins).view(images, bins)


def entropy_of(counts: Tensor) -> Tensor:
    """-sum p ln p of histograms, in nats, (N,) of (N, ...)."""
    counts = counts.flatten(1)
    return torch.special.entr(counts.double() / counts.sum(1, keepdim=True)).sum(1)


def entropy(batch: Batch) -> Values:
    """EN, in bits."""
    return Values(entropy_of(histogram(batch)) / math.log(2))


@once
def mutual_information(fused: Batch, source: Batch) -> Values:
    """I(F; S) in nats."""
    counts = joint_histogram(fused, source)
    size = fused.pixels[0].numel()
    p = counts.double() / size
    independent = counts.sum(2, keepdim=True).double() * counts.sum(1, keepdim=True) / size**2
    terms = torch.where(counts > 0, p * torch.log(p / independent), 0.0)
    return Values(terms.sum((1, 2)).clamp(min=0))


@once
def mutual_information_of_merged_levels(fused: Batch, source: Batch) -> Values:
    """H(F) + H(S) - H(F, S) in nats where the joint histogram alone takes levels 254 and 255 for one."""
    joint = joint_histogram(fused, source).clone()
    joint[:, 254] += joint[:, 255]
    joint[:, :, 254] += joint[:, :, 255]
    merged = entropy_of(joint[:, :255, :255])
    return Values((entropy_of(histogram(fused)) + entropy_of(histogram(source)) - merged).clamp(min=0))


def normalised_mutual_information(fused: Batch, source: Batch) -> Values:
    """2 I(F; S) / (H(F) + H(S)); undefined where both images are constant."""
    both = entropy_of(histogram(fused)) + entropy_of(histogram(source))
    reason = f"NMI is 0/0: fused and {source.name} image are constant"
    value = 2 * mutual_information(fused, source).numbers / both
    return Values(value, ((fused.constant & source.constant, reason),))


def cross_entropy(fused: Batch, source: Batch) -> Values:
    """sum p_source log2(p_source / p_fused) over the levels that both images have, in bits."""
    in_fused, in_source = histogram(fused).double(), histogram(source).double()
    terms = in_source * torch.log2(in_source / in_fused)
    return Values(torch.where((in_fused > 0) & (in_source > 0), terms, 0.0).sum(1) / fused.pixels[0].numel())


@once
def _sum(batch: Batch) -> Tensor:
    return (histogram(batch) * _levels(batch)).sum(1)


@once
def _sum_of_products(batch: Batch, other: Batch) -> Tensor:
    level = _levels(batch)
    if batch is other:
        return (histogram(batch) * level**2).sum(1)
    return (joint_histogram(batch, other) * (level[:, None] * level)).sum((1, 2))


def _levels(batch: Batch) -> Tensor:
    """Counted from the middle: where float64 has to do, less is lost."""
    return torch.arange(LEVELS, device=batch.pixels.device) - LEVELS // 2


@once
def scaled_covariance(batch: Batch, other: Batch) -> Tensor:
    """n^2 cov(batch, other), (N,): int64, exact; float64 of images so large that it could overflow."""
    size = batch.pixels[0].numel()
    kind = torch.int64 if size <= EXACT else torch.float64
    sums, others = _sum(batch).to(kind), _sum(other).to(kind)
    return size * _sum_of_products(batch, other).to(kind) - sums * others


def standard_deviation(batch: Batch) -> Values:
    """SD: population standard deviation of the gray levels."""
    return Values(scaled_covariance(batch, batch).double().sqrt() / batch.pixels[0].numel())


@once
def mean_squared_error(fused: Batch, source: Batch) -> Values:
    """MSE against one source, in squared gray levels."""
    squares = _sum_of_products(fused, fused) + _sum_of_products(source, source) - 2 * _sum_of_products(fused, source)
    return Values(squares.double() / fused.pixels[0].numel())


def root_mean_squared_error(pair: BatchPair) -> Values:
    """Root of the mean over the sources of the mean squared difference, gray levels."""
    first, second = (mean_squared_error(pair.fused, source).numbers for source in pair.sources)
    return Values(((first + second) / 2).sqrt())


def correlation(fused: Batch, source: Batch) -> Values:
    """Pearson correlation of fused images and sources; undefined where one of them is constant."""
    spread = scaled_covariance(fused, fused).double() * scaled_covariance(source, source).double()
    return Values(
        scaled_covariance(fused, source) / spread.sqrt(),
        tuple((image.constant, f"correlation is 0/0: the {image.name} image is constant") for image in (fused, source)),
    )


def sum_of_correlations_of_differences(pair: BatchPair) -> Values:
    """SCD: r(F - B, A) + r(F - A, B); undefined where a source, or its difference from F, is constant."""
    return _difference_correlation(pair.fused, pair.visible, pair.infrared) + _difference_correlation(
        pair.fused, pair.infrared, pair.visible
    )


def _difference_correlation(fused: Batch, subtracted: Batch, source: Batch) -> Values:
    variance = (
        scaled_covariance(fused, fused)
        + scaled_covariance(subtracted, subtracted)
        - 2 * scaled_covariance(fused, subtracted)
    )
    first, second = sorted((subtracted, source), key=lambda batch: batch.name)  # one memo for both orders
    covariance = scaled_covariance(fused, source) - scaled_covariance(first, second)
    spread = variance.double() * scaled_covariance(source, source).double()
    return Values(
        covariance / spread.sqrt(),
        (
            (_constant_difference(fused, subtracted), f"correlation is 0/0: fused minus {subtracted.name} is constant"),
            (source.constant, f"correlation is 0/0: the {source.name} image is constant"),
        ),
    )


def _constant_difference(one: Batch, other: Batch) -> Tensor:
    """Which images differ by a constant, (N,) bool."""
    difference = (one.pixels.short() - other.pixels).flatten(1)
    return difference.amin(1) == difference.amax(1)


def psnr(peak: Tensor | float, mse: Values) -> Values:
    """10 log10(peak^2 / MSE) in dB; undefined where it is infinite."""
    peak = torch.as_tensor(peak, dtype=torch.float64, device=mse.numbers.device)
    value = 10 * torch.log10(peak**2 / mse.numbers)
    return Values(value, ((mse.numbers == 0, INFINITE), ((peak == 0).expand_as(value), BLACK)))
