"""The transformer of DATFuse and MATR: window attention whose window is one element."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class OneElementAttention(nn.Module):
    """Multi-head attention within windows of 1x1, as trained: an element attends to itself only.

    The softmax over one score is 1 whatever the score, so the result is `proj` of the values. The queries and keys
    (the first two thirds of `qkv`), `relative_position_bias_table` and `relative_position_index` are in the
    checkpoints and have no effect.

    Args:
        channels: length of an element.
        heads: number of heads, which only sets the size of the unused table.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.channels = channels
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(1, heads))
        self.register_buffer("relative_position_index", torch.zeros(1, 1, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) -> the same shape."""
        value = functional.linear(x, self.qkv.weight[2 * self.channels :], self.qkv.bias[2 * self.channels :])
        return self.proj(value)


class Mlp(nn.Module):
    """Two linear layers with the exact (erf) GELU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class ReinterpretingBlock(nn.Module):
    """Pre-norm transformer block on the memory of a feature map read in another order.

    The published code takes the contiguous memory of (N, C, H, W) as (N, H, W, C), by a view, not a permutation. Its
    "C channels of a pixel" are C neighbours in one row of one map (or of two, where C does not divide the width). The
    weights were trained this way: with a permutation they load as well and give other images.
    """

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = OneElementAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        n, c, h, w = x.shape
        elements = x.reshape(n, h * w, c)  # reshape copies a tensor that lies channels-last, then reads it as NCHW
        elements = elements + self.attn(self.norm1(elements))
        elements = elements + self.mlp(self.norm2(elements))
        return elements.reshape(n, c, h, w)


class Transformer(nn.Module):
    """Blocks one after the other, with an MLP of four times the width."""

    def __init__(self, depth: int, channels: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ReinterpretingBlock(channels, heads, 4 * channels) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return self.blocks(x)


class UnusedPatchNorm(nn.Module):
    """A LayerNorm over 96 values that the checkpoints carry and the networks never apply."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(96)
