"""A classical method: the hotter a pixel, the more of the infrared image."""

import numpy as np


def hotspot(infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Two gray images (H, W) uint8 -> the fused one, (H, W) uint8."""
    weight = infrared / 255
    return np.rint(weight * infrared + (1 - weight) * visible).astype(np.uint8)


def build(checkpoint):
    """The method, ready to run; it has no weights."""
    return hotspot
