"""PMGI: two paths, one for gradients and one for intensities, that show each other what they found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import from_tensorflow, regrouped
from evalkit.methods.layers.norm import conv_current_norm
from evalkit.methods.layers.scipy_misc import save_gray
from evalkit.methods.network import NetworkMethod, Pixels, unit_gray_pair

WIDTH = 16  # channels of every layer


def _conv(channels_in: int, size: int = 3) -> nn.Sequential:
    return conv_current_norm(channels_in, WIDTH, size, padding=size // 2, affine=False)


class OnePath(nn.Module):
    """Four layers, and two transfer blocks through which the path sees both paths."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList((_conv(3, 5), _conv(WIDTH), _conv(3 * WIDTH), _conv(4 * WIDTH)))
        self.transfers = nn.ModuleList(_conv(2 * WIDTH, 1) for _ in range(2))


class PMGI(nn.Module):
    """Zhang et al., Rethinking the Image Fusion, AAAI 2020, doi:10.1609/aaai.v34i07.6975.

    Two gray images (N, 1, H, W) in [-1, 1] -> fused (N, 1, H, W) in [-1, 1].

    Every layer but the last is normalised (`CurrentNorm`), in evaluation mode by the image's own statistics. The
    authors learn a scale and an offset in these norms, and their test script resets them to 1 and 0; here there are
    none. The biases of the twelve normalised layers have no effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = OnePath(), OnePath()
        self.last = nn.Conv2d(8 * WIDTH, 1, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        paths = (self.infrared, self.visible)
        # each path sees its own modality twice and the other once
        inputs = (torch.cat((infrared, infrared, visible), dim=1), torch.cat((visible, visible, infrared), dim=1))
        of_paths = []
        for path, x in zip(paths, inputs, strict=True):
            first = path.layers[0](x)
            of_paths.append([first, path.layers[1](first)])
        for step in range(2):
            newest = torch.cat([features[-1] for features in of_paths], dim=1)
            for path, features in zip(paths, of_paths, strict=True):
                x = torch.cat((*features, path.transfers[step](newest)), dim=1)
                features.append(path.layers[2 + step](x))
        return torch.tanh(self.last(torch.cat((*of_paths[0], *of_paths[1]), dim=1)))


NORM = re.compile(r"\.0\.BatchNorm/(beta|gamma|moving_mean|moving_variance)$")
PATHS_APART = (0, 2, 4, 6, 1, 3, 5, 7)  # of eight groups of channels, the authors' layers alternate between the paths
FILES = ("PMGI-IR_VI/CGAN.model-1.index", "PMGI-IR_VI/CGAN.model-1.data-00000-of-00001")
MEDICAL = ("PMGI-Medical/CGAN.model-29.index", "PMGI-Medical/CGAN.model-29.data-00000-of-00001")


def _convert(content: Any, path: Path) -> State:
    """From the authors' names, without what their script leaves in the file: scales, offsets, statistics of norms."""
    changes = {
        r"^fusion_model/": "",
        r"^layer5/": "last.",
        r"^layer2_3(_vi)?/": r"path\1.transfers.0.0.",
        r"^layer3_4(_vi)?/": r"path\1.transfers.1.0.",
        **{rf"^layer{i + 1}(_vi)?/": rf"path\1.layers.{i}.0." for i in range(4)},
        r"^path_vi\.": "visible.",
        r"^path\.": "infrared.",
        r"\.w[1-5]\w*$": ".weight",
        r"\.b[1-5]\w*$": ".bias",
    }
    state = from_tensorflow(content, path, changes)
    state = {key: value for key, value in state.items() if not NORM.search(key)}
    if "last.weight" in state:
        state["last.weight"] = regrouped(state["last.weight"], WIDTH, PATHS_APART)
    return state


def _signed(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """Gray first: the script takes BMP and JPEG files, so its gray images had one channel.

    Gray in three channels would change by a level here and there on the way to YCbCr (`scipy_misc.flattened`): so
    neither the published images nor SMFNet's row come out.
    """
    first, second = unit_gray_pair(infrared, visible)
    return first * 2 - 1, second * 2 - 1


def _signed_functional_first(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """PET or SPECT, in the visible role here, comes first."""
    return _signed(visible, infrared)


METHODS = {
    "PMGI": NetworkMethod(PMGI, _signed, save_gray, FILES, _convert),
    "PMGI-Medical": NetworkMethod(PMGI, _signed_functional_first, save_gray, MEDICAL, _convert),
}
