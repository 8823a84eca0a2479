"""Fusion in the nonsubsampled shearlet domain by pulse coupled neurons (NSST-PAPCNN).

The transform is nowhere decimated: four levels of two-dimensional maximally flat filters whose taps are ever wider
apart, and on each level a bank of windows that part the spectrum by direction. PyWavelets has no shearlets, and
packages of others (alpha-transform, last of 2020, and pycoshrem, 2018) would not give this transform.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from evalkit.data.images import Gray
from evalkit.methods.rules import Array, laid_out, to_8bit

SIZES = (8, 8, 16, 16)  # of the windows, and how many directions, from the coarsest level to the finest
ROOT = math.sqrt(2)
LOW = (ROOT, 1, 1 - ROOT)  # twice the low-pass filter as a polynomial of the mapped one, from the constant upwards
LOW_BACK = (ROOT, ROOT + 4 - 3 * ROOT, 4 - 3 * ROOT + 2 * ROOT - 3, 2 * ROOT - 3)

ITERATIONS = 110  # of the neurons
NOISE = 1e-12  # the magnitude below which a coefficient is 0
AT_ONCE = 65536  # coefficients that are worked on together: what a processor's cache holds
SMOOTH = (0.25, 0.5, 0.25)


def nsst_papcnn(infrared: Gray, visible: Gray) -> Gray:
    """NSST-PAPCNN (Yin, Liu, Liu and Chen 2019, doi:10.1109/TIM.2018.2838778).

    Of the low-pass, the source of larger activity is taken (sum of the modified Laplacian times local energy); of each
    directional band, that whose neuron fires more often. The first image, the anatomical one, is taken where both tie.
    """
    a, b = (forward(image / 255) for image in (infrared, visible))
    low = np.where(low_activity(a[0]) >= low_activity(b[0]), a[0], b[0])
    bands = [
        np.where(firing_times(x) >= firing_times(y), x, y)  # of a whole level, each band with parameters of its own
        for x, y in zip(a[1], b[1], strict=True)
    ]
    return to_8bit(255 * inverse(low, bands))


# --- The transform --------------------------------------------------------------------------------------------------
#
# Filters: da Cunha, Zhou and Do 2006 (doi:10.1109/TIP.2006.877507), with four vanishing moments. All four are
# polynomials of one mapped filter f = 2 h(rows) h(columns) - 1, h the half-band filter of Deslauriers and Dubuc:
# low-pass L(f) and L'(f) forwards and backwards, high-pass L'(-f) and L(-f), and L L' + L'(-f) L(-f) = 1.
# Directions: Easley, Labate and Lim 2008 (doi:10.1016/j.acha.2007.09.003).


def forward(image: Array) -> tuple[Array, list[Array]]:
    """The low-pass (H, W), and the directional bands (K, H, W), from coarse to fine: 8, 8, 16 and 16 directions."""
    details = []
    for level in range(len(SIZES)):
        powers = [image]
        for _ in LOW_BACK[1:]:
            powers.append(mapped(powers[-1], 2**level))
        details.append(polynomial(LOW_BACK, powers, -1))
        image = polynomial(LOW, powers)
    return image, [to_directions(band, size) for band, size in zip(reversed(details), SIZES, strict=True)]


def inverse(low: Array, bands: list[Array]) -> Array:
    """The image of `forward`."""
    for level, directions in zip(reversed(range(len(SIZES))), bands, strict=True):
        lows, details = [low], [from_directions(directions)]
        for _ in LOW_BACK[1:]:
            lows.append(mapped(lows[-1], 2**level))
            details.append(mapped(details[-1], 2**level))
        low = polynomial(LOW_BACK, lows) + polynomial(LOW, details, -1)
    return low


def polynomial(coefficients: tuple[float, ...], powers: list[Array], sign: int = 1) -> Array:
    """Half the polynomial of f, or of -f, applied to an image whose products with powers of f are given."""
    total = coefficients[0] * powers[0]
    for degree in range(1, len(coefficients)):
        total += sign**degree * coefficients[degree] * powers[degree]
    return total / 2


def mapped(image: Array, step: int) -> Array:
    """f of an image: 2 h(rows) h(columns) - 1, its taps `step` pixels apart; the image is mirrored at its border."""
    filtered = image
    for axis in (0, 1):
        border = [(3 * step, 3 * step) if axis == i else (0, 0) for i in (0, 1)]
        wide, size = np.pad(filtered, border, mode="symmetric").swapaxes(0, axis), image.shape[axis]
        far, near, at, beyond, furthest = (wide[place * step :][:size] for place in (0, 2, 3, 4, 6))
        filtered = ((16 * at + 9 * (near + beyond) - (far + furthest)) / 32).swapaxes(0, axis)
    return 2 * filtered - image


def to_directions(band: Array, size: int) -> Array:
    """A level's band (H, W), of an image in [0, 1], parted into its directions (K, H, W)."""
    directions = np.fft.irfft2(_responses(size, band.shape) * np.fft.rfft2(band), band.shape)
    directions[np.abs(directions) < NOISE] = 0  # rounding errors, which differ between processors, do not fire
    return directions


