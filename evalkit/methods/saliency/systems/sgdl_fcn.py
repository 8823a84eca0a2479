"""SGDL by the features of a network, as its paper has it: FCN-32s from a local file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State, as_state
from evalkit.methods.layers.vgg import VGGEncoder
from evalkit.methods.network import NetworkMethod, Pixels, rounded
from evalkit.methods.saliency.feed import Feed, colour
from evalkit.methods.saliency.systems.sgdl import bicubic, sgdl

SIDE, BORDER = 500, 100  # of the square that the network sees, and of the zeros around it
CROPS = (slice(51, 298), slice(3, 19))  # of 349 and 22 pixels: what is of the image, as the authors cut it
DECIDES = ("fc6.", "fc7.", "score_fr.", "upscore.")  # the layers behind the last pooling, which tell classes


class PooledFeatures(nn.Module):
    """The first and the last pooled features of FCN-32s, of the coarse one first, of both images in one row.

    Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015: VGG-16 on an image among 100 zeros.
    Visible and thermal image (N, 3, 500, 500), the mean taken off -> (N, 2, 1, 512 * 16 * 16 + 64 * 247 * 247).
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.encoder = VGGEncoder(width, pool=self.pool)

    @staticmethod
    def pool(x: Tensor) -> Tensor:
        """Over 2x2, sides rounded up."""
        return functional.max_pool2d(x, 2, ceil_mode=True)

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        rows = []
        for image in (visible, thermal):
            scales = self.encoder(functional.pad(image, [BORDER - 1] * 4))  # the first convolution adds one more
            fine, coarse = (self.pool(scales[i]) for i in (0, 4))
            fine, coarse = fine[..., CROPS[0], CROPS[0]], coarse[..., CROPS[1], CROPS[1]]
            rows.append(torch.cat((coarse.flatten(1), fine.flatten(1)), dim=1))
        return torch.stack(rows, dim=1)[:, :, None]


def feature_maps(row: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """One image's row as maps, the coarse (16, 16, 8 C) and the fine one (247, 247, C)."""
    sides = [crop.stop - crop.start for crop in CROPS]
    width = row.size // (sides[0] ** 2 + 8 * sides[1] ** 2)
    coarse, fine = np.split(row, [8 * width * sides[1] ** 2])
    pairs = ((coarse, sides[1]), (fine, sides[0]))
    return [values.reshape(-1, side, side).transpose(1, 2, 0) for values, side in pairs]


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    maps = iter([feature_maps(row) for row in output[:, 0].numpy()])
    return rounded(255 * sgdl(colour(visible), colour(infrared), lambda image: next(maps)))


def bicubic_square(image: NDArray, side: int) -> NDArray:
    """(H, W, C) -> (side, side, C) as MATLAB's imresize does it."""
    rows, columns = (bicubic(size, side) for size in image.shape[:2])
    return np.einsum("ih,jw,hwc->ijc", rows, columns, image, optimize=True)


def convert(content: Any, path: Path) -> State:
    """From the names of Caffe's layers; what is behind the last pooling is left out."""
    names = {
        f"conv{stage}_{i}": f"encoder.features.{place}"
        for stage, places in enumerate(VGGEncoder(1).places, 1)
        for i, place in enumerate(places, 1)
    }
    state = {}
    for key, value in as_state(content, path).items():
        layer, _, kind = key.rpartition(".")
        if not key.startswith(DECIDES):
            state[f"{names.get(layer, layer)}.{kind}"] = value
    return state


MEAN = (122.67891434 / 255, 116.66876762 / 255, 104.00698793 / 255)
UNIT = (1 / 255,) * 3
FEED = Feed(SIDE, MEAN, UNIT, MEAN, UNIT, square=bicubic_square, bgr=True)
NETWORK = NetworkMethod(PooledFeatures, FEED, _finish, ("fcn32s_from_caffe.pth",), convert)
