"""LASNet: one ResNet-152 for both modalities; deep features locate, middle ones activate, shallow ones sharpen.

G. Li, Y. Wang, Z. Liu, X. Zhang, D. Zeng, "RGB-T Semantic Segmentation with Location, Activation, and Sharpening", IEEE
Transactions on Circuits and Systems for Video Technology 33, 2023, doi:10.1109/TCSVT.2022.3208833.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.downstream.segmentation.supervision import (
    BINARY_WEIGHTS,
    BOUNDARY_WEIGHTS,
    boundaries,
    entropy,
    lovasz,
    objects,
)
from evalkit.downstream.segmentation.system import SegmentationSystem, Tensors, imagenet_pair
from evalkit.downstream.segmentation.systems.egfnet import ENCODER, enlarged, pretrained
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.resnet import RESNET152, BottleneckBlock, ResNetEncoder

WIDTH = 64


def conv(channels_in: int, channels_out: int, dilation: int = 1) -> nn.Sequential:
    """3x3 convolution without bias, BatchNorm, leaky ReLU with slope 0.1; keeps the size."""
    layer = nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.1))


class Correlation(nn.Module):
    """Every position of a feature takes the mean of another's vectors, weighted by how they correlate.

    The softmax is of the correlations as they are, not divided by the root of the channels: it saturates.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(channels, channels, bias=False)
        self.out = conv(channels, channels)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        vectors = other.flatten(2)
        similarity = self.weigh(x.flatten(2).transpose(1, 2)) @ vectors
        return self.out((vectors @ similarity.softmax(dim=2).transpose(1, 2)).view_as(other))


class Location(nn.Module):
    """The deepest features of both modalities -> the fused one, and logits of objects against background (2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rgb, self.thermal = Correlation(channels), Correlation(channels)
        self.sum, self.product = conv(channels, channels), conv(channels, channels)
        self.out = conv(2 * channels, channels)
        self.head = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, rgb: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor]:
        both = rgb * thermal
        a, b = self.rgb(both, rgb), self.thermal(both, thermal)
        fused = self.out(torch.cat([self.sum(a + b), self.product(a * b)], dim=1))
        return fused, self.head(fused)


class Activation(nn.Module):
    """The sum of both modalities, weighted by where their product is large, and by how channels differ."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sum = conv(channels, channels)
        self.spatial = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        peaks = (rgb * thermal).amax(dim=1, keepdim=True)
        x = self.sum(rgb + thermal) * torch.sigmoid(self.spatial(peaks))
        flat = x.flatten(2)
        energy = flat @ flat.transpose(1, 2)
        attention = (energy.amax(dim=2, keepdim=True) - energy).softmax(dim=2)  # channels attend to unlike ones
        return self.gamma * (attention @ flat).view_as(x) + x


