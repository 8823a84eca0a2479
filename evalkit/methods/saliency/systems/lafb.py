"""LAFB: a bank of five fusion schemes at every scale, weighed by channel attention, and interaction between scales.

Wang, Tu, Li, Zhang, Luo, Learning adaptive fusion bank for multi-modal salient object detection, IEEE TCSVT 34(8),
2024, doi:10.1109/TCSVT.2024.3375505.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import State, as_state
from evalkit.methods.layers.blocks import conv_norm
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import IMAGENET_MEAN, IMAGENET_STD
from evalkit.methods.layers.pooled_attention import PooledChannelAttention
from evalkit.methods.layers.res2net import Res2NetEncoder
from evalkit.methods.layers.resize import resized
from evalkit.methods.layers.resnet import RESNET50
from evalkit.methods.network import NetworkMethod
from evalkit.methods.saliency.feed import Feed, pillow_square, stretched_logits_to_map

CONTEXT = 32  # channels of the decoder
NEIGHBOURS = {"1": ("3", "2"), "2": ("4", "3"), "3": ("1", "2"), "4": ("2", "3")}  # of the scales 1/4, ..., 1/32
SCALES = tuple(NEIGHBOURS)


def _point(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1), nn.ReLU())


class Guidance(nn.Module):
    """One image's features weighted by a mask from the other's: of low light (LI) and of thermal crossover (TC).

    Args:
        channels: of each image's features.
        inner: channels of the result.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.guided, self.guide = _point(channels, inner), _point(channels, inner)
        self.mask = nn.Conv2d(inner, inner, 3, padding=1)
        self.out = conv_norm(inner, inner, nn.ReLU())

    def forward(self, guided: Tensor, guide: Tensor) -> Tensor:
        x = self.guided(guided)
        return self.out(x * torch.sigmoid(self.mask(self.guide(guide))) + x)


