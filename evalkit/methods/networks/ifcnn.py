"""IFCNN: features of both images, their maximum, an image from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import State, as_state
from evalkit.methods.layers.pixels import opencv_gray
from evalkit.methods.network import NetworkMethod, Pixels, truncated


class ConvNormReLU(nn.Module):
    """Replicate-padded 3x3 convolution without bias, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate", bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class IFCNN(nn.Module):
    """The fully convolutional network for several fusion tasks, with the maximum as fusion rule.

    Zhang et al., IFCNN: A general image fusion framework based on convolutional neural network, Information Fusion 54,
    2020, doi:10.1016/j.inffus.2019.07.011.

    `conv1` is the first layer of ResNet-101 with stride 1; the authors keep it frozen, and so it is here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, padding=3, padding_mode="replicate", bias=False)
        self.conv1.weight.requires_grad_(False)
        self.conv2 = ConvNormReLU(64, 64)
        self.conv3 = ConvNormReLU(64, 64)
        self.conv4 = nn.Conv2d(64, 3, 1)

    def forward(self, *images: Tensor) -> Tensor:
        """Two or more (N, 3, H, W) RGB in [0, 1] -> (N, 3, H, W), not clipped; their order has no effect."""
        features = self.conv2(self.conv1(images[0]))
        for image in images[1:]:
            features = torch.maximum(features, self.conv2(self.conv1(image)))
        return self.conv4(self.conv3(features))


def _convert(content: Any, path: Path) -> State:
    return as_state(content, path)  # the names are the authors' own


def _unit_rgb(image: Pixels) -> Tensor:
    """(3, H, W) float32 in [0, 1]; gray repeated. No ImageNet statistics: those serve multi-focus pairs only."""
    colour = image if image.ndim == 3 else np.stack([image] * 3, axis=2)
    return torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1), dtype=np.float32) / 255)


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return _unit_rgb(infrared), _unit_rgb(visible)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return opencv_gray(truncated(output.clamp(0, 1).permute(1, 2, 0).numpy() * 255))


METHODS = {"IFCNN": NetworkMethod(IFCNN, _prepare, _finish, ("IFCNN-MAX.pth",), _convert, ("conv1", "conv2"), reach=5)}
