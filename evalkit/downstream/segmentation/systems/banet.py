"""BANet (Peng et al. 2021, doi:10.1016/j.neunet.2021.01.021): a ResNet and a decoder of bilateral attention.

It reads one image, fused or not. Two published versions: PSFusion's, with ResNet-34, whose stem has no ReLU before it
pools; and SeAFusion's, with ResNet-18, which reads 0..1 without ImageNet's statistics. Both are trained with the
hardest pixels of two outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.downstream.segmentation.pixels import IGNORE
from evalkit.downstream.segmentation.system import SegmentationSystem, Tensors, imagenet, unit
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.resnet import RESNET18, RESNET34, ResNetEncoder, imagenet_state, pooled

WIDTH = 128
EASY = -math.log(0.7)  # of the cross-entropy: what is below is left out, down to a sixteenth of the pixels
SHARE = 16


class ConvNorm(nn.Sequential):
    """Convolution that keeps the size, BatchNorm, leaky ReLU with slope .01 or what is given."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, activation: nn.Module | None = None) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(channels_out),
            activation or nn.LeakyReLU(),
        )


class Refinement(nn.Module):
    """128 channels of a feature, each weighed by what its mean over the image says."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.conv = ConvNorm(channels_in, WIDTH, 3)
        self.attention = ConvNorm(WIDTH, WIDTH, 1, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.attention(x.mean(dim=(2, 3), keepdim=True))


class BANet(nn.Module):
    """(N, 3, H, W), sides multiples of 32 -> logits (N, classes, H, W), and those of the auxiliary output, likewise.

    Args:
        classes: how many.
        blocks: of the ResNet's stages.
        stem_relu: whether there is a ReLU before the ResNet's stem pools, as ImageNet's weights were trained with.
    """

    def __init__(self, classes: int, blocks: Sequence[int], stem_relu: bool) -> None:
        super().__init__()
        self.resnet, self.stem_relu = ResNetEncoder(blocks), stem_relu
        _, width8, width16, width32 = self.resnet.channels
        self.refine8, self.refine16, self.refine32 = Refinement(width8), Refinement(width16), Refinement(width32)
        self.up32, self.up16 = ConvNorm(WIDTH, WIDTH, 3), ConvNorm(WIDTH, WIDTH, 3)
        self.join16, self.join8 = ConvNorm(2 * WIDTH, WIDTH, 1), ConvNorm(2 * WIDTH, WIDTH, 1)
        self.gate32, self.gate16 = ConvNorm(WIDTH, WIDTH, 1, nn.Sigmoid()), ConvNorm(WIDTH, WIDTH, 1, nn.Sigmoid())
        self.last = ConvNorm(WIDTH, WIDTH, 1)
        self.classify = nn.Sequential(ConvNorm(WIDTH, WIDTH, 3), nn.Conv2d(WIDTH, classes, 1, bias=False))
        self.auxiliary = nn.Sequential(ConvNorm(WIDTH, WIDTH // 2, 3), nn.Conv2d(WIDTH // 2, classes, 1, bias=False))
        for part in (module for name, module in self.named_modules() if not name.startswith("resnet")):
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, a=1)

    def forward(self, image: Tensor) -> Tensors:
        x = self.resnet.bn1(self.resnet.conv1(image))
        x = self.resnet.layer1(pooled(functional.relu(x) if self.stem_relu else x))
        x8 = self.resnet.layer2(x)
        x16 = self.resnet.layer3(x8)
        x32, x16, x8 = self.refine32(self.resnet.layer4(x16)), self.refine16(x16), self.refine8(x8)
        joined16 = _resized(self.join16(torch.cat([self.up32(_resized(x32, x16)), x16], dim=1)), x8)
        joined8 = self.join8(torch.cat([self.up16(_resized(x16, x8)), x8], dim=1))
        joined16 = self.gate32(_resized(x32, x8)) * joined16
        x = self.last(joined8 * self.gate16(joined16))
        size = image.shape[-2:]
        heads = (self.classify(x), self.auxiliary(x16))
        main, auxiliary = (functional.interpolate(y, size, mode="bilinear", align_corners=True) for y in heads)
        return main, auxiliary


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def hardest_pixels(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean cross-entropy of the pixels above -ln 0.7, at least of the worst sixteenth of all.

    Args:
        logits: (N, classes, H, W).
        truth: (N, H, W) int64; pixels of IGNORE count with a loss of 0.
        weight: (classes,).
    """
    losses = functional.cross_entropy(logits, truth, weight, ignore_index=IGNORE, reduction="none").flatten()
    losses = losses.sort(descending=True).values
    least = losses.numel() // SHARE
    return losses[losses > EASY].mean() if losses[least] > EASY else losses[:least].mean()


def loss_of_both(outputs: Tensors, truth: Tensor, weight: Tensor, main: float, auxiliary: float) -> Tensor:
    """The two outputs' `hardest_pixels`, weighed.

    Args:
        outputs: (N, classes, H, W) twice.
        truth: (N, H, W) int64.
        weight: (classes,).
        main: weight of the first output.
        auxiliary: weight of the second.
    """
    first, second = (hardest_pixels(logits, truth, weight) for logits in outputs)
    return main * first + auxiliary * second


CHANGES = {
    r"^cp\.": "",
    r"^arm(8|16|32)\.conv\.": r"refine\1.conv.",
    r"^arm(8|16|32)\.conv_atten\.": r"refine\1.attention.0.",
    r"^arm(8|16|32)\.bn_atten\.": r"refine\1.attention.1.",
    r"^sp(8|16)\.": r"join\1.",
    r"^conv_head(16|32)\.": r"up\1.",
    r"^conv_fuse1\.": "gate32.",
    r"^conv_fuse2\.": "gate16.",
    r"^conv_fuse\.": "last.",
    r"^conv_out\.conv_out\.": "classify.1.",
    r"^conv_out\.conv\.": "classify.0.",
    r"^conv_out16\.conv_out\.": "auxiliary.1.",
    r"^conv_out16\.conv\.": "auxiliary.0.",
    r"^(?!resnet)(.*)\.conv\.weight": r"\1.0.weight",
    r"^(?!resnet)(.*)\.bn\.": r"\1.1.",
}


def convert(content: Any, path: Path) -> State:
    """The published names as those of `BANet`. Raises CheckpointError."""
    return renamed(content, path, CHANGES)


def pretrained(content: Any, path: Path) -> State:
    """ImageNet's weights of the ResNet. Raises CheckpointError."""
    return {f"resnet.{key}": value for key, value in imagenet_state(content, path).items()}


SYSTEMS = {
    "BANet": SegmentationSystem(
        partial(BANet, blocks=RESNET34, stem_relu=False),
        lambda images: (imagenet(images),),
        32,
        convert,
        ("resnet.",),
        pretrained,
        partial(loss_of_both, main=10.0, auxiliary=7.5),
    ),
    "BANet-R18": SegmentationSystem(
        partial(BANet, blocks=RESNET18, stem_relu=True),
        unit,
        32,
        convert,
        ("resnet.",),
        pretrained,
        partial(loss_of_both, main=1.0, auxiliary=0.75),
    ),
}
