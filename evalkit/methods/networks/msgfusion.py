"""MsgFusion: structure from both images, colour from where the functional one exceeds its brightest channel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.borders import padded
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import opencv_gray, stretched
from evalkit.methods.layers.strips import by_strips
from evalkit.methods.network import NetworkMethod, Pixels, truncated


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 convolution without bias, border repeated, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="replicate", bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def mixed(first: Tensor, second: Tensor) -> Tensor:
    """Two features (N, C, H, W), each weighted per pixel by the exponential of its channels' mean; weights sum to 1.

    Nearly: 1e-5 is added to their denominator.
    """
    a, b = (features.mean(1, keepdim=True).exp() for features in (first, second))
    return (a * first + b * second) / (a + b + 1e-5)


class ChannelBranch(nn.Module):
    """Image (N, 3, H, W), even sides -> (N, 64, H, W) in [0, 1); the same blocks serve at several places.

    Args:
        width: 64 as published; other widths cannot begin with ResNet's weights.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        # ResNet-101's first convolution, with its ImageNet weights in the authors' file; it does not learn
        self.conv1 = nn.Conv2d(3, w, 7, padding=3, padding_mode="replicate", bias=False)
        self.conv1.weight.requires_grad_(False)
        self.conv2, self.conv3, self.conv4 = _block(w, w), _block(w, 2 * w), _block(2 * w, 4 * w)
        self.conv5, self.conv7, self.conv8 = _block(4 * w, w), _block(4 * w, 4 * w), _block(4 * w, 2 * w)
        self.conv9, self.conv10, self.conv11 = _block(2 * w, w), _block(3 * w, 2 * w), _block(6 * w, 4 * w)

    def forward(self, image: Tensor) -> Tensor:
        first = self.conv1(image)
        pooled = functional.max_pool2d(first, 2)
        second = self.conv2(pooled)
        small = torch.cat((self.conv3(second), pooled, second), dim=1)
        context = self.conv7(functional.interpolate(small, scale_factor=2, mode="nearest"))
        same = self.conv2(first)  # what follows works at full size
        fine = self.conv4(self.conv3(same))
        strongest = self.conv5(torch.maximum(context, fine))
        left = torch.cat((self.conv9(self.conv8(context)), strongest), dim=1)
        left = self.conv9(torch.cat((self.conv9(left), strongest), dim=1))
        third = self.conv3(self.conv9(torch.cat((first, same), dim=1)))
        fourth = self.conv4(self.conv10(torch.cat((same, third), dim=1)))
        right = self.conv5(self.conv11(torch.cat((third, fourth), dim=1)))
        return torch.tanh(self.conv2(self.conv9(torch.cat((right, left), dim=1))))


class MsgFusion(nn.Module):
    """Wen et al., MsgFusion: Medical Semantic Guided Two-Branch Network for Multimodal Brain Image Fusion, TMM 2024.

    Three images (N, 3, H, W) in [0, 1]: the anatomical one, the functional one, and the light of the functional one ->
    fused (N, 3, H, W) in (-1, 1). The published code passes features through a Fourier transform whose spectrum it
    rolls, and takes the absolute value of the inverse: for features that are not negative that is the identity, and is
    left out. Odd sides, which it refuses, are padded by repeating the border.

    Args:
        width: 64 as published.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.channels = ChannelBranch(width)
        self.structure = _block(3, width)
        self.smooth = nn.Sequential(nn.Conv2d(3, width, 7, padding=3), nn.BatchNorm2d(width), nn.LeakyReLU(0.2))
        self.last = nn.Conv2d(width, 3, 1)

    def spatial(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 64, H, W), fine and smooth features mixed."""
        return mixed(self.structure(image), self.smooth(image))

    def forward(self, anatomical: Tensor, functional_image: Tensor, light: Tensor) -> Tensor:
        height, width = anatomical.shape[2:]
        first, second, third = (padded(image, 2) for image in (anatomical, functional_image, light))
        fused = by_strips(self._fused, first, second, border=REACH)
        bright = mixed(third, torch.tanh(self.last(self.smooth(third))))
        return torch.maximum(fused, bright)[..., :height, :width]

    def _fused(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.maximum(self.channels(second), self.spatial(first))))


def light(image: NDArray[np.uint8], clipped: bool) -> NDArray[np.float32]:
    """What the sum of red, green and blue has above the brightest of them, stretched to [0, 1]: (H, W, 3) -> (H, W).

    A constant result, by which the authors' script divides zero by zero, becomes 0.

    Args:
        image: uint8 (H, W, 3).
        clipped: the sum above 255 instead, as for CT and MRI.
    """
    total = image.sum(axis=2, dtype=np.int64)
    brightest = np.minimum(total, 255) if clipped else image.max(axis=2)
    return stretched(np.minimum(total - brightest, 255).astype(np.float32))


def _colour(image: Pixels) -> Pixels:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _unit(image: Pixels) -> Tensor:
    return torch.from_numpy(_colour(image).transpose(2, 0, 1).astype(np.float32) / 255)


def _light(image: Pixels, clipped: bool) -> Tensor:
    return torch.from_numpy(light(_colour(image), clipped)).expand(3, -1, -1)


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor, Tensor]:
    """MRI first, then PET or SPECT and its light."""
    return _unit(infrared), _unit(visible), _light(visible, clipped=False)


def _prepare_ct(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor, Tensor]:
    """As the authors' script for CT: CT first, then MRI and its light; in their training the places are exchanged."""
    return _unit(visible), _unit(infrared), _light(infrared, clipped=True)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return opencv_gray(truncated(output.permute(1, 2, 0).numpy() * 255))


# in the file, without effect
REACH = 15  # rows and columns around a fused pixel that it depends on
DEAD = re.compile(r"^(SpT\.(conv2|fu|lfu)|FFC|convfcout|pet_hf)\.")
_KEYS = {
    r"^(conv(?!1\.|6)\d+)\.conv\.": r"channels.\1.0.",
    r"^(conv\d+)\.bn\.": r"channels.\1.1.",
    r"^conv1\.": "channels.conv1.",
    r"^conv6\.": "last.",
    r"^SpT\.conv1\.": "structure.",
    r"^pet_lf\.": "smooth.",
}


def _convert(content: Any, path: Path) -> State:
    state = renamed(content, path, {})
    return renamed({key: value for key, value in state.items() if not DEAD.match(key)}, path, _KEYS)


METHODS = {
    "MsgFusion": NetworkMethod(MsgFusion, _prepare, _finish, ("mr_pet.pth",), _convert, reach=REACH, step=2),
    "MsgFusion-CT": NetworkMethod(MsgFusion, _prepare_ct, _finish, ("ct_mr.pth",), _convert, reach=REACH, step=2),
}
