"""Visual information fidelity for fusion, VIFF (Han et al. 2013, doi:10.1016/j.inffus.2011.08.002)."""

from __future__ import annotations

import numpy as np

from evalkit.metrics.card import describes
from evalkit.metrics.fusion.vif import EPSILON, SCALES, SMALLEST, at_scale, moments, smooth
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once

NOISE = 0.005 * 255**2  # sigma_n^2, the variance of the visual noise, in squared gray levels
SCALE_WEIGHTS = {1: 1 / 2.15, 2: 0.0, 3: 0.15 / 2.15, 4: 1 / 2.15}  # finest first
OFFSET = 1e-7  # per pixel in numerator and denominator, against 0/0

USED = tuple(scale for scale in SCALES if SCALE_WEIGHTS[scale] > 0)


@once
def source_information(source: Image, scale: int) -> Array:
    """Information of the source that reaches the eye, per window, in decimal digits."""
    return np.log10(1 + moments(source, scale)[1] / NOISE)


def gain_and_kept_information(fused: Image, source: Image, scale: int) -> tuple[Array, Array]:
    """Local gain g >= 0 of fused = g source + noise, and the source's information that the fused image keeps.

    Args:
        fused, source: gray 0..255, of one size.
        scale: of SCALES.
    """
    mean_f, variance_f = moments(fused, scale)
    mean_s, variance_s = moments(source, scale)
    covariance = smooth(at_scale(fused, scale) * at_scale(source, scale), scale) - mean_f * mean_s
    gain = covariance / (variance_s + EPSILON)
    gain[(variance_s == 0) | (variance_f == 0) | (gain < 0)] = 0  # a negative gain keeps nothing
    unexplained = np.maximum(variance_f - gain * covariance, EPSILON)
    return gain, np.log10(1 + gain * gain * variance_s / (unexplained + NOISE))


@describes(
    "VIFF",
    "Visual information fidelity for fusion",
    better="higher",
    range="0 .. about 1",
    unit="1",
    definition="Visual information that the fused image keeps of the locally stronger source, over scales.",
    source="Han, Cai, Cao and Xu 2013, doi:10.1016/j.inffus.2011.08.002",
)
def viff(pair: Pair) -> float:
    """VIFF: information of the sources that the fused image keeps, window by window of the source that it follows less.

    Per window the source with the smaller gain counts (the visible one where both are equal). Per scale, kept
    information is divided by the source's information; VIFF is the weighted mean over the scales. >= 0, 1 for
    F = A = B (to 1e-10), more where contrast is enhanced; higher is better. Symmetric in the sources but for windows
    of equal gain.

    Raises:
        UndefinedError: smaller than 41 x 41 pixels, or a source is constant (no fused image can follow it, so all its
            windows count, and hold no information).
    """
    fused, (infrared, visible) = pair.fused, pair.sources
    if min(fused.shape) < SMALLEST:
        raise UndefinedError(f"the image is {fused.shape[1]}x{fused.shape[0]}: VIFF needs {SMALLEST}x{SMALLEST} pixels")
    for source in pair.sources:
        if source.pixels.min() == source.pixels.max():
            raise UndefinedError(f"VIFF is 0/0: the {source.name} image is constant")
    value = 0.0
    for scale in USED:
        gain_a, kept_a = gain_and_kept_information(fused, infrared, scale)
        gain_b, kept_b = gain_and_kept_information(fused, visible, scale)
        follows_a_less = gain_a < gain_b
        kept = np.where(follows_a_less, kept_a, kept_b)
        present = np.where(follows_a_less, source_information(infrared, scale), source_information(visible, scale))
        ratio = float(kept.sum() + OFFSET * kept.size) / float(present.sum() + OFFSET * kept.size)
        value += SCALE_WEIGHTS[scale] * ratio
    return value
