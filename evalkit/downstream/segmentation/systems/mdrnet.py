"""MDRNet+: two encoders that learn to translate one modality into the other, and a third that fuses them by channel.

S. Zhao, Y. Liu, Q. Jiao, Q. Zhang, J. Han, "Mitigating Modality Discrepancies for RGB-T Semantic Segmentation", IEEE
Transactions on Neural Networks and Learning Systems, 2023, doi:10.1109/TNNLS.2022.3233089; it extends ABMDRNet (CVPR
2021, doi:10.1109/CVPR46437.2021.00266).

Translation and reconstruction serve training: the class map needs neither, and is computed without them here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.downstream.segmentation.supervision import entropy
from evalkit.downstream.segmentation.system import SegmentationSystem, Tensors, imagenet_pair
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.resnet import RESNET50, BottleneckBlock, ResNetEncoder, imagenet_state, pooled

WIDTH = 64
DILATIONS = (1, 6, 12, 18)
RECONSTRUCTION = 0.1  # weight of its loss


def conv(channels_in: int, channels_out: int, size: int = 3, dilation: int = 1) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU; keeps the size."""
    padding = size // 2 * dilation
    layer = nn.Conv2d(channels_in, channels_out, size, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU())


def up(channels_in: int, channels_out: int) -> nn.Sequential:
    """Transposed convolution that doubles the size, without bias, BatchNorm, ReLU."""
    layer = nn.ConvTranspose2d(channels_in, channels_out, 2, stride=2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU())


class ChannelWeights(nn.Module):
    """Features of both modalities -> their mean with a weight per channel, (N, C, 1, 1), and the weight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.spread = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, rgb: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor]:
        x = self.spread(functional.relu(self.squeeze(torch.cat([rgb, thermal], dim=1))))
        weight = torch.sigmoid(x).mean(dim=(2, 3), keepdim=True)
        return weight * rgb + (1 - weight) * thermal, weight


class DilatedBranches(nn.Module):
    """Four branches of half the channels, with dilations 1, 6, 12 and 18, joined to as many channels as came."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branches = nn.ModuleList(
            nn.Sequential(conv(channels, half, 1), conv(half, half, 3, dilation)) for dilation in DILATIONS
        )
        self.join = conv(4 * half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([branch(x) for branch in self.branches], dim=1))


class SpatialContext(DilatedBranches):
    """MSC: positions take from positions that are like them, in the branches and in what came."""

    def forward(self, x: Tensor) -> Tensor:
        wide = super().forward(x)
        values = wide.flatten(2)
        for feature in (values, x.flatten(2)):
            unit = directions(feature)
            x = x + (values @ shares(unit.transpose(1, 2) @ unit)).view_as(wide)
        return x


class ChannelContext(DilatedBranches):
    """MCC: channels take from channels that are like them; as published, the shares sum to one along the other axis."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.out = conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = super().forward(x)
        values = wide.flatten(2)
        for feature in (values, x.flatten(2)):
            unit = directions(feature)
            x = x + (shares(unit @ unit.transpose(1, 2)) @ values).view_as(wide)
        return self.out(x)


def directions(feature: Tensor) -> Tensor:
    """(N, C, positions) divided at each position by its length over the channels."""
    return feature / (feature.norm(dim=1, keepdim=True) + 1e-5)


def shares(similarity: Tensor) -> Tensor:
    """Similarities (N, A, A), negative ones as 0, divided by their sum over the first of both axes."""
    similarity = functional.relu(similarity)
    return similarity / (similarity.sum(dim=1, keepdim=True) + 1e-5)


class Translation(nn.Module):
    """Five features of one modality -> an image of the other, (N, 3, H, W) in 0..1."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(reversed(widths)))
        self.up = nn.ModuleList(up(a, b) for a, b in pairs)
        self.refine = nn.ModuleList(conv(b, b) for _, b in pairs)
        self.last = nn.Sequential(up(widths[0], widths[0]), nn.Conv2d(widths[0], 3, 3, padding=1, bias=False))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        *skips, x = features
        for enlarge, refine, skip in zip(self.up, self.refine, reversed(skips), strict=True):
            x = refine(enlarge(x) + skip)
        return torch.sigmoid(self.last(x))


