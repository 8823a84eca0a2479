"""Wavelet fusion: the discrete wavelet transform and the dual-tree complex wavelet transform.

Both decompose over 4 levels, extend the image by reflection at its borders, keep the more active detail coefficients
and average the coarsest low-pass.
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import cv2
import numpy as np

from evalkit.data.images import Gray
from evalkit.methods.rules import Array, choose, to_8bit

LEVELS = 4
WAVELET = "db4"  # orthogonal, 8 taps
WINDOW = 3  # pixels, of the activity and of the consistency check


def dwt(infrared: Gray, visible: Gray) -> Gray:
    """Discrete wavelet transform (Li, Manjunath and Mitra 1995, doi:10.1006/gmip.1995.1022).

    The activity of a detail coefficient is the largest magnitude in the 3x3 window around it. The source of larger
    activity is chosen, then the choices are made consistent by a majority vote in the same window.
    """
    a, b = dwt_forward(infrared.astype(np.float64)), dwt_forward(visible.astype(np.float64))
    fused: list[Any] = [(a[0] + b[0]) / 2]
    for bands_a, bands_b in zip(a[1:], b[1:], strict=True):
        fused.append(tuple(_choose_consistently(x, y) for x, y in zip(bands_a, bands_b, strict=True)))
    return to_8bit(dwt_inverse(fused, infrared.shape))


def dwt_forward(image: Array) -> list[Any]:
    """The coarsest low-pass, then (horizontal, vertical, diagonal) details from coarse to fine."""
    return _quietly(_pywt().wavedec2, image, WAVELET, mode="symmetric", level=LEVELS)


def dwt_inverse(bands: list[Any], shape: tuple[int, ...]) -> Array:
    """The image of `dwt_forward`; odd sides come back one longer and are cut."""
    return _pywt().waverec2(bands, WAVELET, mode="symmetric")[: shape[0], : shape[1]]


def _choose_consistently(a: Array, b: Array) -> Array:
    window = np.ones((WINDOW, WINDOW), np.uint8)
    activity_a, activity_b = (cv2.dilate(np.abs(x), window, borderType=cv2.BORDER_REPLICATE) for x in (a, b))
    votes = cv2.boxFilter(
        np.sign(activity_a - activity_b), -1, (WINDOW, WINDOW), normalize=False, borderType=cv2.BORDER_REPLICATE
    )
    return choose(a, b, votes)


def dtcwt(infrared: Gray, visible: Gray) -> Gray:
    """Dual-tree complex wavelet transform (Lewis et al. 2007, doi:10.1016/j.inffus.2005.09.006; pixel-based rule).

    Of every complex coefficient, six orientations a level, the one larger in magnitude is kept, the coarsest low-pass
    is averaged.
    """
    low_a, bands_a = dtcwt_forward(infrared.astype(np.float64))
    low_b, bands_b = dtcwt_forward(visible.astype(np.float64))
    fused = [choose(a, b, _energy(a) - _energy(b)) for a, b in zip(bands_a, bands_b, strict=True)]
    return to_8bit(dtcwt_inverse((low_a + low_b) / 2, fused, infrared.shape))


# --- The dual-tree transform ----------------------------------------------------------------------------------------
#
# Kingsbury 2001 (doi:10.1006/acha.2000.0343) and Selesnick, Baraniuk and Kingsbury 2005 (doi:10.1109/MSP.2005.1550194).
# Level 1 filters at the full rate: its even samples are tree a, its odd samples, one later, are tree b. Beyond, tree b
# has tree a's filter reversed in time, a quarter sample to the other side. An image reflected at its borders reflects
# tree a into tree b, so tree a continued beyond the border reads tree b backwards: both trees of a signal are one
# periodic orthogonal transform of [even samples, odd samples backwards], here called folded.

# 14-tap q-shift filter of Kingsbury 2001, delaying by 13/2 + 1/4 samples
QSHIFT = (
    -0.00455689562847549, -0.00543947593727412, 0.01702522388155399, 0.02382538479492030, -0.10671180468666540,
    0.01186609203379700, 0.56881042071212273, 0.75614564389252248, 0.27529538466888204, -0.11720388769911527,
    -0.03887280126882779, 0.03466034684485349, -0.00388321199915849, 0.00325314276365318,
)  # fmt: skip

# 5/3-tap biorthogonal filters (Le Gall and Tabatabai 1988): analysis, and their synthesis partners
LOW, HIGH = np.array([-1, 2, 6, 2, -1]) / 8, np.array([-1, 2, -1]) / 4
LOW_BACK, HIGH_BACK = np.array([1, 2, 1]) / 4, np.array([-1, -2, 6, -2, -1]) / 8


def dtcwt_forward(image: Array) -> tuple[Array, list[Array]]:
    """The low-pass of all trees, folded, and the complex details, finest first.

    Returns:
        The low-pass, and for every level an array (6, H, W) of complex coefficients: two mirrored orientations for
        each of the horizontal, vertical and diagonal bands.
    """
    step = 2**LEVELS
    rows, columns = (-size % step for size in image.shape)
    image = np.pad(image, ((0, rows), (0, columns)), mode="symmetric")
    low = _fold(_filter(image, LOW, LOW))
    details = [_fold(_filter(image, *kernels)) for kernels in ((LOW, HIGH), (HIGH, LOW), (HIGH, HIGH))]
    levels = [_to_complex(details)]
    for _ in range(1, LEVELS):
        low, details = _pywt().dwt2(low, _qshift(), mode="periodization")
        levels.append(_to_complex(details))
    return low, levels


def _energy(band: Array) -> Array:
    """|band|^2 of complex coefficients; NumPy's own magnitude differs between processors in its last digit."""
    return np.square(band.real) + np.square(band.imag)


