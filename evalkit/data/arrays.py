"""Images that come as objects of other libraries: PIL images and torch tensors, as NumPy arrays."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ImageError


def to_array(image: Any, name: str = "image") -> NDArray[Any]:
    """An image in memory as a NumPy array; of which type and shape, `check_array` says.

    Args:
        image: NumPy array, returned as it is; PIL image of mode L or RGB; uint8 torch tensor, (H, W), (1, H, W) or
            (3, H, W).
        name: of the image, for errors.

    Raises:
        ImageError: anything else.
    """
    if isinstance(image, np.ndarray):
        return image
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


def _from_tensor(image: Any, dtype: str, name: str) -> NDArray[np.uint8]:
    shape = tuple(image.shape)
    if dtype != "uint8":
        raise ImageError(
            f"{name} is a tensor of {dtype}, expected uint8 with values 0..255. "
            "Convert it, e.g. (x * 255).round().clamp(0, 255).to(torch.uint8) for values in [0, 1]."
        )
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)) or 0 in shape:
        raise ImageError(f"{name} is a tensor of shape {shape}, expected (H, W), (1, H, W) or (3, H, W).")
    array = image.detach().cpu().numpy()
    if len(shape) == 2:
        return array
    return array[0] if shape[0] == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
