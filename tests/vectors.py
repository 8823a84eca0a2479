"""Vectors of published networks: their outputs with every tensor filled by a rule, and whether ours come out.

`../shared/specs/systems/<name>.npz` holds inputs `in_0, ...` and outputs `out_0, ...` of a published network, and
`<name>.keys.txt` its keys and shapes. The rule of filling depends on key and shape alone, so the same values can be put
into a network of ours through its loader of the published names.

Those outputs are float32, and float32 alone makes the difference of some networks large. Of networks of TensorFlow,
`tensorflow_float64.json` in `golden` has some numbers that the authors' own program gave with every number in float64,
filled by the same rule (TensorFlow 2.21; `contrib.layers.batch_norm`, which it no longer has, by its definition; the
slope of `leaky_relu`, which it keeps as a float32, in float64): per output the mean, the standard deviation and sixteen
values. With them come the names and shapes of the variables and of the inputs, so that nothing else is needed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

SYSTEMS = Path(__file__).resolve().parents[2] / "shared" / "specs" / "systems"
BOUND = 3e-5  # of the output's standard deviation, in float32
EXACT = json.loads((Path(__file__).parent / "golden" / "tensorflow_float64.json").read_text(encoding="utf-8"))
EXACT_BOUND = 1e-10  # the same in float64


def _generator(name: str) -> np.random.Generator:
    """The random numbers of a name."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))


def torch_values(key: str, shape: tuple[int, ...]) -> NDArray:
    """What the tensor of a PyTorch state dict is filled with: standard normal noise of the key's own seed, scaled."""
    noise = _generator(key).standard_normal(shape)
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
    noise = _generator(name).standard_normal(shape)
    last = name.rpartition("/")[2]
    if len(shape) >= 2:
        first = (noise / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return (first * np.float32(np.sqrt(np.prod(shape[1:]) / np.prod(shape[:-1])))).astype(np.float32)
    small = (noise / 10).astype(np.float32)
    if last == "moving_variance":
        return np.exp(small)
    return (1 + small).astype(np.float32) if last == "gamma" else small


def smooth_image(name: str, shape: tuple[int, ...]) -> NDArray:
    """The input of a published network, float32 in 0..1: 8 by 8 random numbers a channel, linearly between them."""
    rows, columns = (np.maximum(0, 1 - np.abs(np.linspace(0, 7, side)[:, None] - np.arange(8))) for side in shape[2:])
    return (rows @ _generator(name).random((*shape[:2], 8, 8)) @ columns.T).astype(np.float32)


def arrays(name: str) -> dict[str, NDArray]:
    """Inputs and outputs of a published network; the test is skipped where they are not at hand."""
    file = SYSTEMS / f"{name}.npz"
    if not file.is_file():
        pytest.skip(f"no vectors of {name} beside this checkout")
    with np.load(file) as content:
        return dict(content)


def variables(name: str) -> dict[str, tuple[int, ...]]:
    """Published key -> published shape; the test is skipped where they are not at hand."""
    file = SYSTEMS / f"{name}.keys.txt"
    if file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        pairs = (line.split("\t") for line in lines if line and not line.startswith("#"))
        return {key: tuple(int(n) for n in shape.split(",") if n) for key, shape in pairs}
    if name in EXACT:
        return {key: tuple(shape) for key, shape in EXACT[name]["variables"].items()}
    pytest.skip(f"no keys of {name} beside this checkout")


def filled(name: str, values=torch_values) -> dict[str, NDArray]:
    """The published state of a network, filled: key -> array of the published shape."""
    return {key: values(key, shape) for key, shape in variables(name).items()}


def difference(ours: NDArray, published: NDArray) -> float:
    """The largest absolute difference over the published output's standard deviation."""
    ours, published = np.asarray(ours, np.float64), np.asarray(published, np.float64)
    assert ours.shape == published.shape
    return float(np.abs(ours - published).max() / published.std())


def exact_inputs(name: str) -> list[NDArray]:
    """The images, float32, in 0..1 or -1..1, that the authors' program saw in float64."""
    images = [smooth_image(*item) for item in EXACT[name]["inputs"].items()]
    return [image * 2 - 1 for image in images] if EXACT[name]["signed"] else images


def summary(output: NDArray) -> NDArray:
    """Mean, standard deviation and sixteen values, evenly spread over all of an output in float64."""
    values = np.asarray(output).ravel()
    assert values.dtype == np.float64
    return np.concatenate(([values.mean(), values.std()], values[np.linspace(0, values.size - 1, 16).astype(int)]))


def exact_difference(name: str, number: int, ours: NDArray) -> float:
    """The largest difference of what the authors' program gave in float64, over that output's standard deviation."""
    published: Any = EXACT[name]["outputs"][str(number)]
    return float(np.abs(summary(ours) - published).max() / published[1])
