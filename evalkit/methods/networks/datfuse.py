"""DATFuse: residual convolution with channel and spatial attention, around a small transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.attention import Transformer, UnusedPatchNorm
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import unit_pillow_gray, wrapped
from evalkit.methods.network import NetworkMethod, Pixels

WIDTH = 16


class ConvNormReLU(nn.Module):
    """Replicate-padded convolution, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="replicate")
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class FeatureExtraction(nn.Module):
    """Convolution and BatchNorm applied twice with the same weights, a ReLU between and none behind."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate")
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(torch.relu(self.bn(self.conv(x)))))


class ChannelAttention(nn.Module):
    """A weight in (0, 1) per channel from the channels' means."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = channels // reduction
        self.fc = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 1, 1)."""
        return torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class SpatialAttention(nn.Module):
    """A weight in (0, 1) per pixel from its neighbourhood."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = channels // reduction
        self.body = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, 1, 3, padding=1),
            nn.BatchNorm2d(1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W)."""
        return torch.sigmoid(self.body(x))


class DATFuse(nn.Module):
    """Dual attention residual module, transformer, the same module again.

    Tang et al., DATFuse: Infrared and Visible Image Fusion via Dual Attention Transformer, IEEE TCSVT 33(7), 2023,
    doi:10.1109/TCSVT.2023.3234340.

    One weight set serves both sides of the transformer. `patch_embed.norm` and the attention's queries, keys and bias
    tables are in the checkpoint and have no effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvNormReLU(2, WIDTH, 5)
        self.features = FeatureExtraction(WIDTH)
        self.channel_attention = ChannelAttention(WIDTH)
        self.spatial_attention = SpatialAttention(WIDTH)
        self.patch_embed = UnusedPatchNorm()
        self.transformer = Transformer(depth=2, channels=WIDTH, heads=8)
        self.last = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Two (N, 1, H, W) in [0, 1] -> (N, 1, H, W) in (-1, 1)."""
        start = self.first(torch.cat([infrared, visible], 1))
        encoded = torch.relu(self._attended(self.features(start)) + start)
        decoded = self.features(self.transformer(encoded))
        return torch.tanh(self.last(self._attended(decoded) + decoded))

    def _attended(self, x: Tensor) -> Tensor:
        return x * self.channel_attention(x) + x * self.spatial_attention(x)


def _convert(content: Any, path: Path) -> State:
    return renamed(
        content,
        path,
        {
            r"^convolutional\.": "first.",
            r"^convolutional_out\.conv\.": "last.",
            r"^fem\.": "features.",
            r"^cam\.": "channel_attention.",
            r"^sam\.": "spatial_attention.",
            r"^basicLayer\.": "transformer.",
        },
    )


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_pillow_gray(infrared), unit_pillow_gray(visible)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return wrapped(output[0].numpy() * 255)


METHODS = {"DATFuse": NetworkMethod(DATFuse, _prepare, _finish, ("DATFuse.pth",), _convert)}
