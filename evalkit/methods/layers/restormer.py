"""Transformer blocks that attend between channels instead of pixels (Restormer), so that any image size is affordable.

Zamir et al., Restormer: Efficient Transformer for High-Resolution Image Restoration, CVPR 2022,
doi:10.1109/CVPR52688.2022.00564. Fusion networks (CDDFuse, EMMA, SMFNet) vary two things: whether the 3x3 convolution
of the attention is depthwise, and how the one of the feed-forward part is grouped.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.strips import by_strips

PaddingMode = Literal["zeros", "reflect"]


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of every pixel, with learned scale and shift: (N, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = functional.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, 1e-5)
        return last.movedim(-1, 1)


def channel_attention(query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
    """Attention between the channels of a head, whose "tokens" are whole feature maps.

    Args:
        query, key, value: (N, C, H, W); C is a multiple of the number of heads. Queries and keys are scaled to length
            1 over the pixels, so their products are cosines.
        temperature: (heads, 1, 1), a factor for each head before the softmax.

    Returns:
        (N, C, H, W).
    """
    q, k, v = (x.unflatten(1, (len(temperature), -1)).flatten(3) for x in (query, key, value))  # (N, heads, c, H*W)
    cosines = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
    return ((cosines * temperature).softmax(dim=-1) @ v).reshape_as(value)


class TransposedAttention(nn.Module):
    """Multi-head attention between channels; queries, keys and values come from a 1x1 and a 3x3 convolution.

    Args:
        channels: a multiple of `heads`.
        heads: groups of channels that attend among themselves.
        depthwise: the 3x3 convolution works on every channel by itself (Restormer's MDTA), or mixes all of them (the
            base branch of CDDFuse, 9 * (3 * channels)² weights).
        bias: of all convolutions.
    """

    def __init__(self, channels: int, heads: int, depthwise: bool = True, bias: bool = False) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        width = 3 * channels
        self.qkv = nn.Conv2d(channels, width, 1, bias=bias)
        self.mix = nn.Conv2d(width, width, 3, padding=1, groups=width if depthwise else 1, bias=bias)
        self.out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        query, key, value = by_strips(lambda rows: self.mix(self.qkv(rows)), x, border=1).chunk(3, dim=1)
        return self.out(channel_attention(query, key, value, self.temperature))


class GatedFeedForward(nn.Module):
    """Two branches of 3x3 convolutions, one gates the other through a GELU (Restormer's GDFN), between 1x1 ones.

    Args:
        channels: in and out.
        hidden: width of each branch.
        group: channels that a filter of the 3x3 convolution sees: 1 is depthwise (Restormer), 2 in the base branch of
            CDDFuse.
        padding_mode: border of the 3x3 convolution.
        bias: of all convolutions.
    """

    def __init__(
        self, channels: int, hidden: int, group: int = 1, padding_mode: PaddingMode = "zeros", bias: bool = False
    ) -> None:
        super().__init__()
        width = 2 * hidden
        self.expand = nn.Conv2d(channels, width, 1, bias=bias)
        self.mix = nn.Conv2d(width, width, 3, padding=1, groups=width // group, padding_mode=padding_mode, bias=bias)
        self.out = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return by_strips(self._gated, x, border=1)

    def _gated(self, x: Tensor) -> Tensor:
        gate, features = self.mix(self.expand(x)).chunk(2, dim=1)
        return self.out(functional.gelu(gate) * features)


class TransformerBlock(nn.Module):
    """Attention and feed-forward part, each on the normalised features and added to them: (N, C, H, W) -> the same."""

    def __init__(self, channels: int, attention: nn.Module, feed_forward: nn.Module) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attention = attention
        self.norm2 = ChannelNorm(channels)
        self.feed_forward = feed_forward

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


def restormer_block(channels: int, heads: int, expansion: float = 2.0) -> TransformerBlock:
    """Restormer's block: depthwise attention, and a gated feed-forward part of `expansion` times the width.

    Args:
        channels: C of the features (N, C, H, W), a multiple of `heads`.
        heads: of the attention.
        expansion: hidden width of the feed-forward part, as a factor of C.
    """
    return TransformerBlock(
        channels, TransposedAttention(channels, heads), GatedFeedForward(channels, int(expansion * channels))
    )


def lite_transformer_block(channels: int, heads: int, padding_mode: PaddingMode = "zeros") -> TransformerBlock:
    """The block of CDDFuse's base branch and EMMA: all channels meet before the attention, no expansion behind it.

    `padding_mode` is that of the feed-forward part; the attention pads with zeros in both networks.

    Args:
        channels: C of the features (N, C, H, W), a multiple of `heads`.
        heads: of the attention.
        padding_mode: of the feed-forward part; the attention pads with zeros in both networks.
    """
    return TransformerBlock(
        channels,
        TransposedAttention(channels, heads, depthwise=False),
        GatedFeedForward(channels, channels, group=2, padding_mode=padding_mode),
    )


# the names that the checkpoints of CDDFuse, EMMA and SMFNet give to these weights, for `renamed`
PUBLISHED_KEYS = {
    r"\.body\.(weight|bias)$": r".\1",
    r"\.attn\.": ".attention.",
    r"\.attention\.scale$": ".attention.temperature",
    r"\.attention\.qkv1\.": ".attention.qkv.",
    r"\.attention\.(qkv2|qkv_dwconv)\.": ".attention.mix.",
    r"\.attention\.(proj|project_out)\.": ".attention.out.",
    r"\.(mlp|ffn)\.": ".feed_forward.",
    r"\.feed_forward\.project_in\.": ".feed_forward.expand.",
    r"\.feed_forward\.dwconv\.": ".feed_forward.mix.",
    r"\.feed_forward\.project_out\.": ".feed_forward.out.",
}
