"""SuperFusion: registration, fusion under a mask that looks along rows and columns, trained for segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import State, as_state
from evalkit.methods.layers.colour import recoloured, to_ycrcb, unit_rgb
from evalkit.methods.layers.keys import renamed
from evalkit.methods.network import NetworkMethod, Pixels
from evalkit.methods.networks import superfusion_registration as registration


def _conv_leaky(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.LeakyReLU())


def recurrence(x: Tensor, weight: Tensor, bias: Tensor, dim: int, reverse: bool = False) -> Tensor:
    """h = relu(weight * previous h + bias + x) along rows or columns, h = relu(x) at the start: (N, C, H, W) -> same.

    Args:
        x: (N, C, H, W).
        weight, bias: (C,).
        dim: 2 from row to row, 3 from column to column.
        reverse: from the last one to the first.
    """
    lines = x.movedim(dim, 0).contiguous().unbind()
    lines = lines[::-1] if reverse else lines
    hidden = [lines[0].relu()]
    for line in lines[1:]:
        hidden.append(torch.addcmul(line + bias[:, None], hidden[-1], weight[:, None]).relu())
    return torch.stack(hidden[::-1] if reverse else hidden, dim=dim)


class SpatialRecurrence(nn.Module):
    """Four recurrences, up, right, down and left: (N, C, H, W) -> (N, 4C, H, W).

    Each direction has one weight and one bias per channel, kept as a depth-wise 1x1 convolution that is never run.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up, self.right, self.down, self.left = (
            nn.Conv2d(channels, channels, 1, groups=channels) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        runs = []
        directions = (self.up, 2, True), (self.right, 3, False), (self.down, 2, False), (self.left, 3, True)
        for own, dim, reverse in directions:
            assert own.bias is not None
            runs.append(recurrence(x, own.weight.flatten(), own.bias, dim, reverse))
        return torch.cat(runs, dim=1)


class GlobalSpatialAttention(nn.Module):
    """Features of both images (N, 64, H, W) -> mask (N, 32, H, W): how much of the infrared features is taken.

    The published mask is not bounded to 0..1, and the weights of the four directions are computed and thrown away
    there; here they are only held, as the files have them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(64, 32, 3, padding=1)
        self.recurrence1, self.recurrence2 = SpatialRecurrence(32), SpatialRecurrence(32)
        self.second = nn.Conv2d(128, 32, 3, padding=1)
        self.third = _conv_leaky(128, 32)
        self.last = nn.Conv2d(32, 32, 3, padding=1)
        self.unused_directions = nn.Sequential(_conv_leaky(64, 16), _conv_leaky(16, 16), nn.Conv2d(16, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.recurrence1(self.first(x)))
        return self.last(self.third(self.recurrence2(x)))


def _encoder() -> nn.Sequential:
    return nn.Sequential(_conv_leaky(1, 8), _conv_leaky(8, 16), _conv_leaky(16, 16), _conv_leaky(16, 32))


class SuperFusion(nn.Module):
    """Tang et al., SuperFusion: A Versatile Image Registration and Fusion Network with Semantic Awareness, JAS 9(12).

    doi:10.1109/JAS.2022.106082. The fusion network: infrared image and luminance of the visible one, aligned, both
    (N, 1, H, W) in [0, 1] -> fused luminance (N, 1, H, W) in [0, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = _encoder(), _encoder()
        self.attention = GlobalSpatialAttention()
        self.decoder = nn.Sequential(
            _conv_leaky(32, 16), _conv_leaky(16, 16), _conv_leaky(16, 8), nn.Conv2d(8, 1, 3, padding=1)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        infrared, visible = self.infrared(infrared), self.visible(visible)
        mask = self.attention(torch.cat((infrared, visible), dim=1))
        return torch.tanh(self.decoder(mask * infrared + (1 - mask) * visible)) / 2 + 0.5


class RegisteredSuperFusion(nn.Module):
    """Both networks: colour images (N, 3, H, W) in [0, 1], not aligned -> fused luminance (N, 1, H, W) in [0, 1].

    The infrared image is warped to the visible one, then its red channel is fused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.registration, self.fusion = registration.DenseMatcher(), SuperFusion()

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        moved = registration.warped(infrared, self.registration(infrared, visible).flow)
        return self.fusion(moved[:, :1], to_ycrcb(visible)[:, :1])


_KEYS = {
    r"^encoder_ir\.(\d)\.model\.": r"infrared.\1.",
    r"^encoder_vi\.(\d)\.model\.": r"visible.\1.",
    r"^decoder\.3\.model\.0\.": "decoder.3.",
    r"^decoder\.(\d)\.model\.": r"decoder.\1.",
    r"^SAM\.irnn(\d)\.(\w+)_weight\.": r"attention.recurrence\1.\2.",
    r"^SAM\.conv_in\.model\.0\.": "attention.first.",
    r"^SAM\.conv2\.model\.0\.": "attention.second.",
    r"^SAM\.conv3\.model\.": "attention.third.",
    r"^SAM\.conv_out\.model\.0\.": "attention.last.",
    r"^SAM\.attention_layer\.model\.2\.model\.0\.": "attention.unused_directions.2.",
    r"^SAM\.attention_layer\.model\.(\d)\.model\.": r"attention.unused_directions.\1.",
}


def _convert(content: Any, path: Path) -> State:
    """From the authors' file, which also holds the registration network and the state of its training."""
    return renamed(as_state(content, path, "FN"), path, _KEYS)


def _convert_both(content: Any, path: Path) -> State:
    matcher = renamed(as_state(content, path, "DM"), path, registration.KEYS)
    parts = {"registration": matcher, "fusion": _convert(content, path)}
    return {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_rgb(infrared)[:1], to_ycrcb(unit_rgb(visible))[:1]


def _prepare_both(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_rgb(infrared), unit_rgb(visible)


_FILES = ("SuperFusion/MSRS.pth",)
METHODS = {
    "SuperFusion": NetworkMethod(SuperFusion, _prepare, recoloured, _FILES, _convert),
    "SuperFusion-registered": NetworkMethod(RegisteredSuperFusion, _prepare_both, recoloured, _FILES, _convert_both),
}