class Reconstruction(nn.Sequential):
    """The deepest feature -> the image that it is of, (N, 3, H, W), normalised as the images are."""

    def __init__(self, widths: Sequence[int]) -> None:
        first, deepest = widths[0], widths[-1]
        chain = (deepest, *reversed(widths[:-1]), first)
        super().__init__(
            *(up(a, b) for a, b in itertools.pairwise(chain)),
            conv(first, first),
            nn.Conv2d(first, 3, 3, padding=1, bias=False),
        )


@dataclass(frozen=True)
class Translated:
    """What the training compares: images (N, 3, H, W), and pairs of features, of a real and a translated image each."""

    thermal: Tensor  # made from the visible image
    rgb: Tensor  # made from the thermal one
    again_thermal: Tensor  # from features of itself
    again_rgb: Tensor
    pairs_thermal: list[tuple[Tensor, Tensor]]
    pairs_rgb: list[tuple[Tensor, Tensor]]


class MDRNet(nn.Module):
    """211 M parameters with nine classes, 64.6 M of them for the class map.

    Args:
        classes: how many, the background included.
        blocks: bottlenecks of each stage of the five encoders.
        width: channels of their stems.
    """

    def __init__(self, classes: int, blocks: Sequence[int] = RESNET50, width: int = WIDTH) -> None:
        super().__init__()

        def encoder() -> ResNetEncoder:
            return ResNetEncoder(blocks, width, BottleneckBlock)

        self.rgb, self.thermal = encoder(), encoder()
        self.siamese_rgb, self.siamese_thermal = encoder(), encoder()
        self.fusion = nn.ModuleList(encoder().stages[:3])
        widths = (width, *self.rgb.channels)
        self.weigh = nn.ModuleList(ChannelWeights(channels) for channels in widths[:4])
        self.spatial, self.channel = SpatialContext(widths[2]), ChannelContext(widths[3])
        self.up3, self.up2, self.up1, self.up0 = (
            up(a, b) for a, b in itertools.pairwise((*reversed(widths[:4]), width))
        )
        self.refine3, self.refine2, self.refine1 = (conv(channels, channels) for channels in reversed(widths[:3]))
        self.classify = nn.Conv2d(width, classes, 1, bias=False)
        self.to_thermal, self.to_rgb = Translation(widths), Translation(widths)
        self.again_thermal, self.again_rgb = Reconstruction(widths), Reconstruction(widths)

    def classes_of(self, rgb: Sequence[Tensor], thermal: Sequence[Tensor]) -> Tensor:
        """Five features of each modality, of which the first four are used -> logits (N, classes, H, W)."""
        first, second, third, fourth = (weigh(a, b)[0] for weigh, a, b in zip(self.weigh, rgb, thermal, strict=False))
        second = self.fusion[0](pooled(first)) + second
        third = self.spatial(self.fusion[1](second) + third)
        x = self.channel(self.fusion[2](third) + fourth)
        x = self.refine3(self.up3(x) + third)
        x = self.refine2(self.up2(x) + second)
        x = self.refine1(self.up1(x) + first)
        return self.classify(self.up0(x))

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensors:
        """Images (N, 3, H, W) and (N, 1, H, W), sides multiples of 32 -> logits of the classes (N, classes, H, W).

        In training twelve differences follow, whose squares are to become small: of both reconstructed images, thermal
        first, and of the features of real and translated images.
        """
        thermal = infrared.expand(-1, 3, -1, -1)
        if not self.training:
            return (self.classes_of(self.rgb.scales(visible), self.thermal.scales(thermal)),)
        logits, made = self.translated(visible, thermal)
        differences = [real - fake for real, fake in (*made.pairs_thermal, *made.pairs_rgb)]
        return logits, made.again_thermal - thermal, made.again_rgb - visible, *differences

    def translated(self, rgb: Tensor, thermal: Tensor) -> tuple[Tensor, Translated]:
        """Images (N, 3, H, W), sides multiples of 32 -> logits of the classes, and what serves training alone."""
        rgb_features, thermal_features = self.rgb.scales(rgb), self.thermal.scales(thermal)
        to_thermal, to_rgb = self.to_thermal(rgb_features), self.to_rgb(thermal_features)
        real_thermal, real_rgb = self.siamese_thermal.scales(thermal), self.siamese_rgb.scales(rgb)
        return self.classes_of(rgb_features, thermal_features), Translated(
            to_thermal,
            to_rgb,
            self.again_thermal(real_thermal[-1]),
            self.again_rgb(real_rgb[-1]),
            list(zip(real_thermal, self.siamese_thermal.scales(to_thermal), strict=True)),
            list(zip(real_rgb, self.siamese_rgb.scales(to_rgb), strict=True)),
        )


