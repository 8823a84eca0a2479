"""EMMA: a U-shaped fuser, trained so that sensing its fused image again gives back both images."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import stretched
from evalkit.methods.layers.restormer import PUBLISHED_KEYS, lite_transformer_block
from evalkit.methods.network import NetworkMethod, Pixels, rounded, unit_gray_pair

WIDTHS = (8, 16, 32, 32)  # of the features at full size, half, a quarter, an eighth
HEADS = 8
STEP = 32  # the authors fuse images whose sides are multiples of it


def conv(channels_in: int, channels_out: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """3x3 convolution with reflected border.

    Args:
        channels_in, channels_out: C and C' of the features.
        stride: of the kernel, in pixels.
        bias: with a summand per channel.
    """
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, padding_mode="reflect", bias=bias)


class ResidualBlock(nn.Module):
    """3x3 convolution, ReLU, 3x3 convolution, added to the input: (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv(channels, channels, bias=True), nn.ReLU(), conv(channels, channels, bias=True))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class RestormerCNNBlock(nn.Module):
    """Attention between channels beside two residual blocks: (N, C, H, W) -> (N, C', H, W)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.embed = conv(channels_in, channels_out)
        self.wide = lite_transformer_block(channels_out, HEADS, padding_mode="reflect")
        self.local = nn.Sequential(ResidualBlock(channels_out), ResidualBlock(channels_out))
        self.join = conv(2 * channels_out, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.join(torch.cat((self.wide(x), self.local(x)), dim=1))


class Encoder(nn.Module):
    """Image (N, 1, H, W) -> features at four scales, WIDTHS channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(map(RestormerCNNBlock, (1, *WIDTHS[:-1]), WIDTHS))
        self.down = nn.ModuleList(conv(width, width, stride=2) for width in WIDTHS[:-1])

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [self.blocks[0](image)]
        for down, block in zip(self.down, self.blocks[1:], strict=True):
            features.append(block(down(features[-1])))
        return features


class Decoder(nn.Module):
    """Features at four scales -> image (N, 1, H, W) in (0, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(RestormerCNNBlock(2 * width, width) for width in WIDTHS[:-1])
        self.blocks.append(RestormerCNNBlock(WIDTHS[-1], WIDTHS[-1]))  # nothing comes from below
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(below, width, 4, stride=2, padding=1, bias=False), nn.ReLU())
            for width, below in itertools.pairwise(WIDTHS)
        )
        self.last = conv(WIDTHS[0], 1, bias=True)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.blocks[-1](features[-1])
        for level in (2, 1, 0):
            x = self.blocks[level](torch.cat((self.up[level](x), features[level]), dim=1))
        return torch.sigmoid(self.last(x))


class EMMA(nn.Module):
    """Zhao et al., Equivariant Multi-Modality Image Fusion, CVPR 2024, arXiv:2305.11443.

    Two gray images (N, 1, H, W) in [0, 1], any size -> fused (N, 1, H, W) in (0, 1).

    As by the authors' script, an image whose sides are not multiples of 32 is fused up to four times, cropped to
    multiples at each corner, and what the crops at the right and bottom have more is set beside the first one, without
    a transition. Sides below 32, at which that script fails, are here continued to 32 by their last row and column and
    cut off again.

    At full size the eight heads have one channel each, so the attention there changes nothing but the values: queries,
    keys and temperatures of these four blocks are in the checkpoint without effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = Encoder(), Encoder()
        self.fusion = nn.ModuleList(RestormerCNNBlock(2 * width, width) for width in WIDTHS)
        self.decoder = Decoder()

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        height, width = infrared.shape[-2:]
        border = (0, max(0, STEP - width), 0, max(0, STEP - height))
        a, b = (functional.pad(image, border, mode="replicate") for image in (infrared, visible))
        return self.by_corners(a, b)[..., :height, :width]

    def by_corners(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Images of at least 32x32, by crops whose sides are multiples of 32."""
        more_rows, more_columns = (side % STEP for side in infrared.shape[-2:])
        fused = torch.empty_like(infrared)
        for rows, filled_rows in edges(infrared.shape[-2], more_rows):
            for columns, filled_columns in edges(infrared.shape[-1], more_columns):
                part = self.in_one_piece(infrared[..., rows, columns], visible[..., rows, columns])
                fused[..., filled_rows, filled_columns] = part[..., filled_rows, filled_columns]
        return fused

    def in_one_piece(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """The network itself, for sides that are multiples of 8, from 16."""
        scales = zip(self.fusion, self.infrared(infrared), self.visible(visible), strict=True)
        return self.decoder([fuse(torch.cat((a, b), dim=1)) for fuse, a, b in scales])


def edges(length: int, more: int) -> list[tuple[slice, slice]]:
    """What to fuse of an axis, and which of it to keep; the latter holds for the crop and for the whole alike."""
    if not more:
        return [(slice(None), slice(None))]
    return [(slice(0, length - more), slice(0, length - more)), (slice(more, None), slice(-more, None))]


_LEVELS = (1, 2, 3, 4)  # the authors count from 1, and an upsampling by the level it comes from
_KEYS = {
    **{rf"^V_en_{level}\.": f"visible.blocks.{level - 1}." for level in _LEVELS},
    **{rf"^I_en_{level}\.": f"infrared.blocks.{level - 1}." for level in _LEVELS},
    **{rf"^V_down{level}\.": f"visible.down.{level - 1}." for level in _LEVELS[:-1]},
    **{rf"^I_down{level}\.": f"infrared.down.{level - 1}." for level in _LEVELS[:-1]},
    **{rf"^f_{level}\.": f"fusion.{level - 1}." for level in _LEVELS},
    **{rf"^de_{level}\.": f"decoder.blocks.{level - 1}." for level in _LEVELS},
    **{rf"^up{level}\.": f"decoder.up.{level - 2}." for level in _LEVELS[1:]},
    r"^last\.0\.": "decoder.last.",
    r"\.GlobalFeature\.": ".wide.",
    r"\.LocalFeature\.Extraction\.": ".local.",
    r"\.FFN\.": ".join.",
    **PUBLISHED_KEYS,
}


def _convert(content: Any, path: Path) -> State:
    return renamed(content, path, _KEYS)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return rounded(stretched(output[0].numpy()) * 255)


METHODS = {"EMMA": NetworkMethod(EMMA, unit_gray_pair, _finish, ("EMMA.pth",), _convert)}
