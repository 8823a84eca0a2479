"""The pixels that a segmentation network sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalkit.data.images import read_image, to_gray
from evalkit.errors import DataError

IGNORE = 255  # of labels: pixels that are not learned and not counted


def read_sample(image: Path, infrared: Path | None) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) RGB, a gray image three times, or (H, W, 4) with the infrared image as the fourth channel."""
    pixels = read_image(image)
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    if infrared is None:
        return colour
    thermal = to_gray(read_image(infrared))
    if thermal.shape != colour.shape[:2]:
        raise DataError(f"{infrared} and {image} differ in size: a pair must be registered and of one size.")
    return np.dstack([colour, thermal])
