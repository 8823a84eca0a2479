"""Point-wise convolutions from which channel and spatial attention take their weights."""

from __future__ import annotations

from torch import nn


def pointwise_pair(channels: int, reduction: int = 4, pooled: bool = False) -> nn.Sequential:
    """Two 1x1 convolutions with bias and batch normalisation, to fewer channels and back, ReLU between; no sigmoid.

    Args:
        channels: in and out.
        reduction: how many times fewer channels lie between.
        pooled: average each map first, (N, C, H, W) -> (N, C, 1, 1), which is a channel attention; else the shape
            stays, which is a spatial one. On 1x1 maps the normalisation needs a batch of two or more in training.
    """
    hidden = channels // reduction
    layers = [
        nn.Conv2d(channels, hidden, 1),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, channels, 1),
        nn.BatchNorm2d(channels),
    ]
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers) if pooled else nn.Sequential(*layers)
