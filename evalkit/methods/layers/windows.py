"""Attention within windows of a feature map, shifted in every second block (Swin transformer).

Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, ICCV 2021,
doi:10.1109/ICCV48922.2021.00986. Features are (N, H, W, C) here; H and W are multiples of the window's side.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.attention import Mlp

TOGETHER = 256  # windows whose scores are held at once
APART = -100.0  # score of two elements that must not attend to each other; as trained, not minus infinity


def to_windows(x: Tensor, side: int) -> Tensor:
    """(N, H, W, C) -> (N * windows, side², C), windows of an image in reading order."""
    n, h, w, c = x.shape
    tiles = x.reshape(n, h // side, side, w // side, side, c).transpose(2, 3)
    return tiles.reshape(-1, side * side, c)


def from_windows(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """The inverse of `to_windows`: (N * windows, side², C) -> (N, height, width, C).

    Args:
        windows: as `to_windows` gives them.
        side: of a window, in elements.
        height, width: of the map, multiples of the side.
    """
    tiles = windows.reshape(-1, height // side, width // side, side, side, windows.shape[-1])
    return tiles.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def relative_positions(side: int) -> Tensor:
    """Which of the (2 side - 1)² offsets lies between two elements of a window: (side², side²) int64.

    The offset is query minus key, rows first, both counted from -(side - 1).
    """
    rows, columns = (axis.flatten() for axis in torch.meshgrid(*[torch.arange(side)] * 2, indexing="ij"))
    down, right = (axis[:, None] - axis[None, :] + side - 1 for axis in (rows, columns))
    return down * (2 * side - 1) + right


class ShiftMask(NamedTuple):
    """0 where two elements of a window may attend to each other, `APART` where they come from opposite ends.

    Attributes:
        kinds: (at most 4, side², side²) float32: windows differ by whether they lie at the right and at the lower edge.
        of_window: (windows,) int64, the kind of every window.
    """

    kinds: Tensor
    of_window: Tensor


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # also of use to what learns
def shift_mask(height: int, width: int, side: int, shift: int) -> ShiftMask:
    """Which elements share a window only because shifting wraps around the image; made once per size.

    Args:
        height, width: of the map, multiples of the side.
        side: of a window, in elements.
        shift: of the windows, in elements.
    """

    def regions(length: int) -> Tensor:
        place = torch.arange(length)
        return (place >= length - side).long() + (place >= length - shift).long()

    region = 3 * regions(height)[:, None] + regions(width)[None, :]
    windows = to_windows(region[None, :, :, None], side)[..., 0]
    kinds, of_window = windows.unique(dim=0, return_inverse=True)
    return ShiftMask(torch.where(kinds[:, :, None] == kinds[:, None, :], 0.0, APART), of_window)


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a learned bias for every offset between two elements.

    Args:
        channels: length of an element, a multiple of `heads`.
        heads: number of heads.
        side: of a window.
        cross: queries come from one feature map, keys and values from another, by linear maps of their own.
    """

    positions: Tensor

    def __init__(self, channels: int, heads: int, side: int, cross: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.cross = cross
        if cross:
            self.q = nn.Linear(channels, channels)
            self.kv = nn.Linear(channels, 2 * channels)
        else:
            self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias_table, std=0.02)
        self.register_buffer("positions", relative_positions(side), persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: ShiftMask | None = None) -> Tensor:
        """Windows (N * windows, side², C) -> the same shape.

        Args:
            x: the windows that ask.
            context: those that answer; only with `cross`.
            mask: `shift_mask`, for shifted windows.
        """
        if self.cross:
            assert context is not None
            parts = (self.q(x), *self.kv(context).chunk(2, dim=-1))
        else:
            parts = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        bias = self.bias_table[self.positions].permute(2, 0, 1)[None]  # (1, heads, side², side²)
        kinds = None if mask is None else mask.of_window.repeat(len(x) // len(mask.of_window)).to(x.device)
        attended = []
        for start in range(0, len(x), TOGETHER):
            few = slice(start, start + TOGETHER)
            scores = bias if mask is None or kinds is None else bias + mask.kinds.to(x)[kinds[few], None]
            attended.append(functional.scaled_dot_product_attention(q[few], k[few], v[few], attn_mask=scores))
        return self.proj(torch.cat(attended).transpose(1, 2).flatten(2))


class WindowShift:
    """Cuts feature maps into windows, shifted or not, and puts them together again."""

    def __init__(self, x: Tensor, side: int, shift: int) -> None:
        self.height, self.width = x.shape[1:3]
        self.side = side
        self.shift = shift
        self.mask = shift_mask(self.height, self.width, side, shift) if shift else None

    def split(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N * windows, side², C)."""
        rolled = torch.roll(x, (-self.shift, -self.shift), dims=(1, 2)) if self.shift else x
        return to_windows(rolled, self.side)

    def join(self, windows: Tensor) -> Tensor:
        """(N * windows, side², C) -> (N, H, W, C)."""
        x = from_windows(windows, self.side, self.height, self.width)
        return torch.roll(x, (self.shift, self.shift), dims=(1, 2)) if self.shift else x


class SwinBlock(nn.Module):
    """Window attention and MLP, each on the normalised elements and added to them: (N, H, W, C) -> the same.

    Args:
        channels, heads, side: as for `WindowAttention`.
        shift: of the windows, to the right and down; 0 for none.
        hidden: width of the MLP.
    """

    def __init__(self, channels: int, heads: int, side: int, shift: int, hidden: int) -> None:
        super().__init__()
        self.side, self.shift = side, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, side)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        shift = WindowShift(x, self.side, self.shift)
        x = x + shift.join(self.attn(shift.split(self.norm1(x)), mask=shift.mask))
        return x + self.mlp(self.norm2(x))


def swin_blocks(depth: int, channels: int, heads: int, side: int, hidden: int) -> nn.Sequential:
    """`depth` Swin blocks, every second one shifted by half a window.

    Args:
        depth: how many.
        channels: length of an element, a multiple of `heads`.
        heads: of the attention.
        side: of a window, in elements.
        hidden: width of the feed-forward part.
    """
    return nn.Sequential(*(SwinBlock(channels, heads, side, i % 2 * (side // 2), hidden) for i in range(depth)))
