"""NIQE: how far the statistics of an image are from those of pristine photographs.

Mittal, Soundararajan and Bovik 2013, doi:10.1109/LSP.2012.2227726; details as in their laboratory's release (LIVE).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from evalkit.errors import DataError
from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, UndefinedError
from evalkit.metrics.noreference.natural_scenes import NEIGHBOURS, asymmetric_gaussian, halved, normalised, scale_of

SIDE, FEATURES = 96, 36
SHARP = 0.75  # blocks for a model have this part of the sharpest block's mean deviation


@dataclass(frozen=True)
class Pristine:
    """What blocks of good photographs look like: mean (36,) and covariance (36, 36) of their features."""

    mean: Array
    covariance: Array


@describes(
    "NIQE",
    "Natural image quality evaluator",
    better="lower",
    range="0 .. any",
    unit="1",
    definition="Distance of the fused image's statistics from those of pristine photographs, with a model from a file "
    "(--models). Made for visible photographs, not validated on infrared or fused images.",
    source="Mittal, Soundararajan and Bovik 2013, doi:10.1109/LSP.2012.2227726",
)
def niqe(image: Image, pristine: Pristine) -> float:
    """NIQE of one image.

    Raises:
        UndefinedError: fewer than two blocks of 96 x 96 pixels that have structure.
    """
    features, _ = block_features(image.x)
    mean, covariance = _moments(features)
    difference = pristine.mean - mean
    inverse = np.linalg.pinv((pristine.covariance + covariance) / 2, rcond=FEATURES * np.finfo(float).eps)
    return math.sqrt(max(float(difference @ inverse @ difference), 0.0))


def fit(images: Iterable[Image]) -> Pristine:
    """The model of pristine images: of the sharp blocks of each of them.

    Args:
        images: good photographs; the authors took 125.

    Raises:
        DataError: fewer than two blocks in all.
    """
    sharp = []
    for image in images:
        features, sharpness = block_features(image.x)
        sharp.append(features[sharpness > SHARP * sharpness.max(initial=0)])
    try:
        return Pristine(*_moments(np.concatenate([np.empty((0, FEATURES)), *sharp])))
    except UndefinedError as error:
        raise DataError(f"no model of pristine images: {error}. Name more images, of 96 x 96 pixels or more.") from None


def block_features(x: Array) -> tuple[Array, Array]:
    """36 features of each block of 96 x 96, and its mean local deviation; NaN where a distribution has no fit.

    Args:
        x: (H, W), 0 .. 255; what is left of whole blocks, right and below, is not looked at.

    Returns:
        (N, 36) and (N,), the blocks row by row.
    """
    rows, columns = x.shape[0] // SIDE, x.shape[1] // SIDE
    if not rows * columns:
        return np.empty((0, FEATURES)), np.empty(0)
    x = x[: rows * SIDE, : columns * SIDE]
    features = []
    sharpness = np.empty(0)
    for side in (SIDE, SIDE // 2):
        values, deviation = normalised(x, "edge")
        features.append([_features(block) for block in _blocks(values, side)])
        if side == SIDE:
            sharpness = _blocks(deviation, side).mean(axis=(1, 2))
            x = halved(x)
    return np.concatenate([np.array(of_scale) for of_scale in features], axis=1), sharpness


def _blocks(x: Array, side: int) -> Array:
    return x.reshape(len(x) // side, side, -1, side).swapaxes(1, 2).reshape(-1, side, side)


def _features(block: Array) -> list[float]:
    shape, left, right, _ = asymmetric_gaussian(block)
    features = [shape, (left + right) * scale_of(shape) / 2]
    for shift in (*NEIGHBOURS, (1, -1)):
        shape, left, right, mean = asymmetric_gaussian(block * np.roll(block, shift, (0, 1)))
        left, right = left * scale_of(shape), right * scale_of(shape)
        features += [shape, (right - left) * mean, left, right]
    return features


def _moments(features: Array) -> tuple[Array, Array]:
    """Mean over the blocks that have a feature, covariance over those that have all."""
    whole = features[~np.isnan(features).any(axis=1)]
    if len(whole) < 2:
        raise UndefinedError(f"NIQE needs two blocks of {SIDE} x {SIDE} pixels with structure, here are {len(whole)}")
    return np.nanmean(features, axis=0), np.cov(whole, rowvar=False)
