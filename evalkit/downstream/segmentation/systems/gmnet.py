"""GMNet: two ResNet-50; deep features fused and refined, shallow ones added late; three heads (Zhou et al. 2021).

W. Zhou, J. Liu, J. Lei, L. Yu, J.-N. Hwang, "GMNet: Graded-Feature Multilabel-Learning Network for RGB-Thermal Urban
Scene Semantic Segmentation", IEEE Transactions on Image Processing 30, 2021, doi:10.1109/TIP.2021.3109518.

The published network builds modules that it never calls; their weights (458,072 numbers) are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.downstream.segmentation.supervision import BINARY_WEIGHTS, BOUNDARY_WEIGHTS, boundaries, entropy, objects
from evalkit.downstream.segmentation.system import SegmentationSystem, Tensors, imagenet_pair
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.resnet import RESNET50, BottleneckBlock, ResNetEncoder, imagenet_state

WIDTH = 64  # of the stem, and of everything that is decoded
# built by the published code, never called
DEAD = ("classify.", "con1.", "convb.", "decoder1.", "projectlayer.", "ss1.", "ss2.", "tp1.", "tp2.", "tpmid.")


def conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 convolution without bias, BatchNorm, ReLU: (N, channels_in, H, W) -> (N, channels_out, H, W)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()
    )


def linear(channels_in: int, channels_out: int, size: tuple[int, int], dilation: int = 1) -> nn.Sequential:
    """Convolution without bias and BatchNorm that keep the size; no activation follows."""
    padding = (size[0] // 2 * dilation, size[1] // 2 * dilation)
    layer = nn.Conv2d(channels_in, channels_out, size, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out))


class DenseFusion(nn.Module):
    """Two features of `channels` -> one of `width`: their sum and product, then four dense convolutions."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.joined = conv(channels, channels)
        self.down = nn.Conv2d(channels, width, 1)
        self.dense = nn.ModuleList(conv(i * width, width) for i in (1, 2, 3, 4))
        self.up = conv(channels + width, channels)
        self.out = conv(channels, width)

    def forward(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        joined = self.joined(rgb + thermal + rgb * thermal)
        down = self.down(joined)
        grown: list[Tensor] = []
        for layer in self.dense:
            grown.append(layer(torch.cat([*grown, down], dim=1)))
        return self.out(self.up(torch.cat([joined, grown[-1]], dim=1)) + joined)


class DenseContext(nn.Module):
    """Dense rows, columns and dilated convolutions of 3, 5 and 7 pixels; linear but for the last layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = width // 4
        self.down = nn.Conv2d(width, narrow, 1)
        self.dense = nn.ModuleList(
            nn.Sequential(
                linear(i * narrow, narrow, (1, size)),
                linear(narrow, narrow, (size, 1)),
                linear(narrow, narrow, (3, 3), dilation=size),
            )
            for i, size in enumerate((3, 5, 7), 1)
        )
        self.out = conv(width + narrow, width)

    def forward(self, x: Tensor) -> Tensor:
        down = self.down(x)
        grown: list[Tensor] = []
        for layer in self.dense:
            grown.append(layer(torch.cat([*grown, down], dim=1)))
        return self.out(torch.cat([x, grown[-1]], dim=1))


class Refinement(nn.Module):
    """Three 3x3 convolutions beside a shortcut; each is followed by BatchNorm twice, as published, and ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block1, self.block2, self.block3 = (
            nn.Sequential(linear(width, width, (3, 3)), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block3(self.block2(self.block1(x))) + x


class ShallowFusion(nn.Module):
    """The visible feature weighted by where the thermal one is strong, and its channels by their largest value."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(1, 1, 7, padding=3, bias=False)
        self.project = nn.Conv2d(channels, width, 1)
        self.squeeze = nn.Conv2d(width, max(width // 16, 1), 1, bias=False)
        self.excite = nn.Conv2d(max(width // 16, 1), width, 1, bias=False)

    def forward(self, rgb: Tensor, thermal: Tensor) -> Tensor:
        strong = self.spread(thermal.amax(dim=1, keepdim=True))
        x = self.project(rgb * torch.sigmoid(strong + rgb) + strong)
        peaks = x.amax(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(functional.relu(self.squeeze(peaks))))


class GMNet(nn.Module):
    """153 M parameters with nine classes.

    Args:
        classes: how many, the background included.
        blocks: bottlenecks of each stage of the two encoders.
        width: channels of the stems and of what is decoded.
    """

    def __init__(self, classes: int, blocks: Sequence[int] = RESNET50, width: int = WIDTH) -> None:
        super().__init__()
        self.rgb = ResNetEncoder(blocks, width, BottleneckBlock)
        self.thermal = ResNetEncoder(blocks, width, BottleneckBlock, channels_in=1)
        shallow, *deep = self.rgb.channels
        self.fuse1, self.fuse2, self.fuse3 = (DenseFusion(channels, width) for channels in deep)
        self.skip1, self.skip2, self.skip3 = (nn.Conv2d(channels, width, 1) for channels in deep)
        self.inner1, self.inner2, self.inner3 = (DenseContext(width) for _ in deep)
        self.outer1, self.outer2, self.outer3 = (DenseContext(width) for _ in deep)
        self.shallow1, self.shallow2 = ShallowFusion(width, width), ShallowFusion(shallow, width)
        self.decoder5, self.decoder4, self.decoder3, self.decoder2 = (Refinement(width) for _ in range(4))
        self.binary1, self.binary2, self.boundary1 = (Refinement(width) for _ in range(3))
        self.semantic = nn.Conv2d(width, classes, 1, bias=False)
        self.binary = nn.Conv2d(width, 2, 1, bias=False)
        self.boundary = nn.Conv2d(width, 2, 1, bias=False)

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 3, H, W) and (N, 1, H, W), sides multiples of 32 -> logits of the classes, of objects against
        background (2) and of boundaries (2), all (N, ., H, W)."""
        first, second, *rgb = self.rgb.scales(visible)
        thermal_first, thermal_second, *thermal = self.thermal.scales(infrared)
        fused1, fused2, fused3 = (
            fuse(a, b) for fuse, a, b in zip((self.fuse1, self.fuse2, self.fuse3), rgb, thermal, strict=True)
        )
        deep1 = self.outer1(self.inner1(fused1) + self.skip1(rgb[0]))
        deep2 = self.outer2(self.inner2(fused2) + self.skip2(rgb[1]))
        deep3 = self.outer3(self.inner3(fused3) + self.skip3(rgb[2]))
        half = self.shallow1(first, thermal_first)
        quarter = self.shallow2(second, thermal_second) + doubled(fused1)

        x = doubled(self.decoder5(deep3))
        x = doubled(self.decoder4(deep2 + x))
        decoded = doubled(self.decoder3(deep1 + x))
        last = doubled(self.decoder2(decoded))
        binary = self.binary2(doubled(quarter * self.binary1(decoded)))
        logits = self.semantic(last), self.binary(binary), self.boundary(self.boundary1(half * last))
        return tuple(doubled(x) for x in logits)  # type: ignore[return-value]


def doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


NAMES = {
    r"^encoder_(rgb|thermal)_": r"\1.",
    r"^densefuse(\d)\.dense\.": r"fuse\1.",
    r"^in(\d)\.": r"inner\1.",
    r"^gc(\d)\.": r"outer\1.",
    r"^tp3\.": "skip1.",
    r"^tp4\.": "skip2.",
    r"^tp5\.": "skip3.",
    r"^decoder2_withoutup\.": "binary1.",
    r"^md\.": "binary2.",
    r"^fd\.": "boundary1.",
    r"^classfier1\.0\.": "semantic.",
    r"^classfier2\.0\.": "binary.",
    r"^classfier3\.0\.": "boundary.",
    r"\.fuse_down_mul\.": ".joined.",
    r"\.fuse_main\.": ".out.",
    r"\.res_main\.down\.": ".down.",
    r"\.res_main\.fuse\.": ".up.",
    r"\.res_main\.denseblock\.": ".dense.",
    r"\.denseblock\.": ".dense.",
    r"^((?:inner|outer)\d)\.fuse\.": r"\1.out.",
    r"\.basicconv\.": ".",
    r"\.cov\.": ".",
    r"^((?:inner|outer).*|.*\.block\d\.0)\.conv\.": r"\1.0.",
    r"^((?:inner|outer).*|.*\.block\d\.0)\.bn\.": r"\1.1.",
    r"^lfe(\d)\.": r"shallow\1.",
    r"^(shallow\d)\.conv1\.": r"\1.spread.",
    r"^(shallow\d)\.tp\.": r"\1.project.",
    r"\.ca\.fc1\.": ".squeeze.",
    r"\.ca\.fc2\.": ".excite.",
}


def convert(content: Any, path: Path) -> State:
    """Published weights as the state dict of `GMNet`. Raises CheckpointError: not a state dict."""
    return {name: value for name, value in renamed(content, path, NAMES).items() if not name.startswith(DEAD)}


def pretrained(content: Any, path: Path) -> State:
    """ImageNet's weights for both encoders; the thermal one reads the mean over the colours. Raises CheckpointError."""
    state = imagenet_state(content, path)
    both = {f"{part}.{key}": value for key, value in state.items() for part in ("rgb", "thermal")}
    if "conv1.weight" in state:
        both["thermal.conv1.weight"] = state["conv1.weight"].mean(dim=1, keepdim=True)
    return both


def loss(outputs: Tensors, truth: Tensor, weight: Tensor) -> Tensor:
    """The sum of the cross-entropies of the three heads.

    Args:
        outputs: of `GMNet`.
        truth: (N, H, W) int64, 255 where nothing is to be learned.
        weight: (classes,) of the classes.
    """
    semantic, binary, boundary = outputs
    return (
        entropy(semantic, truth, weight)
        + entropy(binary, objects(truth), BINARY_WEIGHTS)
        + entropy(boundary, boundaries(truth), BOUNDARY_WEIGHTS)
    )


SYSTEMS = {"GMNet": SegmentationSystem(GMNet, imagenet_pair, 32, convert, ("rgb.", "thermal."), pretrained, loss)}
