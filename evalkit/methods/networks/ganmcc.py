"""GANMcC: two streams without borders, taught by a discriminator that tells which modality an image is of."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import from_tensorflow
from evalkit.methods.layers.norm import conv_current_norm
from evalkit.methods.layers.pixels import unit_pillow_gray
from evalkit.methods.layers.scipy_misc import save_gray
from evalkit.methods.network import NetworkMethod, Pixels

LAYERS = ((5, 256), (5, 128), (3, 64), (3, 32))  # size of the kernel, channels
BORDER = sum(size // 2 for size, _ in LAYERS)  # pixels that the kernels take away on every side


def _stream(width: int, affine: bool) -> nn.Sequential:
    channels = (3, *(width * count // LAYERS[0][1] for _, count in LAYERS))
    layers = zip(LAYERS, channels, channels[1:], strict=False)
    return nn.Sequential(*(conv_current_norm(a, b, size, 0, affine) for (size, _), a, b in layers))


class GANMcC(nn.Module):
    """Ma et al., GANMcC: A Generative Adversarial Network With Multiclassification Constraints, TIM 70, 2021.

    doi:10.1109/TIM.2020.3038013. Two gray images (N, 1, H, W) in [-1, 1] -> fused (N, 1, H, W) in [-1, 1]. Their
    borders are repeated by the six pixels that the kernels take away. Features are normalised by the statistics of
    each image, outside training, too (`CurrentNorm`).

    Args:
        affine: learn a scale and an offset in every norm. The authors do, and their test resets them to 1 and 0.
        width: channels of the first layer; the others in proportion.
    """

    def __init__(self, affine: bool = True, width: int = LAYERS[0][1]) -> None:
        super().__init__()
        self.infrared, self.visible = _stream(width, affine), _stream(width, affine)
        self.last = nn.Conv2d(4 * (width * LAYERS[-1][1] // LAYERS[0][1]), 1, 1)

    def streams(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """What both streams give, (N, 32, H, W) each: every one sees its own modality twice and the other once."""
        first, second = (functional.pad(x, [BORDER] * 4, mode="replicate") for x in (infrared, visible))
        return (
            self.infrared(torch.cat((first, first, second), dim=1)),
            self.visible(torch.cat((second, second, first), dim=1)),
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        a, b = self.streams(infrared, visible)
        return torch.tanh(self.last(torch.cat((a, b, a, b), dim=1)))  # twice each, as published


NORM = re.compile(r"/BatchNorm/(gamma|beta)$")
STATISTICS = re.compile(r"/BatchNorm/moving_(mean|variance)$")
TRAINING = re.compile(r"^discriminator/|/Adam(_1)?$|^beta[12]_power|/u\w*$")  # of no use to fusion
_KEYS = {
    r"^fusion_model/": "",
    r"^layer5/": "last.",
    **{rf"^layer{i + 1}/": f"infrared.{i}.0." for i in range(4)},
    **{rf"^layer{i + 1}_vi/": f"visible.{i}.0." for i in range(4)},
    r"\.0\.BatchNorm/gamma$": ".1.weight",
    r"\.0\.BatchNorm/beta$": ".1.bias",
    r"\.w[1-5](_vi)?$": ".weight",
    r"\.b[1-5](_vi)?$": ".bias",
}


def _convert(content: Any, path: Path, affine: bool) -> State:
    """From the authors' names, raw kernels; without the scales and offsets where the test resets them."""
    left_out = (STATISTICS, TRAINING, *(() if affine else (NORM,)))
    if isinstance(content, dict):
        content = {k: v for k, v in content.items() if not any(pattern.search(str(k)) for pattern in left_out)}
    return from_tensorflow(content, path, _KEYS)


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_pillow_gray(infrared) * 2 - 1, unit_pillow_gray(visible) * 2 - 1


FILES = ("GANMcC/CGAN.model-4.index", "GANMcC/CGAN.model-4.data-00000-of-00001")
METHODS = {
    "GANMcC": NetworkMethod(partial(GANMcC, affine=False), _prepare, save_gray, FILES, partial(_convert, affine=False)),
    "GANMcC-stored": NetworkMethod(GANMcC, _prepare, save_gray, FILES, partial(_convert, affine=True)),
}
