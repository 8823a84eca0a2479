"""UMF-CMGR: the fusion network behind a cross-modality registration, without the registration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.data.images import merge_colour
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.blocks import conv_leaky
from evalkit.methods.layers.keys import renamed, unwrapped
from evalkit.methods.layers.pixels import unit_opencv_gray, wrapped
from evalkit.methods.network import NetworkMethod, Pixels, rounded

WIDTH = 64


class ResidualDenseBlock(nn.Module):
    """Three dense layers, reduced to the width of the input and added to it; no biases."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.ModuleList(nn.Conv2d(WIDTH * i, WIDTH, 3, padding=1, bias=False) for i in (1, 2, 3))
        self.reduce = nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for layer in self.dense:
            features = torch.cat((features, torch.relu(layer(features))), dim=1)
        return x + self.reduce(features)


def _path() -> nn.Sequential:
    """Image (N, 1, H, W) -> features (N, 64, H, W)."""
    return nn.Sequential(conv_leaky(1, WIDTH), ResidualDenseBlock())


class Interaction(nn.Module):
    """The paper's interaction fusion module: what both modalities agree on gates each of them.

    Two features (N, 64, H, W) -> both again, each a mixture per pixel of itself and its gated self.
    """

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.key = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.mix_infrared = nn.Conv2d(2 * WIDTH, 2, 3, padding=1)
        self.mix_visible = nn.Conv2d(2 * WIDTH, 2, 3, padding=1)

    def forward(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        gate = torch.sigmoid(self.query(infrared) * self.key(visible))
        return (
            self._mixed(infrared, infrared * gate, self.mix_infrared),
            self._mixed(visible, visible * gate, self.mix_visible),
        )

    @staticmethod
    def _mixed(plain: Tensor, gated: Tensor, mix: nn.Module) -> Tensor:
        shares = mix(torch.cat((plain, gated), dim=1))
        return plain * shares[:, :1] + gated * shares[:, 1:]


class UMFCMGR(nn.Module):
    """Wang et al., Unsupervised Misaligned Infrared and Visible Image Fusion, IJCAI 2022, doi:10.24963/ijcai.2022/487.

    The dual-path interaction fusion network for pairs that are registered already: two gray images (N, 1, H, W) in
    [0, 1] -> fused (N, 1, H, W) in [-1, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = _path(), _path()
        self.interaction = Interaction()
        self.merge = nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1)
        self.last = nn.Conv2d(WIDTH, 1, 3, padding=1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        both = self.interaction(self.infrared(infrared), self.visible(visible))
        return torch.tanh(self.last(self.merge(torch.cat(both, dim=1))))


def _convert(content: Any, path: Path) -> State:
    changes = {
        r"^conv1_1\.": "infrared.0.",
        r"^conv2_1\.": "visible.0.",
        r"^ir_path\.0\.": "infrared.1.",
        r"^vi_path\.0\.": "visible.1.",
        r"\.dense_layers\.(\d+)\.conv\.": r".dense.\1.",
        r"\.conv_1x1\.": ".reduce.",
        r"^fuse\.query_conv\.": "interaction.query.",
        r"^fuse\.key_conv\.": "interaction.key.",
        r"^fuse\.gamma1\.": "interaction.mix_infrared.",
        r"^fuse\.gamma2\.": "interaction.mix_visible.",
        r"^fuse_res\.": "merge.",
        r"^out_conv\.": "last.",
    }
    return renamed(unwrapped(content, "net"), path, changes)


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_opencv_gray(infrared), unit_opencv_gray(visible)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    values = output[0].numpy() * 255
    # OpenCV rounds and clips the gray image that it saves; the colour script casts before it merges
    return rounded(values) if visible.ndim == 2 else merge_colour(wrapped(values), visible)


METHODS = {"UMF-CMGR": NetworkMethod(UMFCMGR, _prepare, _finish, ("UMF_CMGR.pth",), _convert, reach=8)}
