"""What an observer sees: the metrics of Chen and Varshney (CV) and of Chen and Blum (CB).

Both filter the images with a contrast sensitivity function (CSF), the eye's gain for each spatial frequency. Filters
are applied in the frequency domain and so treat an image as periodic.
"""

from __future__ import annotations

import cv2
import numpy as np
import scipy  # loads scipy.fft, a quarter of a second that few metrics need, when it is asked for

from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once

REGION = 16  # side of the local regions of CV, in pixels
CV_FREQUENCY_SCALE = 1 / 8  # CV's CSF sees half the sampling frequency as (image side / 8) cycles per degree
CB_FREQUENCY_SCALE = 1 / 30
MASKING_OFFSET = 1e-4  # Z of Chen and Blum's masking function
CONTRAST_RADIUS = 15  # Chen and Blum's Gaussians are cut off at 15 pixels
FINE, COARSE = 2.0, 4.0  # their standard deviations, in pixels


def _levels_0_255(pixels: Array) -> Array:
    """Gray levels stretched from minimum..maximum to 0..255 and rounded, halves upwards."""
    low, high = pixels.min(), pixels.max()
    levels = (pixels - low) / (high - low) * 255
    whole = np.floor(levels)
    return whole + (levels - whole >= 0.5)  # floor(levels + 0.5) would round 0.5 - 1e-17 up


@once
def stretched(image: Image, unit_first: bool = False) -> Array:
    """The gray image stretched to 0..255, (H, W) float64, whole numbers.

    `unit_first` divides by 255 before the stretch, as MATLAB's im2double does: rounding errors then decide about
    values half-way between two gray levels.

    Raises:
        UndefinedError: the image is constant.
    """
    low, high = int(image.pixels.min()), int(image.pixels.max())
    if low == high:
        raise UndefinedError(f"the {image.name} image is constant: it cannot be stretched to 0..255")
    levels = np.arange(low, high + 1, dtype=np.float64)
    table = np.zeros(256)
    table[low : high + 1] = _levels_0_255(levels / 255 if unit_first else levels)
    return table[image.pixels]


def radial_frequency(shape: tuple[int, int], scale: float) -> Array:
    """|frequency| for the half spectrum of a real image, (H, W // 2 + 1), scale * side at half the sampling rate."""
    v = 2 * scale * shape[0] * scipy.fft.fftfreq(shape[0])
    u = 2 * scale * shape[1] * scipy.fft.rfftfreq(shape[1])
    return np.hypot(v[:, None], u[None, :])


def mannos_sakrison(r: Array) -> Array:
    """CSF of Mannos and Sakrison (1974, doi:10.1109/TIT.1974.1055250), r in cycles per degree."""
    return 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))


def difference_of_gaussians(r: Array) -> Array:
    """CSF that Chen and Blum chose: band pass, 0.24 at r = 0."""
    return np.exp(-((r / 15.3870) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))


def _filtered(x: Array, gain: Array) -> Array:
    """x with each frequency of its spectrum multiplied by `gain` (half spectrum)."""
    return scipy.fft.irfft2(scipy.fft.rfft2(x) * gain, s=x.shape, overwrite_x=True)


# --- Chen and Varshney ------------------------------------------------------------------------------------------


def sums_over_regions(x: Array) -> Array:
    """Sums over REGION x REGION regions; those that reach over the right and lower edge count zeros there."""
    rows = np.add.reduceat(x, np.arange(0, x.shape[0], REGION), axis=0)
    return np.add.reduceat(rows, np.arange(0, x.shape[1], REGION), axis=1)


def _gray(image: Image, stretch: bool) -> Array:
    return stretched(image, False) if stretch else image.x


@once
def saliency(source: Image, stretch: bool = True) -> Array:
    """Saliency of each region: sum of (Sobel magnitude)^5, the image surrounded by zeros."""
    x = _gray(source, stretch)
    sx = cv2.Sobel(x, cv2.CV_64F, 1, 0, ksize=3, borderType=cv2.BORDER_CONSTANT)
    sy = cv2.Sobel(x, cv2.CV_64F, 0, 1, ksize=3, borderType=cv2.BORDER_CONSTANT)
    squared = sx * sx + sy * sy
    return sums_over_regions(squared * squared * np.sqrt(squared))


@once
def as_seen(image: Image, stretch: bool = True) -> Array:
    """The image filtered with the CSF of Mannos and Sakrison, (H, W)."""
    x = _gray(image, stretch)
    return _filtered(x, mannos_sakrison(radial_frequency(x.shape, CV_FREQUENCY_SCALE)))


