"""Neighbourhood attention transformer: levels of halved size and doubled width, as in `neighbourhood`'s paper.

Features are (N, H, W, C) between the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from evalkit.methods.layers.attention import Mlp
from evalkit.methods.layers.neighbourhood import NeighbourhoodAttention


class DropPath(nn.Module):
    """In training, a residual branch is left out for a sample with probability `rate`, else scaled by 1 / (1 - rate).

    Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, doi:10.1007/978-3-319-46493-0_39.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        kept = torch.full((len(x), *[1] * (x.ndim - 1)), 1 - self.rate, dtype=x.dtype, device=x.device)
        return x * torch.bernoulli(kept) / (1 - self.rate)


class NeighbourhoodBlock(nn.Module):
    """Neighbourhood attention and MLP, each on the normalised elements and added to them: (N, H, W, C) -> the same.

    Args:
        channels, heads, kernel, relative_bias, pad_small: as for `NeighbourhoodAttention`.
        hidden: width of the MLP.
        drop: rate of the stochastic depth.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        hidden: int,
        kernel: int = 7,
        drop: float = 0.0,
        relative_bias: bool = True,
        pad_small: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = NeighbourhoodAttention(channels, heads, kernel, relative_bias, pad_small)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, hidden)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attn(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class Downsample(nn.Module):
    """3x3 convolution of stride 2 without bias to twice the width, layer norm: (N, H, W, C) -> (N, H/2, W/2, 2C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = nn.LayerNorm(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.reduction(x.movedim(-1, 1)).movedim(1, -1))


class Level(nn.Module):
    """Blocks of one size, then `Downsample` unless it is the last level."""

    def __init__(self, blocks: Sequence[NeighbourhoodBlock], channels: int, last: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = None if last else Downsample(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        return x if self.downsample is None else self.downsample(x)


class NeighbourhoodTransformer(nn.Module):
    """Two 3x3 convolutions of stride 2, then levels of blocks: (N, C, H, W) -> (N, C', H/s, W/s).

    The stride s is 4 * 2^(levels - 1). Linear layers start truncated normal with deviation .02 and biases of 0, as the
    published transformer's do; convolutions as PyTorch starts them.

    Args:
        channels: in.
        width: of the first level; every further one has twice as much.
        depths: blocks of each level.
        heads: of the first level; every further one has twice as many.
        kernel: odd side of the attention's window.
        mlp_ratio: hidden width of the MLPs over their width.
        drop: rate of the stochastic depth in the last block, rising from 0 in the first.
        relative_bias, pad_small: as for `NeighbourhoodAttention`.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        depths: Sequence[int],
        heads: int,
        kernel: int = 7,
        mlp_ratio: int = 3,
        drop: float = 0.2,
        relative_bias: bool = True,
        pad_small: bool = False,
    ) -> None:
        super().__init__()
        self.tokens = nn.Sequential(
            nn.Conv2d(channels, width // 2, 3, stride=2, padding=1),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
        )
        self.norm = nn.LayerNorm(width)
        rates = iter(torch.linspace(0, drop, sum(depths), device="cpu").tolist())
        self.levels = nn.Sequential()
        for level, depth in enumerate(depths):
            c, h = width << level, heads << level
            blocks = [
                NeighbourhoodBlock(c, h, mlp_ratio * c, kernel, next(rates), relative_bias, pad_small)
                for _ in range(depth)
            ]
            self.levels.append(Level(blocks, c, last=level == len(depths) - 1))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.tokens(x).movedim(1, -1))
        return self.levels(x).movedim(-1, 1)
