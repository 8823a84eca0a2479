"""What an observer sees, CV and CB: `evalkit.metrics.fusion.perceptual` for batches."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from evalkit.metrics.fusion.perceptual import (
    CB_FREQUENCY_SCALE,
    COARSE,
    CONTRAST_RADIUS,
    CV_FREQUENCY_SCALE,
    FINE,
    MASKING_OFFSET,
    REGION,
    difference_of_gaussians,
    mannos_sakrison,
    radial_frequency,
)
from evalkit.metrics.image import Array, once
from evalkit.metrics.torch.batch import Batch, BatchPair, Values, added, mean, total
from evalkit.metrics.torch.filters import inside, padded, sobel

Undefined = tuple[Tensor, str]


@once
def stretched(batch: Batch) -> Tensor:
    """The gray images stretched to 0..255, (N, H, W), whole numbers; NaN where an image is constant."""
    flat = batch.pixels.flatten(1)
    low, high = flat.amin(1, keepdim=True).double(), flat.amax(1, keepdim=True).double()
    levels = (torch.arange(256, device=flat.device) - low) / (high - low) * 255
    whole = levels.floor()
    whole += levels - whole >= 0.5  # floor(levels + 0.5) would round 0.5 - 1e-17 up
    return whole.to(batch.dtype).gather(1, flat.long()).view(batch.pixels.shape)


def _no_stretch(batch: Batch) -> Undefined:
    return batch.constant, f"the {batch.name} image is constant: it cannot be stretched to 0..255"


def _filtered(x: Tensor, gain: Array) -> Tensor:
    """x with each frequency of its spectrum multiplied by `gain` (half spectrum)."""
    spectrum = torch.fft.rfft2(x)
    spectrum *= torch.from_numpy(gain).to(x.device, x.dtype)
    return torch.fft.irfft2(spectrum, s=x.shape[1:])


def sums_over_regions(x: Tensor) -> Tensor:
    """Sums over REGION x REGION regions; those that reach over the right and lower edge count zeros there."""
    rows, columns = (-side % REGION for side in x.shape[1:])
    whole = torch.nn.functional.pad(x, (0, columns, 0, rows))
    return whole.unflatten(2, (-1, REGION)).unflatten(1, (-1, REGION)).sum((2, 4))


def _gray(batch: Batch, stretch: bool) -> Tensor:
    return stretched(batch) if stretch else batch.x


@once
def saliency(source: Batch, stretch: bool) -> Tensor:
    """Saliency of each region: sum of (Sobel magnitude)^5, the image surrounded by zeros."""
    sx, sy = sobel(_gray(source, stretch), "constant")
    squared = sx.square_().add_(sy.square_())
    return sums_over_regions(squared * squared * squared.sqrt())


@once
def as_seen(batch: Batch, stretch: bool) -> Tensor:
    """The images filtered with the CSF of Mannos and Sakrison, (N, H, W)."""
    return _filtered(_gray(batch, stretch), mannos_sakrison(radial_frequency(batch.shape, CV_FREQUENCY_SCALE)))


def chen_varshney(pair: BatchPair, stretch: bool = True) -> Values:
    """CV; undefined where neither source has an edge and, with `stretch`, where an image is constant."""
    seen = as_seen(pair.fused, stretch)
    weighted, weights = [], []
    for source in pair.sources:
        weight = saliency(source, stretch)
        squares = sums_over_regions((seen - as_seen(source, stretch)).square_())
        weighted.append(total(weight * squares) / REGION**2)
        weights.append(total(weight))
    no_stretch = [_no_stretch(batch) for batch in (pair.fused, *pair.sources)] if stretch else []
    saliences = added(weights)
    edgeless = saliences == 0
    return Values(added(weighted) / saliences, (*no_stretch, (edgeless, "CV is 0/0: neither source has an edge")))


def _gaussian(x: Tensor, deviation: float) -> Tensor:
    """Gaussian sum over 31 x 31 pixels (weights sum to 1 before they are cut off), zeros outside, (N, H, W)."""
    offsets = np.arange(-CONTRAST_RADIUS, CONTRAST_RADIUS + 1)
    kernel = np.exp(-(offsets**2) / (2 * deviation**2)) / (np.sqrt(2 * np.pi) * deviation)
    return inside(padded(x, CONTRAST_RADIUS, "constant"), kernel)


@once
def masked_contrast(batch: Batch) -> Tensor:
    """C^3 / (C^2 + Z) of Peli's contrast C = |fine / coarse - 1| in the CSF-filtered images, (N, H, W), >= 0."""
    x = stretched(batch)
    seen = _filtered(x, difference_of_gaussians(radial_frequency(batch.shape, CB_FREQUENCY_SCALE)))
    contrast = (_gaussian(seen, FINE) / _gaussian(seen, COARSE)).sub_(1).abs_()
    squared = contrast.square()
    return contrast.mul_(squared).div_(squared + MASKING_OFFSET)


def chen_blum(pair: BatchPair) -> Values:
    """CB; undefined where an image is constant, or the sources have no contrast at some pixel."""
    fused = masked_contrast(pair.fused)
    kept, both = torch.zeros_like(fused), torch.zeros_like(fused)
    for source in pair.sources:
        contrast = masked_contrast(source)
        weight = contrast.square()
        both += weight
        kept += torch.minimum(contrast, fused).div_(torch.maximum(contrast, fused)).mul_(weight)
    value = mean(kept.div_(both))
    no_contrast = "CB is 0/0: at some pixel the sources have no contrast"
    reasons = [*(_no_stretch(batch) for batch in (pair.fused, *pair.sources)), (~value.isfinite(), no_contrast)]
    return Values(value, tuple(reasons))
