"""SeAFusion: gradient residual dense blocks for each image, a plain decoder, trained beside a segmentation network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from evalkit.data.images import to_gray
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import stretched, unit_pillow_gray
from evalkit.methods.network import NetworkMethod, Pixels, truncated


class Conv(nn.Module):
    """Zero-padded convolution with bias, under the name the checkpoint gives it."""

    def __init__(self, inputs: int, outputs: int, size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class DecoderConv(Conv):
    """The same, with a BatchNorm that is declared, stored and never applied, as in the published code."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.bn = nn.BatchNorm2d(outputs)


class Dense(nn.Module):
    """Two convolutions, each output concatenated behind its input: c -> 3c channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels)
        self.conv2 = Conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, leaky_relu(self.conv1(x), 0.2)], 1)
        return torch.cat([x, leaky_relu(self.conv2(x), 0.2)], 1)


class Gradient(nn.Module):
    """Sum of the absolute horizontal and vertical derivative of every channel.

    The authors start from Sobel's kernels and train them; the checkpoint brings the result. Untrained they are random.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convx = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.convy = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.convx(x).abs() + self.convy(x).abs()


class GradientResidualDenseBlock(nn.Module):
    """Dense features beside gradient features, both brought to `outputs` channels and added."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = Dense(inputs)
        self.convdown = Conv(3 * inputs, outputs, 1)
        self.sobelconv = Gradient(inputs)
        self.convup = Conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(self.convdown(self.dense(x)) + self.convup(self.sobelconv(x)), 0.1)


class Encoder(nn.Module):
    """(N, 1, H, W) -> (N, 48, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv(1, 16)
        self.rgbd1 = GradientResidualDenseBlock(16, 32)
        self.rgbd2 = GradientResidualDenseBlock(32, 48)

    def forward(self, x: Tensor) -> Tensor:
        return self.rgbd2(self.rgbd1(leaky_relu(self.conv(x), 0.2)))


class SeAFusion(nn.Module):
    """The real-time fusion network of the semantic-aware framework.

    Tang, Yuan, Ma, Image fusion in the loop of high-level vision tasks: A semantic-aware real-time infrared and
    visible image fusion network, Information Fusion 82, 2022, doi:10.1016/j.inffus.2021.12.004.
    """

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = Encoder(), Encoder()
        self.decode4 = DecoderConv(96, 64)
        self.decode3 = DecoderConv(64, 32)
        self.decode2 = DecoderConv(32, 16)
        self.decode1 = DecoderConv(16, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Infrared and visible luminance, both (N, 1, H, W) in [0, 1] -> fused luminance (N, 1, H, W) in [0, 1]."""
        x = torch.cat([self.visible(visible), self.infrared(infrared)], 1)
        for decode in (self.decode4, self.decode3, self.decode2):
            x = leaky_relu(decode(x), 0.2)
        return torch.tanh(self.decode1(x)) / 2 + 0.5


def _convert(content: Any, path: Path) -> State:
    return renamed(content, path, {r"^vis_": "visible.", r"^inf_": "infrared."})


def _unit_ycrcb(image: Pixels) -> Tensor:
    """(3, H, W) float32 Y, Cr, Cb, each clipped to [0, 1], by the authors' coefficients."""
    colour = image if image.ndim == 3 else np.stack([image] * 3, axis=2)
    r, g, b = torch.from_numpy(colour.transpose(2, 0, 1).astype(np.float32) / 255)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return torch.stack([y, (r - y) * 0.713 + 0.5, (b - y) * 0.564 + 0.5]).clamp(0, 1)


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_pillow_gray(infrared), _unit_ycrcb(visible)[:1]


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """Colours of the visible image, clipped, then stretched over all three channels together; gray stays gray."""
    y, cr, cb = output[0], *(_unit_ycrcb(visible)[1:] - 0.5)
    rgb = torch.stack([y + 1.403 * cr, y - 0.714 * cr - 0.344 * cb, y + 1.773 * cb], 2).clamp(0, 1).numpy()
    fused = truncated(stretched(rgb) * 255)
    return fused if visible.ndim == 3 else to_gray(fused)


METHODS = {"SeAFusion": NetworkMethod(SeAFusion, _prepare, _finish, ("SeAFusion.pth",), _convert, reach=9)}
