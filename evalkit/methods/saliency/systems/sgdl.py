"""SGDL: a graph of superpixels is learned from several features of both images together with the ranks on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.methods.saliency.graphs import affinity, edges, lab, sides, stretch
from evalkit.methods.saliency.superpixels import region_means, superpixels
from evalkit.methods.saliency.systems.mtmr import half_sum, in_colour

Bytes = NDArray[np.uint8]
Features = Callable[[Bytes], Sequence[NDArray]]  # image (H, W, 3) -> maps (h, w, C), each of the whole image

COUNT, COMPACTNESS = 300, 20  # superpixels
THETA = (20, 40)  # visible, thermal: how fast affinity falls with the distance of features
GAMMA_FEATURES, GAMMA_MODALITIES = 8, 0.5  # how evenly features, and modalities, are weighted
RANKS, GRAPH, FIT = (
    1e-4,
    1e-3,
    4e-3,
)  # how much ranks pull on the graph, keep it near identity, and keep ranks near the seeds
SEEDS = 1.8  # times the mean rank of the first stage: what is a seed of the second
ROUNDS, ENOUGH = 50, 1e-4


def learn(laplacians: NDArray[np.float64], seeds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Collaborative graph learning: affinities, weights of features and modalities, and ranks in turns.

    Surprises of the published program that are kept: the affinities are not symmetric; and with an exponent below 1 the
    modality whose graph is rougher weighs more.

    Args:
        laplacians: D - W, (modalities, features, regions, regions).
        seeds: (regions,).

    Returns:
        Ranks (regions,), >= 0.
    """
    modalities, features, regions, _ = laplacians.shape
    same = np.eye(regions)
    of_features = np.full((modalities, features), 1 / features)
    of_modalities = np.full(modalities, 1 / modalities)
    ranks = np.zeros(regions)
    for _ in range(ROUNDS):
        before = np.concatenate((of_features[:, :-1].ravel(), of_modalities[:1], ranks))
        mixed = np.einsum("m,mf,mfij->ij", of_modalities**GAMMA_MODALITIES, of_features**GAMMA_FEATURES, laplacians)
        apart = (ranks[:, None] - ranks) ** 2
        graph = np.maximum(np.linalg.solve(mixed + GRAPH * same, GRAPH * same - RANKS / 4 * apart), 0)
        roughness = np.einsum("ij,mfij->mf", graph, laplacians @ graph)
        of_features = _shares(roughness, GAMMA_FEATURES)
        of_modalities = _shares((of_features**GAMMA_FEATURES * roughness).sum(axis=1)[None], GAMMA_MODALITIES)[0]
        ranks = np.maximum(np.linalg.solve((np.diag(graph.sum(axis=0)) - graph) / FIT + same, seeds), 0)
        after = np.concatenate((of_features[:, :-1].ravel(), of_modalities[:1], ranks))
        if np.abs(after - before).max() < ENOUGH:
            break
    return ranks


def _shares(roughness: NDArray, gamma: float) -> NDArray:
    """Weights that sum to 1 along the last axis, each as its roughness to the power of 1 / (1 - gamma)."""
    powers = np.maximum(roughness, np.finfo(float).tiny) ** (1 / (1 - gamma))
    return powers / powers.sum(axis=-1, keepdims=True)


def region_ranks(
    labels: NDArray[np.int32], visible: Sequence[NDArray], thermal: Sequence[NDArray]
) -> NDArray[np.float64]:
    """How salient each region is, unscaled: both stages of the method.

    Args:
        labels: (H, W), superpixels of the mean of both images.
        visible, thermal: features (regions, C) of each image, as many of one as of the other.
    """
    pairs = edges(labels)
    laplacians = np.stack(
        [
            np.stack([_laplacian(affinity(pairs, feature, theta)) for feature in features])
            for features, theta in zip((visible, thermal), THETA, strict=True)
        ]
    )
    unlike = [1 - stretch(learn(laplacians, border)) for border in sides(labels)]
    first = stretch(np.prod(unlike, axis=0))
    return learn(laplacians, (first >= SEEDS * first.mean()).astype(np.float64))


