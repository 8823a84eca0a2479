"""EGFNet: one ResNet-152 for both modalities, an edge map as prior, two semantic and three boundary heads.

W. Zhou, S. Dong, C. Xu, Y. Qian, "Edge-aware Guidance Fusion Network for RGB-Thermal Scene Parsing", AAAI 36, 2022,
doi:10.1609/aaai.v36i3.20269.

In the published code each of the five fusions has a convolution that is never called (41,280 numbers in all); its
weights are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.downstream.segmentation.supervision import BOUNDARY_WEIGHTS, boundaries, entropy
from evalkit.downstream.segmentation.system import SegmentationSystem, Tensors, imagenet_pair
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.resnet import RESNET152, BottleneckBlock, ResNetEncoder, imagenet_state

WIDTH = 64
DILATIONS = (1, 2, 3, 4)
EDGE = 0.2 * 255  # the sum of both gradients from which a pixel is an edge
GRAY = (0.299, 0.587, 0.114)


def conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 convolution with bias, BatchNorm, ReLU: (N, channels_in, H, W) -> (N, channels_out, H, W)."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU())


class Pyramid(nn.Module):
    """3x3 convolutions of dilation 1 to 4 side by side; no activation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in DILATIONS)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [layer(x) for layer in self.layers]


class GatedFusion(nn.Module):
    """Features of both modalities -> logits of `classes`, and the fused feature."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * width, width, 1)
        self.residual = nn.Sequential(conv(width, width), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        self.pyramid = Pyramid(width)
        self.out = nn.Conv2d(5 * width, width, 3, padding=1)
        self.head = conv(width, classes)

    def forward(self, rgb: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor]:
        both = rgb + thermal
        x = self.mix(torch.cat([rgb * both, thermal * both], dim=1))
        x = functional.relu(x + self.residual(x))
        fused = self.out(torch.cat([x, *self.pyramid(x)], dim=1))
        return self.head(fused), fused


class EdgeSemantics(nn.Module):
    """Logits of the two deepest fusions, refined with the edge map, at full size."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * classes, classes, 1)
        self.refine = conv(classes, classes)
        self.gate = nn.Conv2d(classes, classes, 1)
        self.edge = nn.Conv2d(1, classes, 1)

    def forward(self, deepest: Tensor, deep: Tensor, edges: Tensor) -> Tensor:
        deepest, deep = enlarged(deepest, 32), enlarged(deep, 16)
        x = self.refine(self.mix(torch.cat([deepest, deep], dim=1)) + deepest + deep)
        x = self.gate(x * deepest)
        return x * self.edge(edges) + x


class DilatedContext(nn.Module):
    """A 1x1 convolution and the pyramid side by side, beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.point = nn.Conv2d(width, width, 1)
        self.pyramid = Pyramid(width)
        self.mix = nn.Conv2d(5 * width, width, 1)
        self.refine = conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.refine(self.mix(torch.cat([self.point(x), *self.pyramid(x)], dim=1)) + x)


class Enhancement(nn.Module):
    """The context and the fused feature of the level above it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(2 * width, width, 1)
        self.residual = nn.Sequential(conv(width, width), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, context: Tensor, fused: Tensor) -> Tensor:
        weight = self.weigh(torch.cat([context, fused], dim=1))
        return self.out(self.residual(context * weight + fused * weight) + context)


class EGFNet(nn.Module):
    """62.8 M parameters with nine classes.

    Args:
        classes: how many, the background included.
        blocks: bottlenecks of each stage of the encoder.
        width: channels of its stem and of what is fused.
    """

    def __init__(self, classes: int, blocks: Sequence[int] = RESNET152, width: int = WIDTH) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(blocks, width, BottleneckBlock)
        self.reduce = nn.ModuleList(nn.Conv2d(c, width, 3, padding=1) for c in (width, *self.encoder.channels))
        self.fusions = nn.ModuleList(GatedFusion(width, n) for n in (2, 2, 2, classes, classes))
        self.semantics = EdgeSemantics(classes)
        self.boundary = nn.Conv2d(2, 2, 1)
        self.context = DilatedContext(width)
        self.enhance = Enhancement(width)
        self.classify = nn.Conv2d(width, classes, 1)
        self.edge = nn.Conv2d(1, classes, 1)

    def forward(self, visible: Tensor, infrared: Tensor, edges: Tensor) -> Tensors:
        """Logits at full size: of the classes twice, the better ones first, and of boundaries (2) three times, the
        deepest first.

        Args:
            visible: (N, 3, H, W), sides multiples of 32.
            infrared: (N, 1, H, W).
            edges: (N, 1, H, W), 0 and 1: `edge_map`.
        """
        rgb, thermal = self.features(visible), self.features(infrared.expand(-1, 3, -1, -1))
        logits, fused = zip(*(fuse(a, b) for fuse, a, b in zip(self.fusions, rgb, thermal, strict=True)), strict=True)
        boundary = [self.boundary(enlarged(logits[i], 2 ** (i + 1))) * edges for i in (2, 1, 0)]
        context = enlarged(self.context(fused[4]), 2)
        x = enlarged(self.enhance(context, fused[3]), 2)
        for i, factor in ((2, 2), (1, 4), (0, 8)):
            x = enlarged(x + fused[i] + enlarged(context, factor), 2)
        x = self.classify(x)
        return x * self.edge(edges) + x, self.semantics(logits[4], logits[3], edges), *boundary

    def features(self, image: Tensor) -> list[Tensor]:
        """Image (N, 3, H, W) of either modality -> five features of `width` channels, at 1/2 to 1/32."""
        return [reduce(x) for reduce, x in zip(self.reduce, self.encoder.scales(image), strict=True)]


