"""Weights that evalkit trained, as a fusion method; and generated scenes to learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evalkit.data.samples.samples import draw_scenes
from evalkit.errors import DataError
from evalkit.methods.checkpoints import CheckpointError, State, as_state, check_shapes
from evalkit.methods.network import NetworkMethod
from evalkit.methods.tensors import read_header
from evalkit.training.recipe import Recipe
from evalkit.training.state import read_recipe
from evalkit.training.system import system_class

if TYPE_CHECKING:
    from torch import nn

SCENES, SIZE, SEED = 24, (320, 240), 1000  # the sample scenes that tables are made of have seed 0


def trained_method(path: Path, method: str) -> NetworkMethod | None:
    """The network whose weights evalkit trained; None for a file from elsewhere.

    Raises:
        CheckpointError: damaged, or of another method.
    """
    saved = read_recipe(path)
    if saved is None:
        return None
    recipe, _ = saved
    if recipe.method != method:
        raise CheckpointError(f"the checkpoint {path} is of {recipe.method}, not of {method}.")
    system = system_class(recipe.method)

    def convert(content: Any, where: Path) -> State:
        return system.fusion_state(as_state(content, where))

    check_size(path, lambda: system.method(recipe).build(), system.fusion_state)
    return replace(system.method(recipe), files=(path.name,), convert=convert)


def check_size(path: Path, build: Callable[[], nn.Module], select: Callable[[State], State]) -> None:
    """Make sure that a network has the sizes of the tensors in the file, before it gets any memory.

    Args:
        path: of a safetensors file that evalkit wrote.
        build: the network that the recipe in the file describes.
        select: the tensors that are its own, under its names.

    Raises:
        CheckpointError: it has not, or the recipe describes no network.
    """
    shapes, _ = read_header(path)
    with torch.device("meta"):
        state = select({key: torch.empty(shape) for key, shape in shapes.items()})
        try:
            network = build()
        except DataError:
            raise
        except Exception as error:  # sizes that do not fit together raise whatever a layer raises
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"the recipe in {path} describes no network ({first[:120]}). Train again.") from None
    check_shapes(network, state, str(path))


def on_samples(recipe: Recipe) -> Recipe:
    """The recipe with generated scenes in place of its data sets."""
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"datasets": {"samples": None}})})


def training_scenes(
    root: Path, progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items
) -> Path:
    """A data root with scenes to learn from, drawn unless they are there already. Raises OutputError."""
    return draw_scenes(root, SCENES, SEED, *SIZE, progress=progress, text="draw scenes to learn from")