class Sharpening(nn.Module):
    """The shallowest features -> the fused one, and logits of boundaries (2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.product, self.sum = conv(channels, channels), conv(channels, channels)
        self.pyramid = nn.ModuleList(conv(channels, channels // 4, dilation) for dilation in (1, 3, 5, 7))
        self.out = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, rgb: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor]:
        x = self.product(rgb * thermal) + self.sum(rgb + thermal)
        fused = self.out(torch.cat([layer(x) for layer in self.pyramid], dim=1))
        return fused, self.head(fused)


def upward(channels_in: int, channels_out: int) -> nn.Sequential:
    """A level of the decoder: (N, channels_in, H, W) -> (N, channels_out, 2 H, 2 W)."""
    return nn.Sequential(
        nn.Dropout2d(0.1),
        conv(channels_in, channels_in, dilation=3),
        conv(channels_in, channels_out),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    )


class LASNet(nn.Module):
    """93.6 M parameters with nine classes.

    Args:
        classes: how many, the background included.
        blocks: bottlenecks of each stage of the encoder.
        width: channels of its stem.
    """

    def __init__(self, classes: int, blocks: Sequence[int] = RESNET152, width: int = WIDTH) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(blocks, width, BottleneckBlock)
        widths = (width, 2 * width, 4 * width, 4 * width, 8 * width)
        self.reduce = nn.ModuleList(conv(a, b) for a, b in zip((width, *self.encoder.channels), widths, strict=True))
        self.sharpen = Sharpening(widths[0])
        self.activate2, self.activate3, self.activate4 = (Activation(channels) for channels in widths[1:4])
        self.locate = Location(widths[4])
        self.decoder5, self.decoder4 = upward(widths[4], widths[3]), upward(widths[3], widths[2])
        self.decoder3, self.decoder2 = upward(widths[2], widths[1]), upward(widths[1], widths[0])
        self.coarse = nn.Conv2d(width, classes, 3, padding=1)
        self.decoder1 = nn.Sequential(
            *upward(width, width), conv(width, width), nn.Conv2d(width, classes, 3, padding=1)
        )

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images (N, 3, H, W) and (N, 1, H, W), sides multiples of 32 -> logits of the classes twice, the better ones
        first, of objects against background (2) and of boundaries (2), all (N, ., H, W)."""
        rgb, thermal = self.features(visible), self.features(infrared.expand(-1, 3, -1, -1))
        x, binary = self.locate(rgb[4], thermal[4])
        x = self.decoder5(x)
        x = self.decoder4(x + self.activate4(rgb[3], thermal[3]))
        x = self.decoder3(x + self.activate3(rgb[2], thermal[2]))
        x = self.decoder2(x + self.activate2(rgb[1], thermal[1]))
        sharp, boundary = self.sharpen(rgb[0], thermal[0])
        return self.decoder1(x + sharp), enlarged(self.coarse(x), 2), enlarged(binary, 32), enlarged(boundary, 2)

    def features(self, image: Tensor) -> list[Tensor]:
        """Image (N, 3, H, W) of either modality -> five features, at 1/2 to 1/32."""
        return [reduce(x) for reduce, x in zip(self.reduce, self.encoder.scales(image), strict=True)]


NAMES = {
    **ENCODER,
    **{rf"^rgbconv{i + 1}\.": f"reduce.{i}." for i in range(5)},
    r"^CLM5\.corr_x_2_x_ir\.": "locate.rgb.",
    r"^CLM5\.corr_ir_2_x_ir\.": "locate.thermal.",
    r"\.linear_e\.": ".weigh.",
    r"^(locate\.(?:rgb|thermal))\.fusion\.": r"\1.out.",
    r"^CLM5\.smooth1\.": "locate.sum.",
    r"^CLM5\.smooth2\.": "locate.product.",
    r"^CLM5\.fusion\.": "locate.out.",
    r"^CLM5\.pred\.": "locate.head.",
    r"^CAM(\d)\.conv2\.": r"activate\1.sum.",
    r"^CAM(\d)\.sa\.conv1\.": r"activate\1.spatial.",
    r"^CAM(\d)\.cam\.": r"activate\1.",
    r"^ESM1\.conv1\.": "sharpen.product.",
    r"^ESM1\.conv2\.": "sharpen.sum.",
    **{rf"^ESM1\.dconv{i + 1}\.": f"sharpen.pyramid.{i}." for i in range(4)},
    r"^ESM1\.fuse_dconv\.": "sharpen.out.",
    r"^ESM1\.pred\.": "sharpen.head.",
    r"^decoder\.semantic_pred2\.": "coarse.",
    r"^decoder\.": "",
    r"\.conv\.": ".0.",
    r"\.bn\.": ".1.",
}


def convert(content: Any, path: Path) -> State:
    """Published weights as the state dict of `LASNet`. Raises CheckpointError: not a state dict."""
    return renamed(content, path, NAMES)


def loss(outputs: Tensors, truth: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropies of the four heads, and the Lovasz-softmax loss of the first.

    Args:
        outputs: of `LASNet`.
        truth: (N, H, W) int64, 255 where nothing is to be learned.
        weight: (classes,) of the classes.
    """
    semantic, coarse, binary, boundary = outputs
    return (
        entropy(semantic, truth, weight)
        + lovasz(semantic, truth)
        + entropy(coarse, truth, weight)
        + 0.5 * entropy(binary, objects(truth), BINARY_WEIGHTS)
        + entropy(boundary, boundaries(truth), BOUNDARY_WEIGHTS)
    )


SYSTEMS = {"LASNet": SegmentationSystem(LASNet, imagenet_pair, 32, convert, ("encoder.",), pretrained, loss)}
