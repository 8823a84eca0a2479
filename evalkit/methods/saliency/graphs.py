"""Graphs of superpixels: what touches what, how alike they are, and what lies at the border."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WHITE = np.array([0.950456, 1, 1.088754])  # D65
TO_RGB = np.array(
    [[3.240479, -1.53715, -0.498535], [-0.969256, 1.875992, 0.041556], [0.055648, -0.204043, 1.057311]]
)  # from XYZ


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB of Rec. 709 colours (N, 3), by the formula of a MATLAB toolbox whose range is 0..1; it takes any >= 0."""
    linear = np.where(
        ((rgb + 0.099) / 1.099) ** (1 / 0.45) < 0.018, rgb / 4.5138, ((rgb + 0.099) / 1.099) ** (1 / 0.45)
    )
    xyz = linear @ np.linalg.inv(TO_RGB).T / WHITE
    x, y, z = np.where(xyz < 0.008856, xyz * (841 / 108) + 4 / 29, np.cbrt(xyz)).T
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), axis=1)


def edges(labels: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of regions that touch, corners included, or both touch a third; all at the border touch each other.

    Yang et al., Saliency Detection via Graph-Based Manifold Ranking, CVPR 2013, Section 4.1.

    Args:
        labels: (H, W) from 0 without gaps.

    Returns:
        The smaller and the larger number of each pair.
    """
    regions = int(labels.max()) + 1
    touch = np.zeros((regions, regions), bool)
    for a, b in (
        (labels[:, 1:], labels[:, :-1]),
        (labels[1:], labels[:-1]),
        (labels[1:, 1:], labels[:-1, :-1]),
        (labels[1:, :-1], labels[:-1, 1:]),
    ):
        touch[a, b] = True
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    touch[np.ix_(border, border)] = True
    touch |= touch.T
    np.fill_diagonal(touch, False)
    steps = touch.astype(np.float64)
    begin, end = np.nonzero(np.triu(touch | (steps @ steps > 0), k=1))
    return begin, end


def affinity(
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]], features: NDArray[np.float64], theta: float
) -> NDArray[np.float64]:
    """How alike connected regions are: exp(-theta d), d their distance, stretched to 0..1 over all pairs.

    Args:
        pairs: of `edges`.
        features: (regions, C).
        theta: how fast it falls.

    Returns:
        (regions, regions), symmetric, 0 where there is no edge.
    """
    begin, end = pairs
    distance = np.linalg.norm(features[begin] - features[end], axis=1)
    weights = np.zeros((len(features),) * 2)
    if len(distance):
        low, high = distance.min(), distance.max()
        stretched = (distance - low) / (high - low) if high > low else distance
        weights[begin, end] = weights[end, begin] = np.exp(-theta * stretched)
    return weights


def sides(labels: NDArray[np.int32]) -> list[NDArray[np.float64]]:
    """Per side of the image (top, bottom, left, right) 1 for the regions at it, 0 for the others."""
    marks = []
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        mark = np.zeros(int(labels.max()) + 1)
        mark[side] = 1
        marks.append(mark)
    return marks


def stretch(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """To 0..1 by minimum and maximum; zeros where all are equal."""
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)
