"""Visual information fidelity in the pixel domain, VIFP (Sheikh and Bovik 2006, doi:10.1109/TIP.2005.859378)."""

from __future__ import annotations

import cv2
import numpy as np

from evalkit.metrics.image import Array, Image, UndefinedError, once

SCALES = (1, 2, 3, 4)
NOISE = 2.0  # sigma_n^2, the variance of the visual noise, in squared gray levels
EPSILON = 1e-10
SMALLEST = 41  # the last scale's 3 x 3 window still fits into an image of 41 x 41 pixels


def _kernel(scale: int) -> Array:
    """Gaussian of N = 2^(5 - scale) + 1 samples with standard deviation N / 5."""
    n = 2 ** (5 - scale) + 1
    weights = np.exp(-(np.arange(-(n // 2), n // 2 + 1) ** 2) / (2 * (n / 5) ** 2))
    return weights / weights.sum()


_KERNELS = {scale: _kernel(scale) for scale in SCALES}


def smooth(x: Array, scale: int) -> Array:
    """The scale's Gaussian mean, of the windows that lie inside the image."""
    kernel = _KERNELS[scale]
    r = len(kernel) // 2
    return cv2.sepFilter2D(x, cv2.CV_64F, kernel, kernel)[r:-r, r:-r]


@once
def at_scale(image: Image, scale: int) -> Array:
    """The image at a scale: smoothed with that scale's window and halved, from the scale before."""
    if scale == 1:
        return image.x
    return np.ascontiguousarray(smooth(at_scale(image, scale - 1), scale)[::2, ::2])


@once
def moments(image: Image, scale: int) -> tuple[Array, Array]:
    """Local mean and variance (never negative, 0 below 1e-10) at a scale."""
    x = at_scale(image, scale)
    mean = smooth(x, scale)
    variance = smooth(x * x, scale) - mean * mean
    variance[variance < EPSILON] = 0
    return mean, variance


@once
def _gain_parts(source: Image, scale: int) -> tuple[Array, Array]:
    """1 / (v + 1e-10) and v / (v + 1e-10)^2 of the source's local variance v; both 0 where v is."""
    variance = moments(source, scale)[1]
    inverse = np.where(variance > 0, 1 / (variance + EPSILON), 0)
    return inverse, variance * inverse * inverse


@once
def source_information(source: Image) -> float:
    """Information of the source that reaches the eye, summed over the scales: the denominator of VIFP, in nats."""
    return sum(log_sum(1 + moments(source, scale)[1] / NOISE) for scale in SCALES)


@once
def vifp(fused: Image, source: Image) -> float:
    """VIFP of the fused image against one source; 1 for the source itself, more where contrast is enhanced.

    Raises:
        UndefinedError: smaller than 41 x 41 pixels, or a constant source.
    """
    if min(fused.shape) < SMALLEST:
        raise UndefinedError(f"the image is {fused.shape[1]}x{fused.shape[0]}: VIF needs {SMALLEST}x{SMALLEST} pixels")
    if (information := source_information(source)) == 0:
        raise UndefinedError(f"VIF is 0/0: the {source.name} image is constant")
    return sum(_kept(fused, source, scale) for scale in SCALES) / information


def _kept(fused: Image, source: Image, scale: int) -> float:
    """sum ln(1 + g^2 v_s / (v + sigma_n^2)), g the local gain and v what the gain leaves unexplained of the fused."""
    mean_f, variance_f = moments(fused, scale)
    mean_s, _ = moments(source, scale)
    inverse, weight = _gain_parts(source, scale)
    covariance = smooth(at_scale(fused, scale) * at_scale(source, scale), scale)
    covariance -= mean_f * mean_s
    np.maximum(covariance, 0, out=covariance)  # a negative gain keeps nothing
    covariance[variance_f == 0] = 0
    squared = np.square(covariance, out=covariance)
    unexplained = variance_f - inverse * squared
    np.maximum(unexplained, EPSILON, out=unexplained)
    unexplained += NOISE
    squared *= weight
    squared /= unexplained
    squared += 1
    return log_sum(squared)


def log_sum(terms: Array) -> float:
    """sum ln(terms) by logarithms of products of 32: terms are in [1, 2^17), so no product overflows."""
    flat = terms.ravel()
    whole = flat.size // 32 * 32
    products = np.multiply.reduce(flat[:whole].reshape(32, -1), axis=0)
    return float(np.log(products).sum() + np.log(flat[whole:]).sum())
