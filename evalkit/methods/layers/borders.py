"""What surrounds an image whose sides a network cannot take."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def padded(image: Tensor, multiple: int) -> Tensor:
    """(N, C, H, W) with the last row and column repeated until both sides are multiples.

    Args:
        image: (N, C, H, W).
        multiple: of both sides, in pixels.
    """
    height, width = image.shape[2:]
    return functional.pad(image, (0, -width % multiple, 0, -height % multiple), mode="replicate")
