"""DeFusion: what two images share and what each has alone, decoded apart; fused is the sum of their embeddings."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import unit_pillow_gray
from evalkit.methods.network import NetworkMethod, Pixels, truncated

BORDER = 16  # pixels that are mirrored around the images
EMBEDDING = 16


class PlainSplitAttention(nn.Module):
    """Two 3x3 convolutions, each of half the channels, summed with weights that their mean decides; no normalisation.

    (N, C, H, W) -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 32)
        self.split = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=2, bias=False)
        self.weigh = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, 2 * channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        splits = torch.relu(self.split(x)).unflatten(1, (2, -1))
        weights = self.weigh(splits.sum(1).mean((2, 3), keepdim=True)).unflatten(1, (2, -1)).softmax(1)
        return (weights * splits).sum(1)


class PlainBottleneck(nn.Module):
    """1x1, split attention, 1x1 to four times the planes, added to the input, ReLU: (N, C, H, W) -> (N, 4P, H', W').

    Args:
        channels: in.
        planes: P.
        stride: of the means that make the result smaller.
        blurred: the split attention passes a 3x3 mean of this stride.
        pooled: the shortcut passes a mean of this stride before its 1x1 convolution.
    """

    def __init__(self, channels: int, planes: int, stride: int = 1, blurred: bool = False, pooled: bool = False):
        super().__init__()
        self.reduce = nn.Conv2d(channels, planes, 1, bias=False)
        self.attention = PlainSplitAttention(planes)
        self.blur = nn.AvgPool2d(3, stride, padding=1) if blurred else nn.Identity()
        self.expand = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if pooled else nn.Identity()
        changes = channels != 4 * planes or stride > 1
        self.shortcut = (
            nn.Sequential(pool, nn.Conv2d(channels, 4 * planes, 1, bias=False)) if changes else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(torch.relu(self.reduce(x)))
        return torch.relu(self.expand(self.blur(y)) + self.shortcut(x))


def _layer(
    channels: int, planes: int, blocks: int, stride: int = 1, blurred: bool = False, pooled: bool = False
) -> nn.Sequential:
    first = PlainBottleneck(channels, planes, stride, blurred, pooled)
    return nn.Sequential(first, *(PlainBottleneck(4 * planes, planes) for _ in range(blocks - 1)))


class Encoder3(nn.Module):
    """Image (N, 3, H, W) -> features at half, a quarter and an eighth of the size, 8 w, 16 w and 32 w channels.

    Args:
        width: w, 8 as published.
        depth: share of the published number of blocks.
    """

    def __init__(self, width: int, depth: float) -> None:
        super().__init__()
        blocks = _blocks(depth)
        self.first = nn.Sequential(
            nn.Conv2d(3, 2 * width, 3, padding=1), nn.ReLU(), _layer(2 * width, width, blocks(6), 1, True, True)
        )
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.layers = nn.ModuleList(
            (
                _layer(4 * width, 2 * width, blocks(6), 1, False, True),
                _layer(8 * width, 4 * width, blocks(4), 2, True, True),
                _layer(16 * width, 8 * width, blocks(4), 2, True, True),
            )
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.pool(self.first(image))
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features


class SkipDecoder(nn.Module):
    """Deep features with skips of three sizes -> embedding (N, 16, H, W).

    Args:
        channels: of the deep features.
        skips: of the skips, an eighth, a quarter and half of the size.
        planes: of the four layers; each gives four times as many channels.
        blocks: of the four layers.
    """

    def __init__(
        self,
        channels: int,
        skips: tuple[int, int, int],
        planes: tuple[int, int, int, int],
        blocks: tuple[int, int, int, int],
    ) -> None:
        super().__init__()
        before = (channels, *(4 * p for p in planes[:-1]))
        self.layers = nn.ModuleList(
            _layer(b + skip, p, n) for b, skip, p, n in zip(before, (*skips, 0), planes, blocks, strict=True)
        )

    def forward(self, deep: Tensor, skips: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Deep features, skips from coarse to fine, (height, width) of the result."""
        x = deep
        for i, layer in enumerate(self.layers):
            x = layer(torch.cat((x, skips[i]), dim=1) if i < len(skips) else x)
            if i < len(skips):
                target = tuple(skips[i + 1].shape[2:]) if i + 1 < len(skips) else size
                larger = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
                x = functional.interpolate(larger, target, mode="nearest")  # cuts what rounding up has added
        return x


def _blocks(depth: float) -> Callable[[int], int]:
    return lambda published: max(1, round(published * depth))


class Decomposed(NamedTuple):
    """What DeFusion makes of two images, each (N, 3, H, W), not negative."""

    fused: Tensor
    common: Tensor
    infrared: Tensor  # what it has alone
    visible: Tensor


class DeFusion(nn.Module):
    """Liang et al., Fusion from Decomposition: A Self-Supervised Decomposition Approach for Image Fusion, ECCV 2022.

    doi:10.1007/978-3-031-19797-0_41. Two images (N, 3, H, W) in [0, 1], sides above 16 -> fused (N, 3, H, W), not
    negative. Both images pass the same encoder, and what each has alone the same decoder.

    Args:
        width: 8 as published.
        depth: share of the published number of blocks.
        border: pixels that are mirrored around the images.
    """

    def __init__(self, width: int = 8, depth: float = 1, border: int = BORDER) -> None:
        super().__init__()
        self.border = border
        blocks, w = _blocks(depth), width
        self.encoder = Encoder3(w, depth)
        self.common = _layer(64 * w, 32 * w, blocks(4), 1, False, True)
        self.common_decoder = SkipDecoder(
            128 * w, (64 * w, 32 * w, 16 * w), (8 * w, 2 * w, 4, 4), (blocks(2), blocks(2), blocks(2), blocks(2))
        )
        self.unique_decoder = SkipDecoder(
            128 * w, (32 * w, 16 * w, 8 * w), (12 * w, 4 * w, 2 * w, 4), (blocks(4), blocks(4), blocks(6), blocks(6))
        )
        self.project = nn.Conv2d(EMBEDDING, 3, 3, padding=1)  # of each part
        self.fuse = nn.Conv2d(EMBEDDING, 3, 3, padding=1)  # of their sum

    def embeddings(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two images (N, 3, H, W) -> embeddings (N, 16, H, W) of what they share and of what each has alone."""
        size = infrared.shape[2], infrared.shape[3]
        first, second = self.encoder(infrared)[::-1], self.encoder(visible)[::-1]
        deep = self.common(torch.cat((first[0], second[0]), dim=1))
        skips = [torch.cat(pair, dim=1) for pair in zip(first, second, strict=True)]
        return (
            self.common_decoder(deep, skips, size),
            self.unique_decoder(deep, first, size),
            self.unique_decoder(deep, second, size),
        )

    def decompose(self, infrared: Tensor, visible: Tensor) -> Decomposed:
        """Two images (N, 3, H, W) as they are, without a border -> fused image and parts."""
        common, first, second = self.embeddings(infrared, visible)
        parts = (torch.relu(self.project(embedding)) for embedding in (common, first, second))
        return Decomposed(torch.relu(self.fuse(first + second + common)), *parts)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        b = self.border
        a, v = (functional.pad(image, (b, b, b, b), mode="reflect") for image in (infrared, visible))
        common, first, second = self.embeddings(a, v)
        height, width = infrared.shape[2:]
        return torch.relu(self.fuse(first + second + common))[..., b : b + height, b : b + width]


# in the file, without effect: a projection that is not called, and the second name of what both images share
UNREAD = re.compile(
    r"^(decoder_common_projection_layer|encoder_upper|upper_encoder_layer\d|decoder_upper_(layer\d|projection_layer))\."
)
_PARTS = {
    r"^encoder_lower\.0\.": "encoder.first.0.",
    r"^encoder_lower\.2\.layer\.": "encoder.first.2.",
    **{rf"^lower_encoder_layer{i + 1}\.layer\.": f"encoder.layers.{i}." for i in range(3)},
    r"^common_encoder\.0\.layer\.": "common.",
    **{rf"^decoder_common_layer{i + 1}\.(0\.)?layer\.": f"common_decoder.layers.{i}." for i in range(4)},
    **{rf"^decoder_lower_layer{i + 1}\.(0\.)?layer\.": f"unique_decoder.layers.{i}." for i in range(4)},
    r"^decoder_lower_projection_layer\.0\.": "project.",
    r"^fusion_rule\.0\.": "fuse.",
    r"\.conv1\.": ".reduce.",
    r"\.conv2\.conv\.": ".attention.split.",
    r"\.conv2\.fc1\.": ".attention.weigh.0.",
    r"\.conv2\.fc2\.": ".attention.weigh.2.",
    r"\.conv3\.": ".expand.",
    r"\.downsample\.\d\.": ".shortcut.1.",
}


def _convert(content: Any, path: Path) -> State:
    state = renamed(content, path, {})
    return renamed({key: value for key, value in state.items() if not UNREAD.match(key)}, path, _PARTS)


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_pillow_gray(infrared).expand(3, -1, -1), unit_pillow_gray(visible).expand(3, -1, -1)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return truncated(output.permute(1, 2, 0).numpy() * 255)


METHODS = {"DeFusion": NetworkMethod(DeFusion, _prepare, _finish, ("DeFusion.pth",), _convert)}
