"""MURF: its third task, which shifts the visible image's pixels onto the infrared one's and fuses both."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from evalkit.data.images import to_gray
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.colour import centred_chroma, unit_rgb, with_chroma
from evalkit.methods.layers.keys import from_tensorflow
from evalkit.methods.layers.norm import CurrentNorm
from evalkit.methods.network import NetworkMethod, Pixels

MULTIPLE = 8  # of the sides that the published network takes
WIDTH = 32
LARGEST_OFFSET = 0.2  # of half the side
TEMPERATURE = 0.05  # of the four weights of a sampled pixel
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


class OffsetLayer(nn.Module):
    """3x3 convolution with a reflected border, normalisation that only learns an offset, leaky ReLU of slope .2."""

    def __init__(self, channels_in: int, channels_out: int, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="reflect")
        self.norm = CurrentNorm(channels_out, affine=False, epsilon=1e-3) if norm else None
        self.beta = nn.Parameter(torch.zeros(channels_out, 1, 1)) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x) + self.beta
        return functional.leaky_relu(x, 0.2)


def _half(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 4, stride=2, padding=1)


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


class OffsetField(nn.Module):
    """Visible (N, 3, H, W) and infrared (N, 1, H, W) -> where to look, (N, 2, H, W): x and y in halves of the side."""

    def __init__(self) -> None:
        super().__init__()
        self.full = OffsetLayer(4, WIDTH)
        self.halved = OffsetLayer(WIDTH, WIDTH, norm=False)
        self.quarter = OffsetLayer(WIDTH, WIDTH)
        self.deep = OffsetLayer(WIDTH, WIDTH)
        self.quarter_again = OffsetLayer(2 * WIDTH, WIDTH)
        self.half_again = OffsetLayer(2 * WIDTH, WIDTH)
        self.full_again = OffsetLayer(2 * WIDTH, WIDTH)
        self.narrow = OffsetLayer(WIDTH, 16)
        self.last = nn.Conv2d(16, 2, 3, padding=1, padding_mode="reflect")

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        full = self.full(torch.cat((visible, infrared), dim=1))
        half = self.halved(_half(full))
        quarter = self.quarter(_half(half))
        x = self.deep(_half(quarter))
        x = self.quarter_again(torch.cat((_double(x), quarter), dim=1))
        x = self.half_again(torch.cat((_double(x), half), dim=1))
        x = self.full_again(torch.cat((_double(x), full), dim=1))
        return LARGEST_OFFSET * torch.tanh(self.last(self.narrow(x)))


def sampled(image: Tensor, offset: Tensor) -> Tensor:
    """An image looked at in shifted places.

    The weights of the four neighbours pass a sharp softmax, which makes them nearly those of the nearest one. Where
    a place lies on the last row or column its neighbours coincide and all weights are a quarter; a place outside is
    black.

    Args:
        image: (N, C, H, W).
        offset: (N, 2, H, W), x and y in halves of width and height.

    Returns:
        (N, C, H, W).
    """
    height, width = image.shape[2:]
    columns, rows = (torch.linspace(-1, 1, n, dtype=offset.dtype, device=offset.device) for n in (width, height))
    x = (columns + offset[:, 0] + 1) / 2 * (width - 1)
    y = (rows[:, None] + offset[:, 1] + 1) / 2 * (height - 1)
    left, top = x.floor(), y.floor()
    x0, x1 = (value.clamp(0, width - 1) for value in (left, left + 1))
    y0, y1 = (value.clamp(0, height - 1) for value in (top, top + 1))
    corners = ((x0, y0), (x0, y1), (x1, y0), (x1, y1))
    weights = torch.stack(((x1 - x) * (y1 - y), (x1 - x) * (y - y0), (x - x0) * (y1 - y), (x - x0) * (y - y0)))
    weights = (weights / TEMPERATURE).softmax(dim=0)
    pixels = image.flatten(2)
    result = torch.zeros_like(image)
    for weight, (column, row) in zip(weights, corners, strict=True):
        place = (row * width + column).long().flatten(1)[:, None].expand(-1, image.shape[1], -1)
        result = result + weight[:, None] * pixels.gather(2, place).view_as(image)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return result * inside[:, None]


class Fused(NamedTuple):
    """What the fusion makes of a pair.

    Attributes:
        rgb: (N, 3, H, W), nominally in [0, 1], not clipped.
        luminance: its Y, (N, 1, H, W) in [0, 1].
        visible, infrared: features behind the attention, (N, 32, H, W).
        scale: the attention, (N, 32).
        merged: the first features of both, (N, 32, H, W).
    """

    rgb: Tensor
    luminance: Tensor
    visible: Tensor
    infrared: Tensor
    scale: Tensor
    merged: Tensor


def _features(channels_in: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, 8, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, WIDTH, 3, padding=1),
        nn.LeakyReLU(0.2),
    )


def _through_four() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 4), nn.Linear(4, WIDTH))


def _edges(x: Tensor) -> Tensor:
    kernel = torch.tensor(LAPLACIAN).to(x).expand(x.shape[1], 1, 3, 3)
    return functional.conv2d(x, kernel, padding=1, groups=x.shape[1]).abs()


class MURF(nn.Module):
    """Xu, Yuan and Ma, MURF: Mutually Reinforcing Multi-Modal Image Registration and Fusion, TPAMI 45(10), 2023.

    doi:10.1109/TPAMI.2023.3283682. The task of fine registration and fusion, for infrared and visible images: visible
    (N, 3, H, W) and infrared (N, 1, H, W) in [0, 1], sides that are multiples of 8, -> fused RGB (N, 3, H, W),
    nominally in [0, 1].

    Args:
        register: sample the visible image where the offset field says; else leave each pixel in its place.
    """

    def __init__(self, register: bool = True) -> None:
        super().__init__()
        self.register = register
        self.offset = OffsetField()
        self.visible, self.infrared = _features(3), _features(1)
        self.of_mean, self.of_maximum = _through_four(), _through_four()
        # two groups, because the published kernel has half the channels of its input: half of the result sees the
        # visible features alone, half the infrared ones
        self.merge = nn.Sequential(nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1, groups=2), nn.LeakyReLU(0.2))
        self.decoder = nn.Sequential(
            nn.Conv2d(WIDTH, 16, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 3, padding=1)
        )

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return self.fuse(self.registered(visible, infrared), infrared).rgb

    def registered(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """The visible image where its pixels are to be fused, (N, 3, H, W)."""
        offset = self.offset(visible, infrared) if self.register else torch.zeros_like(visible[:, :2])
        return sampled(visible, offset)

    def fuse(self, visible: Tensor, infrared: Tensor) -> Fused:
        """A registered pair, fused."""
        a, b = self.visible(visible), self.infrared(infrared)
        edges = (_edges(a), _edges(b))
        mean, maximum = sum(e.mean((2, 3)) for e in edges), sum(e.amax((2, 3)) for e in edges)
        scale = torch.sigmoid(self.of_mean(mean) + self.of_maximum(maximum))
        a, b = a * scale[..., None, None], b * scale[..., None, None]
        merged = self.merge(torch.cat((a, b), dim=1))
        luminance = torch.tanh(self.decoder(merged)) / 2 + 0.5
        return Fused(with_chroma(luminance, centred_chroma(visible)), luminance, a, b, scale, merged)


STATISTICS = re.compile(r"/moving_(mean|variance)$")  # the published script takes the image's own
_OFFSET = {
    "full": ("1", ""),
    "halved": ("2", None),
    "quarter": ("3", "_1"),
    "deep": ("5", "_2"),
    "quarter_again": ("6", "_3"),
    "half_again": ("7", "_4"),
    "full_again": ("8", "_5"),
    "narrow": ("10", "_6"),
}
_KEYS = {
    r"^f2m_net/(conv1_offset/offset_conv/)?": "",
    **{rf"^conv{number}/conv2d/": f"offset.{layer}.conv." for layer, (number, _) in _OFFSET.items()},
    **{rf"^BatchNorm{end}/beta$": f"offset.{layer}.beta" for layer, (_, end) in _OFFSET.items() if end is not None},
    r"^conv11/conv2d/": "offset.last.",
    **{rf"^([wb])_a{i + 1}$": rf"visible.{2 * i}.\1" for i in range(3)},
    **{rf"^([wb])_b{i + 1}$": rf"infrared.{2 * i}.\1" for i in range(3)},
    **{rf"^([wb])f{i + 2}$": rf"decoder.{2 * i}.\1" for i in range(2)},
    r"^([wb])f1$": r"merge.0.\1",
    r"^dense/": "of_mean.0.",
    r"^dense_1/": "of_mean.1.",
    r"^dense_2/": "of_maximum.0.",
    r"^dense_3/": "of_maximum.1.",
    r"\.(w|kernel)$": ".weight",
    r"\.b$": ".bias",
}


def _convert(content: Any, path: Path) -> State:
    """From the authors' names; the file also holds statistics of norms, which their script does not use."""
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if not STATISTICS.search(str(key))}
    state = from_tensorflow(content, path, _KEYS)
    for key, value in state.items():
        if key.endswith(".beta"):
            state[key] = value[:, None, None]
        elif key.startswith(("of_mean.", "of_maximum.")) and value.ndim == 2:
            state[key] = value.T.contiguous()
    return state


