"""YCrCb of [0, 1] tensors by the coefficients that SeAFusion's and PSFusion's scripts use."""

from __future__ import annotations

import torch
from torch import Tensor


def to_ycrcb(rgb: Tensor) -> Tensor:
    """(..., 3, H, W) RGB in [0, 1] -> Y, Cr, Cb, each clipped to [0, 1]."""
    red, green, blue = rgb.unbind(dim=-3)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack((y, (red - y) * 0.713 + 0.5, (blue - y) * 0.564 + 0.5), dim=-3).clamp(0, 1)


def to_rgb(ycrcb: Tensor) -> Tensor:
    """(..., 3, H, W) Y, Cr, Cb in [0, 1] -> RGB, clipped to [0, 1]."""
    y, cr, cb = ycrcb.unbind(dim=-3)
    cr, cb = cr - 0.5, cb - 0.5
    return torch.stack((y + 1.403 * cr, y - 0.714 * cr - 0.344 * cb, y + 1.773 * cb), dim=-3).clamp(0, 1)
