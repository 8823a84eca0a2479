"""Structural similarity on one scale and on five: `evalkit.metrics.fusion.similarity` and `multiscale` for batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from evalkit.metrics.fusion.multiscale import EXPONENTS, LAST, SMALLEST, SMALLEST_RESIZED, halfway
from evalkit.metrics.image import once
from evalkit.metrics.torch.batch import Batch, Values, mean
from evalkit.metrics.torch.filters import gaussian_weights, inside, padded

SEVEN = np.ones(7)
ELEVEN = gaussian_weights(11, 1.5)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # of MS-SSIM


@dataclass(frozen=True)
class BatchWindow:
    """A local mean of (N, H, W), and what a weighted mean square deviation is multiplied with to be a variance."""

    side: int
    correction: float
    mean: Callable[[Tensor], Tensor]


def _uniform_7(x: Tensor) -> Tensor:
    return inside(x, SEVEN).mul_(1 / 49)  # of integers: exact sums


def gaussian_11(x: Tensor) -> Tensor:
    """The 11 x 11 Gaussian mean, standard deviation 1.5, of the windows inside the images."""
    return inside(x, ELEVEN)


uniform = BatchWindow(7, 49 / 48, _uniform_7)
gaussian = BatchWindow(11, 1.0, gaussian_11)
matlab_gaussian = BatchWindow(11, 1.0, lambda x: gaussian_11(padded(x, 5, "replicate")))


@once
def local_moments(batch: Batch, window: BatchWindow) -> tuple[Tensor, Tensor]:
    """Local mean and variance."""
    mean_x = window.mean(batch.x)
    return mean_x, _centred(window.mean(batch.x.square()), mean_x, mean_x, window)


def _centred(mean_of_product: Tensor, one: Tensor, other: Tensor, window: BatchWindow) -> Tensor:
    return mean_of_product.addcmul_(one, other, value=-1).mul_(window.correction)


@once
def ssim(fused: Batch, source: Batch, window: BatchWindow, L: float) -> Values:
    """Mean SSIM with K1 = 0.01, K2 = 0.03 and dynamic range L.

    Args:
        fused, source: gray 0..255, of one size.
        window: over which means and variances are taken.
        L: the dynamic range, e.g. 255.
    """
    fused.need(window.side, "SSIM needs")
    c1, c2 = (0.01 * L) ** 2, (0.03 * L) ** 2
    (mean_f, variance_f), (mean_s, variance_s) = local_moments(fused, window), local_moments(source, window)
    similarity = _centred(window.mean(fused.x * source.x), mean_f, mean_s, window).mul_(2).add_(c2)
    similarity *= (mean_f * mean_s).mul_(2).add_(c1)
    similarity /= mean_f.square().addcmul_(mean_s, mean_s).add_(c1)
    similarity /= (variance_f + variance_s).add_(c2)
    return Values(mean(similarity))


# --- five scales ------------------------------------------------------------------------------------------------


def halve(x: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; an odd side is continued by its last row or column."""
    if x.shape[1] % 2 or x.shape[2] % 2:
        x = torch.nn.functional.pad(x, (0, x.shape[2] % 2, 0, x.shape[1] % 2), "replicate")
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


@once
def at_scale(batch: Batch, scale: int) -> Tensor:
    """The images after `scale` halvings, 0..4."""
    return batch.x if scale == 0 else halve(at_scale(batch, scale - 1))


@once
def moments(batch: Batch, scale: int) -> tuple[Tensor, Tensor]:
    """Local mean and variance at a scale."""
    x = at_scale(batch, scale)
    mean_x = gaussian_11(x)
    return mean_x, gaussian_11(x.square()).addcmul_(mean_x, mean_x, value=-1)


def _similarity(fused: tuple[Tensor, Tensor], source: tuple[Tensor, Tensor], product: Tensor, scale: int) -> Tensor:
    """Contrast times structure of each window, at the last scale times luminance.

    Args:
        fused, source: local means and variances.
        product: local mean of the product of both.
        scale: 0..4.
    """
    (mean_f, variance_f), (mean_s, variance_s) = fused, source
    covariance = product.addcmul_(mean_f, mean_s, value=-1)
    similarity = (2 * covariance + C2) / (variance_f + variance_s + C2)
    if scale == LAST:
        similarity *= (2 * mean_f * mean_s + C1) / (mean_f * mean_f + mean_s * mean_s + C1)
    return similarity


@once
def ms_ssim(fused: Batch, source: Batch) -> Values:
    """MS-SSIM against one source: five scales, 11 x 11 Gaussian windows inside the images, L = 255."""
    fused.need(SMALLEST, "MS-SSIM needs")
    value = torch.ones(len(fused.pixels), dtype=torch.float64, device=fused.pixels.device)
    for scale, exponent in enumerate(EXPONENTS):
        product = gaussian_11(at_scale(fused, scale) * at_scale(source, scale))
        similarity = _similarity(moments(fused, scale), moments(source, scale), product, scale)
        value *= mean(similarity).clamp(min=0) ** exponent
    return Values(value)


def _blurred(x: Tensor) -> Tensor:
    """11 x 11 Gaussian mean at every pixel, the images mirrored at their borders, (N, H, W)."""
    # a side may be shorter than the margin, and is then mirrored more than once
    rows, columns = (torch.as_tensor(_mirrored(side), device=x.device) for side in x.shape[1:])
    return gaussian_11(x[:, rows][:, :, columns])


def _mirrored(side: int) -> list[int]:
    return [cv2.borderInterpolate(i, side, cv2.BORDER_REFLECT_101) for i in range(-5, side + 5)]


@once
def resized(batch: Batch, scale: int) -> Tensor:
    """The images after `scale` halvings by bilinear interpolation, sides rounded down."""
    return batch.x if scale == 0 else _interpolated(_interpolated(resized(batch, scale - 1), 1), 2)


def _interpolated(x: Tensor, axis: int) -> Tensor:
    """An axis at half its length, rounded down."""
    before, weight = (torch.from_numpy(part).to(x.device) for part in halfway(x.shape[axis]))
    weight = weight.to(x.dtype)
    weight = weight[:, None] if axis == 1 else weight
    return torch.lerp(x.index_select(axis, before), x.index_select(axis, before + 1), weight)


@once
def resized_moments(batch: Batch, scale: int) -> tuple[Tensor, Tensor]:
    """Local mean and variance at a scale, with windows that reach over the border."""
    x = resized(batch, scale)
    mean_x = _blurred(x)
    return mean_x, _blurred(x.square()).addcmul_(mean_x, mean_x, value=-1)


NEGATIVE = "MS-SSIM is not a number: a scale's mean similarity is negative, its exponent a fraction"


@once
def ms_ssim_smfnet(fused: Batch, infrared: Batch) -> Values:
    """MS-SSIM as SMFNet's evaluator computes it: against the infrared image alone, windows over the mirrored border."""
    fused.need(SMALLEST_RESIZED, "MS-SSIM needs")
    means = []
    for scale in range(len(EXPONENTS)):
        product = _blurred(resized(fused, scale) * resized(infrared, scale))
        similarity = _similarity(resized_moments(fused, scale), resized_moments(infrared, scale), product, scale)
        means.append(mean(similarity))
    by_scale = torch.stack(means)
    exponents = torch.tensor(EXPONENTS, dtype=torch.float64, device=by_scale.device)
    return Values((by_scale ** exponents[:, None]).prod(0), (((by_scale < 0).any(0), NEGATIVE),))
