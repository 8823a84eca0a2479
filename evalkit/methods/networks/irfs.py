"""IRFS: the feature screening fusion network (FSFNet), trained together with a saliency detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import CheckpointError, State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import unit_opencv_gray
from evalkit.methods.network import NetworkMethod, Pixels, truncated

WIDTH = 64


def conv(channels_in: int, channels_out: int, size: int = 3, bias: bool = False) -> nn.Conv2d:
    """Convolution that keeps the size, zeros around the border.

    Args:
        channels_in, channels_out: C and C' of the features.
        size: of the kernel, odd.
        bias: with a summand per channel.
    """
    return nn.Conv2d(channels_in, channels_out, size, padding=size // 2, bias=bias)


class SpatialAttention(nn.Module):
    """Every pixel times a weight in (0, 1) from the maximum and mean of the channels around it."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = conv(2, 1, 5)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)
        return x * torch.sigmoid(self.weigh(summary))


class ChannelAttention(nn.Module):
    """Every channel times a weight in (0, 1) from the means of all channels."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = channels // reduction
        self.weigh = nn.Sequential(conv(channels, hidden, 1), nn.ReLU(), conv(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.weigh(x.mean(dim=(2, 3), keepdim=True)))


class DualAttention(nn.Module):
    """Features of an image, screened in space and over channels side by side: (N, 1, H, W) -> (N, WIDTH, H, W).

    Args:
        activation: the same object for both images, whose slope the published network shares.
    """

    def __init__(self, activation: nn.PReLU) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(1, WIDTH), activation, conv(WIDTH, WIDTH))
        self.spatial = SpatialAttention()
        self.channel = ChannelAttention(WIDTH)
        self.join = conv(2 * WIDTH, WIDTH, 1)

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(image)
        return self.join(torch.cat((self.spatial(features), self.channel(features)), dim=1))


class ResidualBlock(nn.Module):
    """3x3 convolution, ReLU, 3x3 convolution, added to the input: (N, WIDTH, H, W) -> the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(WIDTH, WIDTH, bias=True), nn.ReLU(), conv(WIDTH, WIDTH, bias=True))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class FSFNet(nn.Module):
    """Wang et al., An interactively reinforced paradigm for joint infrared-visible image fusion and saliency object
    detection, Information Fusion 98, 2023, doi:10.1016/j.inffus.2023.101828.

    Infrared and the visible luminance, both (N, 1, H, W) in [0, 1], any size -> fused luminance (N, 1, H, W), not
    bounded (about [0, 1] once trained).
    """

    def __init__(self) -> None:
        super().__init__()
        activation = nn.PReLU()
        self.visible, self.infrared = DualAttention(activation), DualAttention(activation)
        self.body = nn.Sequential(ResidualBlock(), ResidualBlock())
        self.tail = conv(WIDTH, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        return self.tail(self.body(self.visible(visible) + self.infrared(infrared)))


_KEYS = {
    r"^head_1\.": "visible.",
    r"^head_2\.": "infrared.",
    r"\.SA\.spatial\.conv\.": ".spatial.weigh.",
    r"\.CA\.conv_du\.": ".channel.weigh.",
    r"\.conv1x1\.": ".join.",
    r"^tail\.0\.": "tail.",
}


def _convert(content: Any, path: Path) -> State:
    state = renamed(content, path, _KEYS)
    slopes = [state[key] for key in ("visible.body.1.weight", "infrared.body.1.weight") if key in state]
    if len(slopes) == 2 and not torch.equal(*slopes):  # the network could only keep the one that is loaded last
        raise CheckpointError(f"the checkpoint {path} has two slopes where the network has one for both images.")
    return state


def _ycrcb(image: Pixels) -> Pixels:
    return cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.uint8, copy=False)


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    luminance = _ycrcb(visible)[..., 0] if visible.ndim == 3 else visible
    return unit_opencv_gray(infrared), unit_opencv_gray(luminance)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    luminance = truncated(output[0].numpy() * 255)
    if visible.ndim == 2:
        return luminance
    ycrcb = _ycrcb(visible)
    ycrcb[..., 0] = luminance
    return cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB).astype(np.uint8, copy=False)


METHODS = {"IRFS": NetworkMethod(FSFNet, _prepare, _finish, ("fusion_model.pth",), _convert)}
