"""The convention `vifb`: the thirteen numbers of the VIFB benchmark as it published them, its slips included.

Zhang, Ye and Xiao 2020, "VIFB: A visible and infrared image fusion benchmark", doi:10.1109/CVPRW50498.2020.00060.

Colour. Where the fused image is stored with three channels, each metric is the mean over the channels k of its value
for (fused k, infrared k, visible k); a gray source stands for all of its channels. SF alone is one value of the three
channels laid side by side. Where the fused image is gray, a colour source enters as its gray version.

The slips: PSNR and RMSE take sqrt(sum d^2) / (M N) for a mean squared error, which makes both depend on the image's
size; SF divides its differences by all M N pixels, AG by (M - 1)(N - 1) although it has M N gradients; "Variance" is a
standard deviation; CE leaves out the levels that one image lacks, so that it is 0 for two images without a common
level and may be negative. MI stretches each image to 0..255 first, which changes nothing: a stretch of integers keeps
different levels apart. No metric depends on which source comes first.

Evidence. Of the 3,276 values published for 21 pairs, 12 methods and 13 metrics, the 3,003 of eleven methods come out
in all five printed digits. Those of SwinFusion differ by up to 2.3 % (11 of them by more than 0.5 %), in all metrics
at once, EN included, which leaves nothing to choose: its published images are not quite those that were measured. The
evaluator's values of six gray images come out to 1e-12.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from evalkit.metrics.fusion.gradient import average_gradient_over_inner_size, edge_intensity, edge_transfer
from evalkit.metrics.fusion.information import (
    cross_entropy,
    entropy,
    mean_squared_error,
    mutual_information,
    psnr,
    standard_deviation,
)
from evalkit.metrics.fusion.perceptual import chen_blum, chen_varshney
from evalkit.metrics.fusion.similarity import gaussian, ssim
from evalkit.metrics.image import Image, Pair, UndefinedError, once

Metric = Callable[[Pair], float]


@once
def _colourless(image: Image) -> bool:
    """Stored gray, or with three equal channels (as most of the benchmark's infrared images are)."""
    array = image.array
    return array.ndim == 2 or bool((array == array[..., :1]).all())


@once
def plane(image: Image, k: int) -> Image:
    """Channel k of a colour image."""
    return Image(np.ascontiguousarray(image.array[..., k]), f"{image.name} {('red', 'green', 'blue')[k]}-channel")


def channel(image: Image, k: int) -> Image:
    """Channel k of an image: one Image per channel and image; a gray image, with its memo, is all of its channels."""
    return image if _colourless(image) else plane(image, k)


def channel_pairs(pair: Pair) -> list[Pair]:
    """What a metric sees one after the other: a Pair per channel of the fused image."""
    if pair.fused.array.ndim == 2:
        return [pair]
    return [Pair(*(channel(image, k) for image in (pair.fused, *pair.sources))) for k in range(3)]


def channel_mean(function: Metric) -> Metric:
    """The metric as mean over the fused image's channels."""

    def mean(pair: Pair) -> float:
        values = [function(one) for one in channel_pairs(pair)]
        return sum(values) / len(values)

    return mean


@once
def spatial_frequency_of_stored_array(image: Image) -> float:
    """SF: sqrt((sum dx^2 + sum dy^2) / (M N)) of the channels side by side, their two jumps included; 0..361.

    Eskicioglu and Fisher 1995, doi:10.1109/26.477498, whose sums have fewer terms than the M N they are divided by.

    Raises:
        UndefinedError: fewer than 2 x 2 pixels.
    """
    _need_differences(image)
    array = image.array
    # (M, N, 3) -> (M, 3 N): each row is its red values, then its green ones, then its blue ones
    flat = array if array.ndim == 2 else array.transpose(0, 2, 1).reshape(array.shape[0], -1)
    x = flat.astype(np.float64)
    dx, dy = (x[:, 1:] - x[:, :-1]).ravel(), (x[1:] - x[:-1]).ravel()
    return math.sqrt((np.dot(dx, dx) + np.dot(dy, dy)) / x.size)


def root_of_squared_sum_over_size(fused: Image, source: Image) -> float:
    """sqrt(sum d^2) / (M N): what the benchmark takes for an MSE and for an RMSE; size times smaller than either.

    Jagalingam and Hegde 2015, doi:10.1016/j.aqpro.2015.02.019, define both without this slip.
    """
    return math.sqrt(mean_squared_error(fused, source) / fused.pixels.size)


def _need_differences(image: Image) -> None:
    if min(image.shape) < 2:
        raise UndefinedError(f"the image is {image.shape[1]}x{image.shape[0]}: differences need 2x2 pixels")


def _fused(function: Callable[[Image], float]) -> Metric:
    return channel_mean(lambda pair: function(pair.fused))


def _of_sources(function: Callable[..., float], weight: float, *args: object) -> Metric:
    return lambda pair: weight * sum(function(pair.fused, source, *args) for source in pair.sources)


_mean_root = _of_sources(root_of_squared_sum_over_size, 0.5)


def _psnr(pair: Pair) -> float:
    return psnr(255, _mean_root(pair))


def _qabf(pair: Pair) -> float:
    # the evaluator first multiplies gray levels by 255; this matters where edge strengths are equal only, under 1e-9
    return edge_transfer(pair, cv2.BORDER_CONSTANT, equal_is_one=False)


def _spatial_frequency(pair: Pair) -> float:
    return spatial_frequency_of_stored_array(pair.fused)


VIFB: dict[str, tuple[Metric, str]] = {
    "EN": (_fused(entropy), "bits, 256 bins, mean over the channels"),
    "CE": (
        channel_mean(_of_sources(cross_entropy, 0.5)),
        "KL divergence of source from fused in bits, empty levels skipped, mean over sources and channels",
    ),
    "MI": (channel_mean(_of_sources(mutual_information, 1)), "sum over the sources, nats, mean over the channels"),
    "PSNR": (channel_mean(_psnr), "peak 255, 'MSE' is sqrt(sum d^2) / (M N): depends on the size"),
    "AG": (
        _fused(average_gradient_over_inner_size),
        "sum sqrt((gx^2 + gy^2) / 2) / ((M - 1)(N - 1)), mean over the channels",
    ),
    "EI": (_fused(edge_intensity), "mean Sobel magnitude, border replicated, mean over the channels"),
    "Qabf": (
        channel_mean(_qabf),
        "Sobel padded with zeros; equal edge strengths count as the strength itself; mean over the channels",
    ),
    "SD": (_fused(standard_deviation), "population, published as Variance, mean over the channels"),
    "SF": (
        _spatial_frequency,
        "channels side by side as one (M, 3N) matrix, both sums divided by its size",
    ),
    "RMSE": (channel_mean(_mean_root), "sqrt(sum d^2) / (M N), mean over sources and channels: depends on the size"),
    "SSIM": (
        channel_mean(_of_sources(ssim, 1, gaussian, 255)),
        "sum over the sources, 11 x 11 Gaussian, L = 255, mean over the channels",
    ),
    "CB": (channel_mean(chen_blum), "Z. Liu's toolbox, mean over the channels"),
    "CV": (channel_mean(chen_varshney), "Z. Liu's toolbox, mean over the channels"),
}
