"""What a training keeps to go on with: tensors and plain values in one safetensors file, and the one before it.

The second file is for the day on which the first cannot be read: a full disk, a copy that was cut.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from evalkit.errors import CheckpointError, DataError
from evalkit.files.read import parse_json
from evalkit.files.write import write_bytes
from evalkit.methods.tensors import parse_safetensors, read_whole


def to_state(content: Any) -> bytes:
    """The bytes of a file that holds tensors, None, bool, int, float, str, list, tuple and dict.

    Raises:
        TypeError: something else is in it.
    """
    tensors: dict[str, Tensor] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensors[str(len(tensors))] = value.detach().cpu().contiguous().clone()
            return {"tensor": str(len(tensors) - 1)}
        if isinstance(value, Mapping):
            return {"items": [[plain(key), plain(inner)] for key, inner in value.items()]}
        if isinstance(value, tuple):
            return {"tuple": [plain(inner) for inner in value]}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}  # JSON has no such numbers
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"a {type(value).__name__} cannot be in a state")

    text = json.dumps(plain(content))
    return save(tensors, {"state": text})


def read_state(path: Path) -> Any:
    """What `to_state` was given. Raises CheckpointError: damaged, or no such file."""
    try:
        tensors, metadata = parse_safetensors(read_whole(path))

        def made(value: Any) -> Any:
            if isinstance(value, list):
                return [made(inner) for inner in value]
            if not isinstance(value, dict):
                return value
            ((kind, inner),) = value.items()
            if kind == "tensor":
                return tensors[inner]
            if kind == "items":
                return {made(key): made(one) for key, one in inner}
            if kind == "tuple":
                return tuple(made(one) for one in inner)
            if kind == "float" and inner in ("inf", "-inf", "nan"):
                return float(inner)
            raise ValueError(f"a value is a {kind!r:.40}")

        return made(parse_json(metadata["state"], "its state"))
    except (DataError, ValueError, LookupError, TypeError, RecursionError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({' '.join(str(error).split())[:200].rstrip('.')}).") from None


def before(path: Path) -> Path:
    """Where the state before the last one lies."""
    return path.with_name(f"{path.stem}-before{path.suffix}")


def save_state(path: Path, content: Any) -> None:
    """Write a state; the one that was there becomes the one before. Raises OutputError."""
    data = to_state(content)
    with suppress(OSError):
        os.replace(path, before(path))
    write_bytes(path, data)


def remove_state(path: Path) -> None:
    """Remove both states."""
    for one in (path, before(path)):
        one.unlink(missing_ok=True)


def last_state(
    path: Path, tell: Callable[[str], None], fits: Callable[[Any], bool] = lambda content: isinstance(content, dict)
) -> Any:
    """The last state that can be read; None where there is none. What is damaged is told.

    Args:
        path: of the last state; the one before it lies at `before(path)`.
        tell: gets a sentence where a state is passed over.
        fits: whether a content is a state of this kind.
    """
    for one in (path, before(path)):
        if not one.exists():
            continue
        try:
            content = read_state(one)
            if fits(content):
                return content
            reason = f"{one} is not the state of such a training"
        except CheckpointError as error:
            reason = str(error).rstrip(".")
        other = before(path)
        cure = f"goes back to {other.name}" if one == path and other.exists() else "starts again"
        tell(f"{reason}: the training {cure}.")
    return None
