"""Images in memory, alone or in batches: NumPy arrays, PIL images and torch tensors, as NumPy arrays.

Arrays have their channels last, tensors first, as their libraries do; four axes are a batch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ImageError


def to_array(image: Any, name: str = "image") -> NDArray[Any]:
    """An image in memory as a NumPy array; of which type and shape, `check_array` says.

    Args:
        image: NumPy array, (H, W), (H, W, 1) or (H, W, 3); PIL image of mode L or RGB; uint8 torch tensor on any
            device, (H, W), (1, H, W) or (3, H, W).
        name: of the image, for errors.

    Raises:
        ImageError: anything else, and what could be read with its channels first or last.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    # an object can only be of a library that is imported already
    torch, pillow = sys.modules.get("torch"), sys.modules.get("PIL.Image")
    if torch is not None and isinstance(image, torch.Tensor):
        return _from_tensor(image, str(image.dtype).removeprefix("torch."), name)
    if pillow is not None and isinstance(image, pillow.Image):
        if image.mode not in ("L", "RGB"):
            raise ImageError(f"{name} is a PIL image of mode {image.mode}. Convert it first: .convert('RGB') or 'L'.")
        return np.array(image)
    raise ImageError(
        f"{name} is a {type(image).__name__}, not a path, NumPy array, PIL image or torch tensor. "
        "Make it an array of numbers 0..255: np.array(x, dtype=np.uint8)."
    )


def batch_size(images: Mapping[str, Any]) -> int | None:
    """How many images each batch holds; None where none of them is a batch.

    Args:
        images: name -> an image, or a batch: an array (N, H, W, 1 or 3) or a tensor (N, 1 or 3, H, W).

    Raises:
        ImageError: batches beside single images, batches of different sizes, or empty ones.
    """
    sizes = {name: len(image) if getattr(image, "ndim", 0) == 4 else None for name, image in images.items()}
    if len(set(sizes.values())) > 1:
        held = [f"{name} is {'one image' if size is None else f'a batch of {size}'}" for name, size in sizes.items()]
        raise ImageError(f"{', '.join(held)}. Give batches of equally many images, in the same order, or one of each.")
    size = next(iter(sizes.values()))
    if size == 0:
        raise ImageError("the batches are empty. Give one image or more in each.")
    return size


def _from_array(image: NDArray[Any], name: str) -> NDArray[Any]:
    shape = image.shape
    if image.ndim != 3:
        return image
    if shape[2] in (1, 3):
        if shape[0] == 3 == shape[2]:
            raise ImageError(f"{name} has shape {shape}: {_EITHER} Save it as a file, whose channels are known.")
        return image[..., 0] if shape[2] == 1 else image
    if shape[0] in (1, 3):
        raise ImageError(f"{name} has shape {shape}, its channels first. Turn it: np.moveaxis(x, 0, -1).")
    raise ImageError(
        f"{name} has shape {shape}, expected (H, W) or (H, W, 3). A batch of gray images is (N, H, W, 1): x[..., None]."
    )


_EITHER = "its channels could be first or last, (3, H, W) or (H, W, 3)."


def _from_tensor(image: Any, dtype: str, name: str) -> NDArray[np.uint8]:
    shape = tuple(image.shape)
    if dtype != "uint8":
        raise ImageError(
            f"{name} is a tensor of {dtype}, expected uint8 with values 0..255. "
            "Convert it, e.g. (x * 255).round().clamp(0, 255).to(torch.uint8) for values in [0, 1]."
        )
    if len(shape) not in (2, 3) or 0 in shape:
        raise ImageError(f"{name} is a tensor of shape {shape}, expected (H, W), (1, H, W) or (3, H, W).")
    if len(shape) == 3:
        if shape[0] == 3 == shape[2]:
            raise ImageError(
                f"{name} is a tensor of shape {shape}: {_EITHER} Save it as a file, whose channels are known."
            )
        if shape[0] not in (1, 3):
            last = shape[2] in (1, 3)
            cure = "Turn it: x.permute(2, 0, 1)." if last else "A batch of gray images is (N, 1, H, W): x[:, None]."
            raise ImageError(f"{name} is a tensor of shape {shape}, expected (H, W), (1, H, W) or (3, H, W). {cure}")
    array = image.detach().cpu().numpy()
    if len(shape) == 2:
        return array
    return array[0] if shape[0] == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
