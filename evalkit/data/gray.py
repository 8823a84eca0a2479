"""Gray from colour, in exact arithmetic: a pixel depends on its colour and on nothing else.

Public programs take the same weights, .299, .587 and .114, and round differently; an evaluator that lets OpenCV read a
PNG as gray rounds down, which moves half of the pixels by one level and mutual information by several percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Luma:
    """Gray as (weights . RGB) / divisor, rounded.

    Attributes:
        weights: of red, green and blue.
        divisor: what their sum is divided by.
        rounding: "even" and "up" to the nearest integer, halves to the even one or up; "down" cuts off.
        source: where that comes from.
    """

    weights: tuple[float, float, float]
    divisor: float
    rounding: str
    source: str

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) RGB, uint8, as (H, W) gray.

        Where the weights are integers, no sum exceeds 2^24, so that float32 holds it exactly, whatever the order and
        the width of the processor's additions. The others are in float64: no colour comes nearer to a half than 4e-6,
        a billion times the rounding errors (`tests/test_gray.py` goes through all colours).
        """
        kind = np.float32 if all(weight == int(weight) for weight in self.weights) else np.float64
        levels = cv2.transform(image.astype(kind), np.array([self.weights], kind))
        levels /= kind(self.divisor)  # float32 holds halves: what is not a half cannot become one, nor pass it
        if self.rounding == "even":
            return np.rint(levels, out=levels).astype(np.uint8)
        if self.rounding == "up":
            levels += kind(0.5)
        return levels.astype(np.uint8)  # cuts off


ROUNDED, TRUNCATED, JPEG = "rounded", "truncated", "jpeg"
GRAYS: Mapping[str, Luma] = MappingProxyType(
    {
        ROUNDED: Luma(
            (299, 587, 114), 1000, "even", "what CDDFuse's evaluator, round(cv2.cvtColor(float32)), is but for rounding"
        ),
        "opencv": Luma((9798, 19235, 3735), 2**15, "up", "cv2.cvtColor(uint8, COLOR_RGB2GRAY)"),
        "pil": Luma((19595, 38470, 7471), 2**16, "up", "Pillow's convert('L')"),
        "matlab": Luma(
            (0.298936021293775, 0.587043074451121, 0.114020904255103),
            1,
            "up",
            "MATLAB's rgb2gray: the first row of the inverse of the NTSC matrix",
        ),
        TRUNCATED: Luma((9797, 19234, 3737), 2**15, "down", "libpng's own, by which cv2.imread(png, 0) reads a PNG"),
        JPEG: Luma(
            (9797, 19234, 3737),
            2**15,
            "down",
            "of a JPEG the luma that it stores, without its chroma, as cv2.imread(jpg, 0) reads it; else truncated",
        ),
    }
)
