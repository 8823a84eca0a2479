"""CUFD: features of four depths, each parted into what both images share and what only one of them has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import CheckpointError, State
from evalkit.methods.layers.keys import from_tensorflow
from evalkit.methods.layers.scipy_misc import save_gray
from evalkit.methods.network import NetworkMethod, Pixels

SCIKIT_WEIGHTS = (0.2125, 0.7154, 0.0721)  # scikit-image's gray


class Decomposed(NamedTuple):
    """The parts of two images' features at one depth, each (N, 32, H, W)."""

    common_visible: Tensor
    common_infrared: Tensor
    unique_visible: Tensor
    unique_infrared: Tensor


def _conv(channels_in: int, channels_out: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, size, padding=size // 2, padding_mode="reflect")


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _layer(channels_in: int, channels_out: int, size: int = 3) -> nn.Sequential:
    return nn.Sequential(_conv(channels_in, channels_out, size), _norm(channels_out), nn.ReLU())


class ImageEncoder(nn.Module):
    """Image (N, 1, H, W) in [0, 1] -> four features of full size, (N, 32, H, W) each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _layer(1, width)
        self.deeper = nn.ModuleList(
            nn.Sequential(_layer(width, 4 * width, 1), _layer(4 * width, width)) for _ in range(3)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [self.first(image)]
        for layers in self.deeper:
            features.append(layers(features[-1]))
        return features


class DenseUnits(nn.Module):
    """Three units; the first replaces its input, the others put what they give before theirs: 32 -> 96 channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            # nothing but the border lies between the two convolutions
            nn.Sequential(nn.Conv2d(channels, 4 * width, 1), _layer(4 * width, width))
            for channels in (width, width, 2 * width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.units[0](x)
        for unit in list(self.units)[1:]:
            x = torch.cat((unit(x), x), dim=1)
        return x


def _feature_network(width: int, last: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(
        _layer(2 * width, width, 5), DenseUnits(width), _layer(3 * width, width, 1), DenseUnits(width), last
    )


def unit_range(image: Tensor) -> Tensor:
    """Each image stretched to [0, 1] by its own minimum and maximum; a constant one becomes 0."""
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low).clamp_min(1e-12)


def _half_tanh(x: Tensor) -> Tensor:
    return torch.tanh(x) / 2 + 0.5


def _larger(first: Tensor, second: Tensor) -> Tensor:
    """Elementwise what is farther from 0, `second` where both are equally far."""
    return torch.where(first.abs() > second.abs(), first, second)


class CUFD(nn.Module):
    """Xu et al., CUFD: An encoder-decoder network for visible and infrared image fusion, CVIU 218, 2022.

    doi:10.1016/j.cviu.2022.103407. Two gray images (N, 1, H, W), which are stretched to [0, 1] each by itself, ->
    fused (N, 1, H, W) in [0, 1], of a narrow range. Borders are reflected: sides of 3 pixels at least.

    Args:
        width: channels of every feature.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.encoder = ImageEncoder(width)
        self.decoder = nn.Sequential(
            _layer(4 * width, 2 * width), _layer(2 * width, width), _layer(width, width // 2), _conv(width // 2, 1)
        )
        self.decompose = _feature_network(width, _conv(3 * width, 4 * width))
        self.compose = _feature_network(width, _conv(3 * width, width, 1))

    def parts(self, visible: Tensor, infrared: Tensor) -> Decomposed:
        """Features of both images at one depth -> their parts, in (0, 1)."""
        return Decomposed(*_half_tanh(self.decompose(torch.cat((visible, infrared), dim=1))).chunk(4, dim=1))

    def composed(self, common: Tensor, unique: Tensor) -> Tensor:
        """A common and a unique part -> features of one image, in (0, 1)."""
        return _half_tanh(self.compose(torch.cat((common, unique), dim=1)))

    def decoded(self, features: list[Tensor]) -> Tensor:
        """Features of four depths -> image (N, 1, H, W) in [0, 1]."""
        return _half_tanh(self.decoder(torch.cat(features, dim=1)))

    def fused_parts(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Features of both images at one depth -> features of the fused parts."""
        parts = self.parts(visible, infrared)
        first, second = parts.common_visible.abs(), parts.common_infrared.abs()
        weight = first / (first + second + 1e-9)
        common = weight * parts.common_visible + (1 - weight) * parts.common_infrared
        return self.composed(common, _larger(parts.unique_visible, parts.unique_infrared))

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        pairs = zip(self.encoder(unit_range(visible)), self.encoder(unit_range(infrared)), strict=True)
        # the published code adds the larger original feature to what the fused parts give
        return self.decoded([self.fused_parts(a, b) + _larger(a, b) for a, b in pairs])


OPTIMISER = re.compile(r"/RMSProp(_1)?$")
_NORMS = {"beta": "bias", "gamma": "weight", "moving_mean": "running_mean", "moving_variance": "running_var"}


def _layer_keys() -> dict[str, str]:
    """Published name of a convolution or norm of the image and the feature networks -> ours."""
    keys = {"m_encoder/conv1_1": "encoder.first.0", "m_encoder/b0": "encoder.first.1"}
    for depth in range(3):
        for step in range(2):
            keys[f"m_encoder/conv{depth + 2}_{step + 1}"] = f"encoder.deeper.{depth}.{step}.0"
            keys[f"m_encoder/b{2 * depth + step + 1}"] = f"encoder.deeper.{depth}.{step}.1"
    for i in range(3):
        keys |= {f"m_decoder/conv2_{i + 1}": f"decoder.{i}.0", f"m_decoder/b{i}": f"decoder.{i}.1"}
    keys["m_decoder/conv2_4"] = "decoder.3"
    for scope, ours in (("s_encoder", "decompose"), ("s_decoder", "compose")):
        keys |= {f"{scope}/conv1_1": f"{ours}.0.0", f"{scope}/b0": f"{ours}.0.1"}
        keys |= {f"{scope}/transfer_layer1": f"{ours}.2.0", f"{scope}/b7": f"{ours}.2.1"}
        keys[f"{scope}/output_layer"] = f"{ours}.4"
        for block, first_norm in ((1, 2), (2, 9)):
            for i in range(3):
                unit = f"{ours}.{2 * block - 1}.units.{i}"
                keys[f"{scope}/dense_block{block}_conv{i + 1}_1"] = f"{unit}.0"
                keys[f"{scope}/dense_block{block}_conv{i + 1}_2"] = f"{unit}.1.0"
                keys[f"{scope}/b{first_norm + 2 * i}"] = f"{unit}.1.1"
    return keys


_KEYS = {
    r"^DenseFuseNet/": "",
    **{rf"^{theirs}/": f"{ours}." for theirs, ours in _layer_keys().items()},
    **{rf"\.batch_normalization/{theirs}$": f".{ours}" for theirs, ours in _NORMS.items()},
    r"\.kernel$": ".weight",
}


def _convert(images: Any, images_path: Path, features: Any, features_path: Path) -> State:
    """From the authors' names: what works on images from one file, what works on features from the other.

    Each file also holds a copy of the other's part, untrained, and the state of the optimiser.
    """
    state: State = {}
    for content, path, other in ((images, images_path, "s_"), (features, features_path, "m_")):
        own = content
        if isinstance(content, dict):
            own = {
                key: value
                for key, value in content.items()
                if not OPTIMISER.search(str(key)) and not str(key).removeprefix("DenseFuseNet/").startswith(other)
            }
        converted = from_tensorflow(own, path, _KEYS)
        if double := state.keys() & converted.keys():
            raise CheckpointError(
                f"{min(double)!r} is in {images_path} and in {features_path}, expected in one of them."
            )
        state |= converted
    return state


def _gray(image: Pixels) -> Tensor:
    values = image.astype(np.float64) / 255
    if values.ndim == 3:
        values = values @ SCIKIT_WEIGHTS
    return torch.from_numpy(values.astype(np.float32))[None]


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return _gray(infrared), _gray(visible)


FILES = tuple(f"CUFD/part{part}_model.ckpt.{end}" for part in (1, 2) for end in ("index", "data-00000-of-00001"))
METHODS = {"CUFD": NetworkMethod(CUFD, _prepare, save_gray, FILES, _convert)}
