"""Phase congruency (Kovesi 1999) and what a fused image keeps of it: Zhao's Q_P."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once, strips

SCALES, ORIENTATIONS = 4, 6
SMALLEST_WAVELENGTH, SCALE_RATIO = 3.0, 2.1  # pixels; of one scale to the one before
BANDWIDTH = 0.55  # standard deviation of a log-Gabor filter over its centre frequency
ANGULAR_DEVIATION = math.pi / ORIENTATIONS / 1.2
CUT_OFF, SHARPNESS = 0.45, 15  # of the low-pass filter that keeps the corners of the spectrum out
NOISE_DEVIATIONS, NOISE_OVERESTIMATE = 2.0, 1.7  # T = (mean + 2 deviations of the noise's energy) / 1.7
SPREAD_CUT_OFF, SPREAD_GAIN = 0.5, 10.0  # of the weight of responses that are spread over the scales
EPSILON = 1e-4

FEATURE = 0.1  # phase congruency above this is a feature
STABILISER = 1e-4
_GAUSSIAN = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
_GAUSSIAN /= _GAUSSIAN.sum()


class PhaseMaps(NamedTuple):
    """Phase congruency and its maximum and minimum moment (strength of edges and of corners), each (H, W)."""

    congruency: Array
    maximum_moment: Array
    minimum_moment: Array


def _frequencies(shape: tuple[int, int], odd_stretched: bool) -> tuple[Array, Array]:
    """Vertical and horizontal frequency, zero first, (H, 1) and (1, W); `odd_stretched`: odd sides reach 1/2, too."""
    v, u = (np.fft.ifftshift((np.arange(n) - n // 2) / (n - 1 if n % 2 and odd_stretched else n)) for n in shape)
    return v[:, None], u[None, :]


@functools.lru_cache(maxsize=2)
def filters(shape: tuple[int, int]) -> tuple[list[Array], list[Array], Array]:
    """Radial filters of the scales, angular filters of the orientations, each (H, W) with frequency 0 first.

    Returns:
        The two lists, and per orientation what turns the noise at the smallest scale into the noise of the energy.
    """
    if min(shape) < 2:
        raise UndefinedError(f"the image is {shape[1]}x{shape[0]}: phase congruency needs 2x2 pixels")
    v, u = _frequencies(shape, True)
    radius = np.hypot(v, u)
    radius[0, 0] = 1  # its logarithm is not needed: the mean is not filtered
    v_low, u_low = (np.fft.fftshift(np.fft.fftshift(f)) for f in _frequencies(shape, False))
    low_pass = 1 / (1 + (np.hypot(v_low, u_low) / CUT_OFF) ** (2 * SHARPNESS))
    log_radius = np.log(radius)
    radial = []
    for scale in range(SCALES):
        wavelength = SMALLEST_WAVELENGTH * SCALE_RATIO**scale
        gain = np.exp(-((log_radius + math.log(wavelength)) ** 2) / (2 * math.log(BANDWIDTH) ** 2)) * low_pass
        gain[0, 0] = 0
        radial.append(gain)
    angle = np.arctan2(-v, u)
    angular = []
    for orientation in range(ORIENTATIONS):
        distance = np.abs(angle - orientation * math.pi / ORIENTATIONS)
        distance = np.minimum(distance, 2 * math.pi - distance)
        angular.append(np.exp(-(distance**2) / (2 * ANGULAR_DEVIATION**2)))
    return radial, angular, np.array([_noise_gain(radial, spread) for spread in angular])


def _noise_gain(radial: list[Array], spread: Array) -> float:
    """T over the root of the mean squared response to noise at the smallest scale."""
    gains = [r * spread for r in radial]
    smallest = float((gains[0] ** 2).sum())
    # the filters' even parts; by Parseval's theorem their products over all pixels are those over all frequencies
    even = [(g + np.roll(g[::-1, ::-1], 1, (0, 1))) / 2 for g in gains]
    squares = sum(float((e * e).sum()) for e in even)
    products = sum(float((even[i] * even[j]).sum()) for i in range(SCALES) for j in range(i + 1, SCALES))
    tau = math.sqrt((2 * squares + 4 * products) / smallest / 2)
    deviation = math.sqrt(2 - math.pi / 2) * tau
    return (tau * math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * deviation) / NOISE_OVERESTIMATE


@once
def features(image: Image, stabilised: bool) -> PhaseMaps:
    """Phase congruency of an image and its moments.

    Kovesi 1999, Videre 1(3), with the constants of his `phasecong2`: four log-Gabor scales, six orientations.

    Args:
        image: gray 0..255.
        stabilised: 1e-4 is added to each orientation's amplitude too, as to the sum over all of them; False is the
            public code, whose moments are 0/0 where nothing responds in an orientation.
    """
    radial, angular, noise_gain = filters(image.shape)
    spectrum = scipy.fft.fft2(image.x)
    energies, amplitudes = np.zeros(image.shape), np.zeros(image.shape)
    xx, yy, xy = np.zeros(image.shape), np.zeros(image.shape), np.zeros(image.shape)
    for orientation, spread in enumerate(angular):
        filtered = spectrum * spread
        responses = [scipy.fft.ifft2(filtered * gain, overwrite_x=True) for gain in radial]
        squared = np.square(responses[0].real) + np.square(responses[0].imag)
        threshold = noise_gain[orientation] * math.sqrt(float(np.median(squared)) / math.log(2))
        angle = orientation * math.pi / ORIENTATIONS
        for rows in strips(len(xx)):
            energy, amplitude = _energy([response[rows] for response in responses], threshold)
            energies[rows] += energy
            amplitudes[rows] += amplitude
            if stabilised:
                amplitude += EPSILON
            with np.errstate(invalid="ignore"):
                energy /= amplitude
            energy *= energy
            xx[rows] += energy * math.cos(angle) ** 2
            yy[rows] += energy * math.sin(angle) ** 2
            xy[rows] += energy * (math.cos(angle) * math.sin(angle))
    amplitudes += EPSILON
    energies /= amplitudes
    trace, difference = (xx + yy) / (ORIENTATIONS / 2), (xx - yy) / (ORIENTATIONS / 2)
    root = np.hypot(xy / ORIENTATIONS, difference) + EPSILON
    return PhaseMaps(energies, (trace + root) / 2, (trace - root) / 2)


def _energy(responses: list[Array], threshold: float) -> tuple[Array, Array]:
    """Weighted energy of one orientation above the noise, and the sum of its responses' amplitudes."""
    even, odd = [response.real for response in responses], [response.imag for response in responses]
    sizes = [np.sqrt(e * e + o * o) for e, o in zip(even, odd, strict=True)]
    amplitude = functools.reduce(np.add, sizes)
    mean_even, mean_odd = functools.reduce(np.add, even), functools.reduce(np.add, odd)
    length = np.sqrt(mean_even * mean_even + mean_odd * mean_odd) + EPSILON
    mean_even /= length
    mean_odd /= length
    energy = np.full_like(amplitude, -threshold)
    for e, o in zip(even, odd, strict=True):  # along the mean response, less what is across it
        energy += e * mean_even
        energy += o * mean_odd
        energy -= np.abs(e * mean_odd - o * mean_even)
    np.maximum(energy, 0, out=energy)
    spread = amplitude / (functools.reduce(np.maximum, sizes) + EPSILON)
    spread *= -SPREAD_GAIN / SCALES
    spread += SPREAD_GAIN * SPREAD_CUT_OFF
    energy /= 1 + cv2.exp(spread)
    return energy, amplitude


