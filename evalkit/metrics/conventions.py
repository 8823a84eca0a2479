"""The conventions: which variant of each metric stands behind a table's columns. Read it as a table.

The evidence that a convention made a table is in docs/conventions.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2

from evalkit.metrics.gradient import (
    average_gradient,
    average_gradient_magnitude,
    edge_transfer,
    spatial_frequency,
)
from evalkit.metrics.image import Image, Pair
from evalkit.metrics.information import (
    correlation,
    entropy,
    mean_squared_error,
    mutual_information,
    psnr,
    standard_deviation,
    sum_of_correlations_of_differences,
)
from evalkit.metrics.registry import Convention, Definition
from evalkit.metrics.similarity import gaussian, ssim, uniform
from evalkit.metrics.vif import vifp


def _sum(function: Callable[..., float], *args: object) -> Callable[[Pair], float]:
    return lambda pair: sum(function(pair.fused, source, *args) for source in pair.sources)


def _mean(function: Callable[..., float], *args: object) -> Callable[[Pair], float]:
    return lambda pair: sum(function(pair.fused, source, *args) for source in pair.sources) / 2


def _fused(function: Callable[[Image], float]) -> Callable[[Pair], float]:
    return lambda pair: function(pair.fused)


_mse = _mean(mean_squared_error)


def _psnr_255(pair: Pair) -> float:
    return psnr(255, _mse(pair))


def _psnr_peak_of_fused(pair: Pair) -> float:
    return psnr(float(pair.fused.pixels.max()), _mse(pair))


def _mi_bits(pair: Pair) -> float:
    return _sum(mutual_information)(pair) / math.log(2)


def _qabf_zero_padded(pair: Pair) -> float:
    return edge_transfer(pair, cv2.BORDER_CONSTANT, equal_is_one=False)


Table = dict[str, tuple[Callable[[Pair], float], str]]

_TEXTBOOK: Table = {
    "EN": (_fused(entropy), "bits, 256 bins"),
    "SD": (_fused(standard_deviation), "population, 8-bit gray"),
    "SF": (_fused(spatial_frequency), "row and column differences, 8-bit gray"),
    "AG": (_fused(average_gradient), "central differences, mean sqrt((gx^2 + gy^2) / 2)"),
    "MI": (_mi_bits, "sum over the sources, bits"),
    "SCD": (sum_of_correlations_of_differences, "sum over the sources"),
    "CC": (_mean(correlation), "mean over the sources"),
    "MSE": (_mse, "mean over the sources, 0..255"),
    "PSNR": (_psnr_255, "peak 255, mean MSE of the image's two sources"),
    "VIF": (_mean(vifp), "mean over the sources"),
    "Qabf": (edge_transfer, "Sobel with replicated border; equal edge strengths count as 1"),
    "SSIM": (_mean(ssim, gaussian, 255), "mean over the sources, 11 x 11 Gaussian, L = 255"),
}

_SMFNET: Table = {
    "EN": (_fused(entropy), "bits, 256 bins"),
    "SD": (_fused(standard_deviation), "population, 8-bit gray"),
    "SF": (_fused(spatial_frequency), "row and column differences, 8-bit gray"),
    "AG": (_fused(average_gradient_magnitude), "central differences, mean sqrt(gx^2 + gy^2): no division by sqrt(2)"),
    "MI": (_sum(mutual_information), "sum over the sources, nats"),
    "SCD": (sum_of_correlations_of_differences, "sum over the sources"),
    "CC": (_mean(correlation), "mean over the sources"),
    "MSE": (_mse, "mean over the sources, 0..255"),
    "PSNR": (_psnr_peak_of_fused, "peak = the fused image's maximum, mean MSE of the image's two sources"),
    "VIF": (_sum(vifp), "sum over the sources"),
    "Qabf": (_qabf_zero_padded, "Sobel padded with zeros; equal edge strengths count as the strength itself"),
    "SSIM": (_sum(ssim, uniform, 255), "sum over the sources, 7 x 7 uniform window, L = 255"),
}


def _convention(name: str, title: str, used_by: str, table: Table) -> Convention:
    entries = {metric: Definition(metric, name, function, choice) for metric, (function, choice) in table.items()}
    return Convention(name, title, used_by, entries)


CONVENTIONS = {
    convention.name: convention
    for convention in [
        _convention("textbook", "each metric as its primary source defines it", "new work", _TEXTBOOK),
        _convention("smfnet", "the evaluator behind SMFNet's tables", "SMFNet Tables I and IV", _SMFNET),
    ]
}
