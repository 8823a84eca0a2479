"""U2Fusion: one dense network for several fusion tasks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evalkit.data.images import merge_colour
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.blocks import conv_leaky
from evalkit.methods.layers.keys import from_tensorflow, regrouped, renamed, unwrapped
from evalkit.methods.layers.pixels import unit_opencv_gray
from evalkit.methods.layers.scipy_misc import save_gray
from evalkit.methods.network import (
    NetworkMethod,
    Pixels,
    gray_levels,
    round_levels,
    truncated,
    unit_gray,
    unit_gray_pair,
)

GROWTH = 44


class U2Fusion(nn.Module):
    """Xu et al., U2Fusion: A Unified Unsupervised Image Fusion Network, TPAMI 44(1), 2022.

    doi:10.1109/TPAMI.2020.3012548. Two gray images (N, 1, H, W) -> fused (N, 1, H, W) in [0, 1]. The inputs lie in
    [0, 1]; a PyTorch port takes [-1, 1] and pads with zeros where the authors reflect, which needs sides of at least 2.
    """

    def __init__(self, padding_mode: Literal["zeros", "reflect"] = "reflect") -> None:
        super().__init__()
        self.first = conv_leaky(2, GROWTH, padding_mode=padding_mode)
        self.dense = nn.ModuleList(conv_leaky(GROWTH * i, GROWTH, padding_mode=padding_mode) for i in range(1, 6))
        self.decoder = nn.Sequential(
            conv_leaky(6 * GROWTH, 128, padding_mode=padding_mode),
            conv_leaky(128, 64, padding_mode=padding_mode),
            conv_leaky(64, 32, padding_mode=padding_mode),
            nn.Conv2d(32, 1, 3, padding=1, padding_mode=padding_mode),
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        x = self.first(torch.cat((visible, infrared), dim=1))  # the authors' test script gives the visible image first
        for layer in self.dense:
            x = torch.cat((x, layer(x)), dim=1)
        return torch.tanh(self.decoder(x)) / 2 + 0.5


FILES = ("U2Fusion/model.ckpt.index", "U2Fusion/model.ckpt.data-00000-of-00001")


def _convert(content: Any, path: Path) -> State:
    """From the authors' names; their dense block puts the newest features first, ours last."""
    changes = {
        r"^Generator/encoder/conv1_1/": "first.0.",
        **{rf"^Generator/encoder/dense_block_conv{i + 1}/": f"dense.{i}.0." for i in range(5)},
        **{rf"^Generator_1/decoder/conv2_{i + 1}/": f"decoder.{i}.0." for i in range(3)},
        r"^Generator_1/decoder/conv2_4/": "decoder.3.",
        r"\.kernel$": ".weight",
    }
    state = from_tensorflow(content, path, changes)
    for groups, key in enumerate([*(f"dense.{i}.0.weight" for i in range(5)), "decoder.0.0.weight"], 1):
        if key in state:
            state[key] = regrouped(state[key], GROWTH, range(groups)[::-1])
    return state


def _infrared_first(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """The older of the authors' scripts gives the infrared image first, where the network takes the visible one."""
    return unit_gray(visible), unit_gray(infrared)


def _convert_port(content: Any, path: Path) -> State:
    changes = {
        r"^conv_1\.": "first.",
        r"^dense_layers\.(\d+)\.conv\.": r"dense.\1.",
        r"^sub\.": "decoder.",
    }
    return renamed(unwrapped(content, "model"), path, changes)


def _prepare_port(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_opencv_gray(infrared) * 2 - 1, unit_opencv_gray(visible) * 2 - 1


def _finish_port(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return merge_colour(truncated(output[0].numpy() * 255), visible)


METHODS = {
    "U2Fusion": NetworkMethod(U2Fusion, unit_gray_pair, round_levels, FILES, _convert, reach=10, levels=gray_levels),
    "U2Fusion-stretched": NetworkMethod(U2Fusion, _infrared_first, save_gray, FILES, _convert, reach=10),
    "U2Fusion-port": NetworkMethod(
        partial(U2Fusion, "zeros"), _prepare_port, _finish_port, ("U2Fusion-port.pth",), _convert_port, reach=10
    ),
}
