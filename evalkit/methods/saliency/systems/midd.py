"""MIDD: two encoders and two decoders that exchange their features, guided by a global context.

Tu, Li, Li, Lang, Tang, Multi-interactive dual-decoder for RGB-thermal salient object detection, IEEE TIP 30, 2021,
doi:10.1109/TIP.2021.3087412.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.blocks import conv_norm
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pooled_attention import PooledChannelAttention
from evalkit.methods.layers.resize import resized
from evalkit.methods.layers.vgg import VGGEncoder
from evalkit.methods.network import NetworkMethod
from evalkit.methods.saliency.feed import Feed, aligned_logits_to_map

GRIDS = (13, 9, 5, 1)  # of the global context


class PooledContext(nn.Module):
    """Deepest features of both streams (N, 8 w, h, w), joined, and their maxima on four grids -> (N, 8 w, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = PooledChannelAttention(16 * width)
        self.reduce = conv_norm(16 * width, 4 * width, nn.ReLU())
        self.grids = nn.ModuleList(nn.Conv2d(4 * width, 2 * width, 1, bias=False) for _ in GRIDS)
        self.join = nn.Sequential(nn.Conv2d(12 * width, 8 * width, 1), nn.BatchNorm2d(8 * width), nn.ReLU())

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        x = self.reduce(self.attention(torch.cat((visible, thermal), 1)))
        pooled = (
            resized(torch.relu(grid(functional.adaptive_max_pool2d(x, size))), x)
            for grid, size in zip(self.grids, GRIDS, strict=True)
        )
        return self.join(torch.cat((*pooled, x), 1))


class GroupFusion(nn.Module):
    """Features of both decoders' level below, of the encoder at this level, and the context, added at its size.

    Args:
        below: channels of each of the two below.
        channels: of the encoder's features, and of what comes out.
        width: channels of the encoders' first stage.
    """

    def __init__(self, below: int, channels: int, width: int) -> None:
        super().__init__()
        inner = 2 * width
        self.attention_below = PooledChannelAttention(2 * below)
        self.below = conv_norm(2 * below, inner, nn.ReLU())
        self.context = conv_norm(8 * width, inner, nn.ReLU())
        self.attention = PooledChannelAttention(channels)
        self.here = conv_norm(channels, inner, nn.ReLU())
        self.out = conv_norm(inner, channels, nn.ReLU())

    def forward(self, first: Tensor, second: Tensor, here: Tensor, context: Tensor) -> Tensor:
        below = self.below(resized(self.attention_below(torch.cat((first, second), 1)), here))
        return self.out(below + self.here(self.attention(here)) + self.context(resized(context, here)))


class MIDD(nn.Module):
    """Visible and thermal image (N, 3, H, W), normalised -> logits (N, 1, H, W); sides of 16 or more.

    The encoders' first stage, at full size, is computed and not used.

    Args:
        width: channels of the encoders' first stage; 64 in the paper.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.visible, self.thermal = VGGEncoder(width), VGGEncoder(width)
        self.context = PooledContext(width)
        sizes = ((8, 8), (8, 4), (4, 2))  # channels below and here, over width: at 1/8, 1/4 and 1/2
        levels = [[GroupFusion(below * width, here * width, width) for below, here in sizes] for _ in range(2)]
        self.visible_levels, self.thermal_levels = (nn.ModuleList(stream) for stream in levels)
        self.visible_score, self.thermal_score = (nn.Conv2d(2 * width, 1, 1) for _ in range(2))
        self.context_score = nn.Conv2d(8 * width, 1, 1)
        self.attention = PooledChannelAttention(4 * width)
        self.score = nn.Conv2d(4 * width, 1, 1)

    def scores(self, visible: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits of both decoders together and of each (N, 1, H, W), and of the context (N, 1, H / 16, W / 16)."""
        image = visible
        visible_features, thermal_features = self.visible(visible), self.thermal(thermal)
        context = self.context(visible_features[4], thermal_features[4])
        # at the deepest level each decoder takes the context and the other stream's features
        below = (context, thermal_features[4]), (context, visible_features[4])
        for i, (of_visible, of_thermal) in enumerate(zip(self.visible_levels, self.thermal_levels, strict=True)):
            first = of_visible(*below[0], visible_features[3 - i], context)
            second = of_thermal(*below[1], thermal_features[3 - i], context)
            below = (first, second), (second, first)
        first, second = below[0]
        return (
            resized(self.score(self.attention(torch.cat((first, second), 1))), image),
            self.visible_score(resized(first, image)),
            self.thermal_score(resized(second, image)),
            self.context_score(context),
        )

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        return self.scores(visible, thermal)[0]


def _convert(content: Any, path: Path) -> State:
    changes = {
        r"^rgb_net\.base\.": "visible.features.",
        r"^t_net\.base\.": "thermal.features.",
        r"^decoder\.global_info\.b(\d)\.1\.": r"context.grids.\1.",
        r"^decoder\.global_info\.fus\.": "context.join.",
        r"^decoder\.global_info\.": "context.",
        r"^decoder\.gfb4_": "gfb0_",  # levels from the deepest on
        r"^decoder\.gfb3_": "gfb1_",
        r"^decoder\.gfb2_": "gfb2_",
        r"^gfb(\d)_1\.": r"visible_levels.\1.",
        r"^gfb(\d)_2\.": r"thermal_levels.\1.",
        r"^decoder\.score_global\.": "context_score.",
        r"^decoder\.score_1\.": "visible_score.",
        r"^decoder\.score_2\.": "thermal_score.",
        r"^decoder\.refine\.": "",
        r"\.de_chan\.": ".reduce.",
        r"\.conv1\.": ".below.",
        r"\.conv_globalinfo\.": ".context.",
        r"\.conv_curfeat\.": ".here.",
        r"\.conv_out\.": ".out.",
        r"(^|\.)ca2?\.": r"\1attention.",
        r"\.ca1\.": ".attention_below.",
        r"\.fus\.0\.": ".squeeze.",
        r"\.fus\.2\.": ".expand.",
    }
    return renamed(content, path, changes)


# of VT5000's training pairs; the thermal images have false colours
FEED = Feed(
    size=352,
    mean=(0.532, 0.619, 0.551),
    std=(0.244, 0.236, 0.241),
    thermal_mean=(0.753, 0.360, 0.341),
    thermal_std=(0.241, 0.269, 0.208),
    bgr=True,
)
NETWORK = NetworkMethod(MIDD, FEED, aligned_logits_to_map, ("MIDD.pth",), _convert)
