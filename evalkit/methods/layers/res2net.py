"""Res2Net-50 v1b as an encoder of four scales (Gao et al., IEEE TPAMI 43(2), 2021); published names of the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from evalkit.methods.layers.resnet import RESNET50, pooled

SCALE = 4  # groups of channels of a block
EXPANSION = 4


class Res2NetBlock(nn.Module):
    """A bottleneck whose 3x3 convolutions work on groups of channels, each seeing what the one before it gave.

    The first block of a stage has them side by side, and pools the last group.

    Args:
        channels_in: of the features; the result has 4 * planes channels.
        planes: which the groups' width follows from: 26/64 of it.
        stride: of the block.
        first: of its stage.
    """

    def __init__(self, channels_in: int, planes: int, stride: int = 1, first: bool = False) -> None:
        super().__init__()
        self.width = planes * 26 // 64
        channels_out, inner = EXPANSION * planes, SCALE * self.width
        self.conv1 = nn.Conv2d(channels_in, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.convs = nn.ModuleList(
            nn.Conv2d(self.width, self.width, 3, stride, padding=1, bias=False) for _ in range(SCALE - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(self.width) for _ in range(SCALE - 1))
        self.conv3 = nn.Conv2d(inner, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if first else None
        self.downsample = (
            nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
                nn.Conv2d(channels_in, channels_out, 1, bias=False),
                nn.BatchNorm2d(channels_out),
            )
            if first
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        *groups, last = torch.relu(self.bn1(self.conv1(x))).split(self.width, 1)
        outputs: list[Tensor] = []
        for group, convolution, normal in zip(groups, self.convs, self.bns, strict=True):
            y = group if self.pool is not None or not outputs else outputs[-1] + group
            outputs.append(torch.relu(normal(convolution(y))))
        outputs.append(last if self.pool is None else self.pool(last))
        y = self.bn3(self.conv3(torch.cat(outputs, 1)))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Res2NetEncoder(nn.Module):
    """Image (N, 3, H, W) -> features of 4, 8, 16 and 32 w channels at 1/4, 1/8, 1/16 and 1/32, sides rounded up.

    Args:
        width: w, channels behind the stem; 64 fits the ImageNet weights.
        blocks: of each stage.
    """

    def __init__(self, width: int = 64, blocks: Sequence[int] = RESNET50) -> None:
        super().__init__()
        self.channels = tuple(EXPANSION * width * 2**i for i in range(4))
        half = width // 2
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, width, 3, padding=1, bias=False),
        )
        self.bn1 = nn.BatchNorm2d(width)
        before = (width, *self.channels)
        stages = []
        for i, count in enumerate(blocks):
            planes, stride = width * 2**i, 2 if i else 1
            first = Res2NetBlock(before[i], planes, stride, first=True)
            stages.append(nn.Sequential(first, *(Res2NetBlock(before[i + 1], planes) for _ in range(count - 1))))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> list[Tensor]:
        x, features = pooled(torch.relu(self.bn1(self.conv1(image)))), []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features
