"""YCrCb of [0, 1] tensors by coefficients that the scripts of SeAFusion, PSFusion, GeSeNet, IGNet and others share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from evalkit.methods.layers.pixels import stretched
from evalkit.methods.network import Pixels, rounded, truncated, unit_gray


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


def centred_chroma(rgb: Tensor) -> Tensor:
    """(..., 3, H, W) RGB in [0, 1] -> Cb and Cr around 0, (..., 2, H, W); those of MURF and DIVFusion."""
    red, green, blue = rgb.unbind(dim=-3)
    cb = -0.1687 * red - 0.3313 * green + 0.5 * blue
    return torch.stack((cb, 0.5 * red - 0.4187 * green - 0.0813 * blue), dim=-3)


def with_chroma(y: Tensor, chroma: Tensor) -> Tensor:
    """Luminance (..., 1, H, W) and `centred_chroma` (..., 2, H, W) -> RGB (..., 3, H, W), not clipped."""
    luminance, (cb, cr) = y.squeeze(-3), chroma.unbind(dim=-3)
    red, blue = luminance + 1.402 * cr, luminance + 1.772 * cb
    return torch.stack((red, luminance - 0.34414 * cb - 0.71414 * cr, blue), dim=-3)


def unit_rgb(image: Pixels) -> Tensor:
    """(H, W) gray, which gets three equal channels, or (H, W, 3) RGB, uint8 -> (3, H, W) float32 in [0, 1]."""
    colour = image if image.ndim == 3 else np.stack([image] * 3, axis=2)
    return torch.from_numpy(colour.transpose(2, 0, 1).astype(np.float32) / 255)


def gray_and_luminance(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """Gray infrared, and the visible image's luminance that is not rounded to bytes: (1, H, W) in [0, 1] each.

    Args:
        infrared, visible: as stored, uint8 (H, W) or (H, W, 3) RGB.
    """
    if visible.ndim == 2:
        return unit_gray(infrared), unit_gray(visible)
    return unit_gray(infrared), to_ycrcb(unit_rgb(visible))[:1]


def recoloured_and_stretched(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """A fused luminance with the visible image's chroma, then stretched from the minimum to the maximum of all.

    Args:
        output: (1, H, W), nominally in [0, 1].
        infrared, visible: as stored, uint8 (H, W) or (H, W, 3) RGB.

    Returns:
        uint8, (H, W) where the visible image is gray, else (H, W, 3) RGB; the fraction is cut off.
    """
    if visible.ndim == 2:
        return truncated(stretched(output[0].clamp(0, 1).numpy()) * 255)
    chroma = to_ycrcb(unit_rgb(visible))[1:]
    return truncated(stretched(to_rgb(torch.cat((output, chroma))).permute(1, 2, 0).numpy()) * 255)


def recoloured(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """A fused luminance with the visible image's chroma, clipped and rounded, halves to the even neighbour.

    Args:
        output: (1, H, W), nominally in [0, 1].
        infrared, visible: as stored, uint8 (H, W) or (H, W, 3) RGB.

    Returns:
        uint8, (H, W) where the visible image is gray, else (H, W, 3) RGB.
    """
    if visible.ndim == 2:
        return rounded(output[0].numpy() * 255)
    chroma = to_ycrcb(unit_rgb(visible))[1:]
    return rounded(to_rgb(torch.cat((output, chroma))).permute(1, 2, 0).numpy() * 255)