NAMES = {
    r"^encoder_RGB3_": "rgb.",
    r"^encoder_T3_": "thermal.",
    r"^encoder_fakeRGB_": "siamese_rgb.",
    r"^encoder_fakeT_": "siamese_thermal.",
    r"^encoder_fusion_layer1\.": "fusion.0.",
    r"^encoder_fusion_layer2\.": "fusion.1.",
    r"^encoder_fusion_layer3\.": "spatial.",
    r"^encoder_fusion_layer4\.": "fusion.2.",
    r"^encoder_fusion_layer5\.": "channel.",
    **{rf"^(spatial|channel)\.conv{i + 1}\.": rf"\1.branches.{i}.0." for i in range(4)},
    **{rf"^(spatial|channel)\.Dconv{i + 1}\.": rf"\1.branches.{i}.1." for i in range(4)},
    r"^(spatial|channel)\.conv5\.": r"\1.join.",
    r"^channel\.conv6\.": "channel.out.",
    **{rf"^d{i + 1}_weight_classifier\.": f"weigh.{i}." for i in range(3)},
    r"^s_weight_classifier\.": "weigh.3.",
    r"^(weigh\.\d)\.0\.conv\.": r"\1.squeeze.",
    r"^(weigh\.\d)\.1\.conv\.": r"\1.spread.",
    **{rf"^fusion_decoder{i}\.": f"up{3 - i}." for i in range(4)},
    **{rf"^fusion_conv{i}\.": f"refine{4 - i}." for i in (1, 2, 3)},
    r"^fusion_conv4\.": "classify.",
    r"^fake_RGB_": "to_thermal.",  # the published names are of what goes in
    r"^fake_T_": "to_rgb.",
    **{rf"^(to_\w+)\.decoder{2 * i + 1}\.": rf"\1.up.{i}." for i in range(4)},
    **{rf"^(to_\w+)\.decoder{2 * i + 2}\.": rf"\1.refine.{i}." for i in range(4)},
    r"^(to_\w+)\.decoder9\.": r"\1.last.0.",
    r"^(to_\w+)\.last\.conv\.": r"\1.last.1.",
    **{rf"^toclassconv{2 * i + 1}\.": f"again_thermal.{i}." for i in range(5)},
    **{rf"^toclassconv{2 * i + 10}\.": f"again_rgb.{i}." for i in range(5)},
    r"^latent_t\.": "again_thermal.5.",
    r"^latent_rgb\.": "again_rgb.5.",
    r"^recon_t\.conv\.": "again_thermal.6.",
    r"^recon_rgb\.conv\.": "again_rgb.6.",
    r"\.conv\.": ".0.",
    r"\.bn\.": ".1.",
}


def convert(content: Any, path: Path) -> State:
    """Published weights as the state dict of `MDRNet`. Raises CheckpointError: not a state dict."""
    return renamed(content, path, NAMES)


def pretrained(content: Any, path: Path) -> State:
    """ImageNet's weights for all five encoders, of the fusing one its three stages. Raises CheckpointError."""
    state = imagenet_state(content, path)
    encoders = {f"{part}{key}": value for key, value in state.items() for part in ENCODERS if part != "fusion."}
    for i in range(3):
        stage = f"layer{i + 1}."
        encoders |= {key.replace(stage, f"fusion.{i}.", 1): v for key, v in state.items() if key.startswith(stage)}
    return encoders


def loss(outputs: Tensors, truth: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy, squared errors of the reconstructions, and of the features of translated images.

    The published loss has two more terms, 0.01 times the cross-entropy of two discriminators that have an optimiser of
    their own; they are left out.

    Args:
        outputs: of `MDRNet` in training.
        truth: (N, H, W) int64, 255 where nothing is to be learned.
        weight: (classes,) of the classes.
    """
    logits, thermal, rgb, *features = outputs
    squares = torch.stack([difference.square().mean() for difference in features])
    reconstruction = thermal.square().mean() + rgb.square().mean()
    return entropy(logits, truth, weight) + RECONSTRUCTION * reconstruction + squares.sum()


ENCODERS = ("rgb.", "thermal.", "siamese_rgb.", "siamese_thermal.", "fusion.")
SYSTEMS = {"MDRNet": SegmentationSystem(MDRNet, imagenet_pair, 32, convert, ENCODERS, pretrained, loss)}
