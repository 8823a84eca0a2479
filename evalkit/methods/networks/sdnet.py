"""SDNet: two images squeezed into one, which in training must still hold both of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from evalkit.methods.layers.blocks import conv_leaky
from evalkit.methods.layers.scipy_misc import save_gray, signed_pair
from evalkit.methods.network import NetworkMethod


class Features(nn.Module):
    """Image (N, 1, H, W) -> features (N, 64, H, W): four layers of 16 channels, each sees all layers before it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv_leaky(1, 16, 5)
        self.dense = nn.ModuleList(conv_leaky(16 * i, 16) for i in (1, 2, 3))

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        for layer in self.dense:
            x = torch.cat((x, layer(x)), dim=1)
        return x


class SDNet(nn.Module):
    """Zhang and Ma, SDNet: A Versatile Squeeze-and-Decomposition Network for Real-Time Image Fusion, IJCV 129, 2021.

    doi:10.1007/s11263-021-01501-8. The squeeze half, all that fusion needs: two gray images (N, 1, H, W) in [-1, 1] ->
    fused (N, 1, H, W) in [-1, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = Features(), Features()
        self.last = nn.Conv2d(128, 1, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.cat((self.infrared(infrared), self.visible(visible)), dim=1)))


class Squeezed(NamedTuple):
    """The fused image and what can be recovered from it, each (N, 1, H, W) in [-1, 1]."""

    fused: Tensor
    infrared: Tensor
    visible: Tensor


def _branch() -> nn.Sequential:
    return nn.Sequential(conv_leaky(128, 16), conv_leaky(16, 4), nn.Conv2d(4, 1, 3, padding=1), nn.Tanh())


class Decomposition(nn.Module):
    """Fused image (N, 1, H, W) -> the infrared and the visible image it was made of, each (N, 1, H, W) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.common = conv_leaky(1, 128, 1)
        self.infrared, self.visible = _branch(), _branch()

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        x = self.common(fused)
        return self.infrared(x), self.visible(x)


class SqueezeAndDecomposition(nn.Module):
    """Both halves, as they are trained together; `squeeze` is the fusion network."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = SDNet()
        self.decomposition = Decomposition()

    def forward(self, infrared: Tensor, visible: Tensor) -> Squeezed:
        fused = self.squeeze(infrared, visible)
        return Squeezed(fused, *self.decomposition(fused))


METHODS = {"SDNet": NetworkMethod(SDNet, signed_pair, save_gray)}
