"""Published weights that a training begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalkit.errors import DataError
from evalkit.methods.checkpoints import read_checkpoint
from evalkit.methods.pretrained import where_published
from evalkit.training.recipe import Recipe


def pretrained(recipe: Recipe, part: str, folder: Path | None, weights: str) -> tuple[Any, Path] | None:
    """Content and path of the weights that the recipe names for a part; None where it names none.

    Args:
        recipe: names the file of each part that begins with published weights.
        part: of the network, as the recipe calls it.
        folder: where the file lies.
        weights: which weights are meant, for the message: "torchvision's ImageNet weights of ResNet-34".

    Raises:
        DataError: no folder given, or no such file in it. CheckpointError: damaged.
    """
    name = recipe.weights.get(part)
    if name is None:
        return None
    meant = f"The recipe {recipe.name} of {recipe.method} begins with {weights}"
    if folder is None:
        cure = f"Put the file {name} into a folder and name it with --checkpoints DIR. {where_published(name)}"
        raise DataError(f"{meant}. {cure}".rstrip())
    path = folder / name
    if not path.is_file():
        raise DataError(f"there is no file {path}. {meant}: put {name} into {folder}. {where_published(name)}".rstrip())
    return read_checkpoint(path), path