def _laplacian(weights: NDArray) -> NDArray:
    return np.diag(weights.sum(axis=0)) - weights


def sgdl(visible: Bytes, thermal: Bytes, features: Features) -> NDArray[np.float64]:
    """Salient objects by collaborative graph learning.

    Tu, Xia, Li, Wang, Ma and Tang, RGB-T Image Saliency Detection via Collaborative Graph Learning, IEEE TMM 22(1),
    2020, doi:10.1109/TMM.2019.2924578; the numbers are those of the authors' program.

    Args:
        visible, thermal: (H, W, 3) RGB bytes.
        features: what, beside the mean colours, regions are compared by.

    Returns:
        Map (H, W) in [0, 1], its minimum 0 and its maximum 1; zeros where all regions rank the same.
    """
    labels = superpixels(half_sum(visible, thermal), COUNT, COMPACTNESS)
    means = [
        [*(resized_means(labels, values) for values in features(image)), lab(region_means(labels, image))]
        for image in (visible, thermal)
    ]
    return stretch(region_ranks(labels, *means)[labels])


def resized_means(labels: NDArray[np.int32], values: NDArray) -> NDArray[np.float64]:
    """Means of the regions of a map (h, w, C) that is resized to the image, 32 channels at a time: (regions, C)."""
    height, width = labels.shape
    rows, columns = bicubic(values.shape[0], height), bicubic(values.shape[1], width)
    parts = []
    for begin in range(0, values.shape[2], 32):
        large = np.einsum("ih,jw,hwc->ijc", rows, columns, values[:, :, begin : begin + 32], optimize=True)
        parts.append(region_means(labels, large))
    return np.concatenate(parts, axis=1)


def bicubic(size: int, new: int) -> NDArray[np.float64]:
    """Resizing as MATLAB's imresize does it, cubic and smoothed where it shrinks, as a matrix (new, size)."""
    scale = min(new / size, 1)
    reach = int(np.ceil(2 / scale))
    centres = (np.arange(new) + 0.5) * size / new - 0.5
    taps = np.floor(centres)[:, None] + np.arange(-reach, reach + 1)
    x = np.abs(centres[:, None] - taps) * scale
    weights = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x <= 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = taps.astype(int) % (2 * size)
    mirrored = np.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
    matrix = np.zeros((new, size))
    np.add.at(matrix, (np.arange(new)[:, None], mirrored), weights)
    return matrix


def filter_features(image: Bytes) -> list[NDArray[np.float32]]:
    """What stands in for a network's features where there is none: surroundings and texture, no learning.

    The published program compares regions by the last and the first pooled features of FCN-32s, a network for semantic
    segmentation: what the surroundings are, and how the place looks. Here: colour, smoothed over a sixteenth and an
    eighth of the shorter side; and the strength of the edges of four directions at three scales.

    Args:
        image: (H, W, 3) RGB.

    Returns:
        Two maps, (H, W, 6) and (H, W, 12).
    """
    unit = image.astype(np.float32) / 255
    colour = cv2.cvtColor(unit, cv2.COLOR_RGB2LAB)
    side = min(image.shape[:2])
    surroundings = [cv2.GaussianBlur(colour, (0, 0), side / part) for part in (16, 8)]
    texture = []
    for sigma in (1, 2, 4):
        smooth = cv2.GaussianBlur(unit.mean(axis=2), (0, 0), sigma)
        right, down = cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1)
        for angle in np.arange(4) * np.pi / 4:
            edge = np.abs(np.cos(angle) * right + np.sin(angle) * down)
            texture.append(cv2.GaussianBlur(edge.astype(np.float32), (0, 0), 2 * sigma))
    return [np.concatenate(surroundings, axis=2), np.stack(texture, axis=2)]


def saliency_map(infrared: Bytes, visible: Bytes) -> Bytes:
    """The map of a pair as stored, uint8 (H, W), by `filter_features`."""
    return np.rint(255 * sgdl(in_colour(visible), in_colour(infrared), filter_features)).astype(np.uint8)
