"""Deformable convolution in plain PyTorch: the same on every device, no compiled operator."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def deform_conv2d(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0, dilation: int = 1
) -> Tensor:
    """Convolution of stride 1 whose taps read beside their places (Dai et al. 2017, no modulation).

    Values between pixels are bilinear, values outside are 0; with offsets of 0 it is an ordinary convolution.

    Args:
        x: (N, C, H, W).
        offset: (N, 2 K, H', W') in pixels, K taps in row-major order, vertical before horizontal for each.
        weight: (C', C, rows, columns) with K = rows * columns.
        bias: (C',).
        padding, dilation: as in `conv2d`.

    Returns:
        (N, C', H', W').
    """
    n, channels, height, width = x.shape
    rows, columns = weight.shape[2:]
    _, _, out_height, out_width = offset.shape

    def places(count: int) -> Tensor:
        return torch.arange(count, device=x.device, dtype=x.dtype)

    tap_y = places(rows).repeat_interleave(columns)[:, None, None] * dilation
    tap_x = places(columns).repeat(rows)[:, None, None] * dilation
    at_y = offset[:, 0::2] + tap_y + (places(out_height) - padding)[:, None]
    at_x = offset[:, 1::2] + tap_x + (places(out_width) - padding)
    # grid_sample wants positions as fractions of the sides. More zeros, up to the next power of two, change nothing and
    # make these fractions and their way back exact: a tap without offset reads its pixel and nothing else
    bottom, right = (2 ** (side - 1).bit_length() for side in (height, width))
    padded = functional.pad(x, (0, right - width, 0, bottom - height))
    grid = torch.stack(((2 * at_x + 1) / right - 1, (2 * at_y + 1) / bottom - 1), dim=-1)
    samples = functional.grid_sample(
        padded, grid.flatten(1, 2), mode="bilinear", padding_mode="zeros", align_corners=False
    ).reshape(n, channels * rows * columns, out_height * out_width)
    out = (weight.flatten(1) @ samples).view(n, -1, out_height, out_width)
    return out if bias is None else out + bias[:, None, None]


class DeformableConv2d(nn.Module):
    """Deformable convolution that keeps the size and finds its offsets itself: (N, C, H, W) -> (N, C', H, W).

    The offsets come from a convolution that starts at 0, so that untrained it is an ordinary convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, size: int = 3) -> None:
        super().__init__()
        self.padding = size // 2
        self.offset = nn.Conv2d(channels_in, 2 * size * size, size, padding=self.padding)
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)
        self.conv = nn.Conv2d(channels_in, channels_out, size, padding=self.padding)  # holds weight and bias

    def forward(self, x: Tensor) -> Tensor:
        return deform_conv2d(x, self.offset(x), self.conv.weight, self.conv.bias, self.padding)
