"""MFNet (Ha et al. 2017, doi:10.1109/IROS.2017.8206396): two small encoders, their features concatenated.

What the published network has besides the paper: every convolution, the last one of the logits included, is followed by
BatchNorm and a leaky ReLU; the decoder doubles by repeating pixels, and adds the encoders' features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.downstream.segmentation.system import SegmentationSystem, unit
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed

RGB_CHANNELS = (16, 48, 48, 96, 96)  # of the five stages
INFRARED_CHANNELS = (16, 16, 16, 36, 36)


def conv(channels_in: int, channels_out: int, dilation: int = 1) -> nn.Sequential:
    """3x3 convolution, BatchNorm, leaky ReLU with slope 0.2.

    Args:
        channels_in: of the input, (N, channels_in, H, W).
        channels_out: of the output, (N, channels_out, H, W).
        dilation: of the kernel, in pixels; padded by as much.
    """
    layers = (
        nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.2, inplace=True),
    )
    nn.init.kaiming_normal_(layers[0].weight, mode="fan_out", nonlinearity="leaky_relu")
    return nn.Sequential(*layers)


class MiniInception(nn.Module):
    """Three times: a plain and a dilated convolution side by side, half of the channels each."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        widths = (channels_in, channels_out, channels_out)
        self.plain = nn.ModuleList(conv(width, channels_out // 2) for width in widths)
        self.dilated = nn.ModuleList(conv(width, channels_out // 2, dilation=2) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        for plain, dilated in zip(self.plain, self.dilated, strict=True):
            x = torch.cat([plain(x), dilated(x)], dim=1)
        return x


class Stream(nn.Module):
    """The encoder of one modality: features of stages 2, 3 and 4, and the centre at a sixteenth of the size."""

    def __init__(self, channels_in: int, channels: Sequence[int]) -> None:
        super().__init__()
        first, second, third, fourth, centre = channels
        self.stage1 = conv(channels_in, first)
        self.stage2 = nn.Sequential(conv(first, second), conv(second, second))
        self.stage3 = nn.Sequential(conv(second, third), conv(third, third))
        self.stage4 = MiniInception(third, fourth)
        self.centre = MiniInception(fourth, centre)

    def forward(self, image: Tensor) -> list[Tensor]:
        x, features = self.stage1(image), []
        for stage in (self.stage2, self.stage3, self.stage4):
            x = stage(functional.max_pool2d(x, 2))
            features.append(x)
        return [*features, self.centre(functional.max_pool2d(x, 2))]


class MFNet(nn.Module):
    """(N, 4, H, W) in 0..1, red, green, blue, infrared, sides multiples of 16 -> logits (N, classes, H, W)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.rgb, self.infrared = Stream(3, RGB_CHANNELS), Stream(1, INFRARED_CHANNELS)
        both = [a + b for a, b in zip(RGB_CHANNELS, INFRARED_CHANNELS, strict=True)]
        self.up = nn.ModuleList(conv(both[i + 1], both[i]) for i in (2, 1, 0))
        self.classify = conv(both[0], classes)

    def forward(self, images: Tensor) -> Tensor:
        streams = zip(self.rgb(images[:, :3]), self.infrared(images[:, 3:]), strict=True)
        *features, x = (torch.cat(pair, dim=1) for pair in streams)
        for up, feature in zip(self.up, reversed(features), strict=True):
            x = up(_doubled(x) + feature)
        return self.classify(_doubled(x))


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


CHANGES = {
    r"^conv(\w+)_(rgb|inf)\.": r"\2.conv\1.",
    r"^inf\.": "infrared.",
    r"\.conv1\.(?=conv|bn)": ".stage1.",
    r"\.conv([23])_1\.": r".stage\1.0.",
    r"\.conv([23])_2\.": r".stage\1.1.",
    r"\.conv4\.": ".stage4.",
    r"\.conv5\.": ".centre.",
    r"\.conv1_left\.": ".plain.0.",
    r"\.conv2_left\.": ".plain.1.",
    r"\.conv3_left\.": ".plain.2.",
    r"\.conv1_right\.": ".dilated.0.",
    r"\.conv2_right\.": ".dilated.1.",
    r"\.conv3_right\.": ".dilated.2.",
    r"^decode4\.": "up.0.",
    r"^decode3\.": "up.1.",
    r"^decode2\.": "up.2.",
    r"^decode1\.": "classify.",
    r"\.conv\.(?=weight|bias)": ".0.",
    r"\.bn\.": ".1.",
}


def convert(content: Any, path: Path) -> State:
    """The published names as those of `MFNet`. Raises CheckpointError."""
    return renamed(content, path, CHANGES)


SYSTEMS = {"MFNet": SegmentationSystem(MFNet, unit, 16, convert)}
