"""RTFNet (Sun et al. 2019, doi:10.1109/LRA.2019.2904733): two ResNets, infrared features added to the visible ones.

They are added after the first convolution and after each of the four stages; a decoder of five pairs of residual blocks
doubles the size back, without any further feature of the encoders. The last block ends in a ReLU: logits are not
negative, and where all of them are zero the first class wins. The published program feeds 0..1, without ImageNet's
statistics, though the encoders come from there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from evalkit.downstream.segmentation.system import SegmentationSystem, unit
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.resnet import (
    RESNET18,
    RESNET50,
    RESNET152,
    BasicBlock,
    BottleneckBlock,
    ResNetEncoder,
    imagenet_state,
    pooled,
)


class UpBlock(nn.Module):
    """A residual block that keeps the size (factor 1), or doubles it with transposed convolutions (factor 2)."""

    def __init__(self, channels_in: int, channels_out: int, factor: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv3: nn.Module
        self.shortcut: nn.Module
        if factor == 2:
            self.conv3 = nn.ConvTranspose2d(channels_out, channels_out, 2, stride=2, bias=False)
            self.shortcut = nn.Sequential(
                nn.ConvTranspose2d(channels_in, channels_out, 2, stride=2, bias=False), nn.BatchNorm2d(channels_out)
            )
        else:
            self.conv3 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
            self.shortcut = nn.Identity()
        self.bn3 = nn.BatchNorm2d(channels_out)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class RTFNet(nn.Module):
    """(N, 4, H, W) in 0..1, red, green, blue, infrared, sides multiples of 32 -> logits (N, classes, H, W), >= 0."""

    def __init__(
        self,
        classes: int,
        blocks: Sequence[int] = RESNET152,
        block: type[BasicBlock] | type[BottleneckBlock] = BottleneckBlock,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.rgb = ResNetEncoder(blocks, width, block)
        self.infrared = ResNetEncoder(blocks, width, block, channels_in=1)
        deepest = self.rgb.channels[-1]
        widths = [deepest, *(deepest // 2**i for i in range(1, 5)), classes]
        self.decoder = nn.Sequential(
            *(nn.Sequential(UpBlock(a, a, 1), UpBlock(a, b, 2)) for a, b in itertools.pairwise(widths))
        )

    def forward(self, images: Tensor) -> Tensor:
        rgb, infrared = self.rgb.first(images[:, :3]), self.infrared.first(images[:, 3:])
        rgb, infrared = pooled(rgb + infrared), pooled(infrared)
        for visible_stage, infrared_stage in zip(self.rgb.stages, self.infrared.stages, strict=True):
            infrared = infrared_stage(infrared)
            rgb = visible_stage(rgb) + infrared
        return self.decoder(rgb)


CHANGES = {
    r"^encoder_rgb_": "rgb.",
    r"^encoder_thermal_": "infrared.",
    **{rf"^deconv{i + 1}\.": f"decoder.{i}." for i in range(5)},
    r"\.upsample\.": ".shortcut.",
}


def convert(content: Any, path: Path) -> State:
    """The published names as those of `RTFNet`. Raises CheckpointError."""
    return renamed(content, path, CHANGES)


def pretrained(content: Any, path: Path) -> State:
    """ImageNet's weights for both encoders; the infrared one reads the colours' mean. Raises CheckpointError."""
    state = imagenet_state(content, path)
    both = {f"{part}.{key}": value for key, value in state.items() for part in ("rgb", "infrared")}
    if "conv1.weight" in state:
        both["infrared.conv1.weight"] = state["conv1.weight"].mean(dim=1, keepdim=True)
    return both


ENCODERS = ("rgb.", "infrared.")
SYSTEMS = {
    "RTFNet-50": SegmentationSystem(partial(RTFNet, blocks=RESNET50), unit, 32, convert, ENCODERS, pretrained),
    "RTFNet-152": SegmentationSystem(partial(RTFNet, blocks=RESNET152), unit, 32, convert, ENCODERS, pretrained),
    "TwoStreamResNet-18": SegmentationSystem(
        partial(RTFNet, blocks=RESNET18, block=BasicBlock), None, 32, convert, ENCODERS, pretrained
    ),
}
