"""Mix Transformer, the encoder of SegFormer (Xie et al. 2021, arXiv:2105.15203); names as in its published weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

MIT_WIDTHS = (64, 128, 320, 512)
MIT_HEADS = (1, 2, 5, 8)
MIT_REDUCTIONS = (8, 4, 2, 1)
MIT_B2 = (3, 4, 6, 3)
MIT_B4 = (3, 8, 27, 3)
DROP_PATH = 0.1


def tokens(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H W, C)."""
    return x.flatten(2).transpose(1, 2)


def as_map(x: Tensor, size: Sequence[int]) -> Tensor:
    """(N, H W, C) -> (N, C, H, W) of that (H, W)."""
    return x.transpose(1, 2).unflatten(2, tuple(size))


class PatchEmbedding(nn.Module):
    """Overlapping patches: (N, channels_in, H, W) -> tokens (N, H' W', channels_out), and (H', W')."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(channels_out)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.proj(x)
        return self.norm(tokens(x)), (x.shape[2], x.shape[3])


class ReducedAttention(nn.Module):
    """Attention to a map that a strided convolution made smaller: (N, H W, C) -> the same."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q, self.kv = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        if reduction > 1:
            self.sr = nn.Conv2d(channels, channels, reduction, reduction)
            self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        seen = self.norm(tokens(self.sr(as_map(x, size)))) if self.reduction > 1 else x
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.q(x), *self.kv(seen).chunk(2, dim=-1))
        )
        return self.proj(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class DepthwiseConv(nn.Module):
    """3x3 convolution of each channel of a map given as tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return tokens(self.dwconv(as_map(x, size)))


class MixMlp(nn.Module):
    """Two linear layers with a depthwise convolution and GELU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.dwconv, self.fc2 = (
            nn.Linear(channels, hidden),
            DepthwiseConv(hidden),
            nn.Linear(hidden, channels),
        )

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.fc2(functional.gelu(self.dwconv(self.fc1(x), size)))


class MixBlock(nn.Module):
    """Attention and MLP, each on normalised tokens and added; in training left out for a share of the images."""

    def __init__(self, channels: int, heads: int, reduction: int, dropped: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels, eps=1e-6), nn.LayerNorm(channels, eps=1e-6)
        self.attn = ReducedAttention(channels, heads, reduction)
        self.mlp = MixMlp(channels, 4 * channels)
        self.dropped = dropped

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = x + self._kept(self.attn(self.norm1(x), size))
        return x + self._kept(self.mlp(self.norm2(x), size))

    def _kept(self, x: Tensor) -> Tensor:
        if not self.training or self.dropped == 0:
            return x
        share = 1 - self.dropped
        return x * (torch.rand(len(x), 1, 1, device=x.device) < share) / share


class MixTransformer(nn.Module):
    """Four stages; stage i = 0..3 halves the sides, the first quarters them.

    Args:
        depths: blocks of each stage, MIT_B2 or MIT_B4.
        widths: channels of each stage; the published ones are MIT_WIDTHS.
        channels_in: of the image.
    """

    def __init__(self, depths: Sequence[int], widths: Sequence[int] = MIT_WIDTHS, channels_in: int = 3) -> None:
        super().__init__()
        rates = [DROP_PATH * i / (sum(depths) - 1) for i in range(sum(depths))]
        before = channels_in
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            kernel, stride = (3, 2) if i else (7, 4)
            blocks = (MixBlock(width, MIT_HEADS[i], MIT_REDUCTIONS[i], rates.pop(0)) for _ in range(depth))
            setattr(self, f"patch_embed{i + 1}", PatchEmbedding(before, width, kernel, stride))
            setattr(self, f"block{i + 1}", nn.ModuleList(blocks))
            setattr(self, f"norm{i + 1}", nn.LayerNorm(width, eps=1e-6))
            before = width
        start(self)

    def stage(self, i: int, x: Tensor) -> Tensor:
        """Stage i = 0..3: (N, C, H, W) -> (N, widths[i], H', W')."""
        x, size = getattr(self, f"patch_embed{i + 1}")(x)
        for block in getattr(self, f"block{i + 1}"):
            x = block(x, size)
        return as_map(getattr(self, f"norm{i + 1}")(x), size)


def start(network: nn.Module) -> None:
    """Weights by SegFormer's rule: linear layers normal with deviation .02, convolutions by their outputs."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0, (2 / fan_out) ** 0.5)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
