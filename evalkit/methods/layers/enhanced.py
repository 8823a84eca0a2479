"""Blocks that bring local detail into feature maps: enhanced feed-forward, attention across halves, Sobel gradients.

As in SMFNet (arXiv:2407.06159), together with the channel attention of `restormer`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.dense import DenseBlock
from evalkit.methods.layers.restormer import (
    ChannelNorm,
    TransformerBlock,
    TransposedAttention,
    channel_attention,
)
from evalkit.methods.layers.strips import by_strips

SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


class LocallyEnhancedFeedForward(nn.Module):
    """LeFF: 1x1, depthwise 3x3 and 1x1 convolution, GELU behind each, plus the input: (N, C, H, W) -> the same.

    The last GELU and the inner addition are those of the published SMFNet; the block around it adds its own input too.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.out = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return by_strips(self._enhanced, x, border=1)

    def _enhanced(self, x: Tensor) -> Tensor:
        y = x
        for conv in (self.expand, self.mix, self.out):
            y = functional.gelu(conv(y))
        return x + y


class FeedForward(nn.Module):
    """1x1 convolutions without bias, GELU between: (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return by_strips(lambda rows: self.out(functional.gelu(self.expand(rows))), x)


def enhanced_block(channels: int, heads: int) -> TransformerBlock:
    """Channel attention with depthwise convolutions (MDTA) and LeFF of the same width."""
    return TransformerBlock(
        channels, TransposedAttention(channels, heads), LocallyEnhancedFeedForward(channels, channels)
    )


def full_block(channels: int, heads: int) -> TransformerBlock:
    """Channel attention whose 3x3 convolution mixes all channels, and a plain feed-forward part of twice the width."""
    return TransformerBlock(
        channels, TransposedAttention(channels, heads, depthwise=False), FeedForward(channels, 2 * channels)
    )


class CrossChannelAttention(nn.Module):
    """Channel attention with the queries of one feature map and the keys and values of another (SMFNet Eqs. 4, 5).

    Args:
        channels: of each map, a multiple of `heads`.
        heads: groups of channels that attend among themselves.
        norm: normalise both maps first, as the paper says; the published code does not.
    """

    def __init__(self, channels: int, heads: int, norm: bool = False) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels) if norm else nn.Identity()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q = nn.Conv2d(channels, channels, 1)
        self.q_mix = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.kv = nn.Conv2d(channels, 2 * channels, 1)
        self.kv_mix = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, guide: Tensor, features: Tensor) -> Tensor:
        """Two (N, C, H, W) -> (N, C, H, W): mixtures of the channels of `features`, chosen by `guide`."""
        query = self.q_mix(self.q(self.norm(guide)))
        key, value = self.kv_mix(self.kv(self.norm(features))).chunk(2, dim=1)
        return self.out(channel_attention(query, key, value, self.temperature))


class SobelGradient(nn.Module):
    """|horizontal| + |vertical| derivative of every channel, zeros around the map: (N, C, H, W) -> the same, >= 0.

    Args:
        channels: of the map.
        trainable: Sobel's weights are where the training starts (published code), or stay (the paper's operator).
    """

    def __init__(self, channels: int, trainable: bool = True) -> None:
        super().__init__()
        self.x = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.y = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        sobel = torch.tensor(SOBEL)
        for conv, kernel in ((self.x, sobel), (self.y, sobel.T)):
            conv.weight.data.copy_(kernel.expand_as(conv.weight))
            conv.weight.requires_grad_(trainable)

    def forward(self, x: Tensor) -> Tensor:
        return self.x(x).abs() + self.y(x).abs()


class GradientResidualDense(nn.Module):
    """Dense features and gradient features of one convolution's output, added (GRDB, SMFNet Eq. 3).

    (N, C, H, W) -> the same shape.
    """

    def __init__(self, channels: int, trainable_sobel: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.dense = DenseBlock(channels, channels, 2)
        self.dense_out = nn.Conv2d(3 * channels, channels, 1)
        self.sobel = SobelGradient(channels, trainable_sobel)
        self.sobel_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return by_strips(self._added, x, border=4)

    def _added(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.first(x), 0.2)
        return functional.leaky_relu(self.dense_out(self.dense(x)) + self.sobel_out(self.sobel(x)), 0.1)