def _mean(x: Array) -> Array:
    return cv2.sepFilter2D(x, cv2.CV_64F, _GAUSSIAN, _GAUSSIAN, borderType=cv2.BORDER_CONSTANT)


def _spread(x: Array) -> tuple[Array, Array]:
    """Local mean and variance."""
    mean = _mean(x)
    return mean, _mean(x * x) - mean * mean


class Masked(NamedTuple):
    """A feature map where the phase congruency says that there are features, 0 elsewhere, and its local moments."""

    mask: NDArray[np.bool_]
    map: Array
    mean: Array
    variance: Array


def _masked(feature_map: Array, mask: NDArray[np.bool_]) -> Masked:
    kept = np.where(mask, feature_map, 0)
    return Masked(mask, kept, *_spread(kept))


@once
def _of_source(source: Image, stabilised: bool) -> list[Masked]:
    maps = features(source, stabilised)
    return [_masked(one, maps.congruency > FEATURE) for one in maps]


@once
def _of_both(infrared: Image, visible: Image, stabilised: bool) -> list[Masked]:
    """Of the source that has the larger phase congruency, pixel by pixel."""
    a, b = features(infrared, stabilised), features(visible, stabilised)
    mask, a_leads = np.maximum(a.congruency, b.congruency) > FEATURE, a.congruency > b.congruency
    return [_masked(np.where(a_leads, *maps), mask) for maps in zip(a, b, strict=True)]


def _correlation(source: Masked, fused: Array, mean: Array, variance: Array) -> Array:
    """Local correlation of a source's feature map with the fused image's where the source has features, 0 elsewhere."""
    covariance = _mean(source.map * fused)
    covariance -= source.mean * mean
    covariance += STABILISER
    spread = np.sqrt(np.abs(source.variance * variance))
    spread += STABILISER
    return np.divide(covariance, spread, out=np.zeros_like(spread), where=source.mask)


@describes(
    "QP",
    "Phase congruency quality",
    better="higher",
    range="about -1 .. 1",
    unit="1",
    definition="Local correlations of the sources' and the fused image's phase congruency and its moments, multiplied.",
    source="Zhao, Laganiere and Liu 2007, Int. J. of Innovative Computing, Information and Control 3(6A):1433-1447",
)
def phase_congruency_quality(pair: Pair, stabilised: bool = True) -> float:
    """Q_P: the product over phase congruency, its maximum and its minimum moment of what the fused image keeps of it.

    Per pixel the best of the local correlations (11 x 11 Gaussian) of the fused map with that of A, of B, and of the
    source with the larger phase congruency, where that source has a feature; the sum over the image, divided by the
    number of pixels in which either source has a feature. Symmetric in the sources where no congruency is equal.

    Zhao, Laganiere and Liu 2007, with windows and constants of Z. Liu's program; Kovesi 1999, Videre 1(3).

    Args:
        stabilised: see `features`.

    Raises:
        UndefinedError: neither source has a feature; without `stabilised`, an orientation without any response.
    """
    infrared, visible = pair.sources
    candidates = [_of_both(infrared, visible, stabilised), *(_of_source(one, stabilised) for one in pair.sources)]
    count = int(candidates[0][0].mask.sum())
    if count == 0:
        raise UndefinedError(f"QP is 0/0: neither source has a phase congruency above {FEATURE}")
    value = 1.0
    for i, fused in enumerate(features(pair.fused, stabilised)):
        mean, variance = _spread(fused)
        best = functools.reduce(np.maximum, [_correlation(one[i], fused, mean, variance) for one in candidates])
        value *= float(best.sum()) / count
    if not math.isfinite(value):
        raise UndefinedError("QP is 0/0: an image has no response to the filters of an orientation")
    return value
