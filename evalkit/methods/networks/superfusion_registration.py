"""SuperFusion's registration: a dense flow between the infrared and the visible image, from coarse to fine."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

SHIFTS = tuple((row, column) for row in range(-12, 13, 4) for column in range(-12, 13, 4))  # 7x7, step 4, in pixels
LIMIT = 300  # of an estimated shift, in pixels


class Registration(NamedTuple):
    """What the registration network finds.

    Attributes:
        flow: (N, 2, H, W), x and y, to be added to a grid of -1..1: where the infrared image's value is taken from.
        pyramid: the infrared image's features at 1/2, 1/4 and 1/8 of the size, (N, 32, 64 or 128, ...).
    """

    flow: Tensor
    pyramid: tuple[Tensor, Tensor, Tensor]


def blurred(x: Tensor, size: int, sigma: float, border: Literal["constant", "replicate"]) -> Tensor:
    """(N, C, H, W) under a Gaussian of `size` x `size`, outside of it zeros or the border."""
    place = torch.arange(size, device=x.device, dtype=x.dtype) - size // 2
    kernel = (-(place**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = functional.pad(x, [size // 2] * 4, mode=border)
    x = functional.conv2d(x, kernel[:, :, None], groups=x.shape[1])
    return functional.conv2d(x, kernel[..., None], groups=x.shape[1])


def warped(x: Tensor, flow: Tensor) -> Tensor:
    """Features or image (N, C, H, W), taken from where a flow (N, 2, H, W) points; zeros from outside.

    The grid counts -1 and 1 as the centres of the first and the last pixel, the sampling as their outer edges. So it
    is published: a flow of zero shrinks the image by one pixel in all and fades its border.
    """
    height, width = x.shape[2:]
    columns, rows = (torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) for n in (width, height))
    grid = torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)), dim=-1)
    return functional.grid_sample(x, grid + flow.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=False)


def _in_pixels(x: Tensor) -> Tensor:
    """(1, 2, 1, 1): the authors' pixels in a flow of 1, which are width - 1 and height - 1."""
    return torch.tensor((x.shape[3] - 1, x.shape[2] - 1), device=x.device, dtype=x.dtype)[:, None, None]


def _conv(channels_in: int, channels_out: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation, bias=False)


class NormedConv(nn.Module):
    """3x3 convolution, each image's own normalisation, activation: (N, C, H, W) -> (N, C', H/stride, W/stride).

    Args:
        channels_in, channels_out: C and C'. Where they are equal and `stride` is 1 and `residual`, the input is added.
        dilation: of the kernel, in pixels.
        stride: in pixels.
        residual: ReLU and the input added, instead of a leaky ReLU of slope .1.
    """

    def __init__(
        self, channels_in: int, channels_out: int, dilation: int = 1, stride: int = 1, residual: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride, dilation, dilation, bias=False)
        self.norm = nn.InstanceNorm2d(channels_out)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return y.relu() + x if self.residual else functional.leaky_relu(y, 0.1)


def _own_layers() -> nn.Sequential:
    return nn.Sequential(
        NormedConv(3, 8, 1),
        NormedConv(8, 8, 2, residual=True),
        NormedConv(8, 16, 2),
        NormedConv(16, 16, 4, residual=True),
    )


def _halving(channels: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        NormedConv(channels, 2 * channels, dilation), NormedConv(2 * channels, 2 * channels, dilation, stride=2)
    )


def _compress(channels: int) -> nn.Sequential:
    return nn.Sequential(_conv(2 * channels, 2 * channels), nn.LeakyReLU(0.1), _conv(2 * channels, channels))


def _estimate(channels_in: int, channels: int) -> nn.Sequential:
    """(N, C, H, W) -> (N, 2, H, W): three layers, each of half the channels, then a plain one."""
    layers: list[nn.Module] = []
    for dilation in (1, 2, 4):
        channels //= 2
        norm = nn.BatchNorm2d(channels, affine=False)
        layers += [_conv(channels_in, channels, dilation), norm, nn.LeakyReLU(0.1)]
        channels_in = channels
    return nn.Sequential(*layers, _conv(channels, 2))


