"""DenseFuse: a dense-block auto-encoder, whose codes of the two images are averaged or weighted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.activity import l1_weighted
from evalkit.methods.layers.keys import renamed
from evalkit.methods.network import NetworkMethod, gray_levels, round_levels, unit_gray_pair


def conv_relu(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 convolution with reflected borders, then ReLU."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="reflect"), nn.ReLU())


class DenseEncoder(nn.Module):
    """Image (N, 1, H, W) -> code (N, 64, H, W): a convolution and three dense ones, 16 channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.head = conv_relu(1, 16)
        self.dense = nn.ModuleList(conv_relu(channels, 16) for channels in (16, 32, 48))

    def forward(self, image: Tensor) -> Tensor:
        code = self.head(image)
        for layer in self.dense:
            code = torch.cat((code, layer(code)), dim=1)
        return code


def addition(a: Tensor, b: Tensor) -> Tensor:
    """The paper's addition strategy, as the published code has it: the mean, so that equal codes stay as they are."""
    return (a + b) / 2


class DenseFuse(nn.Module):
    """Li and Wu, DenseFuse, IEEE Transactions on Image Processing 28(5), 2019, doi:10.1109/TIP.2018.2887342.

    Two gray images (N, 1, H, W) in [0, 1], sides of at least 2 -> fused (N, 1, H, W), at least 0: the published code
    ends with a ReLU, although the paper's last layer has none. The same encoder serves both images.
    """

    def __init__(self, strategy: Callable[[Tensor, Tensor], Tensor] = addition) -> None:
        super().__init__()
        self.strategy = strategy
        self.encoder = DenseEncoder()
        self.decoder = nn.Sequential(conv_relu(64, 64), conv_relu(64, 32), conv_relu(32, 16), conv_relu(16, 1))

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        return self.decoder(self.strategy(self.encoder(infrared), self.encoder(visible)))


def _convert(content: Any, path: Path) -> State:
    changes = {
        r"^conv1\.": "encoder.head.",
        r"^DB1\.denseblock\.(\d)\.dense_conv\.": r"encoder.dense.\1.",
        **{rf"^conv{i + 2}\.": f"decoder.{i}." for i in range(4)},
        r"\.conv2d\.": ".0.",
    }
    return renamed(content, path, changes)


# The authors' script feeds 0..255 and cuts the fraction off. The biases make that another picture, and not the one
# whose scores are printed in the comparisons of SMFNet: those come out with 0..1 and rounding.
METHODS = {
    name: NetworkMethod(
        partial(DenseFuse, strategy),
        unit_gray_pair,
        round_levels,
        ("densefuse_gray.model",),
        _convert,
        reach=reach,
        levels=gray_levels,
    )
    for name, strategy, reach in (("DenseFuse", addition, 8), ("DenseFuse-l1", l1_weighted, 9))
}
