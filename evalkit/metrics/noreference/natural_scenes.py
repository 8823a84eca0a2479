"""What PIQE, NIQE and BRISQUE look at: an image without its local mean and contrast, and the fits to its values.

Natural photographs have such values of a nearly Gaussian spread (Ruderman 1994); distortions change it.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import numpy as np

from evalkit.compiled import kernels
from evalkit.metrics.image import Array

OFFSETS = np.arange(-3, 4)
GAUSSIAN = np.exp(-(OFFSETS**2) / (2 * (7 / 6) ** 2))
GAUSSIAN /= GAUSSIAN.sum()
NOISE = 1e-9  # of differences of levels 0 .. 255, and of their squares
SHAPES = np.arange(200, 10001) / 1000  # among which the shape of a distribution is looked up
# MATLAB's bicubic kernel (a = -1/2), stretched to twice its width against aliasing; exact in binary
CUBIC = np.array([-0.0234375, -0.0703125, 0.2265625, 0.8671875, 0.8671875, 0.2265625, -0.0703125, -0.0234375]) / 2
NEIGHBOURS = ((0, 1), (1, 0), (1, 1))  # of a value, whose products are looked at, and a fourth on the other diagonal


def normalised(x: Array, border: Literal["edge", "constant"]) -> tuple[Array, Array]:
    """(x - m) / (s + 1) with the local mean m and the local standard deviation s; and s.

    Args:
        x: (H, W), 0 .. 255.
        border: what lies beyond the image: its edge repeated, or zeros.

    Returns:
        Both (H, W); the window is a 7 x 7 Gaussian of standard deviation 7/6. Where an image is flat both are zeros:
        the published programs have rounding noise there, whose signs count as if they were the image's.
    """
    padded = np.pad(x, 3, mode=border)
    mean = kernels.filtered(padded, GAUSSIAN)
    difference, variance = x - mean, np.abs(kernels.filtered(padded * padded, GAUSSIAN) - mean * mean)
    difference[np.abs(difference) < NOISE] = 0
    variance[variance < NOISE] = 0
    deviation = np.sqrt(variance)
    return difference / (deviation + 1), deviation


def halved(x: Array) -> Array:
    """Half the size, rounded up, as MATLAB's imresize(x, 0.5): bicubic, beyond the border the image mirrored.

    Args:
        x: (H, W).
    """
    for _ in range(2):  # along the rows, then along the columns
        padded = np.pad(x, ((3, 5), (0, 0)), mode="symmetric")
        count = (len(x) + 1) // 2
        parts = [padded[k : k + 2 * count : 2] for k in range(8)]
        x = sum(weight * part for weight, part in zip(CUBIC, parts, strict=True)).T
    return x


@functools.cache
def _gammas() -> tuple[Array, Array, Array]:
    """Gamma of 1, 2 and 3 over each of SHAPES."""
    first, second, third = (np.array([math.gamma(k / shape) for shape in SHAPES]) for k in (1, 2, 3))
    return first, second, third


def generalised_gaussian(values: Array) -> tuple[float, float]:
    """Shape and variance of the generalised Gaussian with the same mean square and mean magnitude; NaN of zeros.

    Sharifi and Leon-Garcia 1995, doi:10.1109/76.350779.
    """
    first, second, third = _gammas()
    square = float(np.mean(values * values))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.float64(square) / np.mean(np.abs(values)) ** 2
    return float(SHAPES[np.argmin(np.abs(ratio - first * third / second**2))]), square


def asymmetric_gaussian(values: Array) -> tuple[float, float, float, float]:
    """The asymmetric generalised Gaussian that fits: shape, standard deviations of the negative and of the positive
    values, and the mean of a distribution with these over its scale.

    Lasmar et al. 2009, doi:10.1109/ICIP.2009.5414406. NaN where no value is negative, or none positive.
    """
    first, second, third = _gammas()
    negative, positive = values[values < 0], values[values > 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (math.sqrt(np.mean(v * v)) if v.size else math.nan for v in (negative, positive))
        skew = np.float64(left) / right
        ratio = np.mean(np.abs(values)) ** 2 / np.mean(values * values)
        wanted = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    place = int(np.argmin((second**2 / (first * third) - wanted) ** 2))  # of NaN the first
    return float(SHAPES[place]), left, right, float(second[place] / first[place])


def scale_of(shape: float) -> float:
    """What a standard deviation is multiplied with to be the scale of a generalised Gaussian of this shape."""
    return math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
