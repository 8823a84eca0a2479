"""EMFusion: a small dense network for medical images, taught to keep what only one of the two modalities shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.blocks import conv_leaky
from evalkit.methods.layers.colour import gray_and_luminance, recoloured
from evalkit.methods.layers.keys import from_tensorflow
from evalkit.methods.layers.pixels import stretched
from evalkit.methods.layers.scipy_misc import save_gray
from evalkit.methods.network import NetworkMethod, Pixels, unit_gray


class EMFusion(nn.Module):
    """Xu and Ma, EMFusion: An unsupervised enhanced medical image fusion network, Information Fusion 76, 2021.

    doi:10.1016/j.inffus.2021.06.001. CT, or the luminance of PET or SPECT, and MRI, each (N, 1, H, W) in [0, 1] ->
    fused (N, 1, H, W) in [0, 1]. Borders are reflected, so sides have two pixels at least.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = conv_leaky(2, 32, padding_mode="reflect")
        self.dense = nn.ModuleList(conv_leaky(32 * i, 32, padding_mode="reflect") for i in (1, 2, 3))
        self.decoder = nn.Sequential(
            conv_leaky(128, 64, padding_mode="reflect"),
            conv_leaky(64, 32, padding_mode="reflect"),
            nn.Conv2d(32, 1, 3, padding=1, padding_mode="reflect"),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=0.05, a=-0.1, b=0.1)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, functional_image: Tensor, anatomical: Tensor) -> Tensor:
        x = self.features(functional_image, anatomical)
        return torch.tanh(self.decoder(x)) / 2 + 0.5

    def features(self, functional_image: Tensor, anatomical: Tensor) -> Tensor:
        """What the decoder sees, (N, 128, H, W): the features of the last layer first."""
        x = self.first(torch.cat((functional_image, anatomical), dim=1))
        for layer in self.dense:
            x = torch.cat((layer(x), x), dim=1)
        return x


TRAINING = re.compile(r"/Adam(_1)?$|^(spatial|spectral)_ED(_1)?/|^(Variable|beta[12]_power)$")  # of no use to fusion
_KEYS = {
    r"^fnet/fuse/conv1/": "first.0.",
    **{rf"^fnet/fuse/conv{i + 2}/": f"dense.{i}.0." for i in range(3)},
    r"^fnet/fuse/conv6/": "decoder.0.0.",  # there is no conv5
    r"^fnet/fuse/conv7/": "decoder.1.0.",
    r"^fnet/fuse/conv8/": "decoder.2.",
    r"\.kernel$": ".weight",
}


def _convert(content: Any, path: Path) -> State:
    """From the authors' names; the file also holds the optimiser's state and two helpers of the training."""
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if not TRAINING.search(str(key))}
    return from_tensorflow(content, path, _KEYS)


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """PET or SPECT, in the visible role here, is the network's first image."""
    mri, functional_image = gray_and_luminance(infrared, visible)
    return functional_image, mri


def _prepare_gray(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """CT, in the visible role here, is the network's first image."""
    return unit_gray(visible), unit_gray(infrared)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """Stretched from minimum to maximum as the authors' script does; a colour image gives its chroma back."""
    if visible.ndim == 2:
        return save_gray(output, infrared, visible)
    return recoloured(torch.from_numpy(stretched(output.numpy())), infrared, visible)


FILES = ("EMFusion/3200.ckpt.index", "EMFusion/3200.ckpt.data-00000-of-00001")
METHODS = {
    "EMFusion": NetworkMethod(EMFusion, _prepare, _finish, reach=7),
    "EMFusion-CT": NetworkMethod(EMFusion, _prepare_gray, save_gray, FILES, _convert, reach=7),
}
