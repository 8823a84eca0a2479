"""Densely connected convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class DenseBlock(nn.Module):
    """3x3 convolutions, each on everything before it, leaky ReLU: (N, C, H, W) -> (N, C + convolutions * growth, H, W).

    Args:
        channels: in.
        growth: channels that each convolution adds behind those it saw.
        convolutions: how many.
        slope: of the leaky ReLU for negative values; 0 is a ReLU.
    """

    def __init__(self, channels: int, growth: int, convolutions: int, slope: float = 0.2) -> None:
        super().__init__()
        self.slope = slope
        self.convs = nn.ModuleList(nn.Conv2d(channels + i * growth, growth, 3, padding=1) for i in range(convolutions))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = torch.cat((x, functional.leaky_relu(conv(x), self.slope)), dim=1)
        return x
