"""DIVFusion: a visible image freed from darkness while it is fused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import CheckpointError, State
from evalkit.methods.layers.colour import centred_chroma, unit_rgb, with_chroma
from evalkit.methods.layers.keys import from_tensorflow
from evalkit.methods.layers.luminance import luminance
from evalkit.methods.layers.norm import CurrentNorm, conv_current_norm
from evalkit.methods.layers.strips import by_strips
from evalkit.methods.network import NetworkMethod, Pixels, truncated

CHANNELS = 256
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def _layer(channels_in: int, channels_out: int, size: int = 3) -> nn.Sequential:
    conv, norm, _ = conv_current_norm(channels_in, channels_out, size, size // 2, affine=False)
    return nn.Sequential(conv, norm, nn.LeakyReLU(0.2, inplace=True))  # 256 channels at full size are not held twice


def _linear(channels_in: int, channels_out: int, size: int = 3) -> nn.Sequential:
    """Convolution and norm without activation."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, padding=size // 2), CurrentNorm(channels_out, affine=False)
    )


class ChannelAttention(nn.Module):
    """Features (N, 256, H, W) -> a weight per channel, (N, 256), that sum up to 1.

    The mean is taken behind a norm without offset and so is 0 but for rounding: every weight is 1/256.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(_layer(CHANNELS, 32), _linear(32, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3)).softmax(dim=1)


def _unit_range(x: Tensor) -> Tensor:
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low + 1e-4)


def laplacian_map(x: Tensor) -> Tensor:
    """|Laplacian| of the sum of all channels, stretched to [0, 1): (N, C, H, W) -> (N, 1, H, W)."""
    kernel = torch.tensor(LAPLACIAN).to(x)[None, None]
    return _unit_range(functional.conv2d(x.sum(1, keepdim=True), kernel, padding=1).abs())


def gradient_map(x: Tensor) -> Tensor:
    """Differences of the sum of all channels, horizontal and vertical, each stretched to [0, 1): -> (N, 1, H, W).

    Both begin at the pixel one row below and one column to the right, as published; beyond the border there are zeros.
    """
    total = functional.pad(x.sum(1, keepdim=True), (0, 1, 0, 1))
    corner = total[..., 1:, 1:]
    horizontal, vertical = (corner - total[..., 1:, :-1]).abs(), (corner - total[..., :-1, 1:]).abs()
    return _unit_range(horizontal) + _unit_range(vertical)


class GradientModule(nn.Module):
    """Features (N, 256, H, W) -> the same shape: half from them and their Laplacian, half from gradients alone."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            _layer(CHANNELS, CHANNELS), _layer(CHANNELS, CHANNELS), _linear(CHANNELS, CHANNELS // 2, 1)
        )
        self.side = _linear(CHANNELS, CHANNELS // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.main(x + laplacian_map(x)), self.side(gradient_map(x).expand_as(x))), dim=1)


class ContrastModule(nn.Module):
    """Features (N, 256, H, W) -> the same shape: of four sizes of kernels, each map times its own deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_layer(CHANNELS, CHANNELS // 4, size) for size in (3, 5, 7, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([layer(x) for layer in self.layers], dim=1)
        return x * self.contrast(x)[..., None, None]

    @staticmethod
    def contrast(x: Tensor) -> Tensor:
        """Standard deviation of every map, (N, 256)."""
        return x.std((2, 3), correction=0)


class Steps(NamedTuple):
    """What the fusion goes through: features of both images, joined, behind gradients and contrast; the image."""

    joined: Tensor
    gradients: Tensor
    contrast: Tensor
    fused: Tensor


class DIVFusion(nn.Module):
    """Tang et al., DIVFusion: Darkness-free infrared and visible image fusion, Information Fusion 91, 2023.

    doi:10.1016/j.inffus.2022.10.034. The luminance of a visible image and an infrared image, each (N, 1, H, W) in
    [0, 1], -> fused luminance (N, 1, H, W) in [0, 1]. Every layer but the attention's and the contrast's products is
    normalised by the statistics of each image, the last one before the sigmoid, too: whatever the exposure, the result
    has the same distribution. Scales and offsets of norms, which the authors train and their test resets, are not here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(_layer(2, 64), _layer(64, 128), _layer(128, CHANNELS), _layer(CHANNELS, CHANNELS))
        self.of_infrared, self.of_visible = ChannelAttention(), ChannelAttention()
        self.join = _layer(2 * CHANNELS, CHANNELS, 1)
        self.gradient, self.contrast = GradientModule(), ContrastModule()
        self.decoder = nn.Sequential(_layer(CHANNELS, 128), _layer(128, 64), _layer(64, 32), _linear(32, 1))

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        x = self.encoder(torch.cat((visible, infrared), dim=1))
        for step in (self.joined, self.gradient, self.contrast, self.decoder):
            x = step(x)  # what came before is gone
        return torch.sigmoid(x)

    def joined(self, features: Tensor) -> Tensor:
        """Features (N, 256, H, W), weighted for each image, joined to as many."""
        first, second = (of(features)[..., None, None] for of in (self.of_infrared, self.of_visible))
        conv, *others = self.join

        def mixed(rows: Tensor) -> Tensor:
            return conv(torch.cat((first * rows, second * rows), dim=1))

        x = by_strips(mixed, features)
        for layer in others:
            x = layer(x)
        return x

    def steps(self, features: Tensor) -> Steps:
        """Features of the encoder (N, 256, H, W) -> all that follows."""
        joined = self.joined(features)
        gradients = self.gradient(joined)
        contrast = self.contrast(gradients)
        return Steps(joined, gradients, contrast, torch.sigmoid(self.decoder(contrast)))


# what the test does not read: norms, the third attention, decoders of the first part, the optimiser's state; and in the
# second part's file the copies of encoder and attention that went on learning
UNUSED = re.compile(
    r"/BatchNorm/(gamma|beta|moving_mean|moving_variance)$|/Adam(_1)?$|^beta[12]_power"
    r"|^DecomNet/(CAM_L|decoder\w*)/|^enhance/(encoder|CAM_\w+)/"
)
_KEYS = {
    **{rf"^DecomNet/encoder/layer{i + 1}/": f"encoder.{i}.0." for i in range(4)},
    **{
        rf"^DecomNet/{theirs}/layer/([wb]){i + 1}$": rf"{ours}.layers.{i}.0.\1"
        for theirs, ours in (("CAM_IR", "of_infrared"), ("CAM_VI_E", "of_visible"))
        for i in range(2)
    },
    r"^enhance/layer/": "join.0.",
    r"^enhance/gradient_model/layer_sobel/layer_1/": "gradient.side.0.",
    **{rf"^enhance/gradient_model/layer_{i + 1}/": f"gradient.main.{i}.0." for i in range(3)},
    **{rf"^enhance/contrast_model/layer_{i + 1}/": f"contrast.layers.{i}.0." for i in range(4)},
    **{rf"^enhance/decoder/layer{i + 1}/": f"decoder.{i}.0." for i in range(4)},
    r"\.w\d?$": ".weight",
    r"\.b\d?$": ".bias",
}


def _convert(first: Any, first_path: Path, second: Any, second_path: Path) -> State:
    """From the authors' names: encoder and attention from the first part's file, the rest from the second's."""
    state: State = {}
    for content, path, other in ((first, first_path, "enhance/"), (second, second_path, "DecomNet/")):
        own = content
        if isinstance(content, dict):
            own = {k: v for k, v in content.items() if not UNUSED.search(str(k)) and not str(k).startswith(other)}
        converted = from_tensorflow(own, path, _KEYS)
        if double := state.keys() & converted.keys():
            raise CheckpointError(f"{min(double)!r} is in {first_path} and in {second_path}, expected in one of them.")
        state |= converted
    return state


def _luminance(image: Pixels) -> Tensor:
    """Not rounded to bytes; (1, H, W) in [0, 1]."""
    if image.ndim == 2:
        return torch.from_numpy(image.astype(np.float32) / 255)[None]
    return luminance(unit_rgb(image)[None])[0]


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return _luminance(visible), _luminance(infrared)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    if visible.ndim == 2:
        return truncated(output[0].numpy() * 255)
    rgb = with_chroma(output, centred_chroma(unit_rgb(visible)))
    return truncated(rgb.permute(1, 2, 0).numpy() * 255)


FILES = tuple(
    f"DIVFusion/{part}.ckpt.{end}"
    for part in ("decom_net_train", "enhance_train")
    for end in ("index", "data-00000-of-00001")
)
METHODS = {"DIVFusion": NetworkMethod(DIVFusion, _prepare, _finish, FILES, _convert)}
