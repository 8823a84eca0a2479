"""Visual information fidelity in the pixel domain, VIFP (Sheikh and Bovik 2006, doi:10.1109/TIP.2005.859378)."""

from __future__ import annotations

import math

import numpy as np

from evalkit.compiled import kernels
from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, UndefinedError, once, strips

SCALES = (1, 2, 3, 4)
NOISE = 2.0  # sigma_n^2, the variance of the visual noise, in squared gray levels
EPSILON = 1e-10
MIDDLE = 128.0
SMALLEST = 41  # the last scale's 3 x 3 window still fits into an image of 41 x 41 pixels


def _kernel(scale: int) -> Array:
    """Gaussian of N = 2^(5 - scale) + 1 samples with standard deviation N / 5."""
    n = 2 ** (5 - scale) + 1
    weights = np.exp(-(np.arange(-(n // 2), n // 2 + 1) ** 2) / (2 * (n / 5) ** 2))
    return weights / weights.sum()


_KERNELS = {scale: _kernel(scale) for scale in SCALES}


def smooth(x: Array, scale: int) -> Array:
    """The scale's Gaussian mean, of the windows that lie inside the image."""
    return kernels.filtered(x, _KERNELS[scale])


@once
def at_scale(image: Image, scale: int) -> Array:
    """The image at a scale, less MIDDLE: smoothed with that scale's window and halved, from the scale before.

    Variances do not depend on MIDDLE, but their rounding does: where an image is constant they are below EPSILON, and
    nothing, however they are summed.
    """
    if scale == 1:
        return np.subtract(image.pixels, MIDDLE, dtype=np.float64)
    return kernels.filtered(at_scale(image, scale - 1), _KERNELS[scale], 2)


def local_moments(image: Image, scale: int) -> tuple[Array, Array]:
    """Local mean and variance (never negative, 0 below 1e-10) at a scale."""
    x = at_scale(image, scale)
    if kernels.compiled():
        return kernels.moments(x, _KERNELS[scale])
    margin = len(_KERNELS[scale]) - 1
    mean = np.empty((x.shape[0] - margin, x.shape[1] - margin))
    variance = np.empty_like(mean)
    for rows in strips(len(mean)):
        part = x[rows.start : rows.stop + margin]
        mean[rows] = smooth(part, scale)
        squares = smooth(part * part, scale)
        squares -= mean[rows] * mean[rows]
        np.copyto(squares, 0, where=squares < EPSILON)
        variance[rows] = squares
    return mean, variance


moments = once(local_moments)


@once
def _source_parts(source: Image, scale: int) -> tuple[Array, Array, float]:
    """Local mean, 1 / (v + 1e-10) of the local variance v (0 where v is 0), and sum ln(1 + v / sigma_n^2)."""
    mean, variance = local_moments(source, scale)
    if kernels.compiled():
        information = kernels.information(variance)
        return mean, variance, information
    flat = variance == 0
    information = log_sum(1 + variance / NOISE)
    variance += EPSILON
    inverse = np.divide(1, variance, out=variance)
    np.copyto(inverse, 0, where=flat)
    return mean, inverse, information


def source_information(source: Image) -> float:
    """Information of the source that reaches the eye, summed over the scales: the denominator of VIFP, in nats."""
    return sum(_source_parts(source, scale)[2] for scale in SCALES)


@describes(
    "VIF",
    "Visual information fidelity",
    better="higher",
    range=">= 0",
    unit="1",
    definition="Pixel-domain VIF (VIFP) of the fused image against each source, four scales, noise variance 2.",
    source="Sheikh and Bovik 2006, doi:10.1109/TIP.2005.859378",
)
@once
def vifp(fused: Image, source: Image) -> float:
    """VIFP of the fused image against one source; 1 for the source itself, more where contrast is enhanced.

    Raises:
        UndefinedError: smaller than 41 x 41 pixels, or a constant source.
    """
    if min(fused.shape) < SMALLEST:
        raise UndefinedError(f"the image is {fused.shape[1]}x{fused.shape[0]}: VIF needs {SMALLEST}x{SMALLEST} pixels")
    if kernels.compiled() and fused.large:
        parts = [kernels.kept_alone(at_scale(fused, s), at_scale(source, s), _KERNELS[s]) for s in SCALES]
        kept, information = (math.fsum(part) for part in zip(*parts, strict=True))
    else:
        information = source_information(source)
        kept = sum(_kept(fused, source, scale) for scale in SCALES) if information else 0.0
    if information == 0:
        raise UndefinedError(f"VIF is 0/0: the {source.name} image is constant")
    return kept / information


def _kept(fused: Image, source: Image, scale: int) -> float:
    """sum ln(1 + g^2 v_s / (v + sigma_n^2)), g the local gain and v what the gain leaves unexplained of the fused."""
    mean_f, variance_f = moments(fused, scale)
    mean_s, inverse, _ = _source_parts(source, scale)
    x_f, x_s = at_scale(fused, scale), at_scale(source, scale)
    if kernels.compiled():
        return kernels.kept(x_f, x_s, _KERNELS[scale], (mean_f, variance_f), (mean_s, inverse))
    margin = len(_KERNELS[scale]) - 1
    total = 0.0
    for rows in strips(len(mean_f)):
        wider = slice(rows.start, rows.stop + margin)
        covariance = smooth(x_f[wider] * x_s[wider], scale)
        covariance -= mean_f[rows] * mean_s[rows]
        np.maximum(covariance, 0, out=covariance)  # a negative gain keeps nothing
        np.copyto(covariance, 0, where=variance_f[rows] == 0)
        explained = np.square(covariance, out=covariance)
        explained *= inverse[rows]  # g times the covariance
        unexplained = variance_f[rows] - explained
        np.maximum(unexplained, EPSILON, out=unexplained)
        unexplained += NOISE
        explained -= EPSILON * inverse[rows] * explained  # v_s / (v_s + 1e-10) = 1 - 1e-10 / (v_s + 1e-10): g^2 v_s
        explained /= unexplained
        explained += 1
        total += log_sum(explained)
    return total


def log_sum(terms: Array) -> float:
    """sum ln(terms) by logarithms of products of 32: terms are in [1, 2^17), so no product overflows."""
    flat = terms.ravel()
    whole = flat.size // 32 * 32
    products = np.multiply.reduce(flat[:whole].reshape(32, -1), axis=0)
    return float(np.log(products).sum() + np.log(flat[whole:]).sum())
