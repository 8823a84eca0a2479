"""What the tests of salient-object systems share: values of published networks, properties, and small trainings.

`tests/golden/saliency_systems/<name>.json` has keys and shapes of a published network and some values of its outputs,
measured with every tensor filled by `vectors.torch_values` and with the images of `image`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from vectors import BOUND, torch_values

from evalkit.data.card import load_card
from evalkit.data.images import to_gray
from evalkit.data.pairs import find_pairs
from evalkit.data.samples.samples import write_scenes
from evalkit.methods.checkpoints import load_strictly
from evalkit.methods.network import NetworkMethod, count_parameters
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS
from evalkit.metrics.saliency import saliency_dataset
from evalkit.training.data import read_scene
from evalkit.training.find_recipe import load_recipe
from evalkit.training.loop import train
from evalkit.training.trained import trained_method, training_scenes

GOLDEN = Path(__file__).resolve().parent / "golden" / "saliency_systems"


def published(name: str) -> NetworkMethod:
    network = SALIENCY_SYSTEMS[name].network
    assert network is not None
    return network()


def image(name: str, height: int, width: int) -> torch.Tensor:
    """A smooth image (1, 3, H, W) in [-1, 1] that depends on name and size alone: 8x8 noise, bilinear between."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    coarse = np.random.default_rng(seed).random((1, 3, 8, 8))
    rows, columns = np.linspace(0, 7, height), np.linspace(0, 7, width)
    top, left = np.minimum(rows.astype(int), 6), np.minimum(columns.astype(int), 6)
    down, right = (rows - top)[:, None], (columns - left)[None, :]

    def corner(y: int, x: int) -> NDArray:
        return coarse[:, :, (top + y)[:, None], (left + x)[None, :]]

    smooth = (1 - down) * (1 - right) * corner(0, 0) + (1 - down) * right * corner(0, 1)
    smooth = smooth + down * (1 - right) * corner(1, 0) + down * right * corner(1, 1)
    return torch.from_numpy((smooth.astype(np.float32) - 0.5) * 2)


def golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def check_published_values(name: str, double: bool = False) -> float:
    """The largest difference from the published network's values, over each output's standard deviation."""
    measured, method = golden(name), published(name)
    filled = {key: torch.from_numpy(torch_values(key, tuple(shape))) for key, shape in measured["keys"].items()}
    network = method.build()
    assert method.convert is not None
    load_strictly(network, method.convert(filled, Path(f"{name}.pth")), name)
    images = [image(role, *measured["size"]) for role in ("visible", "thermal")]
    if double:
        network, images = network.double(), [one.double() for one in images]
    with torch.no_grad():
        outputs = network.eval().scores(*images)
    worst = 0.0
    for output, expected in zip(outputs, measured["outputs"], strict=True):
        assert list(output.shape) == expected["shape"]
        values = output.flatten()[expected["places"]].double().numpy()
        worst = max(worst, float(np.abs(values - expected["values"]).max() / expected["deviation"]))
        assert worst <= BOUND
        assert abs(float(output.std(correction=0)) / expected["deviation"] - 1) < 1e-4
    return worst


def check_card(name: str) -> None:
    """The card's count is that of the network, and it says how the code was compared."""
    card = SALIENCY_SYSTEMS[name].card
    with torch.device("meta"):
        assert count_parameters(published(name).build()) == card.parameters
    assert card.compared is not None
    assert card.compared.reason or (card.compared.difference is not None and card.compared.difference <= BOUND)


def check_maps(name: str, network: torch.nn.Module) -> None:
    """Maps are bytes of the pair's size, of gray and colour pairs whose sides fit no stride.

    Args:
        name: of the system, whose way in and out is taken.
        network: a small one.
    """
    method, draw = published(name), np.random.default_rng(0)
    visible = draw.integers(0, 256, (117, 133, 3), dtype=np.uint8)
    for infrared in (visible[..., 0], visible[..., ::-1].copy()):
        ((output, finite),) = method.run(network.eval(), [(infrared, visible)], "cpu")
        made = method.finish(output, infrared, visible)
        assert finite
        assert (made.shape, made.dtype) == ((117, 133), np.uint8)


def parameters_without_gradient(network: torch.nn.Module, side: int) -> list[str]:
    """Names of the parameters that no output of `scores` depends on."""
    images = [image(role, side, side).repeat(2, 1, 1, 1) for role in ("visible", "thermal")]
    sum((output.square().sum() for output in network.train().scores(*images)), torch.zeros(())).backward()
    return [name for name, parameter in network.named_parameters() if parameter.grad is None]


def train_small(name: str, folder: Path) -> dict[str, dict[str, float]]:
    """S and MAE on 16 scenes that the training did not see: of the maps of `small`, and of what they must beat.

    The average mask of the training scenes, constant maps, and the luminance of the visible image. Prints what
    docs/training.md quotes.

    Args:
        name: of the system.
        folder: to write in.
    """
    recipe = load_recipe(name, "small")
    learned_from = training_scenes(folder / "train")
    result = train(recipe, learned_from, folder / "run", device="cpu", tell=print)
    losses = [loss for _, _, loss in result.losses]
    print(f"{name}: {result.seconds:.0f} s, loss {losses[0]:.3f} to {losses[-1]:.3f}")
    assert losses[-1] < losses[0]
    method = trained_method(result.weights, name)
    assert method is not None
    assert method.convert is not None
    network = method.build()
    load_strictly(network, method.convert(load_file(result.weights), result.weights), name)
    write_scenes(folder / "held", 16, 0, 320, 240)  # another seed than the training scenes'

    def scenes(root: Path) -> list:
        return [read_scene(pair, ["salient"]) for pair in find_pairs(load_card("samples"), root).pairs]

    usual = np.rint(np.mean([scene.maps["salient"] for scene in scenes(learned_from)], axis=0)).astype(np.uint8)
    maps: dict[str, list] = {name: [], "all 0": [], "all 1": [], "mean map": [], "luminance": []}
    for scene in scenes(folder / "held"):
        truth = scene.maps["salient"]
        ((output, _),) = method.run(network.eval(), [(scene.infrared, scene.visible)], "cpu")
        made = method.finish(output, scene.infrared, scene.visible)
        rivals = (made, 0 * truth, 0 * truth + 255, usual, to_gray(scene.visible))
        for rows, prediction in zip(maps.values(), rivals, strict=True):
            rows.append((prediction, truth))
    means = {
        row: {key: value for key, value in saliency_dataset(pairs).scores.items() if key in ("S", "MAE")}
        for row, pairs in maps.items()
    }
    print(means)
    return means


def check_small(name: str, folder: Path) -> None:
    """`small` beats constant maps, the average mask and the luminance, in S and MAE."""
    means = train_small(name, folder)
    for rival in ("all 0", "all 1", "mean map", "luminance"):
        assert means[name]["S"] > means[rival]["S"] + 0.1, rival
        assert means[name]["MAE"] < 0.85 * means[rival]["MAE"], rival
