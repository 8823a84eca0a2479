"""SDNet: two images squeezed into one, which in training must still hold both of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.blocks import conv_leaky
from evalkit.methods.layers.keys import from_tensorflow, regrouped
from evalkit.methods.layers.scipy_misc import save_gray, signed_functional_first, signed_pair
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


DECOMPOSITION = re.compile(r"^layer(6_sept/[wb]6_sept|([7-9])_(ir|vi)/[wb]\2_\3)$")
LAYERS_APART = (0, 2, 4, 6, 1, 3, 5, 7)  # of eight groups of channels, the authors' layers alternate between the images
FILES = ("SDNet-IR_VIS/IRVIS.model-10.index", "SDNet-IR_VIS/IRVIS.model-10.data-00000-of-00001")
MEDICAL = ("SDNet-Medical/Medical.model-29.index", "SDNet-Medical/Medical.model-29.data-00000-of-00001")


def _convert(content: Any, path: Path) -> State:
    """From the authors' names; the file also holds the decomposition, which fusion does not need."""
    changes = {r"^fusion_model/": ""}
    for theirs, ours in (("ir", "infrared"), ("vi", "visible")):
        changes[rf"^layer1_{theirs}/"] = f"{ours}.first.0."
        changes |= {rf"^layer{i + 2}_{theirs}/": f"{ours}.dense.{i}.0." for i in range(3)}
    changes |= {r"^layer5_fuse/": "last.", r"\.w[1-5]_\w+$": ".weight", r"\.b[1-5]_\w+$": ".bias"}
    state = from_tensorflow(content, path, changes)
    state = {key: value for key, value in state.items() if not DECOMPOSITION.match(key)}
    if "last.weight" in state:
        state["last.weight"] = regrouped(state["last.weight"], 16, LAYERS_APART)
    return state


METHODS = {
    "SDNet": NetworkMethod(SDNet, signed_pair, save_gray, FILES, _convert, reach=5),
    "SDNet-Medical": NetworkMethod(SDNet, signed_functional_first, save_gray, MEDICAL, _convert, reach=5),
}
