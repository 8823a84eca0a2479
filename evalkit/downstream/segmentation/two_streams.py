"""Networks that fuse features instead of images: they take the visible and the infrared image side by side.

- MFNet (Ha et al. 2017, doi:10.1109/IROS.2017.8206396): two small encoders, their features concatenated.
- TwoStreamResNet: two ResNets, the infrared features added to the visible ones at every scale, and a decoder of
  upsampling bottlenecks, as RTFNet has it (Sun et al. 2019, doi:10.1109/LRA.2019.2904733). With ResNet-18 it is like
  RTFNet, not RTFNet: the published row is of ResNet-152 with ImageNet weights.

Both take (N, 4, H, W), red, green, blue, infrared, and give logits (N, classes, H, W). Sides that are not multiples of
16, for TwoStreamResNet of 32, are continued with the last pixel, and the logits are cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.resnet import RESNET18, ResNetEncoder

RGB_CHANNELS = (16, 48, 48, 96, 96)  # of MFNet's five stages
INFRARED_CHANNELS = (16, 16, 16, 36, 36)


def conv(channels_in: int, channels_out: int, dilation: int = 1) -> nn.Sequential:
    """3x3 convolution, BatchNorm, leaky ReLU with slope 0.1.

    Args:
        channels_in: of the input, (N, channels_in, H, W).
        channels_out: of the output, (N, channels_out, H, W).
        dilation: of the kernel, in pixels; padded by as much.
    """
    layers = (
        nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.1, inplace=True),
    )
    nn.init.kaiming_normal_(layers[0].weight, mode="fan_out", nonlinearity="leaky_relu")
    return nn.Sequential(*layers)


class MiniInception(nn.Module):
    """Three times: a plain and a dilated convolution side by side, half of the channels each."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        widths = (channels_in, channels_out, channels_out)
        self.plain = nn.ModuleList(conv(width, channels_out // 2) for width in widths)
        self.dilated = nn.ModuleList(conv(width, channels_out // 2, dilation=2) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        for plain, dilated in zip(self.plain, self.dilated, strict=True):
            x = torch.cat([plain(x), dilated(x)], dim=1)
        return x


class Stream(nn.Module):
    """MFNet's encoder of one modality: features of stages 2, 3 and 4, and the centre at a sixteenth of the size."""

    def __init__(self, channels_in: int, channels: Sequence[int]) -> None:
        super().__init__()
        first, second, third, fourth, centre = channels
        self.stage1 = conv(channels_in, first)
        self.stage2 = nn.Sequential(conv(first, second), conv(second, second))
        self.stage3 = nn.Sequential(conv(second, third), conv(third, third))
        self.stage4 = MiniInception(third, fourth)
        self.centre = MiniInception(fourth, centre)

    def forward(self, image: Tensor) -> list[Tensor]:
        x, features = self.stage1(image), []
        for stage in (self.stage2, self.stage3, self.stage4):
            x = stage(functional.max_pool2d(x, 2))
            features.append(x)
        return [*features, self.centre(functional.max_pool2d(x, 2))]


class MFNet(nn.Module):
    """0.73 M parameters with nine classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.rgb, self.infrared = Stream(3, RGB_CHANNELS), Stream(1, INFRARED_CHANNELS)
        both = [a + b for a, b in zip(RGB_CHANNELS, INFRARED_CHANNELS, strict=True)]
        self.up = nn.ModuleList(conv(both[i + 1], both[i]) for i in (2, 1, 0))
        self.classify = conv(both[0], classes)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        images = _continued(images, 16)
        streams = zip(self.rgb(images[:, :3]), self.infrared(images[:, 3:]), strict=True)
        *features, x = (torch.cat(pair, dim=1) for pair in streams)
        for up, feature in zip(self.up, reversed(features), strict=True):
            x = up(_doubled(x) + feature)
        return self.classify(_doubled(x))[..., :height, :width]


def _continued(images: Tensor, multiple: int) -> Tensor:
    """The images with their last row and column repeated up to sides of a multiple."""
    height, width = images.shape[-2:]
    return functional.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class UpBlock(nn.Module):
    """A residual block that keeps the size (factor 1), or doubles it with transposed convolutions (factor 2)."""

    def __init__(self, channels_in: int, channels_out: int, factor: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.conv3: nn.Module
        if factor == 2:
            self.conv3 = nn.ConvTranspose2d(channels_out, channels_out, 2, stride=2, bias=False)
            self.shortcut = nn.Sequential(
                nn.ConvTranspose2d(channels_in, channels_out, 2, stride=2, bias=False), nn.BatchNorm2d(channels_out)
            )
        else:
            self.conv3 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
            self.shortcut = nn.Sequential()
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels_out) for _ in range(3))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norms[0](self.conv1(x)))
        y = functional.relu(self.norms[1](self.conv2(y)))
        return functional.relu(self.norms[2](self.conv3(y)) + self.shortcut(x))


class TwoStreamResNet(nn.Module):
    """Two ResNets whose features are added after the first convolution and after each of the four stages."""

    def __init__(self, classes: int, blocks: Sequence[int] = RESNET18) -> None:
        super().__init__()
        self.rgb, self.infrared = ResNetEncoder(blocks), ResNetEncoder(blocks)
        self.infrared.conv1 = nn.Conv2d(1, self.infrared.conv1.out_channels, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.infrared.conv1.weight, mode="fan_out", nonlinearity="relu")
        deepest = self.rgb.channels[-1]
        widths = [deepest, *(deepest // 2**i for i in range(1, 5)), classes]
        self.decoder = nn.Sequential(
            *(nn.Sequential(UpBlock(a, a, 1), UpBlock(a, b, 2)) for a, b in itertools.pairwise(widths))
        )

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        images = _continued(images, 32)
        rgb, infrared = _first(self.rgb, images[:, :3]), _first(self.infrared, images[:, 3:])
        rgb, infrared = (functional.max_pool2d(x, 3, stride=2, padding=1) for x in (rgb + infrared, infrared))
        for visible_stage, infrared_stage in zip(self.rgb.stages, self.infrared.stages, strict=True):
            infrared = infrared_stage(infrared)
            rgb = visible_stage(rgb) + infrared
        return self.decoder(rgb)[..., :height, :width]


def _first(encoder: ResNetEncoder, image: Tensor) -> Tensor:
    return functional.relu(encoder.bn1(encoder.conv1(image)))


NETWORKS = {"MFNet": MFNet, "TwoStreamResNet-18": TwoStreamResNet}