def _prepare(infrared: Pixels, visible: Pixels, side: int | None = None) -> tuple[Tensor, Tensor]:
    """Both images squeezed into a square: of the longer side, rounded up to a multiple of 8, unless `side` is given."""
    square = side or -(-max(infrared.shape[:2]) // MULTIPLE) * MULTIPLE
    small = (
        np.asarray(Image.fromarray(image).resize((square, square), Image.Resampling.BILINEAR))
        for image in (visible, to_gray(infrared))
    )
    rgb, gray = (unit_rgb(image) for image in small)
    return rgb, gray[:1]


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """Back to the size of the sources, scaled so that the largest value is 255, negative ones cut off, rounded."""
    height, width = visible.shape[:2]
    values = cv2.resize(output.permute(1, 2, 0).numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
    levels = np.clip(values * (255 / max(values.max(), 1e-12)), 0, 255)
    fused = (levels + 0.5).astype(np.uint8)
    return fused if visible.ndim == 3 else fused[..., 1]  # of a gray image all channels are one


FILES = ("MURF-RGB-IR/0000.ckpt.index", "MURF-RGB-IR/0000.ckpt.data-00000-of-00001")
METHODS = {
    "MURF": NetworkMethod(MURF, _prepare, _finish, FILES, _convert),
    "MURF-aligned": NetworkMethod(partial(MURF, register=False), _prepare, _finish, FILES, _convert),
}
