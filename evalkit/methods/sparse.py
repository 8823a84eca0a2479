"""Fusion by convolutional sparse coding: CSMCA, whose two dictionaries part an image into cartoon and texture.

SPORCO (0.2.2, BSD, kept up) has the same solver. It was looked at and left out: for what is a page here it needs
pyFFTW, whose FFTW is under the GPL and gives digits that depend on the plan it makes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalkit.data.images import Gray
from evalkit.errors import CheckpointError
from evalkit.files.read import read_file
from evalkit.methods.rules import Array, laid_out, to_8bit

Complex = NDArray[np.complex128]
MAX_FILE = 2**20  # bytes of a dictionary's file; compressed, it can claim a thousand times as much
MOST_ATOMS, LONGEST_SIDE = 1024, 64

LOW_WEIGHT, BORDER = 60.0, 16  # of the low-pass
WEIGHTS = (0.5, 0.4, 0.3, 0.2, 0.1, 0.005)  # of sparsity, one a round
CARTOON_RADIUS, TEXTURE_RADIUS = 5, 2  # of the windows that activities are averaged over

ITERATIONS, TOLERANCE = 30, 1e-3  # of the solver
RELAXED = 1.8
AT_ONCE = 65536  # coefficients that are worked on together
RATIO, SCALE = 1.2, 100.0  # how far residuals may be apart before rho follows, and by how much at most


class Dictionary(NamedTuple):
    """The spectra (M, H, W // 2 + 1) of a dictionary's atoms for images of one size, and their summed power."""

    spectra: Complex
    power: Array
    shape: tuple[int, int]

    @classmethod
    def of(cls, atoms: Array, shape: tuple[int, int]) -> Dictionary:
        """Of atoms (M, h, w), their first value on the first pixel."""
        spectra = np.fft.rfft2(laid_out(atoms, shape))
        return cls(spectra, (np.square(spectra.real) + np.square(spectra.imag)).sum(0), shape)

    def image(self, maps: Array) -> Array:
        """The image (H, W) of coefficient maps (M, H, W): the sum of their circular convolutions with the atoms."""
        return np.fft.irfft2(self.spectrum(maps), self.shape)

    def spectrum(self, maps: Array) -> Complex:
        """Of `image`."""
        return sum((self.spectra[few] * np.fft.rfft2(maps[few])).sum(0) for few in self.blocks())

    def blocks(self) -> list[slice]:
        """A few maps at a time, as many as a processor's cache holds: the arrays' traffic is the solver's cost."""
        few = max(1, AT_ONCE // math.prod(self.shape))
        return [slice(i, i + few) for i in range(0, len(self.spectra), few)]


def csmca(cartoon: Path, texture: Path) -> Callable[[Gray, Gray], Gray]:
    """CSMCA (Liu, Chen, Ward and Wang 2019, doi:10.1109/LSP.2019.2895749) with dictionaries from files.

    Args:
        cartoon, texture: MATLAB files of one array each, (rows, columns, atoms).

    Raises:
        CheckpointError: a file that is damaged, or holds something else.
    """
    atoms = read_atoms(cartoon), read_atoms(texture)

    def fuse(infrared: Gray, visible: Gray) -> Gray:
        return to_8bit(255 * fused(infrared / 255, visible / 255, *atoms))

    return fuse


def read_atoms(path: Path) -> Array:
    """The atoms (M, h, w) of a dictionary in a MATLAB file. Raises CheckpointError."""
    from scipy.io import loadmat  # a fifth of a second, which only this method needs to wait for

    try:
        content = loadmat(io.BytesIO(read_file(path, MAX_FILE)))
    except Exception as error:  # of whatever kind SciPy's reader meets in a damaged file; it runs nothing from it
        raise CheckpointError(f"the dictionary {path} cannot be read: {error}") from error
    arrays = [value for name, value in content.items() if not name.startswith("__")]
    if len(arrays) != 1 or not isinstance(arrays[0], np.ndarray) or arrays[0].dtype.kind not in "fiu":
        raise CheckpointError(f"the dictionary {path} does not hold one array of numbers.")
    atoms = arrays[0]
    if atoms.ndim != 3 or max(atoms.shape[:2]) > LONGEST_SIDE or not 0 < atoms.shape[2] <= MOST_ATOMS or not atoms.size:
        raise CheckpointError(f"the dictionary {path} has the shape {atoms.shape}, expected (rows, columns, atoms).")
    if not np.isfinite(atoms).all():
        raise CheckpointError(f"the dictionary {path} holds NaN or infinity.")
    return np.ascontiguousarray(np.moveaxis(atoms.astype(np.float64), 2, 0))


def fused(a: Array, b: Array, cartoon: Array, texture: Array) -> Array:
    """The fused image (H, W) of two in [0, 1]; coefficients of `b` are taken where activities tie.

    Args:
        a, b: (H, W) float64.
        cartoon, texture: atoms (M, h, w) of unit norm.
    """
    dictionaries = Dictionary.of(cartoon, a.shape), Dictionary.of(texture, a.shape)
    lows = lowpass(a), lowpass(b)
    parts = [decomposed(image - low, *dictionaries) for image, low in zip((a, b), lows, strict=True)]
    image = (lows[0] + lows[1]) / 2
    for dictionary, radius, x, y in zip(dictionaries, (CARTOON_RADIUS, TEXTURE_RADIUS), *parts, strict=True):
        first = windowed(activity(x), radius) > windowed(activity(y), radius)
        image += dictionary.image(np.where(first, x, y))
    return image


def lowpass(image: Array) -> Array:
    """argmin ||x - image||^2 + 60 ||grad x||^2, (H, W), the image mirrored around itself by 16 pixels."""
    wide = np.pad(image, BORDER, mode="symmetric")
    # the squared spectrum of the two-tap difference (-1, 1)
    rows, columns = (2 - 2 * np.cos(2 * np.pi * np.arange(side) / side) for side in wide.shape)
    denominator = 1 + LOW_WEIGHT * (rows[:, None] + columns[: wide.shape[1] // 2 + 1])
    smooth = np.fft.irfft2(np.fft.rfft2(wide) / denominator, wide.shape)
    return smooth[BORDER:-BORDER, BORDER:-BORDER]


def decomposed(image: Array, cartoon: Dictionary, texture: Dictionary) -> tuple[Array, Array]:
    """The coefficient maps (M, H, W) of an image's cartoon and of its texture, after six rounds of one each."""
    texture_image = np.zeros_like(image)
    for weight in WEIGHTS:
        maps = sparse_maps(cartoon, image - texture_image, weight, 50 * weight + 1)
        texture_maps = sparse_maps(texture, image - cartoon.image(maps), weight, 1.0)
        texture_image = texture.image(texture_maps)
    return maps, texture_maps


class SolverStep(NamedTuple):
    """An iteration of the solver: the sparse maps, residuals, and rho before it follows them."""

    maps: Array
    primal: float
    dual: float
    rho: float


def sparse_maps(dictionary: Dictionary, image: Array, weight: float, rho: float) -> Array:
    """Convolutional basis pursuit denoising: argmin 1/2 ||sum_m d_m * x_m - image||^2 + weight sum_m ||x_m||_1.

    Returns:
        The maps x (M, H, W) after at most 30 iterations.
    """
    for step in iterations(dictionary, image, weight, rho):
        maps = step.maps
    return maps


def iterations(dictionary: Dictionary, image: Array, weight: float, rho: float) -> Iterator[SolverStep]:
    """`sparse_maps` step by step: alternating directions with over-relaxation and a penalty that follows.

    Wohlberg 2016 (doi:10.1109/TIP.2015.2495260), the penalty as in Wohlberg 2017 (arXiv:1704.06209). Maps change in
    place from one step to the next.

    Args:
        dictionary: of the image's size.
        image: (H, W).
        weight: of the sum of magnitudes.
        rho: the first penalty.
    """
    aim = 1 + 18.3 ** (math.log10(weight) + 1)
    spectrum, power, conjugate = np.fft.rfft2(image), dictionary.power, dictionary.spectra.conj()
    maps, dual, start = (np.zeros((len(conjugate), *image.shape)) for _ in range(3))
    for iteration in range(ITERATIONS):
        np.subtract(maps, dual, out=start)
        # the system is one of rank one a frequency: its solution differs from the start by the atoms' residual
        residual = (spectrum - dictionary.spectrum(start)) / (power + rho)
        apart = primal = sparse = moved = scaled = 0.0
        limit = weight / rho
        for few in dictionary.blocks():
            x = np.fft.irfft2(conjugate[few] * residual, image.shape)
            x += start[few]
            relaxed, before = x * RELAXED, maps[few]
            relaxed -= before * (RELAXED - 1)
            relaxed += dual[few]
            np.clip(relaxed, -limit, limit, out=dual[few])
            relaxed -= dual[few]  # soft threshold
            primal += _energy(x)
            apart += _energy(np.subtract(x, relaxed, out=x))
            moved += _energy(np.subtract(before, relaxed, out=x))
            before[...] = relaxed
            sparse += _energy(before)
            scaled += _energy(dual[few])
        first = _quotient(math.sqrt(apart), math.sqrt(max(primal, sparse)))
        second = _quotient(math.sqrt(moved), math.sqrt(scaled))
        yield SolverStep(maps, first, second, rho)
        if not (first > TOLERANCE or second > TOLERANCE):
            return
        if iteration > 0 and (factor := _factor(first, second, aim)) != 1:
            rho *= factor
            dual /= factor


def _energy(values: Array) -> float:
    """Sum of squares; not by BLAS, whose digits differ between processors."""
    return float(np.square(values).sum())


def _quotient(a: float, b: float) -> float:
    return a / b if b else math.nan if a == 0 else math.inf


def _factor(primal: float, dual: float, aim: float) -> float:
    """What rho is multiplied by, from its residuals and the ratio that they should have."""
    factor = math.sqrt(_quotient(primal, dual * aim))
    factor = min(factor if factor >= 1 else _quotient(1, factor), SCALE)
    if dual > RATIO / aim * primal:
        return 1 / factor
    return factor if primal > RATIO * aim * dual else 1.0


def activity(maps: Array) -> Array:
    """Sum of the magnitudes of all maps (M, H, W), (H, W)."""
    return np.abs(maps).sum(0)


def windowed(values: Array, radius: int) -> Array:
    """Sums over windows of 2 radius + 1, 0 beyond the border: exactly 0 where all is 0, which a running sum is not."""
    for axis in (0, 1):
        wide = np.pad(values, [(radius, radius) if axis == i else (0, 0) for i in (0, 1)]).swapaxes(0, axis)
        size = values.shape[axis]
        values = np.sum([wide[place : place + size] for place in range(2 * radius + 1)], axis=0).swapaxes(0, axis)
    return values