class Residual(nn.Module):
    """A 1x1 convolution, normalised or not, and two 3x3 ones beside it, ReLU: for image clutter (IC)."""

    def __init__(self, channels: int, inner: int, normalised: bool) -> None:
        super().__init__()
        point = nn.Conv2d(channels, inner, 1)
        self.point = nn.Sequential(point, nn.BatchNorm2d(inner)) if normalised else point
        self.around = nn.Sequential(nn.Conv2d(inner, inner, 3, padding=1), nn.Conv2d(inner, inner, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.point(x)
        return torch.relu(x + self.around(x))


class FusionBank(nn.Module):
    """Features of both images at one scale (N, C, h, w) -> (N, C', h, w), by all five schemes together.

    Args:
        channels: C.
        inner: channels of each scheme.
        channels_out: C'.
        first: of the scales, whose branch of visible clutter is not normalised, as published.
    """

    def __init__(self, channels: int, inner: int, channels_out: int, first: bool) -> None:
        super().__init__()
        wide = partial(nn.Conv2d, channels, inner, 3)
        self.low_light, self.crossover = Guidance(channels, inner), Guidance(channels, inner)
        self.clutter = nn.ModuleDict(
            {"r": Residual(channels, inner, normalised=not first), "t": Residual(channels, inner, normalised=True)}
        )
        self.scale = nn.ModuleDict({image: wide(padding=2, dilation=2) for image in ("r", "t")})
        self.centre = nn.ModuleDict({image: wide(padding=1) for image in ("r", "t")})
        self.join = conv_norm(8 * inner, channels_out, nn.ReLU())
        self.attention = PooledChannelAttention(channels_out, bias=False)

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        pairs = (
            branches[image](x)
            for branches in (self.clutter, self.scale, self.centre)
            for image, x in (("r", visible), ("t", thermal))
        )
        fused = (self.low_light(visible, thermal), self.crossover(thermal, visible), *pairs)
        return self.attention(self.join(torch.cat(fused, 1)))


class ScaleInteraction(nn.Module):
    """Features of one scale weighted by a mask from two others: three (N, C, ., .) -> that of the last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        around = partial(nn.Conv2d, channels, channels)
        self.others = nn.ModuleDict({name: nn.Sequential(around(3, padding=1), nn.ReLU()) for name in ("1", "2")})
        self.own = nn.Sequential(around(1), nn.ReLU())

    def forward(self, first: Tensor, second: Tensor, own: Tensor) -> Tensor:
        mask = torch.sigmoid(self.others["1"](resized(first, own)) + self.others["2"](resized(second, own)))
        x = self.own(own)
        return torch.relu(x * mask + x)


def _normalised(channels_in: int, channels_out: int, size: int | tuple[int, int], dilation: int = 1) -> nn.Sequential:
    """Convolution without bias that keeps the size, and batch normalisation, without activation."""
    height, width = (size, size) if isinstance(size, int) else size
    padding = (height // 2 * dilation, width // 2 * dilation)
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(channels_out),
    )


class WideContext(nn.Module):
    """Four branches of growing reach and a shortcut: (N, C, h, w) -> (N, C', h, w)."""

    def __init__(self, channels: int, channels_out: int) -> None:
        super().__init__()
        inner = partial(_normalised, channels_out, channels_out)
        self.branches = nn.ModuleList((nn.Sequential(_normalised(channels, channels_out, 1)),))
        for reach in (3, 5, 7):
            self.branches.append(
                nn.Sequential(
                    _normalised(channels, channels_out, 1), inner((1, reach)), inner((reach, 1)), inner(3, reach)
                )
            )
        self.join = _normalised(4 * channels_out, channels_out, 3)
        self.shortcut = _normalised(channels, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        joined = self.join(torch.cat([branch(x) for branch in self.branches], 1))
        return torch.relu(joined + self.shortcut(x))


class LAFB(nn.Module):
    """Visible and thermal image (N, 3, H, W) -> logits (N, 1, H, W); sides of 32 or more.

    Args:
        width: channels behind the encoders' stems; 64 in the paper.
        inner: channels of each fusion scheme; 256 in the paper.
        channels: of what the bank gives; 128 in the paper.
        blocks: of each stage of the encoders.
    """

    def __init__(
        self, width: int = 64, inner: int = 256, channels: int = 128, blocks: Sequence[int] = RESNET50
    ) -> None:
        super().__init__()
        self.visible, self.thermal = Res2NetEncoder(width, blocks), Res2NetEncoder(width, blocks)
        self.thermal_colours = nn.Conv2d(3, 3, 1)
        counts = zip(SCALES, self.visible.channels, strict=True)
        self.banks = nn.ModuleDict(
            {scale: FusionBank(count, inner, channels, first=scale == "1") for scale, count in counts}
        )
        self.interactions = nn.ModuleDict({scale: ScaleInteraction(channels) for scale in SCALES})
        self.contexts = nn.ModuleDict(
            {scale: WideContext(channels + (CONTEXT if scale != "4" else 0), CONTEXT) for scale in SCALES}
        )
        self.heads = nn.ModuleDict({scale: nn.Conv2d(CONTEXT, 1, 1) for scale in SCALES})

    def scores(self, visible: Tensor, thermal: Tensor) -> tuple[Tensor, ...]:
        """Logits (N, 1, H, W) of the scales 1/4, 1/8, 1/16 and 1/32, the first of which is the result."""
        pairs = zip(SCALES, self.visible(visible), self.thermal(self.thermal_colours(thermal)), strict=True)
        fused = {scale: self.banks[scale](*features) for scale, *features in pairs}
        x, maps = None, []
        for scale in reversed(SCALES):
            level = self.interactions[scale](*(fused[other] for other in NEIGHBOURS[scale]), fused[scale])
            if x is not None:
                level = torch.cat((level, resized(x, level)), 1)
            x = self.contexts[scale](level)
            maps.append(resized(self.heads[scale](x), visible))
        return tuple(maps[::-1])

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        return self.scores(visible, thermal)[0]


# Every published part of the bank has the layers of all four scales and uses those of its own.
UNUSED = re.compile(r"(?:LI|TC|IC|NV|CB)(\d)\.(?:level|layer_)(?!\1)\d|fal(\d)\.(?:fal|ca)(?!\2)\d\.")


def _convert(content: Any, path: Path) -> State:
    state = {key: value for key, value in as_state(content, path).items() if not UNUSED.match(key)}
    changes = {
        r"^backbone_rgb\.": "visible.",
        r"^backbone_t\.": "thermal.",
        r"^layer_dep0\.": "thermal_colours.",
        r"^LI(\d)\.level\d_r\.": r"banks.\1.low_light.guided.",
        r"^LI(\d)\.level\d_t\.": r"banks.\1.low_light.guide.",
        r"^LI(\d)\.level\d\.": r"banks.\1.low_light.mask.",
        r"^LI(\d)\.layer_\d1\.": r"banks.\1.low_light.out.",
        r"^TC(\d)\.level\d_t\.": r"banks.\1.crossover.guided.",
        r"^TC(\d)\.level\d_r\.": r"banks.\1.crossover.guide.",
        r"^TC(\d)\.level\d\.": r"banks.\1.crossover.mask.",
        r"^TC(\d)\.layer_\d1\.": r"banks.\1.crossover.out.",
        r"^IC(\d)\.level\d1_(r|t)\.": r"banks.\1.clutter.\2.point.",
        r"^IC(\d)\.level\d2_(r|t)\.": r"banks.\1.clutter.\2.around.",
        r"^NV(\d)\.level\d_(r|t)\.": r"banks.\1.scale.\2.",
        r"^CB(\d)\.level\d_(r|t)\.": r"banks.\1.centre.\2.",
        r"^fal(\d)\.fal\d\.": r"banks.\1.join.",
        r"^fal(\d)\.ca\d\.fc1\.": r"banks.\1.attention.squeeze.",
        r"^fal(\d)\.ca\d\.fc2\.": r"banks.\1.attention.expand.",
        r"^iigm(\d)_fusion\.conv([12])\.": r"interactions.\1.others.\2.",
        r"^iigm(\d)_fusion\.conv3\.": r"interactions.\1.own.",
        r"^ful_gcm_(\d)\.branch": r"contexts.\1.branches.",
        r"^ful_gcm_(\d)\.conv_cat\.": r"contexts.\1.join.",
        r"^ful_gcm_(\d)\.conv_res\.": r"contexts.\1.shortcut.",
        r"^score(\d)_fusion\.": r"heads.\1.",
        r"^(contexts\..*)\.conv\.": r"\1.0.",
        r"^(contexts\..*)\.bn\.": r"\1.1.",
    }
    return renamed(state, path, changes)


# the thermal image is not normalised
FEED = Feed(
    size=352,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    thermal_mean=(0, 0, 0),
    thermal_std=(1, 1, 1),
    square=pillow_square,
)
NETWORK = NetworkMethod(LAFB, FEED, stretched_logits_to_map, ("LAFB.pth",), _convert)
