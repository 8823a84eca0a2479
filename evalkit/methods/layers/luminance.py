"""The luminance of colour images inside a network, differentiable."""

from __future__ import annotations

from torch import Tensor


def luminance(rgb: Tensor) -> Tensor:
    """Y of full-range YCbCr (BT.601): (N, 3, H, W) in [0, 1] -> (N, 1, H, W) in [0, 1]."""
    red, green, blue = rgb.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def with_luminance(y: Tensor, rgb: Tensor) -> Tensor:
    """An image with another luminance and its own chroma, clipped.

    Red minus Y is proportional to Cr and blue minus Y to Cb, so both stay what they are, and green with them, when the
    same difference of luminance is added to all three: there is no need to go to YCbCr and back.

    Args:
        y: (N, 1, H, W), the luminance to take, clipped to [0, 1].
        rgb: (N, 3, H, W) in [0, 1], the image whose chroma is kept.

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    return (rgb + (y.clamp(0, 1) - luminance(rgb))).clamp(0, 1)
