"""Edges: spatial frequency, average gradient and the Xydeas-Petrovic edge transfer."""

from __future__ import annotations

import math

import cv2
import numpy as np

from evalkit.metrics.image import Array, Image, Pair, UndefinedError, once


@once
def spatial_frequency(image: Image) -> float:
    """SF: sqrt(mean dx^2 + mean dy^2) of forward differences (Eskicioglu and Fisher 1995, doi:10.1109/26.477498).

    Raises:
        UndefinedError: fewer than 2 x 2 pixels.
    """
    _need(image, 2, "differences")
    x = image.x
    dx, dy = (x[:, 1:] - x[:, :-1]).ravel(), (x[1:] - x[:-1]).ravel()
    return math.sqrt(np.dot(dx, dx) / dx.size + np.dot(dy, dy) / dy.size)


@once
def gradient_magnitude(image: Image) -> Array:
    """sqrt(gx^2 + gy^2), (H, W), of central differences, one-sided at the border.

    Raises:
        UndefinedError: fewer than 2 x 2 pixels.
    """
    _need(image, 2, "gradients")
    gy, gx = np.gradient(image.x)
    return np.sqrt(gx * gx + gy * gy)


def average_gradient(image: Image) -> float:
    """AG: mean of sqrt((gx^2 + gy^2) / 2) (Cui et al. 2015, doi:10.1016/j.optcom.2014.12.032)."""
    return average_gradient_magnitude(image) / math.sqrt(2)


def average_gradient_magnitude(image: Image) -> float:
    """AG as some tables print it: mean of sqrt(gx^2 + gy^2), sqrt(2) times the definition."""
    return float(gradient_magnitude(image).mean())


def average_gradient_over_inner_size(image: Image) -> float:
    """AG: sum of sqrt((gx^2 + gy^2) / 2) over (M - 1)(N - 1), though there are M N gradients."""
    rows, columns = image.shape
    return float(gradient_magnitude(image).sum()) / math.sqrt(2) / ((rows - 1) * (columns - 1))


def edge_intensity(image: Image) -> float:
    """EI: mean Sobel magnitude with replicated border; 0..1140.

    Rajalingam and Priya 2018, Int. J. of Engineering Science Invention.
    """
    return float(sobel(image, cv2.BORDER_REPLICATE)[0].mean())


def _need(image: Image, side: int, what: str) -> None:
    if min(image.shape) < side:
        raise UndefinedError(f"the image is {image.shape[1]}x{image.shape[0]}: {what} need {side}x{side} pixels")


@once
def sobel(image: Image, border: int) -> tuple[Array, Array]:
    """Sobel magnitude and orientation atan(sy / sx), y upwards, in (-pi/2, pi/2], pi/2 where sx = 0; both (H, W).

    `border` is OpenCV's border type: BORDER_CONSTANT pads with zeros, BORDER_REPLICATE repeats the border.
    """
    sx = cv2.Sobel(image.x, cv2.CV_64F, 1, 0, ksize=3, borderType=border)
    sy = cv2.Sobel(image.x, cv2.CV_64F, 0, 1, ksize=3, borderType=border)
    with np.errstate(divide="ignore", invalid="ignore"):
        orientation = np.arctan(-sy / sx)  # y upwards: with pi/2 at sx = 0 the sign matters
    orientation[sx == 0] = np.pi / 2
    return np.sqrt(sx * sx + sy * sy), orientation


def _preservation(fused: Image, source: Image, border: int, equal_is_one: bool) -> Array:
    """Q^{SF}: how much of the source's edge strength and orientation the fused image keeps, (H, W), 0..1."""
    g_f, a_f = sobel(fused, border)
    g_s, a_s = sobel(source, border)
    low, high = np.minimum(g_f, g_s), np.maximum(g_f, g_s)
    strength = np.divide(low, high, out=np.ones_like(low), where=high > 0)
    if not equal_is_one:
        np.copyto(strength, g_f, where=low == high)
    orientation = np.abs(a_s - a_f)
    orientation *= -2 / np.pi
    orientation += 1
    # constants of Xydeas and Petrovic: Gamma, kappa, sigma for strength (g) and orientation (alpha)
    strength_kept = 1 + np.exp(-15 * (strength - 0.5))
    orientation_kept = 1 + np.exp(-22 * (orientation - 0.8))
    return 0.9994 * 0.9879 / (strength_kept * orientation_kept)


def edge_transfer(pair: Pair, border: int = cv2.BORDER_REPLICATE, equal_is_one: bool = True) -> float:
    """Qabf: edge information transferred from both sources, weighted by their edge strength (L = 1).

    Xydeas and Petrovic 2000, doi:10.1049/el:20000267. `equal_is_one=False` is the widespread evaluators' slip: where
    both edge strengths are equal, the ratio is the strength itself instead of 1.

    Raises:
        UndefinedError: neither source has an edge.
    """
    kept = total = 0.0
    for source in pair.sources:
        weight = sobel(source, border)[0]
        kept += float((_preservation(pair.fused, source, border, equal_is_one) * weight).sum())
        total += float(weight.sum())
    if total == 0:
        raise UndefinedError("Qabf is 0/0: neither source has an edge")
    return kept / total
