"""Attention from pooled features, as in CBAM (Woo et al., ECCV 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PooledChannelAttention(nn.Module):
    """Each channel times the sigmoid of what a small network makes of the means and of the maxima, added.

    (N, C, H, W) -> the same shape.

    Args:
        channels: C.
        bias: of both layers of the small network.
    """

    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 2, 1, bias=bias)
        self.expand = nn.Conv2d(channels // 2, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        pooled = (x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True))
        weights = [self.expand(torch.relu(self.squeeze(values))) for values in pooled]
        return x * torch.sigmoid(weights[0] + weights[1])


class PooledSpatialAttention(nn.Module):
    """Each pixel times a weight from its largest and its mean channel: two 3x3 convolutions, ReLU, sigmoid.

    (N, C, H, W) -> the same shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(2, 1, 3, padding=1)
        self.weigh = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
        return x * torch.sigmoid(self.weigh(torch.relu(self.squeeze(pooled))))
