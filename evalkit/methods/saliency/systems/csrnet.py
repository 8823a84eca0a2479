"""CSRNet: two small encoders, fusion by matrix products of feature maps, and stacked refinement from deep to shallow.

Huo, Zhu, Zhang, Liu, Shu, Efficient context-guided stacked refinement network for RGB-T salient object detection, IEEE
TCSVT 32(5), 2022, doi:10.1109/TCSVT.2021.3102268. The published code calls the network ESPNET.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State, as_state
from evalkit.methods.layers.blocks import conv_norm
from evalkit.methods.layers.espnet import ESPNetEncoder, conv_prelu, depthwise, norm_prelu
from evalkit.methods.layers.keys import Changes, renamed
from evalkit.methods.network import NetworkMethod
from evalkit.methods.saliency.feed import Feed, stretched_to_map
from evalkit.methods.saliency.systems import midd

GROUPS, SHUFFLED = 8, 16


def resized_to(x: Tensor, like: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, H, W) bilinearly, the corners not aligned; `like` is (..., H, W)."""
    return functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def shuffled(x: Tensor, groups: int = SHUFFLED) -> Tensor:
    """Channels (N, C, H, W) in another order: the first of every group, then the second of every group, ..."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class DilatedContext(nn.Module):
    """Features of one image (N, C, h, w) -> (N, 4 n, h, w): themselves, weighted by place, and two dilated ones.

    Args:
        channels: C.
        inner: n.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.reduce = conv_prelu(channels, inner, 1, groups=GROUPS)
        self.near, self.far = depthwise(inner, 3), depthwise(inner, 5)
        self.attention = nn.Conv2d(1, 1, 7, padding=3, bias=False)
        self.normal = norm_prelu(4 * inner)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        near = self.near(x)
        weighted = x * torch.sigmoid(self.attention(x.amax(1, keepdim=True)))
        return self.normal(torch.cat((weighted, x, near, self.far(near)), 1))


class MatrixFusion(nn.Module):
    """Both contexts, and the matrix product of each channel of theirs, added: (N, C, s, s) each -> (N, C', s, s).

    Args:
        channels: C.
        channels_out: C'.
        factor: how many times more channels the contexts have.
    """

    def __init__(self, channels: int, channels_out: int, factor: int) -> None:
        super().__init__()
        inner = factor * channels
        self.left, self.right = DilatedContext(channels, inner), DilatedContext(channels, inner)
        self.normal = norm_prelu(4 * inner)
        self.out = nn.Sequential(
            nn.Conv2d(4 * inner, channels_out, 1, groups=GROUPS, bias=False), nn.BatchNorm2d(channels_out)
        )

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        left, right = self.left(left), self.right(right)
        return self.out(shuffled(self.normal(left @ right) + left + right))


class ResidualU(nn.Module):
    """The U-shaped block of U2-Net (Qin et al. 2020): (N, C, H, W) -> (N, C', H, W).

    Args:
        channels_in, inner, channels_out: C, of the U, and C'.
        depth: of the U; its deepest convolution is dilated instead of pooled.
    """

    def __init__(self, channels_in: int, inner: int, channels_out: int, depth: int) -> None:
        super().__init__()
        block = partial(conv_norm, activation=nn.ReLU())
        self.first = block(channels_in, channels_out)
        self.down = nn.ModuleList(
            block(channels_out if i == 0 else inner, inner, dilation=2 if i == depth - 1 else 1) for i in range(depth)
        )
        self.up = nn.ModuleList(block(2 * inner, inner if i else channels_out) for i in range(depth - 1))

    def forward(self, x: Tensor) -> Tensor:
        first = x = self.first(x)
        features = []
        for i, down in enumerate(self.down):
            if 0 < i < len(self.down) - 1:
                x = functional.max_pool2d(x, 2, stride=2, ceil_mode=True)
            x = down(x)
            features.append(x)
        for i in reversed(range(len(self.up))):
            x = self.up[i](torch.cat((resized_to(x, features[i]), features[i]), 1))
        return x + first