def dtcwt_inverse(low: Array, levels: list[Array], shape: tuple[int, ...]) -> Array:
    """The image of `dtcwt_forward`, of the given shape.

    Args:
        low, levels: as `dtcwt_forward` gives them, levels from fine to coarse.
        shape: (H, W) of the image.
    """
    for level in levels[:0:-1]:
        low = _pywt().idwt2((low, _from_complex(level)), _qshift(), mode="periodization")
    horizontal, vertical, diagonal = (_unfold(band) for band in _from_complex(levels[0]))
    image = _filter(_unfold(low), LOW_BACK, LOW_BACK) + _filter(horizontal, LOW_BACK, HIGH_BACK)
    image += _filter(vertical, HIGH_BACK, LOW_BACK) + _filter(diagonal, HIGH_BACK, HIGH_BACK)
    return image[: shape[0], : shape[1]]


@cache
def _qshift() -> Any:
    low = np.array(QSHIFT)
    high = low[::-1] * (-1.0) ** np.arange(low.size)
    return _pywt().Wavelet("q-shift", filter_bank=(low, high, low[::-1], high[::-1]))


def _filter(image: Array, along_rows: Array, along_columns: Array) -> Array:
    """Full-rate filtering; BORDER_REFLECT repeats the border pixel, as the folding needs."""
    return cv2.sepFilter2D(image, -1, along_rows, along_columns, borderType=cv2.BORDER_REFLECT)


def _fold(image: Array) -> Array:
    """Even samples forwards, then odd samples backwards, along both axes."""
    rows, columns = (np.r_[0:size:2, size - 1 : 0 : -2] for size in image.shape)
    return image[np.ix_(rows, columns)]


def _unfold(image: Array) -> Array:
    rows, columns = (np.r_[0:size:2, size - 1 : 0 : -2] for size in image.shape)
    unfolded = np.empty_like(image)
    unfolded[np.ix_(rows, columns)] = image
    return unfolded


def _to_complex(bands: Any) -> Array:
    """Two complex bands, of mirrored orientation, from the four trees of every folded real band."""
    levels = []
    for band in bands:
        aa, ab, ba, bb = _trees(band)
        levels += [(aa - bb) + 1j * (ab + ba), (aa + bb) + 1j * (ab - ba)]
    return np.stack(levels) / math.sqrt(2)


def _from_complex(level: Array) -> tuple[Array, Array, Array]:
    """The folded real bands of `_to_complex`, whose rotation is orthogonal."""
    rows, columns = level.shape[1:]
    bands = []
    for first, second in zip(level[0::2], level[1::2], strict=True):
        band = np.empty((2 * rows, 2 * columns))
        aa, ab, ba, bb = _trees(band)
        aa[:], bb[:] = first.real + second.real, second.real - first.real
        ab[:], ba[:] = first.imag + second.imag, first.imag - second.imag
        bands.append(band / math.sqrt(2))
    return bands[0], bands[1], bands[2]


def _trees(band: Array) -> tuple[Array, Array, Array, Array]:
    """Views of a folded band: tree a or b along the columns, then a or b along the rows, all in one order."""
    rows, columns = band.shape[0] // 2, band.shape[1] // 2
    down, across = (slice(0, rows), slice(None, rows - 1, -1)), (slice(0, columns), slice(None, columns - 1, -1))
    return band[down[0], across[0]], band[down[0], across[1]], band[down[1], across[0]], band[down[1], across[1]]


def _quietly(transform: Any, *args: Any, **keywords: Any) -> Any:
    """PyWavelets warns where small images meet many levels; reflection makes every level well defined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return transform(*args, **keywords)


def _pywt() -> Any:
    import pywt  # a fifth of a second, which only these two methods need to wait for

    return pywt
