"""The compiled inner loops of the slowest metrics (kernels.c), where they were built; metrics have a form without them.

Both forms give the same values to 1e-12, and filtered images byte for byte. Installing evalkit compiles them where
there is a C compiler; EVALKIT_KERNELS=off leaves them unused. Arrays are C-contiguous: uint8 or float64, (H, W).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
# two dots: not the name of a module of Python's
NAME = {"win32": "kernels.c.dll", "darwin": "kernels.c.dylib"}.get(sys.platform, "kernels.c.so")
Bytes = NDArray[np.uint8]
Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
STRIP = 64  # rows of an image that the NumPy form takes at once
_used = os.environ.get("EVALKIT_KERNELS", "on") != "off"


@functools.cache
def _library() -> ctypes.CDLL | None:
    if not (HERE / NAME).is_file():
        return None
    try:
        library = ctypes.CDLL(str(HERE / NAME))
        library.evalkit_source.restype = ctypes.c_char_p
        made_from = library.evalkit_source()
    except (OSError, AttributeError):  # of another machine
        made_from = b""
    if made_from.decode() != hashlib.sha256((HERE / "kernels.c").read_bytes()).hexdigest():
        warnings.warn(
            f"{NAME} is not of this version of evalkit: metrics take up to three times as long. Install evalkit again.",
            stacklevel=2,
        )
        return None
    return typed(library)


def typed(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of what its functions return."""
    library.evalkit_information.restype = library.evalkit_gradient_sum.restype = ctypes.c_double
    return library


def compiled() -> bool:
    """Whether the compiled loops are there and used."""
    return _used and _library() is not None


@contextmanager
def without() -> Iterator[None]:
    """Metrics in their form without compiled loops."""
    global _used
    before, _used = _used, False
    try:
        yield
    finally:
        _used = before


def _call(name: str, *arguments: Any) -> Any:
    library = _library()
    assert library is not None
    passed: list[Any] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            assert argument.flags.c_contiguous
            passed.append(ctypes.c_void_p(argument.ctypes.data))
        elif isinstance(argument, int):
            passed.append(ctypes.c_ssize_t(argument))
        else:
            passed.append(ctypes.c_double(argument) if isinstance(argument, float) else argument)
    return getattr(library, f"evalkit_{name}")(*passed)


def _done(succeeded: int) -> None:
    if not succeeded:
        raise MemoryError


