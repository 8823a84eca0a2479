"""Statistics of gray levels: entropy, mutual information, moments and what follows from them.

Pixels are integers 0..255, so every sum below is an integer under 2**53 and exact in float64, whatever the order of
the additions: the results do not depend on threads or vector units.
"""

from __future__ import annotations

import math

import numpy as np

from evalkit.compiled import kernels
from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once


@once
def histogram(image: Image) -> Array:
    """Counts of the 256 gray levels, float64 (256,)."""
    if kernels.compiled():
        return kernels.counts(image.pixels).astype(np.float64)
    return np.bincount(image.pixels.ravel(), minlength=256).astype(np.float64)


@once
def joint_histogram(fused: Image, source: Image) -> Array:
    """Counts of (source level, fused level), float64 (256, 256)."""
    if kernels.compiled():
        return kernels.joint_counts(source.pixels, fused.pixels).astype(np.float64)
    index = source.pixels.astype(np.int32)
    index *= 256
    index += fused.pixels
    return np.bincount(index.ravel(), minlength=65536).reshape(256, 256).astype(np.float64)


def entropy_of(counts: Array) -> float:
    """-sum p ln p over the non-empty bins of a histogram, in nats."""
    p = counts[counts > 0] / counts.sum()
    return 0.0 - float((p * np.log(p)).sum())  # not -sum, which is -0.0 where one level has all


@describes(
    "EN",
    "Entropy",
    better="higher",
    range="0 .. 8",
    unit="bit",
    definition="Shannon entropy of the fused image's 256-bin gray-level histogram.",
    source="Roberts et al. 2008, doi:10.1117/1.2945910",
)
def entropy(image: Image) -> float:
    """EN: Shannon entropy of the 256-bin histogram, in bits."""
    return entropy_of(histogram(image)) / math.log(2)


def entropy_with_offset(image: Image, offset: float = 1e-7) -> float:
    """EN as some Python programs compute it: -sum p log2(p + offset), in bits; up to 4e-5 less than the entropy."""
    p = histogram(image) / image.pixels.size
    return -float((p * np.log2(p + offset)).sum())


def squared_sum_deviation(image: Image) -> float:
    """sqrt(sum (F - mean)^2) of the image in 0..1: SD without the division by M N, so it grows with the image."""
    return math.sqrt(_scaled_covariance(image, image) / image.pixels.size) / 255


@describes(
    "MI",
    "Mutual information",
    better="higher",
    range=">= 0",
    unit="nat or bit",
    definition="I(F; A) + I(F; B) from the 256 x 256 joint histograms of the fused image and each source.",
    source="Qu, Zhang and Yan 2002, doi:10.1049/el:20020212",
)
@once
def mutual_information(fused: Image, source: Image) -> float:
    """I(F; S) of the 256 x 256 joint histogram, in nats (Qu et al. 2002, doi:10.1049/el:20020212)."""
    joint = joint_histogram(fused, source)
    filled = joint > 0
    p = joint[filled] / joint.sum()
    independent = np.outer(joint.sum(1), joint.sum(0))[filled] / joint.sum() ** 2
    return max(0.0, float((p * np.log(p / independent)).sum()))


@once
def mutual_information_of_merged_levels(fused: Image, source: Image) -> float:
    """H(F) + H(S) - H(F, S) in nats where the joint histogram alone takes levels 254 and 255 for one.

    The slip of a MATLAB toolbox: it adds 1 to 8-bit levels, which saturate, to index the joint histogram.
    """
    joint = joint_histogram(fused, source)
    rows = np.vstack([joint[:254], joint[254:].sum(0)])
    merged = np.hstack([rows[:, :254], rows[:, 254:].sum(1, keepdims=True)])
    # the sources' levels are not merged, so it is at least I(F; S) >= 0, but for rounding
    return max(0.0, entropy_of(histogram(fused)) + entropy_of(histogram(source)) - entropy_of(merged))


@describes(
    "NMI",
    "Normalised mutual information",
    better="higher",
    range="0 .. 2",
    unit="1",
    definition="Mutual information of fused image and each source over their entropies.",
    source="Hossny, Nahavandi and Creighton 2008, doi:10.1049/el:20081754",
)
def normalised_mutual_information(fused: Image, source: Image) -> float:
    """2 I(F; S) / (H(F) + H(S)), 0..1 (Hossny, Nahavandi and Creighton 2008, doi:10.1049/el:20081754).

    Raises:
        UndefinedError: both images are constant.
    """
    total = entropy_of(histogram(fused)) + entropy_of(histogram(source))
    if total == 0:
        raise UndefinedError(f"NMI is 0/0: fused and {source.name} image are constant")
    return 2 * mutual_information(fused, source) / total


@describes(
    "CE",
    "Cross entropy",
    better="lower",
    range="mostly >= 0",
    unit="bit",
    definition="Kullback-Leibler divergence of each source's histogram from the fused image's.",
    source="Bulanon, Burks and Alchanatis 2009, doi:10.1016/j.biosystemseng.2009.02.009",
)
@once
def cross_entropy(fused: Image, source: Image) -> float:
    """sum p_source log2(p_source / p_fused) over the levels that both images have, in bits.

    With no level left out it is a KL divergence, >= 0; with some left out it is too small, or even negative.

    Bulanon, Burks and Alchanatis 2009, doi:10.1016/j.biosystemseng.2009.02.009.
    """
    in_fused, in_source = histogram(fused), histogram(source)
    both = (in_fused > 0) & (in_source > 0)
    p_fused, p_source = in_fused[both] / in_fused.sum(), in_source[both] / in_source.sum()
    return float((p_source * np.log2(p_source / p_fused)).sum())


