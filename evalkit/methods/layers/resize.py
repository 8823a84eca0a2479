"""Features at the size of others."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def resized(x: Tensor, like: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, H, W) bilinearly, the corners' centres aligned.

    Args:
        x: features or a map.
        like: (..., H, W), whose sides the result has.
    """
    return functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)
