"""The model files of NIQE and BRISQUE as their laboratory released them; read within limits, nothing in them is run."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import numpy as np

from evalkit.errors import DataError
from evalkit.files.matlab import read_matrices
from evalkit.files.read import read_text
from evalkit.metrics.image import Array, Pair
from evalkit.metrics.models import MAX_MODEL, Modelled
from evalkit.metrics.noreference import brisque, niqe

MAX_VECTORS = 20_000
KNOWN = {"svm_type": "epsilon_svr", "kernel_type": "rbf"}  # what a file must say of itself


def read_pristine(path: str | os.PathLike[str]) -> niqe.Pristine:
    """The model of NIQE: `mu_prisparam` (36) and `cov_prisparam` (36 x 36) of a MAT-file. Raises DataError."""
    matrices = read_matrices(path)
    mean, covariance = (matrices.get(name, np.empty(0)) for name in ("mu_prisparam", "cov_prisparam"))
    n = niqe.FEATURES
    if mean.size != n or covariance.shape != (n, n) or not np.isfinite([*mean.flat, *covariance.flat]).all():
        raise DataError(
            f"{path} is not a model of NIQE: expected mu_prisparam with {n} numbers and cov_prisparam with {n} x {n}."
        )
    return niqe.Pristine(mean.ravel(), covariance)


def read_regression(model: str | os.PathLike[str], ranges: str | os.PathLike[str]) -> brisque.Regression:
    """The model of BRISQUE: a regression and the ranges of its features, in libsvm's text forms. Raises DataError."""
    lower, upper = _ranges(ranges)
    head, _, body = "\n".join(read_text(model, MAX_MODEL).splitlines()).partition("\nSV\n")
    fields = dict(line.partition(" ")[::2] for line in head.splitlines())
    try:
        if any(fields.get(name) != value for name, value in KNOWN.items()):
            raise ValueError(f"it is not of the kind {', '.join(KNOWN.values())}")
        lines = [line.split() for line in body.splitlines() if line.strip()]
        if not 0 < len(lines) <= MAX_VECTORS or len(lines) != int(fields["total_sv"]):
            raise ValueError(f"it has {len(lines)} vectors, and says {fields['total_sv']}")
        vectors = np.array([_vector(line[1:]) for line in lines])
        weights = np.array([float(line[0]) for line in lines])
        gamma, rho = float(fields["gamma"]), float(fields["rho"])
        if not np.isfinite([*weights, *vectors.flat, gamma, rho]).all():
            raise ValueError("a number in it is not finite")
    except (ValueError, KeyError, IndexError) as error:
        raise DataError(f"{model} is not a model of BRISQUE in libsvm's text form: {error}.") from None
    return brisque.Regression(lower, upper, vectors, weights, gamma, rho)


def _vector(cells: list[str]) -> Array:
    """Numbers by their place, as 1:-0.5; those that are left out are 0."""
    vector = np.zeros(brisque.FEATURES)
    for cell in cells:
        place, _, value = cell.partition(":")
        if not 1 <= int(place) <= brisque.FEATURES:
            raise ValueError(f"{cell[:30]!r} is of no feature")
        vector[int(place) - 1] = float(value)
    return vector


def _ranges(path: str | os.PathLike[str]) -> tuple[Array, Array]:
    number = r"(-?[0-9.]+(?:e-?[0-9]+)?)"
    text = read_text(path, MAX_MODEL)
    rows = re.findall(rf"^([0-9]+) {number} {number}\s*$", text, re.MULTILINE)
    try:
        if not re.match(r"x\s+-1 1\s+", text) or [int(row[0]) for row in rows] != list(range(1, brisque.FEATURES + 1)):
            raise ValueError
        lower, upper = (np.array([float(row[k]) for row in rows]) for k in (1, 2))
        if not (np.isfinite([*lower, *upper]).all() and (lower < upper).all()):
            raise ValueError
    except ValueError:
        raise DataError(
            f"{path} does not hold the ranges of BRISQUE's {brisque.FEATURES} features as svm-scale writes them."
        ) from None
    return lower, upper


@functools.lru_cache(maxsize=4)
def _pristine(path: Path, stamp: int) -> niqe.Pristine:
    return read_pristine(path)


@functools.lru_cache(maxsize=4)
def _regression(model: Path, ranges: Path, *stamps: int) -> brisque.Regression:
    return read_regression(model, ranges)


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns


def _niqe(pair: Pair, paths: list[Path]) -> float:
    return niqe.niqe(pair.fused, _pristine(paths[0], _stamp(paths[0])))


def _brisque(pair: Pair, paths: list[Path]) -> float:
    return brisque.brisque(pair.fused, _regression(paths[0], paths[1], *map(_stamp, paths)))


NIQE = Modelled(_niqe, ("modelparameters.mat",), "github.com/utlive/niqe")
BRISQUE = Modelled(_brisque, ("allmodel", "allrange"), "github.com/utlive/BRISQUE, folder MATLAB")
