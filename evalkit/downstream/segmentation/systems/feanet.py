"""FEANet (Deng et al. 2021, doi:10.1109/IROS51168.2021.9636084): RTFNet with attention on what is added at five levels.

One attention a level, of the channels and then of the places, serves both modalities. As the published code has it, not
the paper: at the second level the infrared features go on to the next stage with the attention of their channels; at
the fourth, the places' attention is taken from the weighed infrared features and applied to those without weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.downstream.segmentation.pixels import IGNORE
from evalkit.downstream.segmentation.system import SegmentationSystem, Tensors, unit
from evalkit.downstream.segmentation.systems import rtfnet
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.resnet import RESNET152, pooled


class ChannelAttention(nn.Module):
    """A weight per channel, from its maximum over the image: (N, C, H, W) -> (N, C, 1, 1) in 0..1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc2(functional.relu(self.fc1(x.amax(dim=(2, 3), keepdim=True)))))


class SpatialAttention(nn.Module):
    """A weight per place, from the maximum over the channels: (N, C, H, W) -> (N, 1, H, W) in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv1(x.amax(dim=1, keepdim=True)))


class FEANet(rtfnet.RTFNet):
    """(N, 4, H, W) in 0..1, red, green, blue, infrared, sides multiples of 32 -> logits (N, classes, H, W), >= 0."""

    def __init__(self, classes: int, blocks: Sequence[int] = RESNET152, width: int = 64) -> None:
        super().__init__(classes, blocks, width=width)
        widths = (self.rgb.conv1.out_channels, *self.rgb.channels)
        self.channel = nn.ModuleList(ChannelAttention(width) for width in widths)
        self.spatial = nn.ModuleList(SpatialAttention() for _ in widths)

    def forward(self, images: Tensor) -> Tensor:
        rgb, infrared = self.rgb.first(images[:, :3]), self.infrared.first(images[:, 3:])
        rgb, infrared = self._joined(0, rgb, infrared)
        rgb, infrared = pooled(rgb), pooled(infrared)
        for level, stages in enumerate(zip(self.rgb.stages, self.infrared.stages, strict=True), 1):
            rgb, infrared = self._joined(level, stages[0](rgb), stages[1](infrared))
        return self.decoder(rgb)

    def _joined(self, level: int, rgb: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        """The visible features with the infrared ones added, and the infrared ones for the next stage."""
        channel, spatial = self.channel[level], self.spatial[level]
        rgb = rgb * channel(rgb)
        rgb = rgb * spatial(rgb)
        weighed = infrared * channel(infrared)
        places = spatial(weighed)
        added = (infrared if level == 3 else weighed) * places
        return rgb + added, weighed if level == 1 else infrared


def dice_and_cross_entropy(outputs: Tensors, truth: Tensor, weight: Tensor) -> Tensor:
    """Half the Dice loss and half the cross-entropy with labels smoothed by a tenth.

    Dice is over the whole batch; a class that it does not show counts as learned.

    Args:
        outputs: the first (N, classes, H, W), logits.
        truth: (N, H, W) int64 with IGNORE.
        weight: (classes,), of the cross-entropy.
    """
    logits = outputs[0]
    known = truth != IGNORE
    classes = logits.shape[1]
    probability = logits.softmax(dim=1).movedim(1, -1)[known]
    target = functional.one_hot(truth[known], classes).to(probability.dtype)
    overlap = 2 * (probability * target).sum(dim=0) / (probability + target).sum(dim=0).clamp(min=1e-7)
    dice = ((1 - overlap) * target.any(dim=0)).mean()
    smooth = functional.cross_entropy(logits, truth, weight, ignore_index=IGNORE, label_smoothing=0.1)
    return 0.5 * dice + 0.5 * smooth


CHANGES = rtfnet.CHANGES | {
    r"^atten_depth_channel_([0-4])(_1)?\.": r"channel.\1.",
    r"^atten_depth_spatial_([0-4])(_1)?\.": r"spatial.\1.",
}


def convert(content: Any, path: Path) -> State:
    """The published names as those of `FEANet`. Raises CheckpointError."""
    return renamed(content, path, CHANGES)


SYSTEMS = {
    "FEANet": SegmentationSystem(
        partial(FEANet, blocks=RESNET152),
        unit,
        32,
        convert,
        rtfnet.ENCODERS,
        rtfnet.pretrained,
        dice_and_cross_entropy,
    )
}
