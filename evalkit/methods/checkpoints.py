"""Loading weights: nothing in a file runs code, every key is mapped, every shape is checked, the file is hashed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.errors import DataError

State = dict[str, Tensor]
MAX_DEPTH = 40  # containers inside each other


class CheckpointError(DataError):
    """A checkpoint that is missing, damaged, hostile, or of another network."""


def read_checkpoint(path: Path) -> Any:
    """The content of a weights file, on the CPU: a state dict, or what the authors wrapped it in.

    `.safetensors` files, and PyTorch files restricted to tensors and plain containers (`weights_only=True`).

    Raises:
        CheckpointError: no such file, truncated or not a checkpoint, or a pickle that wants more than tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}. Name the folder that holds it with --checkpoints DIR.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        for tensor in _tensors(content, 0):
            _check_tensor(tensor)
        return content
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise CheckpointError(
                f"the checkpoint {path} holds more than tensors and could run code when opened; it was not opened. "
                "Take the file from the authors, or convert it to safetensors on a machine you can lose."
            ) from None
        raise _damaged(path, error) from None
    except RecursionError:
        raise _damaged(path, ValueError("nested too deeply")) from None
    except Exception as error:  # a damaged archive raises RuntimeError, EOFError, ValueError, KeyError, ...
        raise _damaged(path, error) from None


def _check_archive(path: Path) -> None:
    """PyTorch stores its tensors as they are; what is packed could grow without end. Raises ValueError."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            size = sum(entry.file_size for entry in archive.infolist())
        if packed:
            raise ValueError(f"its part {packed[0]!r} is compressed, which PyTorch never does")
        if size > path.stat().st_size:
            raise ValueError(f"its parts claim {size} bytes, more than the file has")


def _tensors(content: Any, depth: int) -> Iterator[Tensor]:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _tensors(value, depth + 1)
    elif isinstance(content, list | tuple | set):
        for value in content:
            yield from _tensors(value, depth + 1)


def _check_tensor(tensor: Tensor) -> None:
    """A tensor may claim a size that the file does not hold: a view that repeats itself, or no memory at all."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise ValueError("it holds a tensor that is not a plain one")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"it holds a tensor of shape {tuple(tensor.shape)} with fewer values than that")


def _damaged(path: Path, error: Exception) -> CheckpointError:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return CheckpointError(f"the checkpoint {path} is damaged or no checkpoint ({first[:120]}). Copy it again.")


def as_state(content: Any, path: Path, *wrappers: str) -> State:
    """The state dict inside a checkpoint, below the keys `wrappers` where the authors wrapped it.

    Raises:
        CheckpointError: a wrapper is missing, or what is inside is not a mapping of names to tensors.
    """
    for key in wrappers:
        if not isinstance(content, Mapping) or key not in content:
            raise CheckpointError(f"the checkpoint {path} has no entry {key!r}: it is not of this network.")
        content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    ):
        raise CheckpointError(f"the checkpoint {path} is not a mapping of names to tensors: it is not of this network.")
    return dict(content)


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy a state dict into a network whose keys and shapes are exactly these.

    BatchNorm's `num_batches_tracked`, which older files lack, may be missing.

    Raises:
        CheckpointError: a key is missing, left over, or of another shape; a value that is not finite.
    """
    check_shapes(network, state, where)
    broken = [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if broken:
        raise CheckpointError(f"the checkpoint {where} holds NaN or infinity in {', '.join(broken[:3])}.")
    network.load_state_dict(dict(state), strict=False)


def check_shapes(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError unless the keys and shapes of a state dict are those of a network."""
    own = network.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    shapes = [
        f"{k} {tuple(state[k].shape)}, expected {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    wrong = [
        f"{len(found)} {what}: {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}"
        for what, found in (("missing", missing), ("left over", extra), ("of another shape", shapes))
        if found
    ]
    if wrong:
        raise CheckpointError(f"the checkpoint {where} is not of {type(network).__name__}: keys {'; '.join(wrong)}.")
