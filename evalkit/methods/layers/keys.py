"""From the authors' names of weights to evalkit's, without losing any."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evalkit.methods.checkpoints import CheckpointError, State, as_state

Changes = Mapping[str, str | Callable[[re.Match[str]], str]]  # regular expression -> replacement, as `re.sub` takes it


def renamed(content: Any, path: Path, changes: Changes) -> State:
    """The state dict in a checkpoint with its keys renamed; keys that no change fits keep their name.

    Args:
        content: what the file holds.
        path: the file, for messages.
        changes: regular expression -> replacement, all of them applied to every key, in order.

    Raises:
        CheckpointError: not a state dict, or two keys that would get the same name.
    """
    own: State = {}
    for key, value in as_state(content, path).items():
        name = key
        for pattern, replacement in changes.items():
            name = re.sub(pattern, replacement, name)
        if name in own:
            raise CheckpointError(f"the checkpoint {path} holds {name!r} twice, once as {key!r}.")
        own[name] = value
    return own


def from_tensorflow(content: Any, path: Path, changes: Mapping[str, str]) -> State:
    """`renamed` of a TensorFlow checkpoint; kernels (height, width, in, out) become (out, in, height, width)."""
    state = renamed(content, path, changes)
    return {key: value.permute(3, 2, 0, 1).contiguous() if value.ndim == 4 else value for key, value in state.items()}


def regrouped(kernel: Tensor, width: int, order: Sequence[int]) -> Tensor:
    """A kernel for input channels that are joined in another order.

    Args:
        kernel: (out, in, height, width) of a convolution.
        width: channels of each group.
        order: for each group of the result its place in `kernel`.

    Returns:
        A copy; the kernel itself where it has another number of input channels, which loading then refuses.
    """
    if kernel.ndim != 4 or kernel.shape[1] != width * len(order):
        return kernel
    return torch.cat([kernel[:, width * i : width * (i + 1)] for i in order], dim=1)


def unwrapped(content: Any, wrapper: str) -> Any:
    """What lies below the key `wrapper`, or the content itself where there is no such key: files differ in that."""
    return content[wrapper] if isinstance(content, Mapping) and wrapper in content else content
