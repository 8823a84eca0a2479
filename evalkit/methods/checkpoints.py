"""Loading weights: nothing in a file runs code, every key is mapped, every shape is checked, the file is hashed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.errors import CheckpointError
from evalkit.methods.tensors import read_tensors

__all__ = ["CheckpointError", "State", "as_state", "check_shapes", "load_strictly", "read_checkpoint"]

State = dict[str, Tensor]
WRAPPERS = ("state_dict", "model", "model_state_dict", "params")  # what people put a state dict under
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
COUNTERS = ("total_ops", "total_params")  # of a profiler that was run on the network
read_checkpoint = read_tensors


def as_state(content: Any, path: Path, *wrappers: str) -> State:
    """The state dict inside a checkpoint, below the keys `wrappers` where the authors wrapped it.

    Names are as the network's own: without the prefixes of DataParallel and torch.compile, without a profiler's
    counters, and without a wrapper of WRAPPERS that somebody put around it.

    Raises:
        CheckpointError: a wrapper is missing, or what is inside is not a mapping of names to tensors.
    """
    for key in wrappers:
        if not isinstance(content, Mapping) or key not in content:
            raise CheckpointError(f"the checkpoint {path} has no entry {key!r}: it is not of this network.")
        content = content[key]
    if not wrappers and isinstance(content, Mapping):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    ):
        raise CheckpointError(f"the checkpoint {path} is not a mapping of names to tensors: it is not of this network.")
    state = {key: value for key, value in content.items() if key.rpartition(".")[2] not in COUNTERS}
    while prefix := next((p for p in PREFIXES if state and all(key.startswith(p) for key in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy a state dict into a network whose keys and shapes are exactly these.

    BatchNorm's `num_batches_tracked`, which older files lack, may be missing.

    Args:
        network: changed in place.
        state: key -> tensor, on any device.
        where: the file's name, for the message.

    Raises:
        CheckpointError: a key is missing, left over, or of another shape; a value that is not finite.
    """
    check_shapes(network, state, where)
    broken = [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if broken:
        raise CheckpointError(f"the checkpoint {where} holds NaN or infinity in {', '.join(broken[:3])}.")
    network.load_state_dict(dict(state), strict=False)


def check_shapes(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError unless the keys and shapes of a state dict are those of a network.

    Args:
        network: whose state dict is expected.
        state: key -> tensor; `num_batches_tracked` may be missing.
        where: the file's name, for the message.
    """
    own = network.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    shapes = [
        f"{k} {tuple(state[k].shape)}, expected {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    wrong = [
        f"{len(keys)} {fault}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
        for fault, keys in (("missing", missing), ("left over", extra), ("of another shape", shapes))
        if keys
    ]
    if wrong:
        raise CheckpointError(f"the checkpoint {where} is not of {type(network).__name__}: keys {'; '.join(wrong)}.")