def filtered(x: Array, kernel: Array, step: int = 1) -> Array:
    """A separable, symmetric filter of the windows inside an image, at every step-th row and column.

    Here both forms give the same bytes: every sum has the same order.

    Args:
        x: (H, W), not smaller than the kernel.
        kernel: (n,), n odd.
        step: 1 for all windows.
    """
    n, (height, width) = len(kernel), x.shape
    out = np.empty(((height - n) // step + 1, (width - n) // step + 1))
    if compiled():
        _done(_call("filter", np.ascontiguousarray(x), None, height, width, kernel, _int(n), _int(step), out))
        return out
    columns = width - n + 1
    for top in range(0, len(out), STRIP):  # of so few rows that they stay in the cache
        rows = x[top * step : (min(top + STRIP, len(out)) - 1) * step + n]
        vertical = _blended([rows[k : len(rows) - n + 1 + k : step] for k in range(n)], kernel)
        blended = _blended([vertical[:, k : k + columns] for k in range(n)], kernel)
        out[top : top + len(blended)] = blended[:, ::step]
    return out


def _blended(parts: list[Array], weights: Array) -> Array:
    """One pass of the filter over its shifted parts, in the order of `blend` in kernels.c."""
    middle = len(weights) // 2

    def pair(k: int) -> Array:
        total = parts[middle - k] + parts[middle + k]
        total *= weights[middle - k]
        return total

    def four(k: int) -> tuple[Array, Array]:
        halves = pair(k), pair(k + 2)
        for half, other in zip(halves, (k + 1, k + 3), strict=True):
            half += pair(other)
        return halves

    out = parts[middle] * weights[middle]
    k = 1
    if middle >= 4:
        for half in four(1):
            out += half
        k = 5
    while k + 3 <= middle:
        first, second = four(k)
        first += second
        out += first
        k += 4
    while k <= middle:
        out += pair(k)
        k += 1
    return out


def moments(x: Array, kernel: Array) -> tuple[Array, Array]:
    """Local mean and variance, never negative and 0 below 1e-10, of the windows inside an image."""
    n, (height, width) = len(kernel), x.shape
    mean = np.empty((height - n + 1, width - n + 1))
    variance = np.empty_like(mean)
    _done(_call("moments", x, height, width, kernel, _int(n), mean, variance))
    return mean, variance


def information(variance: Array) -> float:
    """sum ln(1 + v / 2); v becomes 1 / (v + 1e-10), 0 where it was 0."""
    return _call("information", variance, variance.size)


def kept(f: Array, s: Array, kernel: Array, of_fused: tuple[Array, Array], of_source: tuple[Array, Array]) -> float:
    """What VIFP keeps of a source at one scale, in nats.

    Args:
        f, s: fused and source image at that scale.
        kernel: of the scale.
        of_fused: local mean and variance.
        of_source: local mean, and the inverse that `information` leaves.
    """
    result = ctypes.c_double()
    arrays = *of_fused, *of_source
    _done(_call("kept", f, s, *f.shape, kernel, _int(len(kernel)), *arrays, ctypes.byref(result)))
    return result.value


def kept_alone(f: Array, s: Array, kernel: Array) -> tuple[float, float]:
    """What VIFP keeps of a source at one scale and the source's information, without any array of intermediate values.

    Args:
        f, s: fused and source image at that scale.
        kernel: of the scale.
    """
    result, own = ctypes.c_double(), ctypes.c_double()
    outputs = ctypes.byref(result), ctypes.byref(own)
    _done(_call("kept_alone", f, s, *f.shape, kernel, _int(len(kernel)), *outputs))
    return result.value, own.value


def ssim(f: Array, s: Array, kernel: Array, correction: float, c1: float, c2: float) -> float:
    """Mean SSIM over the windows of a filter inside the images.

    Args:
        f, s: (H, W).
        kernel: (n,), n odd.
        correction: what a weighted mean square deviation is multiplied with.
        c1, c2: the constants.
    """
    total = ctypes.c_double()
    n, (height, width) = len(kernel), f.shape
    _done(_call("ssim", f, s, height, width, kernel, _int(n), correction, c1, c2, ctypes.byref(total)))
    return total.value / ((height - n + 1) * (width - n + 1))


def ssim_parts(f: Array, s: Array, kernel: Array, c1: float, c2: float) -> tuple[float, float]:
    """Mean SSIM, and mean of contrast times structure alone, over the windows of a filter inside the images.

    Args:
        f, s: (H, W).
        kernel: (n,), n odd.
        c1, c2: the constants.
    """
    both, contrast = ctypes.c_double(), ctypes.c_double()
    n, (height, width) = len(kernel), f.shape
    outputs = ctypes.byref(both), ctypes.byref(contrast)
    _done(_call("ssim_parts", f, s, height, width, kernel, _int(n), c1, c2, *outputs))
    windows = (height - n + 1) * (width - n + 1)
    return both.value / windows, contrast.value / windows


def ssim_box(f: Bytes, s: Bytes, side: int, correction: float, c1: float, c2: float) -> float:
    """Mean SSIM over windows of side x side equal weights.

    Args:
        f, s: uint8 (H, W).
        side: at most 64.
        correction, c1, c2: as in `ssim`.
    """
    total = ctypes.c_double()
    height, width = f.shape
    _done(_call("ssim_box", f, s, height, width, _int(side), correction, c1, c2, ctypes.byref(total)))
    return total.value / ((height - side + 1) * (width - side + 1))


def edges(image: Bytes) -> tuple[Array, Array]:
    """Sobel's strength, and exp(44 / pi * orientation), each (H, W).

    Args:
        image: uint8 (H + 2, W + 2), with a border of one pixel.
    """
    height, width = image.shape[0] - 2, image.shape[1] - 2
    strength, turn = np.empty((height, width)), np.empty((height, width))
    _call("edges", image, height, width, strength, turn)
    return strength, turn


def edges_kept(
    fused: Bytes, first: Sequence[Array], second: Sequence[Array], equal_is_one: bool, kept: Array, total: Array
) -> None:
    """Add the edge strength of both sources that the fused image keeps to `kept`, and all of it to `total`.

    Args:
        fused: uint8 (H + 2, W + 2), with a border of one pixel.
        first, second: edges of the sources, of `edges`.
        equal_is_one: as in `evalkit.metrics.fusion.gradient.edge_transfer`.
        kept, total: (2,), of the rows before; changed.
    """
    height, width = fused.shape[0] - 2, fused.shape[1] - 2
    _done(_call("edges_kept", fused, height, width, *first, *second, _int(equal_is_one), kept, total))


def gradient_sum(x: Bytes) -> float:
    """The sum of the magnitudes of central differences, one-sided at the border."""
    return _call("gradient_sum", x, *x.shape)


def squared_differences(x: Bytes) -> tuple[int, int]:
    """Sums of squared differences of neighbours, across and down."""
    across, down = ctypes.c_int64(), ctypes.c_int64()
    _call("differences", x, *x.shape, ctypes.byref(across), ctypes.byref(down))
    return across.value, down.value


def joint_counts(rows: Bytes, columns: Bytes) -> NDArray[np.int64]:
    """Counts of (level of `rows`, level of `columns`), (256, 256)."""
    counts = np.zeros((256, 256), np.int64)
    _done(_call("joint", rows, columns, rows.size, counts))
    return counts


def counts(x: Bytes) -> NDArray[np.int64]:
    """Counts of the 256 levels."""
    result = np.zeros(256, np.int64)
    _call("histogram", x, x.size, result)
    return result


def phase(responses: list[Complex], threshold: float, angle: float, spread: float, sums: list[Array]) -> None:
    """Add what the four scales of one orientation say of each pixel to `sums`.

    Args:
        responses: four, complex128 (H, W).
        threshold: of the noise.
        angle: of the orientation.
        spread: what is added to amplitudes that divide.
        sums: energies, amplitudes, and squared phase congruency along x, along y and along both, each (H, W).
    """
    _call("phase", *responses, responses[0].size, threshold, angle, spread, *sums)


def gain(spectrum: Complex, one: Array, other: Array, out: Complex) -> None:
    """out = spectrum * one * other."""
    _call("gain", spectrum, one, other, spectrum.size, out)


def power(x: Complex) -> Array:
    """Squared amplitudes, (H, W)."""
    out = np.empty(x.shape)
    _call("power", x, x.size, out)
    return out


def png_rows(inflated: bytes, shape: tuple[int, ...]) -> Bytes | None:
    """The pixels of a PNG of 8 bits per channel that is not interlaced; None where a row has a filter that PNG has not.

    Args:
        inflated: a byte for the filter and the filtered bytes, row by row.
        shape: (H, W), or (H, W, 3).
    """
    out = np.empty(shape, np.uint8)
    channels = shape[2] if len(shape) == 3 else 1
    assert channels in (1, 3)
    assert len(inflated) == shape[0] * (1 + shape[1] * channels)
    return out if _call("png_rows", np.frombuffer(inflated, np.uint8), *shape[:2], _int(channels), out) else None


def _int(value: int) -> ctypes.c_int:
    return ctypes.c_int(value)
