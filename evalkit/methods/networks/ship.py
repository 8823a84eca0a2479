"""SHIP: synergistic high-order interaction of infrared and visible features, in space and over channels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State, as_state
from evalkit.methods.layers.keys import renamed
from evalkit.methods.network import NetworkMethod, Pixels, rounded

WIDTH = 16  # channels of each modality
ORDERS = 3


def conv3(channels_in: int, channels_out: int) -> nn.Conv2d:
    """3x3 convolution, zeros around the border."""
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


def two_convs(channels: int) -> nn.Sequential:
    """3x3 convolution, ReLU, 3x3 convolution."""
    return nn.Sequential(conv3(channels, channels), nn.ReLU(), conv3(channels, channels))


def bottleneck(channels: int, inner: int) -> nn.Sequential:
    """The same with 1x1 convolutions and another width between them."""
    return nn.Sequential(nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1))


class EdgeConv(nn.Module):
    """Central-difference convolution: x + s * cross(x) + (1 - s) * diagonal(x), with a learned share s.

    Both kernels have five taps, on the cross and on the diagonals of 3x3, and subtract 0.8 of their sum at the centre.
    All is linear in x, so one kernel does it.
    """

    CROSS = (1, 3, 4, 5, 7)  # places of the taps in a 3x3 kernel read row by row
    DIAGONAL = (0, 2, 4, 6, 8)
    THETA = 0.8

    def __init__(self, channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(5 * channels)
        self.balance = nn.Parameter(torch.zeros(1))
        self.cross = nn.Parameter(torch.empty(channels, channels, 1, 5).uniform_(-bound, bound))
        self.diagonal = nn.Parameter(torch.empty(channels, channels, 1, 5).uniform_(-bound, bound))

    def kernel(self, taps: Tensor, places: tuple[int, ...]) -> Tensor:
        """Taps (C', C, 1, 5) -> 3x3 kernels (C', C, 3, 3)."""
        flat = taps.new_zeros(*taps.shape[:2], 9)
        flat[..., places] = taps[:, :, 0]
        flat[..., 4] -= self.THETA * taps.sum(dim=(2, 3))
        return flat.view(*taps.shape[:2], 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        share = torch.sigmoid(self.balance)
        kernel = share * self.kernel(self.cross, self.CROSS)
        kernel = kernel + (1 - share) * self.kernel(self.diagonal, self.DIAGONAL)
        return x + functional.conv2d(x, kernel, padding=1)


class EdgeBlock(nn.Module):
    """Convolution, then a residual branch and an edge branch, added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3(channels, channels)
        self.residual = two_convs(channels)
        self.edge = EdgeConv(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.residual(x) + self.edge(x)


class PixelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        by_pixel = x.permute(0, 2, 3, 1)
        return functional.layer_norm(by_pixel, self.weight.shape, self.weight, self.bias).permute(0, 3, 1, 2)


class SpatialInteraction(nn.Module):
    """(visible, infrared) -> (visible, infrared), each (N, 16, H, W).

    The first product is taken between the spectra (a circular convolution of whole images, hence global), the higher
    ones pixel by pixel between ever more processed features.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fused = nn.ModuleList(two_convs(WIDTH) for _ in range(ORDERS))
        self.infrared = nn.ModuleList(two_convs(WIDTH) for _ in range(ORDERS))
        self.norms = nn.ModuleList(PixelNorm(WIDTH) for _ in range(ORDERS + 1))

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = torch.fft.rfft2(visible) * torch.fft.rfft2(infrared)
        x = self.norms[0](torch.fft.irfft2(spectrum, s=visible.shape[-2:]))  # without s an odd width loses a column
        for fused, process, norm in zip(self.fused, self.infrared, self.norms[1:], strict=True):
            x = norm(fused(x * infrared))
            infrared = process(infrared)
        return x * infrared + visible, infrared


class HalfNormBlock(nn.Module):
    """Two convolutions beside a 1x1 shortcut; the first half of the channels is normalised over the image between."""

    def __init__(self, channels_in: int, channels: int = WIDTH) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(channels_in, channels, 1)
        self.first = conv3(channels_in, channels)
        self.second = conv3(channels, channels)
        self.norm = nn.InstanceNorm2d(channels // 2, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        normalised, plain = self.first(x).chunk(2, dim=1)
        y = functional.leaky_relu(torch.cat((self.norm(normalised), plain), dim=1), 0.1)
        return functional.leaky_relu(self.second(y), 0.1) + self.shortcut(x)


class DenseBlock(nn.Module):
    """(N, C, H, W) -> (N, C, H, W) by two HalfNormBlocks, all outputs joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = HalfNormBlock(channels)
        self.second = HalfNormBlock(WIDTH)
        self.join = conv3(channels + 2 * WIDTH, channels)

    def forward(self, x: Tensor) -> Tensor:
        first = functional.leaky_relu(self.first(x), 0.2)
        second = functional.leaky_relu(self.second(first), 0.2)
        return functional.leaky_relu(self.join(torch.cat((x, first, second), dim=1)), 0.2)


class InvertibleConv(nn.Module):
    """1x1 convolution with an invertible matrix P L (U + diag(s)), doi:10.48550/arXiv.1807.03039.

    Learned are L below and U above the diagonal, and log |s|; the permutation P and the signs of s stay as drawn. The
    other halves of `lower` and `upper` are stored and have no effect.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(torch.linalg.qr(torch.randn(channels, channels)).Q)
        scale = upper.diagonal()
        self.lower = nn.Parameter(lower)
        self.upper = nn.Parameter(upper.triu(1))
        self.log_scale = nn.Parameter(scale.abs().log())
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", scale.sign())

    def matrix(self) -> Tensor:
        """The whole matrix (C, C)."""
        lower = self.lower.tril(-1) + torch.eye(len(self.lower), dtype=self.lower.dtype, device=self.lower.device)
        return self.permutation @ lower @ (self.upper.triu(1) + torch.diag(self.sign * self.log_scale.exp()))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.matrix()[:, :, None, None])


class Coupling(nn.Module):
    """Invertible block (N, 2C, H, W) -> (N, 2C, H, W): each half is changed by what the other one says."""

    CLAMP = 0.8  # of the log scale

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = InvertibleConv(channels)
        self.shift_first = DenseBlock(channels // 2)
        self.scale_second = DenseBlock(channels // 2)
        self.shift_second = DenseBlock(channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.mix(x).chunk(2, dim=1)
        first = first + self.shift_first(second)
        log_scale = self.CLAMP * (2 * torch.sigmoid(self.scale_second(first)) - 1)
        return torch.cat((first, second * log_scale.exp() + self.shift_second(first)), dim=1)


def compressed(channels: int) -> nn.Sequential:
    """Coupling block, then 1x1 convolution to the width of one modality."""
    return nn.Sequential(Coupling(channels), nn.Conv2d(channels, WIDTH, 1))


class ChannelInteraction(nn.Module):
    """(visible, infrared) -> visible (N, 16, H, W), weighting the channels of both again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleList(bottleneck(2 * WIDTH, WIDTH) for _ in range(ORDERS + 1))
        self.fused = nn.ModuleList(two_convs(2 * WIDTH) for _ in range(ORDERS))
        self.compress = compressed(2 * WIDTH)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        x = torch.cat((visible, infrared), dim=1)
        weights = self.attention[0](x.mean(dim=(2, 3), keepdim=True)).softmax(dim=1)
        for fused, attention in zip(self.fused, self.attention[1:], strict=True):
            x = fused(x * weights)
            weights = attention(weights).softmax(dim=1)
        return self.compress(x * weights) + visible


class Interaction(nn.Module):
    """Spatial, then channel interaction: (visible, infrared) -> (visible, infrared)."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = SpatialInteraction()
        self.channel = ChannelInteraction()

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        visible, infrared = self.spatial(visible, infrared)
        return self.channel(visible, infrared), infrared


class MeanShift(nn.Module):
    """Adds one gated number to each channel: the mean of what two convolutions make of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = two_convs(channels)
        self.gate = bottleneck(channels, channels // 4)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.convs(x).mean(dim=(2, 3), keepdim=True)
        return x + mean * torch.sigmoid(self.gate(mean))


class SHIP(nn.Module):
    """Zheng et al., Probing Synergistic High-Order Interaction in Infrared and Visible Image Fusion, CVPR 2024.

    Infrared and visible luminance (N, 1, H, W) in [0, 1] -> fused (N, 1, H, W), not bounded. Any size from 1x2 up; a
    crop gives other values than the same part of the whole, for the spectra and means are of the whole image.
    """

    def __init__(self) -> None:
        super().__init__()
        self.visible = self.extraction()
        self.infrared = self.extraction()
        self.interactions = nn.ModuleList(Interaction() for _ in range(ORDERS))
        self.compress = compressed(ORDERS * WIDTH)
        self.reconstruct = nn.Sequential(conv3(WIDTH, WIDTH), MeanShift(WIDTH), MeanShift(WIDTH), conv3(WIDTH, 1))

    @staticmethod
    def extraction() -> nn.Sequential:
        """Features of one image: (N, 1, H, W) -> (N, 16, H, W)."""
        return nn.Sequential(nn.Conv2d(1, WIDTH, 1), EdgeBlock(WIDTH), EdgeBlock(WIDTH))

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        visible, infrared = self.visible(visible), self.infrared(infrared)
        orders = []
        for interaction in self.interactions:
            visible, infrared = interaction(visible, infrared)
            orders.append(visible)
        return self.reconstruct(self.compress(torch.cat(orders, dim=1)))


_ONE_LESS = {str(i + 1): str(i) for i in range(ORDERS + 1)}  # the authors count from 1
_KEYS = {
    r"^vis\.": "visible.",
    r"^inf\.": "infrared.",
    r"^(visible|infrared)\.conv\.": r"\1.0.",
    r"\.block(\d)\.process\.": r".\1.conv.",
    r"\.block(\d)\.Res\.": r".\1.residual.",
    r"\.block(\d)\.CDC\.": r".\1.edge.",
    r"\.HP_branch$": ".balance",
    r"\.h_conv\.conv\.weight$": ".cross",
    r"\.d_conv\.conv\.weight$": ".diagonal",
    r"\.chaAtten\.": ".attention.0.",
    r"\.reflashChaAtten(\d)\.": r".attention.\1.",
    **{rf"^interaction{n}\.": f"interactions.{i}." for n, i in _ONE_LESS.items()},
    **{rf"\.reflashFused{n}\.": f".fused.{i}." for n, i in _ONE_LESS.items()},
    **{rf"\.reflashInfrared{n}\.": f".infrared.{i}." for n, i in _ONE_LESS.items()},
    **{rf"\.norm{n}\.body\.": f".norms.{i}." for n, i in _ONE_LESS.items()},
    r"(^|\.)postprocess\.": r"\1compress.",
    r"\.F\.": ".shift_first.",
    r"\.H\.": ".scale_second.",
    r"\.G\.": ".shift_second.",
    r"\.conv1\.": ".first.",
    r"\.conv2\.": ".second.",
    r"\.conv3\.": ".join.",
    r"\.identity\.": ".shortcut.",
    r"\.conv_1\.": ".first.",
    r"\.conv_2\.": ".second.",
    r"\.invconv\.": ".mix.",
    r"\.log_s$": ".log_scale",
    r"\.p$": ".permutation",
    r"\.sign_s$": ".sign",
    r"^reconstruction\.conv_in\.": "reconstruct.0.",
    r"^reconstruction\.process\.0\.": "reconstruct.1.",
    r"^reconstruction\.process\.1\.": "reconstruct.2.",
    r"^reconstruction\.conv_last\.": "reconstruct.3.",
    r"^(reconstruct\.\d)\.process\.": r"\1.convs.",
    r"\.conv_du\.": ".gate.",
}


def _convert(content: Any, path: Path) -> State:
    return renamed(as_state(content, path, "params"), path, _KEYS)


def _unit_rgb(image: Pixels) -> NDArray:
    """(H, W, 3) float32 in [0, 1]; gray becomes three equal channels."""
    return (image if image.ndim == 3 else image[..., None].repeat(3, axis=2)).astype(np.float32) / 255


def _luminance(rgb: NDArray) -> NDArray:
    """BT.601 luma, not rounded."""
    return 0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """The red channel of the infrared image, and the luminance of the visible one before rounding."""
    planes = _unit_rgb(infrared)[..., 0].copy(), _luminance(_unit_rgb(visible))
    return torch.from_numpy(planes[0])[None], torch.from_numpy(planes[1])[None]


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """Clipped; with the visible chroma, clipped again, rounded: clipping in colour changes the gray that is scored.

    A gray visible image has no chroma; the authors save three equal channels, here it is one.
    """
    y = output[0].numpy().clip(0, 1)
    if visible.ndim == 2:
        return rounded(y * 255)
    rgb = _unit_rgb(visible)
    original = _luminance(rgb)
    cr, cb = 0.713 * (rgb[..., 0] - original), 0.564 * (rgb[..., 2] - original)
    return rounded(np.stack((y + 1.403 * cr, y - 0.714 * cr - 0.344 * cb, y + 1.773 * cb), axis=-1) * 255)


METHODS = {"SHIP": NetworkMethod(SHIP, _prepare, _finish, ("SHIP.pth",), _convert)}