def from_directions(directions: Array) -> Array:
    """The band of `to_directions`."""
    shape = directions.shape[1:]
    return np.fft.irfft2((_responses(len(directions), shape).conj() * np.fft.rfft2(directions)).sum(0), shape)


@cache
def windows(size: int) -> Array:
    """The windows of `size` directions in space, (K, size, size).

    A direction's window, one of Meyer's two samples wide, is drawn on the rays of a pseudo-polar grid, twice `size` of
    them, and carried over to the pixels they run through; where several meet, their mean is taken.
    """
    rows, columns = pseudo_polar(size)
    count = np.zeros((size, size))
    np.add.at(count, (rows, columns), 1)
    made = []
    for direction in range(size):
        rays = np.zeros(2 * size)
        rays[2 * direction : 2 * direction + 2] = 0.5, 1
        rays[(2 * direction + 2) % (2 * size)] = 0.5
        spectrum = np.zeros((size, size))
        np.add.at(spectrum, (rows, columns), rays[:, None])
        made.append(np.fft.fftshift(np.fft.ifft2(np.fft.fftshift(spectrum / count))).real / math.sqrt(size))
    return np.stack(made)


def pseudo_polar(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels that the rays run through, (2 size, size) each.

    Ray r of size + 1 runs from the top of column r to the bottom of the opposite column; so do those from left to
    right. The one pixel beyond the grid is drawn in.
    """
    ray, node = np.arange(size + 1)[:, None], np.arange(size)[None]
    across = (2 * (ray * size + (size - 2 * ray) * node) + size) // (2 * size)  # halves up
    along = np.broadcast_to(node, across.shape)
    rows, columns = np.vstack([along[:-1], across[1:]]), np.vstack([across[-2::-1], along[1:]])
    return np.minimum(rows, size - 1), columns


@cache
def _responses(size: int, shape: tuple[int, int]) -> NDArray[np.complex128]:
    """Spectra (K, H, W // 2 + 1) of the windows for images of a shape; the sum of their squared magnitudes is 1.

    The windows start at the first pixel.
    """
    spectra = np.fft.rfft2(laid_out(windows(size), shape))
    return spectra / np.sqrt((np.square(spectra.real) + np.square(spectra.imag)).sum(0))


# --- The rules ------------------------------------------------------------------------------------------------------


def low_activity(low: Array) -> Array:
    """Sum of the eight-neighbour modified Laplacian times local energy, (H, W)."""
    energy = np.pad(low * low, 1, mode="reflect")
    energy[:: energy.shape[0] - 1, :: energy.shape[1] - 1] = 0  # the corners, as the authors' border leaves them
    laplacian = np.zeros_like(low)
    around = np.pad(low, 1, mode="edge")
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            weight = 1 if row == 0 or column == 0 else 1 / ROOT
            laplacian += weight * np.abs(low - _moved(around, row, column))
    # the authors' code takes the root of the mean, where one expects a sum
    mean = _windowed(np.pad(laplacian, 1, mode="edge"), (1 / 3, 1 / 3, 1 / 3))
    return _windowed(np.pad(np.sqrt(mean), 1, mode="edge"), SMOOTH) * _windowed(energy, SMOOTH)


def _moved(around: Array, row: int, column: int) -> Array:
    """The inner part of an image with a border of one pixel, that far away."""
    height, width = around.shape
    return around[1 + row : height - 1 + row, 1 + column : width - 1 + column]


def _windowed(around: Array, weights: tuple[float, float, float]) -> Array:
    """A separable 3x3 filter of an image with a border of one pixel."""
    before, at, after = weights
    rows = before * around[:-2] + at * around[1:-1] + after * around[2:]
    return before * rows[:, :-2] + at * rows[:, 1:-1] + after * rows[:, 2:]


def firing_times(bands: Array) -> NDArray[np.uint8]:
    """How often the neuron of each coefficient fires in 110 iterations; parameters are those of its band.

    Parameter-adaptive pulse coupled neural network (Chen, Park, Ma and Ala 2011, doi:10.1109/TNN.2011.2128880). Where
    a band has nothing above its Otsu threshold of 0, parameters are infinite and no neuron fires.

    Args:
        bands: (K, H, W) of any sign.
    """
    few = max(1, AT_ONCE // bands[0].size)
    return np.concatenate([_fire(np.abs(bands[i : i + few])) for i in range(0, len(bands), few)])


def _fire(stimulus: Array) -> NDArray[np.uint8]:
    parameters = np.array([_parameters(band) for band in stimulus])
    decay, linking, forget, raised = (column[:, None, None] for column in parameters.T)
    activity, threshold, change = np.zeros_like(stimulus), np.ones_like(stimulus), np.empty_like(stimulus)
    count, height, width = stimulus.shape
    around = np.zeros((count, height + 2, width + 2), np.uint8)  # what fired, 0 beyond the border
    fired = around[:, 1:-1, 1:-1]
    times = np.zeros(stimulus.shape, np.uint8)
    with np.errstate(invalid="ignore", over="ignore"):
        for _ in range(ITERATIONS):  # in place: the arrays' traffic is the whole cost
            rows = around[:, :-2] + 2 * around[:, 1:-1] + around[:, 2:]
            neighbours = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:] - 4 * fired  # twice the linking input
            np.multiply(neighbours, linking / 2, out=change)
            change += 1
            change *= stimulus
            activity *= decay
            activity += change
            np.greater(activity, threshold, out=fired, casting="unsafe")
            threshold *= forget
            threshold += np.multiply(fired, raised, out=change)
            times += fired
    return times


def _parameters(stimulus: Array) -> tuple[float, float, float, float]:
    """Decay of the activity, linking strength, decay of the threshold, and what firing adds to it, of one band."""
    otsu = otsu_threshold(stimulus)
    if otsu == 0:
        return 0.0, math.inf, 0.0, math.inf
    # a decimal logarithm under a natural exponential, as the authors compute it
    decay = math.exp(math.log10(float(np.std(stimulus, ddof=1))))
    ratio = float(stimulus.max()) / otsu
    raised = decay + ratio
    # 1 + decay + decay^2 is the (1 - exp(-3 a)) / (1 - exp(-a)) of the paper
    forget = otsu * (1 + decay + decay * decay + (ratio - 1) * decay) / raised
    return decay, (ratio - 1) / 6, forget, raised


def otsu_threshold(values: Array) -> float:
    """Otsu's threshold of values that are clipped to 0..1, in 256 levels; the mean level of several maxima, 0 of one
    level alone (Otsu 1979, doi:10.1109/TSMC.1979.4310076).
    """
    levels = np.floor(255 * np.clip(values, 0, 1) + 0.5).astype(np.intp)
    counts = np.bincount(levels.ravel(), minlength=256)
    below, total = counts.cumsum(), values.size
    moment = (counts * np.arange(256)).cumsum()
    apart = (moment[-1] * below - moment * total).astype(np.float64) ** 2
    weight = below.astype(np.float64) * (total - below)
    between = np.divide(apart, weight, out=np.zeros(256), where=weight > 0)
    return float(np.flatnonzero(between == between.max()).mean()) / 255 if weight.any() else 0.0
