"""How `scipy.misc`, gone since SciPy 1.2, read gray and saved floats for the authors' TensorFlow scripts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from evalkit.methods.layers.pixels import stretched
from evalkit.methods.network import Pixels


def flattened(image: Pixels) -> NDArray:
    """`imread(path, flatten=True, mode="YCbCr")`: (H, W) float32 in 0..255.

    Gray stays itself. A colour goes through 8-bit YCbCr and back, then becomes luminance that nobody rounds.
    """
    return np.array(Image.fromarray(image).convert("YCbCr").convert("F"))


def signed_pair(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """Both images as (1, H, W) float32 in [-1, 1]."""
    return _signed(infrared), _signed(visible)


def signed_functional_first(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """`signed_pair` of medical images: PET or SPECT, in the visible role here, is the authors' first image."""
    return _signed(visible), _signed(infrared)


def saved(values: NDArray) -> Pixels:
    """`imsave` of floats: stretched by their own minimum and maximum to 0..255, halves rounded up."""
    return np.floor(stretched(values) * 255 + 0.5).astype(np.uint8)


def save_gray(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """A fused image (1, H, W) as the scripts save it: `saved`, gray whatever the visible image was.

    Args:
        output: (1, H, W).
        infrared, visible: what was fused; not looked at.
    """
    return saved(output[0].numpy())


def _signed(image: Pixels) -> Tensor:
    return torch.from_numpy((flattened(image) - 127.5) / 127.5)[None]
