"""BRISQUE: a support vector machine's guess of what people said of photographs with such statistics.

Mittal, Moorthy and Bovik 2012, doi:10.1109/TIP.2012.2214050; details as in the release of their laboratory (LIVE).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, UndefinedError
from evalkit.metrics.noreference.natural_scenes import (
    NEIGHBOURS,
    asymmetric_gaussian,
    generalised_gaussian,
    halved,
    normalised,
    scale_of,
)

FEATURES = 36


@dataclass(frozen=True)
class Regression:
    """A support vector regression with a Gaussian kernel.

    Attributes:
        lower, upper: (36,), the features that become -1 and 1.
        vectors: (N, 36).
        weights: (N,).
        gamma, rho: of the kernel, and what is taken off the sum.
    """

    lower: Array
    upper: Array
    vectors: Array
    weights: Array
    gamma: float
    rho: float


@describes(
    "BRISQUE",
    "Blind image spatial quality evaluator",
    better="lower",
    range="any, most 0 .. 100",
    unit="1",
    definition="Quality of the fused image as a regression on people's judgements of distorted photographs has it, "
    "with a model from a file (--models). Made for visible photographs, not validated on infrared or fused images.",
    source="Mittal, Moorthy and Bovik 2012, doi:10.1109/TIP.2012.2214050",
)
def brisque(image: Image, model: Regression) -> float:
    """BRISQUE of one image; its features are not rounded to texts on the way, as the release's are.

    Raises:
        UndefinedError: an image without structure.
    """
    features = image_features(image.x)
    if np.isnan(features).any():
        raise UndefinedError("BRISQUE of an image without structure: its statistics have no fit")
    scaled = 2 * (features - model.lower) / (model.upper - model.lower) - 1
    distances = ((model.vectors - scaled) ** 2).sum(axis=1)
    return float(model.weights @ np.exp(-model.gamma * distances) - model.rho)


def image_features(x: Array) -> Array:
    """18 features at each of two scales, (36,); NaN where a distribution has no fit.

    Args:
        x: (H, W), 0 .. 255.
    """
    features: list[float] = []
    for scale in range(2):
        x = halved(x) if scale else x
        values, _ = normalised(x, "constant")
        features += generalised_gaussian(values)
        for shift in (*NEIGHBOURS, (-1, 1)):
            shape, left, right, mean = asymmetric_gaussian(values * np.roll(values, shift, (0, 1)))
            features += [shape, (right - left) * mean * scale_of(shape), left**2, right**2]
    return np.array(features)