@once
def _sum(image: Image) -> int:
    return int(image.x.sum())


@once
def _sum_of_products(image: Image, other: Image) -> int:
    return int(np.dot(image.x.ravel(), other.x.ravel()))


@once
def _scaled_covariance(image: Image, other: Image) -> int:
    """n^2 cov(image, other), an exact integer."""
    return image.pixels.size * _sum_of_products(image, other) - _sum(image) * _sum(other)


@describes(
    "SD",
    "Standard deviation",
    better="higher",
    range="0 .. 127.5",
    unit="gray level",
    definition="Root of the mean squared deviation of the fused image's gray levels from their mean.",
    source="no publication: the definition is the source (Rao 1997, which papers cite, is about optical fibres)",
)
def standard_deviation(image: Image) -> float:
    """SD: population standard deviation of the gray levels."""
    return math.sqrt(_scaled_covariance(image, image)) / image.pixels.size


@describes(
    "MSE",
    "Mean squared error",
    better="lower",
    range="0 .. 65025",
    unit="gray level^2",
    definition="Mean over the two sources of the mean squared difference to the fused image.",
    source="Jagalingam and Hegde 2015, doi:10.1016/j.aqpro.2015.02.019",
)
@once
def mean_squared_error(fused: Image, source: Image) -> float:
    """MSE against one source, in squared gray levels."""
    total = _sum_of_products(fused, fused) + _sum_of_products(source, source) - 2 * _sum_of_products(fused, source)
    return total / fused.pixels.size


@describes(
    "RMSE",
    "Root mean squared error",
    better="lower",
    range="0 .. 255",
    unit="gray level",
    definition="Root of the mean squared difference of fused image and sources.",
    source="Jagalingam and Hegde 2015, doi:10.1016/j.aqpro.2015.02.019",
)
def root_mean_squared_error(pair: Pair) -> float:
    """Root of the mean over the sources of the mean squared difference, gray levels."""
    return math.sqrt(sum(mean_squared_error(pair.fused, source) for source in pair.sources) / 2)


@describes(
    "CC",
    "Correlation coefficient",
    better="higher",
    range="-1 .. 1",
    unit="1",
    definition="Mean of r(F, A) and r(F, B), r the Pearson correlation.",
    source="Deshmukh and Bhosale 2010, International Journal of Image Processing 4(5)",
)
def correlation(fused: Image, source: Image) -> float:
    """Pearson correlation of fused image and source.

    Raises:
        UndefinedError: one of them is constant.
    """
    spread = _scaled_covariance(fused, fused) * _scaled_covariance(source, source)
    if spread == 0:
        constant = fused if _scaled_covariance(fused, fused) == 0 else source
        raise UndefinedError(f"correlation is 0/0: the {constant.name} image is constant")
    return _scaled_covariance(fused, source) / math.sqrt(spread)


@describes(
    "SCD",
    "Sum of the correlations of differences",
    better="higher",
    range="-2 .. 2",
    unit="1",
    definition="r(F - B, A) + r(F - A, B), r the Pearson correlation.",
    source="Aslantas and Bendes 2015, doi:10.1016/j.aeue.2015.09.004",
)
def sum_of_correlations_of_differences(pair: Pair) -> float:
    """SCD: r(F - B, A) + r(F - A, B) (Aslantas and Bendes 2015, doi:10.1016/j.aeue.2015.09.004).

    Raises:
        UndefinedError: F differs from a source by a constant, or a source is constant.
    """
    return _difference_correlation(pair.fused, pair.visible, pair.infrared) + _difference_correlation(
        pair.fused, pair.infrared, pair.visible
    )


def _difference_correlation(fused: Image, subtracted: Image, source: Image) -> float:
    """r(fused - subtracted, source) from the covariances of the three."""
    variance = (
        _scaled_covariance(fused, fused)
        + _scaled_covariance(subtracted, subtracted)
        - 2 * _scaled_covariance(fused, subtracted)
    )
    source_variance = _scaled_covariance(source, source)
    if variance == 0:
        raise UndefinedError(f"correlation is 0/0: fused minus {subtracted.name} is constant")
    if source_variance == 0:
        raise UndefinedError(f"correlation is 0/0: the {source.name} image is constant")
    covariance = _scaled_covariance(fused, source) - _between_sources(subtracted, source)
    return covariance / math.sqrt(variance * source_variance)


def _between_sources(one: Image, other: Image) -> int:
    first, second = sorted((one, other), key=lambda image: image.name)  # one memo for both orders
    return _scaled_covariance(first, second)


@describes(
    "PSNR",
    "Peak signal-to-noise ratio",
    better="higher",
    range="any",
    unit="dB",
    definition="10 log10(peak^2 / MSE), of each image; never from a mean MSE.",
    source="Jagalingam and Hegde 2015, doi:10.1016/j.aqpro.2015.02.019",
)
def psnr(peak: float, mse: float) -> float:
    """10 log10(peak^2 / MSE) in dB. Raises UndefinedError where it is infinite."""
    if mse == 0:
        raise UndefinedError("PSNR is infinite: the fused image equals both sources")
    if peak == 0:
        raise UndefinedError("PSNR is minus infinity: the peak is 0 (black fused image)")
    return 10 * math.log10(peak**2 / mse)
