"""Pretrained detectors: published checkpoints, read without executing what they hold."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.data.hashes import file_hash
from evalkit.downstream.detection.recipe import DetectionRecipe
from evalkit.downstream.environment import ultralytics
from evalkit.errors import DataError

if TYPE_CHECKING:
    from torch import nn


def find_weights(recipe: DetectionRecipe, checkpoints: Path | None) -> tuple[Path | None, str]:
    """The pretrained weights' file and its hash. Raises DataError where the recipe wants one that is not there."""
    if not recipe.weights:
        return None, ""
    path = checkpoints / recipe.weights if checkpoints is not None else None
    if path is None or not path.is_file():
        where = f"is not in {checkpoints}" if checkpoints else "is needed: give --checkpoints DIR"
        raise DataError(
            f"recipe {recipe.name} starts {recipe.network} from pretrained weights, and {recipe.weights} {where}. It "
            "is a file of github.com/ultralytics/assets. A recipe of your own without `weights` trains from scratch."
        )
    return path, file_hash(path)


def pretrained(network: nn.Module, path: Path) -> nn.Module:
    """The network with weights of a published file, where name and shape agree: all but the last layers' classes.

    Raises:
        DataError: not such a file, or of another network.
    """
    state = read_weights(path)
    own = network.state_dict()
    fitting = {name: value.float() for name, value in state.items() if name in own and own[name].shape == value.shape}
    if 2 * len(fitting) < len(own):
        raise DataError(f"{path} is of another network: {len(fitting)} of {len(own)} tensors fit.")
    network.load_state_dict(fitting, strict=False)
    return network


def read_weights(path: Path) -> Mapping[str, Any]:
    """The tensors of an ultralytics checkpoint, which is a pickle of the network's object.

    Nothing is executed but what rebuilds layers of torch.nn and ultralytics.nn; a file that names anything else is
    refused.

    Raises:
        DataError: not such a file, or one that names other code.
    """
    import torch
    from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

    ultralytics()
    try:
        names = get_unsafe_globals_in_checkpoint(path)
        foreign = [n for n in names if not n.startswith(("torch.nn.modules.", "ultralytics.nn.", "ultralytics.utils."))]
        if foreign:
            raise DataError(f"the weights {path} name code that is no layer of a network: {', '.join(foreign[:3])}.")
        allowed: list[Any] = []
        for name in names:
            module, _, attribute = name.rpartition(".")
            found = getattr(importlib.import_module(module), attribute)
            if not isinstance(found, type):
                raise DataError(f"the weights {path} call {name}, which is no layer of a network.")
            allowed.append(found)
        with safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
        network = content.get("ema") or content["model"]
        return network.state_dict()
    except DataError:
        raise
    except (OSError, RuntimeError, pickle.UnpicklingError, KeyError, AttributeError, ImportError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is not a checkpoint of ultralytics ({first}).") from None
