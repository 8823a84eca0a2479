"""What goes into a salient-object network, and what becomes of what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from evalkit.data.images import to_gray
from evalkit.methods.network import Pixels, rounded

Resize = Callable[[NDArray, int], NDArray]


def colour(image: Pixels) -> Pixels:
    """An image as (H, W, 3): gray ones three times."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def opencv_square(image: NDArray, side: int) -> NDArray:
    """(H, W, C) -> (side, side, C), OpenCV's bilinear rule, which does not smooth where it shrinks."""
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)


def pillow_square(image: NDArray, side: int) -> NDArray:
    """Bytes (H, W, C) -> (side, side, C), Pillow's bilinear rule, which smooths where it shrinks."""
    return np.asarray(Image.fromarray(image.astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Feed:
    """How a pair goes into a network of two streams: a callable (infrared, visible) -> (visible, thermal), (3, S, S).

    Attributes:
        size: S, the side of the square; none: the pair as it is, (3, H, W).
        mean, std: of red, green and blue of the visible image in [0, 1].
        thermal_mean, thermal_std: of the thermal image, which the data sets store in false colours.
        square: resizes, by the rule of the authors' library.
        bgr: blue first.
    """

    size: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    thermal_mean: tuple[float, float, float]
    thermal_std: tuple[float, float, float]
    square: Resize = opencv_square
    bgr: bool = False

    def __call__(self, infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
        images = (colour(image).astype(np.float32) for image in (visible, infrared))
        squares = (image if self.size is None else self.square(image, self.size) for image in images)
        unit = [torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1) for image in squares]
        return self.normalised(*unit)

    def normalised(self, visible: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor]:
        """Both images (..., 3, H, W) in [0, 1], red first, as the network takes them."""
        pairs = ((visible, self.mean, self.std), (thermal, self.thermal_mean, self.thermal_std))
        first, second = (
            (image - image.new_tensor(mean)[:, None, None]) / image.new_tensor(std)[:, None, None]
            for image, mean, std in pairs
        )
        return (first.flip(-3), second.flip(-3)) if self.bgr else (first, second)


@dataclass(frozen=True)
class GrayFeed:
    """The same for a thermal image without its colours, as evalkit's training reads it."""

    feed: Feed

    def __call__(self, infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
        return self.feed(to_gray(infrared), visible)


def logits_to_map(output: Tensor, infrared: Pixels, visible: Pixels, corners: bool = False) -> Pixels:
    """Logits (1, h, w) -> map of the pair's size, uint8 (H, W): resized bilinearly, sigmoid, rounded to nearest.

    Args:
        output: of one pair.
        infrared, visible: of the size that the map gets.
        corners: whether the resizing aligns the corners' centres.
    """
    full = functional.interpolate(output[None], visible.shape[:2], mode="bilinear", align_corners=corners)
    return rounded(torch.sigmoid(full)[0, 0].numpy() * 255)


aligned_logits_to_map = partial(logits_to_map, corners=True)


def stretched_logits_to_map(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """The same, but the map is stretched so that its smallest value becomes 0 and its largest 255 (nearly)."""
    full = functional.interpolate(output[None], visible.shape[:2], mode="bilinear", align_corners=False)
    return _stretched_bytes(torch.sigmoid(full))


def stretched_to_map(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """The same of a map (1, h, w) in [0, 1] in place of logits."""
    return _stretched_bytes(functional.interpolate(output[None], visible.shape[:2], mode="bilinear"))


def _stretched_bytes(full: Tensor) -> Pixels:
    values = full[0, 0].numpy()
    return rounded((values - values.min()) / (values.max() - values.min() + 1e-8) * 255)
