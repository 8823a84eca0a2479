"""DIDFuse: an auto-encoder that splits an image into base and detail features."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import CheckpointError, State, as_state
from evalkit.methods.layers.activity import l1_weighted
from evalkit.methods.layers.blocks import conv_norm
from evalkit.methods.layers.keys import renamed
from evalkit.methods.network import NetworkMethod, gray_levels, round_levels, unit_gray_pair


class Features(NamedTuple):
    """What the encoder finds in an image, each (N, 64, H, W)."""

    first: Tensor
    second: Tensor
    base: Tensor
    detail: Tensor


class Encoder(nn.Module):
    """Image (N, 1, H, W) in [0, 1] -> Features; base and detail lie in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        # nn.PReLU() has one slope for all channels, as the authors' has
        self.first = conv_norm(1, 64, nn.PReLU(), padding_mode="reflect")
        self.second = conv_norm(64, 64, nn.PReLU())
        self.base = conv_norm(64, 64, nn.Tanh())
        self.detail = conv_norm(64, 64, nn.Tanh())

    def forward(self, image: Tensor) -> Features:
        first = self.first(image)
        second = self.second(first)
        return Features(first, second, self.base(second), self.detail(second))


class Decoder(nn.Module):
    """Features -> image (N, 1, H, W) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.join = conv_norm(128, 64, nn.PReLU())
        self.with_second = conv_norm(128, 64, nn.PReLU())
        self.with_first = conv_norm(128, 1, nn.Sigmoid(), padding_mode="reflect")

    def forward(self, features: Features) -> Tensor:
        x = self.join(torch.cat((features.base, features.detail), dim=1))
        x = self.with_second(torch.cat((x, features.second), dim=1))
        return self.with_first(torch.cat((x, features.first), dim=1))


def total(a: Tensor, b: Tensor) -> Tensor:
    """The authors' default: the sum, although the decoder learned from the features of single images."""
    return a + b


def mean(a: Tensor, b: Tensor) -> Tensor:
    """Half the sum."""
    return (a + b) / 2


class DIDFuse(nn.Module):
    """Zhao et al., DIDFuse: Deep Image Decomposition, IJCAI 2020, doi:10.24963/ijcai.2020/135.

    Two gray images (N, 1, H, W) in [0, 1], sides of at least 2 -> fused (N, 1, H, W) in [0, 1]. The same encoder serves
    both images; all four of its tensors are fused by the strategy.
    """

    def __init__(self, strategy: Callable[[Tensor, Tensor], Tensor] = total) -> None:
        super().__init__()
        self.strategy = strategy
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        pairs = zip(self.encoder(infrared), self.encoder(visible), strict=True)
        return self.decoder(Features(*(self.strategy(a, b) for a, b in pairs)))


# the authors' layers next to the image begin with a module that pads, so their numbers are one higher
_ENCODER_KEYS = {
    r"^cov1\.cov1\.1\.": "encoder.first.0.",
    r"^cov1\.cov1\.2\.": "encoder.first.1.",
    r"^cov1\.cov1\.3\.": "encoder.first.2.",
    r"^cov2\.cov2\.": "encoder.second.",
    r"^cov3\.cov3\.": "encoder.base.",
    r"^cov4\.cov4\.": "encoder.detail.",
}
_DECODER_KEYS = {
    r"^cov5\.cov5\.": "decoder.join.",
    r"^cov6\.cov6\.": "decoder.with_second.",
    r"^cov7\.cov7\.1\.": "decoder.with_first.0.",
    r"^cov7\.cov7\.2\.": "decoder.with_first.1.",
}


def _convert(encoder: Any, encoder_path: Path, decoder: Any, decoder_path: Path) -> State:
    parts = (
        renamed(as_state(encoder, encoder_path, "weight"), encoder_path, _ENCODER_KEYS),
        renamed(as_state(decoder, decoder_path, "weight"), decoder_path, _DECODER_KEYS),
    )
    if twice := parts[0].keys() & parts[1].keys():
        raise CheckpointError(f"{encoder_path} and {decoder_path} both hold {min(twice)}: they are not the two halves.")
    return parts[0] | parts[1]


_FILES = ("DIDFuse_Encoder.pkl", "DIDFuse_Decoder.pkl")
METHODS = {
    name: NetworkMethod(
        partial(DIDFuse, strategy),
        unit_gray_pair,
        round_levels,
        _FILES,
        _convert,
        ("encoder",),
        reach=reach,
        levels=gray_levels,
    )
    for name, strategy, reach in (("DIDFuse", total, 6), ("DIDFuse-mean", mean, 6), ("DIDFuse-l1", l1_weighted, 7))
}
