"""Convolution blocks."""

from __future__ import annotations

from typing import Literal

from torch import nn


def conv_norm(
    channels_in: int,
    channels_out: int,
    activation: nn.Module,
    dilation: int = 1,
    padding_mode: Literal["zeros", "reflect"] = "zeros",
) -> nn.Sequential:
    """3x3 convolution that keeps the size, batch normalisation, activation: (N, C, H, W) -> (N, C', H, W).

    Args:
        channels_in, channels_out: C and C' of the features.
        activation: behind the normalisation.
        dilation: of the kernel, in pixels.
        padding_mode: what surrounds the features.
    """
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation, padding_mode=padding_mode),
        nn.BatchNorm2d(channels_out),
        activation,
    )


def conv_leaky(
    channels_in: int,
    channels_out: int,
    size: int = 3,
    padding_mode: Literal["zeros", "reflect"] = "zeros",
) -> nn.Sequential:
    """Convolution that keeps the size, leaky ReLU of slope .2: (N, C, H, W) -> (N, C', H, W).

    Args:
        channels_in, channels_out: C and C' of the features.
        size: of the kernel, odd.
        padding_mode: what surrounds the features.
    """
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, padding=size // 2, padding_mode=padding_mode),
        nn.LeakyReLU(0.2),
    )
