"""DDcGAN: a dense generator between two discriminators, one for each modality."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import from_tensorflow
from evalkit.methods.layers.norm import CurrentNorm
from evalkit.methods.layers.scipy_misc import save_gray
from evalkit.methods.network import NetworkMethod, unit_gray_pair

GROWTH = 48


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="reflect")


def _layer(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(_conv(channels_in, channels_out), CurrentNorm(channels_out, epsilon=1e-3), nn.ReLU())


class DDcGAN(nn.Module):
    """Ma et al., DDcGAN: A Dual-Discriminator Conditional Generative Adversarial Network, TIP 29, 2020.

    doi:10.1109/TIP.2020.2977573. The variant for images of one resolution: two gray images (N, 1, H, W) in [0, 1] ->
    fused (N, 1, H, W) in [0, 1]. Borders are reflected, so sides have two pixels at least. Features are normalised by
    the statistics of each image, outside training, too (`CurrentNorm`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = _layer(2, GROWTH)
        self.dense = nn.ModuleList(_layer(GROWTH * i, GROWTH) for i in range(1, 5))
        self.again = _layer(5 * GROWTH, 5 * GROWTH)
        self.decoder = nn.Sequential(_layer(5 * GROWTH, 128), _layer(128, 64), _layer(64, 32))
        self.last = _conv(32, 1)

    def features(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """What the decoder sees, (N, 240, H, W): the features of the last layer first."""
        x = self.first(torch.cat((visible, infrared), dim=1))
        for layer in self.dense:
            x = torch.cat((layer(x), x), dim=1)
        return x

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        x = self.features(infrared, visible)
        x = torch.relu(self.again[0](x))  # as published this convolution is applied twice, at first without its norm
        return torch.tanh(self.last(self.decoder(self.again(x)))) / 2 + 0.5


STATISTICS = re.compile(r"/moving_(mean|variance)$")  # the published script takes the image's own
TRAINING = re.compile(r"/RMSProp(_1)?$|^[Dd]iscriminator")
_DECODER = {"conv2_1": "again", "conv2_1_1": "decoder.0", "conv2_2": "decoder.1", "conv2_3": "decoder.2"}
_KEYS = {
    r"^Generator(_1)?/": "",
    r"^encoder/conv1_1/": "first.0.",
    r"^encoder/b0/": "first.1.",
    **{rf"^encoder/dense_block_conv{i + 1}/": f"dense.{i}.0." for i in range(4)},
    **{rf"^encoder/b{i + 1}/": f"dense.{i}.1." for i in range(4)},
    **{rf"^decoder/{theirs}/": f"{ours}.0." for theirs, ours in _DECODER.items()},
    **{rf"^decoder/b{i}/": f"{ours}.1." for i, ours in enumerate(_DECODER.values())},
    r"^decoder/conv2_4/": "last.",
    r"\.batch_normalization/gamma$": ".weight",
    r"\.batch_normalization/beta$": ".bias",
    r"\.kernel$": ".weight",
}


def _convert(content: Any, path: Path) -> State:
    """From the authors' names, without statistics of norms, discriminators and the optimiser's state."""
    if isinstance(content, dict):
        content = {k: v for k, v in content.items() if not STATISTICS.search(str(k)) and not TRAINING.search(str(k))}
    return from_tensorflow(content, path, _KEYS)


FILES = ("DDcGAN/model.ckpt.index", "DDcGAN/model.ckpt.data-00000-of-00001")
METHODS = {"DDcGAN": NetworkMethod(DDcGAN, unit_gray_pair, save_gray, FILES, _convert)}
