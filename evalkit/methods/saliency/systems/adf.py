"""ADF: attention in both encoders, a branch that fuses them stage by stage, and a pyramid of poolings that guides it.

Tu, Ma, Li, Li, Xu, Liu, RGBT salient object detection: A large-scale dataset and benchmark, IEEE TMM 25, 2023,
doi:10.1109/TMM.2022.3171688. The published code calls the network APMFnet.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import Changes, renamed
from evalkit.methods.layers.pooled_attention import PooledChannelAttention, PooledSpatialAttention
from evalkit.methods.layers.resize import resized
from evalkit.methods.layers.vgg import VGGEncoder
from evalkit.methods.network import NetworkMethod
from evalkit.methods.saliency.feed import Feed, aligned_logits_to_map

GRIDS = (1, 3, 5)  # of the pyramid
POOLS = (2, 4, 8)  # of the decoder

_convolution = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)


class AttentiveEncoder(nn.Module):
    """VGG-16 with channel and spatial attention behind every stage: what it gives goes on to the next stage."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vgg = VGGEncoder(width)
        self.attention = nn.ModuleList(
            nn.Sequential(PooledChannelAttention(channels), PooledSpatialAttention()) for channels in self.vgg.channels
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        x, features = image, []
        for number, attention in enumerate(self.attention):
            x = attention(self.vgg.stage(number, x))
            features.append(x)
        return features


class PoolingPyramid(nn.Module):
    """Features (N, C, h, w) and their means on three grids, joined -> (N, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.grids = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in GRIDS)
        self.join = _convolution(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = (
            resized(torch.relu(grid(functional.adaptive_avg_pool2d(x, size))), x)
            for grid, size in zip(self.grids, GRIDS, strict=True)
        )
        return torch.relu(self.join(torch.cat((x, *pooled), 1)))


class AdjacentFusion(nn.Module):
    """Features and what three poolings of them give, added; then, where there is a next level, fused with it.

    Args:
        channels: of the features.
        channels_out: of the next level.
        last: there is no next level.
    """

    def __init__(self, channels: int, channels_out: int, last: bool = False) -> None:
        super().__init__()
        self.pooled = nn.ModuleList(_convolution(channels, channels) for _ in POOLS)
        self.narrow = _convolution(channels, channels_out)
        self.fuse = None if last else _convolution(channels_out, channels_out)

    def forward(self, x: Tensor, level: Tensor | None = None, guide: Tensor | None = None) -> Tensor:
        y = x
        for convolution, size in zip(self.pooled, POOLS, strict=True):
            y = y + resized(convolution(functional.avg_pool2d(x, size)), x)
        y = torch.relu(y)
        if self.fuse is None or level is None or guide is None:
            return self.narrow(y)
        return self.fuse(self.narrow(resized(y, level)) + level + guide)


class ADF(nn.Module):
    """Visible and thermal image (N, 3, H, W), less their means -> logits (N, 1, H, W); sides of 113 or more.

    Args:
        width: channels of the encoders' first stage; 64 in the paper.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.visible, self.thermal = AttentiveEncoder(width), AttentiveEncoder(width)
        self.fusion = VGGEncoder(width, first=1)
        _, half, quarter, eighth, deepest = self.fusion.channels
        self.pyramid = PoolingPyramid(deepest)
        self.guides = nn.ModuleList(_convolution(deepest, channels) for channels in (eighth, quarter, half))
        self.decoder = nn.ModuleList(
            (
                AdjacentFusion(deepest, eighth),
                AdjacentFusion(eighth, quarter),
                AdjacentFusion(quarter, half),
                AdjacentFusion(half, half, last=True),
            )
        )
        self.score = nn.Conv2d(half, 1, 1)

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        streams = [a + b for a, b in zip(self.visible(visible), self.thermal(thermal), strict=True)]
        x, levels = streams[0], []
        for number, stream in enumerate(streams[1:], start=1):
            levels.append(self.fusion.stage(number, x))
            x = levels[-1] + stream
        context = self.pyramid(x)
        half, quarter, eighth, deepest = levels
        x = deepest + context
        for decode, guide, level in zip(self.decoder[:-1], self.guides, (eighth, quarter, half), strict=True):
            x = decode(x, level, torch.relu(guide(resized(context, level))))
        return resized(self.score(self.decoder[-1](x)), visible)

    def scores(self, visible: Tensor, thermal: Tensor) -> tuple[Tensor]:
        return (self.forward(visible, thermal),)


def _convert(content: Any, path: Path) -> State:
    changes: Changes = {
        r"^(rgb|t)_net\.base\.": r"\1_net.vgg.features.",
        r"^(rgb|t)_net\.msas\.(\d)\.s_mask\.0\.": r"\1_net.attention.\2.1.squeeze.",
        r"^(rgb|t)_net\.msas\.(\d)\.s_mask\.2\.": r"\1_net.attention.\2.1.weigh.",
        r"^(rgb|t)_net\.msas\.(\d)\.fus\.0\.": r"\1_net.attention.\2.0.squeeze.",
        r"^(rgb|t)_net\.msas\.(\d)\.fus\.2\.": r"\1_net.attention.\2.0.expand.",
        r"^rgb_net\.": "visible.",
        r"^t_net\.": "thermal.",
        r"^fusnet\.base\.(\d+)\.": lambda match: f"fusion.features.{int(match[1]) + 4}.",
        r"^fusnet\.ppms\.(\d)\.1\.": r"pyramid.grids.\1.",
        r"^fusnet\.ppm_cat\.0\.": "pyramid.join.",
        r"^fusnet\.infos\.(\d)\.0\.": r"guides.\1.",
        r"^deep_pool\.(\d)\.convs\.": r"decoder.\1.pooled.",
        r"^deep_pool\.(\d)\.conv_sum\.": r"decoder.\1.narrow.",
        r"^deep_pool\.(\d)\.conv_sum_c\.": r"decoder.\1.fuse.",
        r"^score\.score\.": "score.",
    }
    return renamed(content, path, changes)


# the means of VT5000's training pairs; values stay within 0..255
FEED = Feed(
    size=None,
    mean=(135.71176741 / 255, 157.80380783 / 255, 140.72236226 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
    thermal_mean=(192.20629105 / 255, 92.03255377 / 255, 87.13143683 / 255),
    thermal_std=(1 / 255, 1 / 255, 1 / 255),
    bgr=True,
)
NETWORK = NetworkMethod(ADF, FEED, aligned_logits_to_map, ("ADF.pth",), _convert)
