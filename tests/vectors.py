"""Vectors of published networks: their outputs with every tensor filled by a rule, and whether ours come out.

`../shared/specs/systems/<name>.npz` holds inputs `in_0, ...` and outputs `out_0, ...` of a published network, and
`<name>.keys.txt` its keys and shapes. The rule of filling depends on key and shape alone, so the same values can be put
into a network of ours through its loader of the published names.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

SYSTEMS = Path(__file__).resolve().parents[2] / "shared" / "specs" / "systems"
BOUND = 3e-5  # of the output's standard deviation, in float32


def torch_values(key: str, shape: tuple[int, ...]) -> NDArray:
    """What the tensor of a PyTorch state dict is filled with: standard normal noise of the key's own seed, scaled."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    noise = np.random.default_rng(seed).standard_normal(shape)
    match key.rpartition(".")[2]:
        case "num_batches_tracked":
            return np.zeros(shape, np.int64)
        case "running_var":
            filled = np.exp(noise / 10)
        case "weight" if len(shape) == 1:
            filled = 1 + noise / 10
        case _ if len(shape) < 2:
            filled = noise / 10
        case _:
            filled = noise / np.sqrt(np.prod(shape[1:]))
    return filled.astype(np.float32)


def tensorflow_values(name: str, shape: tuple[int, ...]) -> NDArray:
    """What a TensorFlow variable `scope/name` is filled with; kernels are (height, width, in, out)."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    noise = np.random.default_rng(seed).standard_normal(shape)
    last = name.rpartition("/")[2]
    if len(shape) >= 2:
        first = (noise / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return (first * np.float32(np.sqrt(np.prod(shape[1:]) / np.prod(shape[:-1])))).astype(np.float32)
    small = (noise / 10).astype(np.float32)
    if last == "moving_variance":
        return np.exp(small)
    return (1 + small).astype(np.float32) if last == "gamma" else small


def arrays(name: str) -> dict[str, NDArray]:
    """Inputs and outputs of a published network; the test is skipped where they are not at hand."""
    file = SYSTEMS / f"{name}.npz"
    if not file.is_file():
        pytest.skip(f"no vectors of {name} beside this checkout")
    with np.load(file) as content:
        return dict(content)


def filled(name: str, values=torch_values) -> dict[str, NDArray]:
    """The published state of a network, filled: key -> array of the published shape."""
    lines = (SYSTEMS / f"{name}.keys.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {key: values(key, tuple(int(n) for n in shape.split(",") if n)) for key, shape in pairs}


def difference(ours: NDArray, published: NDArray) -> float:
    """The largest absolute difference over the published output's standard deviation."""
    ours, published = np.asarray(ours, np.float64), np.asarray(published, np.float64)
    assert ours.shape == published.shape
    return float(np.abs(ours - published).max() / published.std())
