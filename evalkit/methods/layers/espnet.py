"""ESPNetv2 as an encoder: spatial pyramids of dilated depth-wise convolutions (Mehta et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 4  # branches of a pyramid, and groups of the convolutions around it
REPEATS = (3, 7)  # of pyramids at 1/8 and 1/16


def conv_prelu(channels_in: int, channels_out: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, batch normalisation, PReLU of a slope per channel; sides are those over the stride."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.PReLU(channels_out),
    )


def norm_prelu(channels: int) -> nn.Sequential:
    """Batch normalisation and PReLU of a slope per channel."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


def depthwise(channels: int, dilation: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution of each channel by itself, without bias."""
    return nn.Conv2d(
        channels, channels, 3, stride, padding=dilation, dilation=dilation, groups=channels, bias=False
    )  # fmt: skip


class EfficientPyramid(nn.Module):
    """EESP without its last activation: reduce, four dilated branches added up one after the other, merge.

    Args:
        channels_in, channels_out: of the features; `channels_out` is divisible by 16.
        dilations: of the branches.
        stride: of the branches.
    """

    def __init__(self, channels_in: int, channels_out: int, dilations: Sequence[int], stride: int = 1) -> None:
        super().__init__()
        inner = channels_out // GROUPS
        self.reduce = conv_prelu(channels_in, inner, 1, groups=GROUPS)
        self.branches = nn.ModuleList(depthwise(inner, dilation, stride) for dilation in dilations)
        self.normal = norm_prelu(channels_out)
        self.merge = nn.Sequential(
            nn.Conv2d(channels_out, channels_out, 1, groups=GROUPS, bias=False), nn.BatchNorm2d(channels_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        outputs: list[Tensor] = []
        for branch in self.branches:
            y = branch(reduced)
            outputs.append(y + outputs[-1] if outputs else y)
        return self.merge(self.normal(torch.cat(outputs, 1)))


class PyramidBlock(nn.Module):
    """A pyramid beside a shortcut: (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.pyramid = EfficientPyramid(channels, channels, dilations)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.pyramid(x) + x)


class PyramidDownsampling(nn.Module):
    """Half the size, twice the channels: means and a pyramid side by side, and the image at that size, added."""

    def __init__(self, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.pyramid = EfficientPyramid(channels, channels, dilations, stride=2)
        self.reinforce = nn.Sequential(
            conv_prelu(3, 3, 3),
            nn.Sequential(nn.Conv2d(3, 2 * channels, 1, bias=False), nn.BatchNorm2d(2 * channels)),
        )
        self.prelu = nn.PReLU(2 * channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        joined = torch.cat((_halved(x), self.pyramid(x)), 1)
        while image.shape[-2] > joined.shape[-2]:
            image = _halved(image)
        return self.prelu(joined + self.reinforce(image))


def _halved(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=2, padding=1)


class ESPNetEncoder(nn.Module):
    """Image (N, 3, H, W) -> features of w, 2 w, 4 w and 8 w channels at 1/2, 1/4, 1/8 and 1/16.

    Args:
        width: w, divisible by 16; 32 in ESPNetv2.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        wide = (1, 2, 3, 4)
        self.first = conv_prelu(3, width, 3, stride=2)
        self.down = nn.ModuleList(PyramidDownsampling(width * 2**i, wide) for i in range(3))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(PyramidBlock(channels, dilations) for _ in range(count)))
            for channels, dilations, count in zip((4 * width, 8 * width), (wide, (1, 1, 2, 3)), REPEATS, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        first = self.first(image)
        features = [first, self.down[0](first, image)]
        for down, blocks in zip(self.down[1:], self.blocks, strict=True):
            features.append(blocks(down(features[-1], image)))
        return features
