"""Phase congruency (Kovesi 1999) and what a fused image keeps of it: Zhao's Q_P."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from evalkit.compiled import kernels
from evalkit.compiled.kernels import Complex
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
def filters(shape: tuple[int, int]) -> tuple[list[Array], list[Array], list[float]]:
    """Radial filters of the scales, angular filters of the orientations, each (H, W) with frequency 0 first.

    Returns:
        The two lists, and per orientation what turns the noise at the smallest scale into the noise of the energy.
    """
    if min(shape) < 2:
        raise UndefinedError(f"the image is {shape[1]}x{shape[0]}: phase congruency needs 2x2 pixels")
    v, u = _frequencies(shape, True)
    radius = np.hypot(v, u)
    radius[0, 0] = 1  # its logarithm is not needed: the mean is not filtered
    v_low, u_low = (np.fft.fftshift(np.fft.fftshift(f)) for f in _frequencies(shape, False))  # as published
    low_pass = 1 / (1 + (np.hypot(v_low, u_low) / CUT_OFF) ** (2 * SHARPNESS))
    low_pass[0, 0] = 0
    log_radius = np.log(radius)
    radial = []
    for scale in range(SCALES):
        wavelength = SMALLEST_WAVELENGTH * SCALE_RATIO**scale
        off_centre = log_radius + math.log(wavelength)
        off_centre *= off_centre
        off_centre /= -2 * math.log(BANDWIDTH) ** 2
        radial.append(cv2.exp(off_centre) * low_pass)
    angle = np.arctan2(-v, u)
    angular = []
    for orientation in range(ORIENTATIONS):
        distance = np.abs(angle - orientation * math.pi / ORIENTATIONS)
        np.minimum(distance, 2 * math.pi - distance, out=distance)
        distance *= distance
        distance /= -2 * ANGULAR_DEVIATION**2
        angular.append(cv2.exp(distance))
    total = functools.reduce(np.add, radial)
    return radial, angular, [_noise_gain(radial[0] * spread, total * spread) for spread in angular]


def _noise_gain(smallest: Array, total: Array) -> float:
    """T over the root of the mean squared response to noise at the smallest scale.

    Args:
        smallest: the filter of that scale.
        total: the sum of all scales' filters. Of the noise in the energy, its even part alone counts: by Parseval's
            theorem the sum of its square over all pixels is that over all frequencies.
    """
    opposite = np.roll(total[::-1, ::-1], 1, (0, 1))
    energy = float(np.vdot(total, total) + np.vdot(total, opposite)) / 2
    tau = math.sqrt(energy / float(np.vdot(smallest, smallest)))
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
    sums = [np.zeros(image.shape) for _ in range(5)]
    responses = [np.empty_like(spectrum) for _ in range(SCALES)]
    for orientation, spread in enumerate(angular):
        for scale, gain in enumerate(radial):
            _filter(spectrum, gain, spread, responses[scale])
            responses[scale] = scipy.fft.ifft2(responses[scale], overwrite_x=True)
        squared = np.square(responses[0].real) + np.square(responses[0].imag)
        threshold = noise_gain[orientation] * math.sqrt(_median(squared) / math.log(2))
        angle = orientation * math.pi / ORIENTATIONS
        if kernels.compiled():
            kernels.phase(responses, threshold, angle, EPSILON if stabilised else 0.0, sums)
        else:
            for rows in strips(image.shape[0]):
                parts = [x[rows] for x in sums]
                _add_energy([x[rows] for x in responses], threshold, angle, EPSILON if stabilised else 0.0, parts)
    energies, amplitudes, xx, yy, xy = sums
    energies /= amplitudes + EPSILON
    trace, difference = (xx + yy) / (ORIENTATIONS / 2), (xx - yy) / (ORIENTATIONS / 2)
    root = np.hypot(xy / ORIENTATIONS, difference) + EPSILON
    return PhaseMaps(energies, (trace + root) / 2, (trace - root) / 2)


def _filter(spectrum: Complex, gain: Array, spread: Array, out: Complex) -> None:
    if kernels.compiled():
        kernels.gain(spectrum, gain, spread, out)
    else:
        np.multiply(spectrum, gain * spread, out=out)


def _median(x: Array) -> float:
    """The median of non-negative values. Only those between two quantiles of a sample of them are sorted."""
    flat = x.ravel()
    sample = np.sort(flat[::61])
    low, high = sample[int(0.45 * len(sample))], sample[min(int(0.55 * len(sample)) + 1, len(sample) - 1)]
    below = int(np.count_nonzero(flat < low))
    between = flat[(flat >= low) & (flat <= high)]
    middle = [(flat.size - 1) // 2 - below, flat.size // 2 - below]
    if middle[0] < 0 or middle[1] >= between.size:
        return float(np.median(flat))
    between.partition(middle)
    return float(between[middle].mean())


def _add_energy(responses: list[Complex], threshold: float, angle: float, spread: float, sums: list[Array]) -> None:
    """`kernels.phase` in NumPy."""
    energies, amplitudes, xx, yy, xy = sums
    energy, amplitude = _energy(responses, threshold)
    energies += energy
    amplitudes += amplitude
    amplitude += spread
    with np.errstate(invalid="ignore"):
        energy /= amplitude
    energy *= energy
    xx += energy * math.cos(angle) ** 2
    yy += energy * math.sin(angle) ** 2
    xy += energy * (math.cos(angle) * math.sin(angle))


def _energy(responses: list[Complex], threshold: float) -> tuple[Array, Array]:
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
