"""MTMR: superpixels ranked by how unlike the image's border they are, in both images at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evalkit.methods.saliency.graphs import affinity, edges, lab, sides, stretch
from evalkit.methods.saliency.superpixels import region_means, superpixels

Bytes = NDArray[np.uint8]

COUNT, COMPACTNESS = 300, 20  # superpixels
THETA = (24, 12)  # visible, thermal: how fast affinity falls with the distance of colours
GAMMA = (3, 6)  # visible, thermal: how slowly a modality loses its weight
CONSISTENCY = 0.02  # lambda: how much both modalities' ranks must agree
FIT = (0.02, 0.06)  # mu of the first and of the second stage: how much ranks must keep to the seeds
BELOW = (0.15, 0.34)  # below the highest rank of the first stage, what still is a seed of the second
ROUNDS, ENOUGH = 50, 1e-4


def rank(seeds: NDArray, graphs: Sequence[NDArray], fit: float) -> tuple[NDArray, NDArray]:
    """Multi-task manifold ranking with cross-modality consistency: ranks and modality weights in turns.

    Args:
        seeds: (2, regions), of both modalities.
        graphs: normalised Laplacians (regions, regions) of both modalities.
        fit: mu.

    Returns:
        Ranks (2, regions) and the two weights in (0, 1].
    """
    regions = seeds.shape[1]
    same = np.eye(regions)
    weights, ranks = np.full(2, 0.5), np.full((2, regions), 0.15)
    first = np.zeros(2)
    for turn in range(ROUNDS):
        before = np.concatenate((ranks.ravel(), weights))
        system = np.block(
            [
                [weights[0] ** 2 * graphs[0] + CONSISTENCY * same, -CONSISTENCY * same],
                [-CONSISTENCY * same, weights[1] ** 2 * graphs[1] + CONSISTENCY * same],
            ]
        )
        ranks = np.linalg.solve(system / fit + np.eye(2 * regions), seeds.ravel()).reshape(2, regions)
        roughness = np.array([f @ graph @ f for f, graph in zip(ranks, graphs, strict=True)])
        if turn == 0:
            first = roughness
        weights = 1 / (1 + roughness / np.maximum(np.array(GAMMA) * first, np.finfo(float).tiny))
        if np.abs(np.concatenate((ranks.ravel(), weights)) - before).max() < ENOUGH:
            break
    return ranks, weights


def normalised_laplacian(weights: NDArray) -> NDArray:
    """I - D^(-1/2) W D^(-1/2); a region without a neighbour has a row of the identity."""
    root = 1 / np.sqrt(np.maximum(weights.sum(axis=0), np.finfo(float).tiny))
    return np.eye(len(weights)) - root[:, None] * weights * root


def region_ranks(labels: NDArray[np.int32], visible: Bytes, thermal: Bytes) -> NDArray[np.float64]:
    """How salient each region is, unscaled: both stages of the method.

    Args:
        labels: (H, W), superpixels of the mean of both images.
        visible, thermal: (H, W, 3).
    """
    pairs = edges(labels)
    graphs = [
        normalised_laplacian(affinity(pairs, lab(region_means(labels, image)), theta))
        for image, theta in zip((visible, thermal), THETA, strict=True)
    ]
    unlike, trusts = [], []
    for border in sides(labels):
        ranks, weights = rank(np.stack((border, border)), graphs, FIT[0])
        unlike.append(1 - stretch(ranks))
        trusts.append(weights)
    first = stretch(np.prod(unlike, axis=0))
    joint = np.mean(trusts, axis=0) @ first
    # the thermal seeds come from the joint ranks, the visible ones from the visible image's own
    seeds = np.stack([seeded(own, below) for own, below in zip((first[0], joint), BELOW, strict=True)])
    ranks, weights = rank(seeds, graphs, FIT[1])
    return weights @ ranks


def seeded(ranks: NDArray, below: float) -> NDArray:
    """1 for the ranks that are above the highest less `below`, 0 for the others, itself where it is just that."""
    threshold = ranks.max() - below
    return np.where(ranks > threshold, 1.0, np.where(ranks < threshold, 0.0, ranks))


def half_sum(visible: Bytes, thermal: Bytes) -> Bytes:
    """The mean of both images in bytes, each half rounded up, as the authors' arithmetic has it."""
    halves = (visible.astype(np.uint16) + 1) // 2 + (thermal.astype(np.uint16) + 1) // 2
    return np.minimum(halves, 255).astype(np.uint8)


def mtmr(visible: Bytes, thermal: Bytes) -> NDArray[np.float64]:
    """Salient objects by multi-task manifold ranking with cross-modality consistency.

    Wang, Li, Ma, Zheng, Tang and Luo, RGB-T Saliency Detection Benchmark: Dataset, Baselines, Analysis and a Novel
    Approach, IGTA 2018, doi:10.1007/978-981-13-1702-6_36; the numbers are those of the authors' program.

    Args:
        visible, thermal: (H, W, 3) RGB bytes.

    Returns:
        Map (H, W) in [0, 1], its minimum 0 and its maximum 1; zeros where all regions rank the same.
    """
    labels = superpixels(half_sum(visible, thermal), COUNT, COMPACTNESS)
    return stretch(region_ranks(labels, visible, thermal)[labels])


def saliency_map(infrared: Bytes, visible: Bytes) -> Bytes:
    """The map of a pair as stored, uint8 (H, W)."""
    return np.rint(255 * mtmr(in_colour(visible), in_colour(infrared))).astype(np.uint8)


def in_colour(image: Bytes) -> Bytes:
    """An image as (H, W, 3): gray ones three times."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