class Estimator(nn.Module):
    """Features of both images (N, C, H, W) -> the flow between them (N, 2, H, W).

    Args:
        channels: C.
        dilation: of the first convolution, in pixels.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels, dilation)
        self.compress = _compress(channels)
        self.estimate = _estimate(channels + len(SHIFTS), channels)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        infrared, visible = self.first(infrared), self.first(visible)
        joined = torch.cat((self.compress(torch.cat((infrared, visible), dim=1)), *costs(infrared, visible)), dim=1)
        flow = blurred(self.estimate(joined), 13, 3, "replicate")
        return flow.clamp(-LIMIT, LIMIT) / _in_pixels(flow)


def costs(infrared: Tensor, visible: Tensor) -> list[Tensor]:
    """Per shift the mean squared difference (N, 1, H, W) of the visible from the blurred and shifted infrared one."""
    height, width = visible.shape[2:]
    wide = functional.pad(blurred(infrared, 13, 3, "constant"), [12] * 4)
    return [
        (visible - wide[:, :, 12 + row : 12 + row + height, 12 + column : 12 + column + width])
        .square()
        .mean(dim=1, keepdim=True)
        for row, column in SHIFTS
    ]


class Refiner(nn.Module):
    """Features of both images (N, C, H, W) and a flow in pixels (N, 2, H, W) -> a finer flow in pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.compress = _compress(channels)
        self.estimate = _estimate(channels + 2, channels)

    def forward(self, infrared: Tensor, visible: Tensor, flow: Tensor) -> Tensor:
        both = self.compress(torch.cat((self.first(infrared), self.first(visible)), dim=1))
        return blurred(flow + self.estimate(torch.cat((both, flow), dim=1)), 17, 5, "replicate")


class DenseMatcher(nn.Module):
    """Two colour images (N, 3, H, W) in [0, 1] -> `Registration`.

    Flows are found at 1/8 of the size, at 1/4 on what that flow leaves, and refined at 1/2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = _own_layers(), _own_layers()
        self.shared = nn.ModuleList(_halving(16 * 2**i, 2**i) for i in range(3))
        self.coarse, self.finer, self.refine = Estimator(128, 2), Estimator(64, 4), Refiner(32)

    def forward(self, infrared: Tensor, visible: Tensor) -> Registration:
        first, second = self.infrared(infrared), self.visible(visible)
        levels = []
        for layers in self.shared:
            first, second = layers(first), layers(second)
            levels.append((first, second))
        half, quarter, eighth = levels
        flow = _resized(self.coarse(*eighth), quarter[0])
        rest = self.finer(warped(quarter[0], flow), quarter[1])
        flow = _resized(flow, half[0]) + _resized(rest, half[0])
        pixels = _in_pixels(half[0])
        flow = self.refine(warped(half[0], flow), half[1], flow * pixels) / pixels
        return Registration(_resized(flow, infrared), (half[0], quarter[0], eighth[0]))


def _resized(flow: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(flow, like.shape[2:], mode="bilinear", align_corners=False)


KEYS = {
    r"^feature_extractor_unshare1\.layers\.(\d)\.model\.0\.": r"infrared.\1.conv.",
    r"^feature_extractor_unshare2\.layers\.(\d)\.model\.0\.": r"visible.\1.conv.",
    **{rf"^feature_extractor_share{i + 1}\.(\d)\.model\.0\.": rf"shared.{i}.\1.conv." for i in range(3)},
    r"^matcher2\.": "coarse.",
    r"^matcher1\.": "finer.",
    r"^refiner\.": "refine.",
    r"\.preprocessor\.(0\.)?model\.0\.": ".first.",
    r"\.featcompressor\.0\.model\.0\.": ".compress.0.",
    r"\.featcompressor\.1\.model\.0\.": ".compress.2.",
    **{rf"\.(layers|estimator)\.{i}\.model\.0\.": rf".estimate.{3 * i}." for i in range(4)},
    **{rf"\.(layers|estimator)\.{i}\.model\.1\.": rf".estimate.{3 * i + 1}." for i in range(3)},
}  # the authors' name -> ours