class CSRNet(nn.Module):
    """Visible and thermal image (N, 3, S, S), normalised -> map (N, 1, S, S) in [0, 1].

    Squares only: the fusion multiplies feature maps as matrices. Where the published code has it so, the thermal
    features are the left factor, and the visible ones at the deepest level.

    Args:
        width: channels of the encoders' first stage; 32 in the paper.
        channels: of the decoder; 64 in the paper.
        inner: of its blocks; 16 in the paper.
    """

    def __init__(self, width: int = 32, channels: int = 64, inner: int = 16) -> None:
        super().__init__()
        self.visible, self.thermal = ESPNetEncoder(width), ESPNetEncoder(width)
        self.fusions = nn.ModuleList(
            (
                MatrixFusion(8 * width, 2 * channels, 1),
                *(MatrixFusion(width * factor, channels, 2) for factor in (4, 2, 1)),
            )
        )
        self.decoders = nn.ModuleList(ResidualU(2 * channels, inner, channels, depth) for depth in (4, 4, 4, 5))
        self.sides = nn.ModuleList(nn.Conv2d(channels, 1, 3, padding=1) for _ in range(4))
        self.out = nn.Conv2d(4, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def scores(self, visible: Tensor, thermal: Tensor) -> tuple[Tensor, ...]:
        """Logits (N, 1, S, S): of the joint map, and of those at 1/2, 1/4, 1/8 and 1/16."""
        levels = list(zip(self.visible(visible), self.thermal(thermal), strict=True))[::-1]
        x, side = self.decoders[0](self.fusions[0](*levels[0])), None
        maps = [self.sides[0](x)]
        for fusion, decoder, score, (of_visible, of_thermal) in zip(
            self.fusions[1:], self.decoders[1:], self.sides[1:], levels[1:], strict=True
        ):
            side = torch.sigmoid(resized_to(maps[-1], of_thermal))
            low, high = (edge(side, (2, 3), keepdim=True) for edge in (torch.amin, torch.amax))
            fused = fusion(of_thermal, of_visible)
            fused = fused + fused * (side - low) / (high - low + 1e-8)
            x = decoder(torch.cat((fused, resized_to(x, of_thermal)), 1))
            maps.append(score(x))
        full = [resized_to(one, thermal) for one in reversed(maps)]
        return self.out(torch.cat(full, 1)), *full

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        return torch.sigmoid(self.scores(visible, thermal)[0])


UNUSED = re.compile(r"enhance\d\.bn\.|(rgb|t)_encoder_m\.level\d_0\.eesp\.module_act\.")  # of the published file


def _convert(content: Any, path: Path) -> State:
    state = {key: value for key, value in as_state(content, path).items() if not UNUSED.match(key)}
    changes: Changes = {
        r"^rgb_encoder_m\.": "visible.",
        r"^t_encoder_m\.": "thermal.",
        r"\.level1\.": ".first.",
        r"\.level(\d)_0\.act\.": r".level\1_0.prelu.",
        r"\.level(\d)_0\.": lambda match: f".down.{int(match[1]) - 2}.",
        r"\.level(\d)\.(\d)\.": lambda match: f".blocks.{int(match[1]) - 3}.{match[2]}.pyramid.",
        r"\.pyramid\.module_act\.": ".prelu.",
        r"\.eesp\.": ".pyramid.",
        r"\.proj_1x1\.": ".reduce.",
        r"\.spp_dw\.(\d)\.conv\.": r".branches.\1.",
        r"\.br_after_cat\.": ".normal.",
        r"\.conv_1x1_exp\.": ".merge.",
        r"\.inp_reinf\.": ".reinforce.",
        r"^global_info6\.ourfusion_top\.": "fusions.0.",
        r"^ourfusion(\d)\.": lambda match: f"fusions.{6 - int(match[1])}.",
        r"\._1x1_r\.": ".left.reduce.",
        r"\._1x1_t\.": ".right.reduce.",
        r"\.rebnconv_d3_r\.conv\.": ".left.near.",
        r"\.rebnconv_d3_t\.conv\.": ".right.near.",
        r"\.rebnconv_d5_r\.conv\.": ".left.far.",
        r"\.rebnconv_d5_t\.conv\.": ".right.far.",
        r"\.sa1\.conv1\.": ".left.attention.",
        r"\.sa2\.conv1\.": ".right.attention.",
        r"\.br_r\.": ".left.normal.",
        r"\.br_t\.": ".right.normal.",
        r"\.br_rgbt_out\.": ".normal.",
        r"\._1x1_out_cb\.": ".out.",
        r"^stage(\d)d\.": lambda match: f"decoders.{6 - int(match[1])}.",
        r"\.rebnconvin\.": ".first.",
        r"\.rebnconv(\d)\.": lambda match: f".down.{int(match[1]) - 1}.",
        r"\.rebnconv(\d)d\.": lambda match: f".up.{int(match[1]) - 1}.",
        r"^side(\d)\.": lambda match: f"sides.{6 - int(match[1])}.",
        r"^outconv\.": "out.",
        r"\.normal\.bn\.": ".normal.0.",
        r"\.normal\.act\.": ".normal.1.",
        r"\.conv(_s1)?\.": ".0.",
        r"\.bn(_s1)?\.": ".1.",
        r"\.act\.": ".2.",
    }
    return renamed(state, path, changes)


FEED = Feed(**vars(midd.FEED) | {"size": 320})
NETWORK = NetworkMethod(CSRNet, FEED, stretched_to_map, ("CSRNet.pth",), _convert)
