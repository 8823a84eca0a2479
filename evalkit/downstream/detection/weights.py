"""Pretrained detectors: published checkpoints, read without executing what they hold. Needs PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from evalkit.errors import CheckpointError, DataError
from evalkit.methods.tensors import read_tensors

# beginnings of their classes' names; the last two are of the repository yolov5, from before the package
LAYERS = ("torch.nn.modules.", "ultralytics.nn.", "ultralytics.utils.", "models.yolo.", "models.common.")


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


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The tensors of an ultralytics checkpoint, which is a pickle of the network's object; no object is made.

    Raises:
        CheckpointError: not such a file, or one that names or calls other code.
    """
    content = read_tensors(path, LAYERS)
    for key in ("ema", "model"):
        network = content.get(key) if isinstance(content, dict) else None
        if isinstance(network, dict) and network and all(isinstance(value, Tensor) for value in network.values()):
            return network
    raise CheckpointError(f"{path} is not a checkpoint of ultralytics: it holds no network with tensors.")
