"""From the authors' names of weights to evalkit's, without losing any."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.methods.checkpoints import CheckpointError, State, as_state


def renamed(content: Any, path: Path, changes: Mapping[str, str]) -> State:
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


def unwrapped(content: Any, wrapper: str) -> Any:
    """What lies below the key `wrapper`, or the content itself where there is no such key: files differ in that."""
    return content[wrapper] if isinstance(content, Mapping) and wrapper in content else content
