"""Renaming the keys of the authors' weights."""

from __future__ import annotations

from collections.abc import Mapping

from evalkit.methods.checkpoints import CheckpointError, State


def renamed(state: State, prefixes: Mapping[str, str], where: str) -> State:
    """The same tensors with the authors' prefixes replaced by one's own.

    A key below none of the prefixes keeps its name, so that strict loading reports it by the name it has in the file.

    Args:
        prefixes: theirs -> own; where several fit, the longest counts.
        where: the file, for the message.

    Raises:
        CheckpointError: two keys would have one name.
    """
    longest_first = sorted(prefixes, key=len, reverse=True)
    result: State = {}
    for key, value in state.items():
        theirs = next((prefix for prefix in longest_first if key.startswith(prefix)), "")
        name = prefixes.get(theirs, "") + key.removeprefix(theirs)
        if name in result:
            raise CheckpointError(f"the checkpoint {where} holds {name} twice, once as {key}.")
        result[name] = value
    return result
