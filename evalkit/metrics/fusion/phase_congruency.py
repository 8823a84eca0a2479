"""Phase congruency (Kovesi 1999) and what a fused image keeps of it: Zhao's Q_P."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import scipy  # loads scipy.fft, a quarter of a second that few metrics need, when it is asked for
from numpy.typing import NDArray

from evalkit.compiled import kernels
from evalkit.compiled.kernels import Complex
from evalkit.metrics.card import describes
from evalkit.metrics.image import LARGE, Array, Image, Pair, UndefinedError, once, strips

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
RADIUS = 5  # of the local correlations' windows
_GAUSSIAN = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * 1.5**2))
CACHED = 32  # rows of a spectrum and of a filter that stay in the cache while the scales take turns
Rows = slice | NDArray[np.int64]
_GAUSSIAN /= _GAUSSIAN.sum()


class PhaseMaps(NamedTuple):
    """Phase congruency and its maximum and minimum moment (strength of edges and of corners), each (H, W)."""

    congruency: Array
    maximum_moment: Array
    minimum_moment: Array


def _frequency(n: int, rows: Rows, odd_stretched: bool) -> Array:
    """Frequency of some of n coefficients, that of the mean first; `odd_stretched`: odd sides reach 1/2, too."""
    return np.fft.ifftshift((np.arange(n) - n // 2) / (n - 1 if n % 2 and odd_stretched else n))[rows]


def _radial(shape: tuple[int, int], rows: Rows, scales: Iterable[int] = range(SCALES)) -> list[Array]:
    """Some rows of the filters of scales, frequency 0 first."""
    v, u = _frequency(shape[0], rows, True)[:, None], _frequency(shape[1], slice(None), True)
    radius = np.hypot(v, u)
    mean = radius == 0
    radius[mean] = 1  # its logarithm is not needed: the mean is not filtered
    low_v, low_u = (np.fft.fftshift(np.fft.fftshift(_frequency(n, slice(None), False))) for n in shape)  # as published
    low_pass = 1 / (1 + (np.hypot(low_v[rows, None], low_u) / CUT_OFF) ** (2 * SHARPNESS))
    low_pass[mean] = 0
    log_radius = np.log(radius)
    gains = []
    for scale in scales:
        off_centre = log_radius + math.log(SMALLEST_WAVELENGTH * SCALE_RATIO**scale)
        off_centre *= off_centre
        off_centre /= -2 * math.log(BANDWIDTH) ** 2
        gains.append(cv2.exp(off_centre) * low_pass)
    return gains


def _angular(shape: tuple[int, int], rows: Rows, orientation: int) -> Array:
    """Some rows of the filter of an orientation."""
    angle = np.arctan2(-_frequency(shape[0], rows, True)[:, None], _frequency(shape[1], slice(None), True))
    distance = np.abs(angle - orientation * math.pi / ORIENTATIONS)
    np.minimum(distance, 2 * math.pi - distance, out=distance)
    distance *= distance
    distance /= -2 * ANGULAR_DEVIATION**2
    return cv2.exp(distance)


@functools.lru_cache(maxsize=1)
def _whole(shape: tuple[int, int]) -> tuple[list[Array], list[Array]]:
    every = slice(None)
    return _radial(shape, every), [_angular(shape, every, orientation) for orientation in range(ORIENTATIONS)]


def filters(
    shape: tuple[int, int], orientation: int, rows: slice, scales: Sequence[int] = range(SCALES)
) -> tuple[list[Array], Array]:
    """Some rows of the filters of scales and of that of an orientation; those of large images are made anew."""
    if shape[0] * shape[1] >= LARGE:
        return _radial(shape, rows, scales), _angular(shape, rows, orientation)
    radial, angular = _whole(shape)
    return [radial[scale][rows] for scale in scales], angular[orientation][rows]


@functools.lru_cache(maxsize=8)
def noise_gain(shape: tuple[int, int], orientation: int) -> float:
    """T over the root of the mean squared response to noise at the smallest scale.

    Of the noise in the energy, the even part of the scales' filters added up counts alone: by Parseval's theorem the
    sum of its square over all pixels is that over all frequencies.
    """
    smallest = energy = 0.0
    for rows in strips(shape[0]):
        radial, spread = filters(shape, orientation, rows)
        total = functools.reduce(np.add, radial) * spread
        first = radial[0] * spread
        smallest += float(np.vdot(first, first))
        index = -np.arange(shape[0])[rows] % shape[0]
        opposite = functools.reduce(np.add, _radial(shape, index)) * _angular(shape, index, orientation)
        energy += float(np.vdot(total, total) + np.vdot(total, np.roll(opposite[:, ::-1], 1, 1))) / 2
    tau = math.sqrt(energy / smallest)
    deviation = math.sqrt(2 - math.pi / 2) * tau
    return (tau * math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * deviation) / NOISE_OVERESTIMATE


def phase_maps(image: Image, stabilised: bool) -> PhaseMaps:
    """Phase congruency of an image and its moments.

    Kovesi 1999, Videre 1(3), with the constants of his `phasecong2`: four log-Gabor scales, six orientations.

    Args:
        image: gray 0..255.
        stabilised: 1e-4 is added to each orientation's amplitude too, as to the sum over all of them; False is the
            public code, whose moments are 0/0 where nothing responds in an orientation.

    Raises:
        UndefinedError: fewer than 2 x 2 pixels.
    """
    shape = image.shape
    if min(shape) < 2:
        raise UndefinedError(f"the image is {shape[1]}x{shape[0]}: phase congruency needs 2x2 pixels")
    added = EPSILON if stabilised else 0.0
    spectrum = scipy.fft.fft2(image.pixels.astype(np.float64))
    sums = [np.zeros(shape) for _ in range(5)]
    for orientation in range(ORIENTATIONS):
        if image.large and orientation:  # its memory was taken by a response
            spectrum = scipy.fft.fft2(image.pixels.astype(np.float64))
        responses, median = _responses(spectrum, orientation, image.large)
        threshold = noise_gain(shape, orientation) * math.sqrt(median / math.log(2))
        angle = orientation * math.pi / ORIENTATIONS
        if kernels.compiled():
            kernels.phase(responses, threshold, angle, added, sums)
        else:
            for rows in strips(shape[0]):
                _add_energy([x[rows] for x in responses], threshold, angle, added, [x[rows] for x in sums])
        del responses
        if image.large:
            del spectrum
    energies, amplitudes, xx, yy, xy = sums
    energies /= amplitudes + EPSILON
    trace, difference = (xx + yy) / (ORIENTATIONS / 2), (xx - yy) / (ORIENTATIONS / 2)
    root = np.hypot(xy / ORIENTATIONS, difference) + EPSILON
    return PhaseMaps(energies, (trace + root) / 2, (trace - root) / 2)


_remembered = once(phase_maps)


def _maps(image: Image, stabilised: bool) -> PhaseMaps:
    return phase_maps(image, stabilised) if image.large else _remembered(image, stabilised)


def _responses(spectrum: Complex, orientation: int, spent: bool) -> tuple[list[Complex], float]:
    """Responses of the scales in an orientation, and the median of the smallest one's squared amplitude.

    Args:
        spectrum: (H, W).
        orientation: 0 .. 5.
        spent: whether the last response takes the spectrum's place.
    """
    responses: list[Complex] = []
    median = 0.0
    # all scales of a strip while the spectrum is in the cache; of a large image one scale at a time, which takes less
    for scales in [[scale] for scale in range(SCALES)] if spent else [list(range(SCALES))]:
        outs = [spectrum if spent and scale == SCALES - 1 else np.empty_like(spectrum) for scale in scales]
        for rows in strips(len(spectrum), CACHED):
            gains, spread = filters(spectrum.shape, orientation, rows, scales)
            for gain, out in zip(gains, outs, strict=True):
                _filter(spectrum[rows], gain, spread, out[rows])
        responses += [scipy.fft.ifft2(out, overwrite_x=True) for out in outs]
        if 0 in scales:
            median = _median(_power(responses[0]))
    return responses, median


def _filter(spectrum: Complex, gain: Array, spread: Array, out: Complex) -> None:
    if kernels.compiled() and out.ctypes.data != spectrum.ctypes.data:
        kernels.gain(spectrum, gain, spread, out)
    else:
        np.multiply(spectrum, gain * spread, out=out)


def _power(response: Complex) -> Array:
    """The squared amplitude."""
    return kernels.power(response) if kernels.compiled() else np.square(response.real) + np.square(response.imag)


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


Reference = tuple[Array, NDArray[np.bool_]]  # the feature map of a source where it has features, else 0; and where


def _wider(rows: slice) -> tuple[slice, slice]:
    """The rows that windows centred on some rows reach, and where these lie among them."""
    top = max(rows.start - RADIUS, 0)
    return slice(top, rows.stop + RADIUS), slice(rows.start - top, rows.stop - top)


def _references(a: PhaseMaps, b: PhaseMaps, rows: slice) -> list[list[Reference]]:
    """Of each of the three maps some rows: those of the source with the larger phase congruency, of A, and of B."""
    part_a, part_b = (PhaseMaps(*(one[rows] for one in maps)) for maps in (a, b))
    in_a, in_b = part_a.congruency > FEATURE, part_b.congruency > FEATURE
    a_leads = part_a.congruency > part_b.congruency
    masks = in_a | in_b, in_a, in_b
    return [
        [
            (np.where(mask, one, 0), mask)
            for one, mask in zip((np.where(a_leads, of_a, of_b), of_a, of_b), masks, strict=True)
        ]
        for of_a, of_b in zip(part_a, part_b, strict=True)
    ]


def _moments(one: Array) -> tuple[Array, Array]:
    """Local mean and variance."""
    mean = _mean(one)
    variance = _mean(one * one)
    variance -= mean * mean
    return mean, variance


def _moments_of_sources(a: PhaseMaps, b: PhaseMaps, rows: slice) -> list[list[tuple[Array, Array]]]:
    """Local mean and variance of each reference at some rows."""
    wider, inside = _wider(rows)
    references = _references(a, b, wider)
    return [[tuple(x[inside].copy() for x in _moments(one)) for one, _ in of_map] for of_map in references]  # type: ignore[misc]


@once
def _remembered_moments(infrared: Image, visible: Image, stabilised: bool) -> list[list[list[tuple[Array, Array]]]]:
    """`_moments_of_sources` of each strip, for further fused images."""
    a, b = _maps(infrared, stabilised), _maps(visible, stabilised)
    return [_moments_of_sources(a, b, rows) for rows in strips(infrared.shape[0])]


def _kept(
    a: PhaseMaps, b: PhaseMaps, f: PhaseMaps, moments: list[list[tuple[Array, Array]]], rows: slice
) -> list[float]:
    """Sums of the best local correlations over some rows, of each of the three maps.

    Args:
        a, b, f: of both sources and the fused image.
        moments: of the sources at these rows.
        rows: of a strip.
    """
    wider, inside = _wider(rows)
    sums = []
    for of_f, references, of_sources in zip(f, _references(a, b, wider), moments, strict=True):
        fused = of_f[wider]
        mean_f, variance_f = (x[inside] for x in _moments(fused))
        best: Array | None = None
        for (one, mask), (mean, variance) in zip(references, of_sources, strict=True):
            covariance = _mean(one * fused)[inside]
            covariance -= mean * mean_f
            covariance += STABILISER
            spread = variance * variance_f
            np.sqrt(np.abs(spread, out=spread), out=spread)
            spread += STABILISER
            correlation = np.divide(covariance, spread, out=np.zeros_like(spread), where=mask[inside])
            best = correlation if best is None else np.maximum(best, correlation, out=best)
        assert best is not None
        sums.append(float(best.sum()))
    return sums


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
        stabilised: see `phase_maps`.

    Raises:
        UndefinedError: neither source has a feature; without `stabilised`, an orientation without any response.
    """
    a, b, f = (_maps(image, stabilised) for image in (*pair.sources, pair.fused))
    count = int(np.count_nonzero((a.congruency > FEATURE) | (b.congruency > FEATURE)))
    if count == 0:
        raise UndefinedError(f"QP is 0/0: neither source has a phase congruency above {FEATURE}")
    remembered = None if pair.fused.large else _remembered_moments(*pair.sources, stabilised)
    parts = [
        _kept(a, b, f, _moments_of_sources(a, b, rows) if remembered is None else remembered[number], rows)
        for number, rows in enumerate(strips(pair.fused.shape[0]))
    ]
    value = math.prod(sum(of_map) / count for of_map in zip(*parts, strict=True))
    if not math.isfinite(value):
        raise UndefinedError("QP is 0/0: an image has no response to the filters of an orientation")
    return value
