"""ResNet with basic blocks as an encoder of four scales; its names are those of the published ImageNet weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State, as_state

RESNET18 = (2, 2, 2, 2)
RESNET34 = (3, 4, 6, 3)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016): (N, C, H, W) -> (N, C', ceil(H/s), ceil(W/s))."""

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


class ResNetEncoder(nn.Module):
    """Stem and four stages, without the classifier.

    Stage i = 1..4 gives (N, width * 2^(i-1), H / 2^(i+1), W / 2^(i+1)), rounded up.

    Args:
        blocks: basic blocks of each stage.
        width: channels of the first stage; 64 fits the ImageNet weights.
    """

    def __init__(self, blocks: Sequence[int] = RESNET34, width: int = 64) -> None:
        super().__init__()
        self.channels = tuple(width * 2**i for i in range(4))
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._stage(width, width, blocks[0], stride=1)
        self.layer2 = self._stage(width, 2 * width, blocks[1], stride=2)
        self.layer3 = self._stage(2 * width, 4 * width, blocks[2], stride=2)
        self.layer4 = self._stage(4 * width, 8 * width, blocks[3], stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(channels_in, channels_out, stride)
        return nn.Sequential(first, *(BasicBlock(channels_out, channels_out) for _ in range(blocks - 1)))

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4

    def stem(self, image: Tensor) -> Tensor:
        """Image (N, 3, H, W) -> (N, width, H / 4, W / 4)."""
        return functional.max_pool2d(functional.relu(self.bn1(self.conv1(image))), 3, stride=2, padding=1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image (N, 3, H, W) -> the outputs of the four stages."""
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]


def imagenet_state(content: Any, path: Path) -> State:
    """Published classification weights as the state dict of `ResNetEncoder`: all but the classifier."""
    return {key: value for key, value in as_state(content, path).items() if not key.startswith("fc.")}