@describes(
    "CV",
    "Chen-Varshney",
    better="lower",
    range=">= 0",
    unit="1",
    definition="Saliency-weighted mean of the contrast-sensitivity-filtered difference to each source "
    "in 16 x 16 regions.",
    source="Chen and Varshney 2007, doi:10.1016/j.inffus.2005.10.001",
)
def chen_varshney(pair: Pair, stretch: bool = True) -> float:
    """CV: difference to the sources as the eye sees it, each region weighted by the source's saliency there.

    Q = sum_s sum_w saliency_s(w) D_s(w) / sum_s sum_w saliency_s(w) over both sources s and all 16 x 16 regions w,
    with saliency_s(w) the sum of Sobel magnitude^5 and D_s(w) the mean square of the CSF-filtered F - S. The filter
    is linear, so every image is filtered once. Where the size is not a multiple of 16, the last regions are filled with
    zeros. Squared gray levels, >= 0, 0 for F = A = B, lower is better; symmetric in the sources.

    Chen and Varshney 2007, doi:10.1016/j.inffus.2005.10.001.

    Args:
        stretch: stretch the three images to 0..255 first, as the public evaluators do; the measure then does not see
            a loss of overall contrast. The paper does not ask for it.

    Raises:
        UndefinedError: neither source has an edge; with `stretch`, an image is constant.
    """
    seen = as_seen(pair.fused, stretch)
    weighted = total = 0.0
    for source in pair.sources:
        weight = saliency(source, stretch)
        difference = seen - as_seen(source, stretch)
        squares = sums_over_regions(np.square(difference, out=difference))
        weighted += float((weight * squares).sum()) / REGION**2
        total += float(weight.sum())
    if total == 0:
        raise UndefinedError("CV is 0/0: neither source has an edge")
    return weighted / total


# --- Chen and Blum ----------------------------------------------------------------------------------------------


def _gaussian(x: Array, deviation: float) -> Array:
    """Gaussian sum over 31 x 31 pixels (weights sum to 1 before they are cut off), zeros outside, (H, W)."""
    offsets = np.arange(-CONTRAST_RADIUS, CONTRAST_RADIUS + 1)
    kernel = np.exp(-(offsets**2) / (2 * deviation**2)) / (np.sqrt(2 * np.pi) * deviation)
    return cv2.sepFilter2D(x, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_CONSTANT)


@once
def masked_contrast(image: Image, unit_first: bool = False) -> Array:
    """C^3 / (C^2 + Z) of Peli's contrast C = |fine / coarse - 1| in the CSF-filtered image, (H, W), >= 0.

    Raises:
        UndefinedError: the image is constant.
    """
    x = stretched(image, unit_first)
    return masked_contrast_of(seen_by_chen_blum(x, CB_FREQUENCY_SCALE))


def seen_by_chen_blum(x: Array, frequency_scale: float) -> Array:
    """An image filtered with Chen and Blum's CSF, (H, W)."""
    return _filtered(x, difference_of_gaussians(radial_frequency((x.shape[0], x.shape[1]), frequency_scale)))


def masked_contrast_of(seen: Array, offset: float = 0.0) -> Array:
    """Masked contrast of a filtered image; `offset` is added to the coarse mean that divides."""
    contrast = _gaussian(seen, FINE)
    coarse = _gaussian(seen, COARSE)
    coarse += offset
    contrast /= coarse
    contrast -= 1
    np.abs(contrast, out=contrast)
    squared = contrast * contrast
    contrast *= squared
    squared += MASKING_OFFSET
    contrast /= squared
    return contrast


@describes(
    "CB",
    "Chen-Blum",
    better="higher",
    range="0 .. 1",
    unit="1",
    definition="Contrast that the fused image keeps of the sources, as a model of human vision sees it.",
    source="Chen and Blum 2009, doi:10.1016/j.imavis.2007.12.002",
)
def chen_blum(pair: Pair, unit_first: bool = False) -> float:
    """CB: how much of the sources' local contrast the fused image keeps, as the eye sees it.

    The images are stretched to 0..255, filtered with a CSF and turned into masked contrast C'. Per pixel, source s
    keeps min(C'_s, C'_F) / max(C'_s, C'_F), weighted by C'_s^2 / (C'_A^2 + C'_B^2); CB is the mean over the pixels.
    0..1, 1 for F = A = B, higher is better; symmetric in the sources.

    Chen and Blum 2009, doi:10.1016/j.imavis.2007.12.002.

    Args:
        unit_first: divide by 255 before the stretch. In exact arithmetic this changes nothing; in floating point it
            moves values half-way between two gray levels, and with them CB: by up to 0.3 %
            where maximum - minimum is even.

    Raises:
        UndefinedError: an image is constant, or the sources have no contrast at some pixel.
    """
    fused, *sources = (masked_contrast(image, unit_first) for image in (pair.fused, *pair.sources))
    return contrast_kept(fused, sources)


def contrast_kept(fused: Array, sources: list[Array], offset: float = 0.0) -> float:
    """Mean of min(C_s, C_F) / max(C_s, C_F), weighted by C_s^2 / (C_A^2 + C_B^2 + offset), of masked contrasts.

    Raises:
        UndefinedError: the sources have no contrast at some pixel.
    """
    kept, total = np.zeros_like(fused), np.zeros_like(fused)
    with np.errstate(divide="ignore", invalid="ignore"):
        for contrast in sources:
            ratio = np.minimum(contrast, fused)
            ratio /= np.maximum(contrast, fused)
            weight = contrast * contrast
            total += weight
            ratio *= weight
            kept += ratio
        total += offset
        kept /= total
    value = float(kept.mean())
    if not np.isfinite(value):
        raise UndefinedError("CB is 0/0: at some pixel the sources have no contrast")
    return value