def inputs(images: Tensor) -> Tensors:
    """Images (N, 4, H, W) in 0..255 -> both normalised, and their edges (N, 1, H, W)."""
    return (*imagenet_pair(images), edge_map(images))


def edge_map(images: Tensor) -> Tensor:
    """1 where the gradients of both modalities together are more than a fifth of the range, else 0.

    The gradient is half the sum of the absolute Sobel derivatives in both directions, each at most 255, of the rounded
    gray image.

    Args:
        images: (N, 4, H, W), red, green, blue, infrared on 0..255.

    Returns:
        (N, 1, H, W).
    """
    gray = (images[:, :3] * images.new_tensor(GRAY).view(3, 1, 1)).sum(dim=1)
    pair = torch.stack([gray, images[:, 3]], dim=1).round()
    smooth, slope = torch.tensor([1.0, 2, 1]), torch.tensor([-1.0, 0, 1])
    kernels = torch.stack([torch.outer(smooth, slope), torch.outer(slope, smooth)])[:, None].to(pair)
    padded = functional.pad(pair, (1, 1, 1, 1), mode="reflect")
    derivatives = functional.conv2d(padded.flatten(0, 1)[:, None], kernels).abs().clamp(max=255)
    gradients = (derivatives.mean(dim=1)).round().view_as(pair)
    return (gradients.sum(dim=1, keepdim=True) > EDGE).to(images.dtype)


def enlarged(x: Tensor, factor: int) -> Tensor:
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


ENCODER = {  # of EGFNet and LASNet, which keep the ResNet's parts in sequences of their own
    r"^layer1_rgb\.0\.": "encoder.conv1.",
    r"^layer1_rgb\.1\.": "encoder.bn1.",
    r"^layer2_rgb\.1\.": "encoder.layer1.",
    r"^layer3_rgb\.": "encoder.layer2.",
    r"^layer4_rgb\.": "encoder.layer3.",
    r"^layer5_rgb\.": "encoder.layer4.",
}
NUMBERS = {rf"^(reduce|fusions)#{i + 1}\.": rf"\1.{i}." for i in range(5)}  # they count from one
NAMES = {
    **ENCODER,
    r"^rgbconv(\d)\.": r"reduce#\1.",
    r"^em(\d)\.": r"fusions#\1.",
    **NUMBERS,
    r"^semantic\.convcat\.": "semantics.mix.",
    r"^semantic\.rconv\.": "semantics.refine.",
    r"^semantic\.convedge\.": "semantics.edge.",
    r"^semantic\.conv\.": "semantics.gate.",
    r"^convb3\.": "boundary.",
    r"^finalconv\.": "classify.",
    r"^convedge\.": "edge.",
    r"^resf4\.convfinal\.": "enhance.out.",
    r"^resf4\.conv\.": "enhance.weigh.",
    r"^resf4\.rconv\.": "enhance.residual.0.",
    r"^resf4\.rconv0\.": "enhance.residual.1.",
    r"^resf4\.rbn\.": "enhance.residual.2.",
    r"^aspp\.conv0\.": "context.point.",
    r"^aspp\.conv\.": "context.mix.",
    r"^aspp\.rconv\.": "context.refine.",
    r"^aspp\.": "context.",
    r"^(fusions\.\d)\.conv0\.": r"\1.mix.",
    r"^(fusions\.\d)\.conv\.": r"\1.out.",
    r"^(fusions\.\d)\.convs\.": r"\1.head.",
    r"^(fusions\.\d)\.rconv\.": r"\1.residual.0.",
    r"^(fusions\.\d)\.rrconv\.": r"\1.residual.1.",
    r"^(fusions\.\d)\.rrbn\.": r"\1.residual.2.",
    **{rf"^(fusions\.\d|context)\.conv{i + 1}\.": rf"\1.pyramid.layers.{i}." for i in range(4)},
}


def convert(content: Any, path: Path) -> State:
    """Published weights as the state dict of `EGFNet`. Raises CheckpointError: not a state dict."""
    return {name: value for name, value in renamed(content, path, NAMES).items() if ".convf." not in name}


def pretrained(content: Any, path: Path) -> State:
    """ImageNet's weights for the one encoder. Raises CheckpointError: not a state dict."""
    return {f"encoder.{key}": value for key, value in imagenet_state(content, path).items()}


def loss(outputs: Tensors, truth: Tensor, weight: Tensor) -> Tensor:
    """The sum of the cross-entropies of the five heads.

    Args:
        outputs: of `EGFNet`.
        truth: (N, H, W) int64, 255 where nothing is to be learned.
        weight: (classes,) of the classes.
    """
    semantic, coarse, *boundary = outputs
    edges = boundaries(truth)
    of_boundaries = torch.stack([entropy(one, edges, BOUNDARY_WEIGHTS) for one in boundary])
    return entropy(semantic, truth, weight) + entropy(coarse, truth, weight) + of_boundaries.sum()


SYSTEMS = {"EGFNet": SegmentationSystem(EGFNet, inputs, 32, convert, ("encoder.",), pretrained, loss)}
