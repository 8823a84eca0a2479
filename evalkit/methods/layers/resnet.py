"""ResNet as an encoder of four scales, five with the stem; its names are those of the published ImageNet weights.

The strides are torchvision's: in a bottleneck the 3x3 convolution has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State, as_state

RESNET18 = (2, 2, 2, 2)
RESNET34 = (3, 4, 6, 3)
RESNET50 = (3, 4, 6, 3)  # of BottleneckBlock, as the next two
RESNET101 = (3, 4, 23, 3)
RESNET152 = (3, 8, 36, 3)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016): (N, C, H, W) -> (N, C', ceil(H/s), ceil(W/s))."""

    expansion = 1

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))
            if stride != 1 or channels_in != channels_out
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut: (N, C, H, W) -> (N, 4 width, ceil(H/s), ceil(W/s))."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        channels_out = self.expansion * width
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))
            if stride != 1 or channels_in != channels_out
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNetEncoder(nn.Module):
    """Stem and four stages, without the classifier.

    Stage i = 1..4 gives (N, channels[i - 1], H / 2^(i+1), W / 2^(i+1)), sides rounded up; `channels` are
    width * 2^(i-1), with bottlenecks four times as many.

    Args:
        blocks: of each stage.
        width: channels of the stem; 64 fits the ImageNet weights.
        block: BasicBlock, or BottleneckBlock of ResNet-50 and larger.
        channels_in: of the image; 3 fits the ImageNet weights.
    """

    def __init__(
        self,
        blocks: Sequence[int] = RESNET34,
        width: int = 64,
        block: type[BasicBlock] | type[BottleneckBlock] = BasicBlock,
        channels_in: int = 3,
    ) -> None:
        super().__init__()
        self.channels = tuple(width * 2**i * block.expansion for i in range(4))
        self.conv1 = nn.Conv2d(channels_in, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        before = (width, *self.channels)
        stages = []
        for i, count in enumerate(blocks):
            first = block(before[i], width * 2**i, stride=2 if i else 1)
            stages.append(nn.Sequential(first, *(block(before[i + 1], width * 2**i) for _ in range(count - 1))))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4

    def first(self, image: Tensor) -> Tensor:
        """Image (N, channels_in, H, W) -> what the stem has before it pools, (N, width, H / 2, W / 2)."""
        return functional.relu(self.bn1(self.conv1(image)))

    def stem(self, image: Tensor) -> Tensor:
        """Image (N, channels_in, H, W) -> (N, width, H / 4, W / 4)."""
        return pooled(self.first(image))

    def scales(self, image: Tensor) -> list[Tensor]:
        """Image (N, channels_in, H, W) -> features at 1/2 (`first`), 1/4, 1/8, 1/16 and 1/32 (the four stages)."""
        features = [self.first(image)]
        x = pooled(features[0])
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image (N, channels_in, H, W) -> the outputs of the four stages."""
        return self.scales(image)[1:]


def pooled(x: Tensor) -> Tensor:
    """The largest of 3x3, every second pixel: between stem and first stage."""
    return functional.max_pool2d(x, 3, stride=2, padding=1)


def imagenet_state(content: Any, path: Path) -> State:
    """Published classification weights as the state dict of `ResNetEncoder`: all but the classifier."""
    return {key: value for key, value in as_state(content, path).items() if not key.startswith("fc.")}
