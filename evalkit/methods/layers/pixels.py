"""How the authors' scripts read gray and cast floats to bytes, where that differs from the usual."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evalkit.data.images import to_gray
from evalkit.methods.network import Pixels, unit_gray

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)


def pillow_gray(image: Pixels) -> Pixels:
    """Gray as Pillow's mode "L": the usual weights in 16-bit integers, which rounds a few colours another way."""
    return to_gray(image, "pil")


def unit_pillow_gray(image: Pixels) -> Tensor:
    """`pillow_gray` as (1, H, W) float32 in [0, 1]."""
    return unit_gray(image, "pil")


def opencv_gray(image: Pixels) -> Pixels:
    """Gray by OpenCV on bytes: the usual weights in integers, which differs from `to_gray` by one here and there."""
    return to_gray(image, "opencv")


def unit_opencv_gray(image: Pixels) -> Tensor:
    """`opencv_gray` as (1, H, W) float32 in [0, 1]."""
    return unit_gray(image, "opencv")


def wrapped(values: NDArray) -> Pixels:
    """Floats to bytes by a bare cast: the fraction is cut off and the integer taken modulo 256, so -1.5 becomes 255.

    numpy leaves that cast undefined and its result differs between processors; here it is the same everywhere.
    """
    return (np.trunc(values).astype(np.int64) % 256).astype(np.uint8)


def stretched(values: NDArray, epsilon: float = 0.0) -> NDArray:
    """Values stretched so that the smallest becomes 0 and the largest 1 (nearly, with `epsilon` added to the range).

    A constant image, which the scripts divide by zero, becomes 0.
    """
    low, span = values.min(), values.max() - values.min()
    return (values - low) / ((span + epsilon) or 1)
