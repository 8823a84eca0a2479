"""Superpixels: small regions of one colour that the classical methods for salient objects rank instead of pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

ROUNDS = 10


def superpixels(image: NDArray[np.uint8], count: int, compactness: float = 20) -> NDArray[np.int32]:
    """SLIC: k-means over colour (CIELAB) and place, each mean sought near its seed, then connected regions.

    Achanta et al., SLIC Superpixels Compared to State-of-the-Art Superpixel Methods, IEEE TPAMI 34(11), 2012. Seeds lie
    on a grid, moved to the lowest gradient among their 3x3 pixels.

    Args:
        image: (H, W, 3) RGB.
        count: about how many.
        compactness: weight of place against colour, m in the paper.

    Returns:
        Labels (H, W) from 0 without gaps.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).astype(np.float64)
    height, width = lab.shape[:2]
    step = max(np.sqrt(height * width / count), 1)
    means = _seeds(lab, step)
    labels = np.zeros((height, width), np.int32)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    points = np.dstack((lab, rows, columns))
    scale = np.array([1, 1, 1, *(compactness / step,) * 2])
    for _ in range(ROUNDS):
        nearest = np.full((height, width), np.inf)
        for k, mean in enumerate(means):
            (top, bottom), (left, right) = ((max(int(centre - step), 0), int(centre + step) + 1) for centre in mean[3:])
            window = np.s_[top:bottom, left:right]
            distance = (((points[window] - mean) * scale) ** 2).sum(axis=2)
            closer = distance < nearest[window]
            nearest[window][closer] = distance[closer]
            labels[window][closer] = k
        means = region_means(labels, points, means)
    return _connected(labels, step**2 / 4)


def _seeds(lab: NDArray, step: float) -> NDArray:
    """Colours and places (k, 5) of the grid's points, each moved to its lowest gradient nearby."""
    height, width = lab.shape[:2]
    gradient = sum(((np.roll(lab, 1, axis) - np.roll(lab, -1, axis)) ** 2).sum(axis=2) for axis in (0, 1))
    gradient[[0, -1]] = gradient[:, [0, -1]] = np.inf
    rows, columns = (
        ((np.arange(n) + 0.5) * size / n).astype(int)
        for size, n in ((height, max(round(height / step), 1)), (width, max(round(width / step), 1)))
    )
    seeds = []
    for row in rows:
        for column in columns:
            top, left = max(row - 1, 0), max(column - 1, 0)
            near = gradient[top : row + 2, left : column + 2]
            if np.isfinite(near.min()):
                dy, dx = np.unravel_index(near.argmin(), near.shape)
                seeds.append((*lab[top + dy, left + dx], top + dy, left + dx))
            else:
                seeds.append((*lab[row, column], row, column))
    return np.array(seeds, np.float64)


def region_means(labels: NDArray, values: NDArray, empty: NDArray | float = 0) -> NDArray[np.float64]:
    """The mean of every region: labels (H, W) and values (H, W, C) -> (k, C); regions without pixels keep `empty`."""
    flat, channels = labels.ravel(), values.reshape(labels.size, -1)
    regions = len(empty) if isinstance(empty, np.ndarray) else int(flat.max()) + 1
    counts = np.bincount(flat, minlength=regions)
    sums = np.stack([np.bincount(flat, channel, minlength=regions) for channel in channels.T], axis=1)
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], empty)


def _connected(labels: NDArray[np.int32], smallest: float) -> NDArray[np.int32]:
    """Labels of connected regions; those below `smallest` pixels go to a region that touches their first pixel."""
    height, width = labels.shape
    index = np.arange(labels.size).reshape(height, width)
    across, down = labels[:, 1:] == labels[:, :-1], labels[1:] == labels[:-1]
    begin = np.concatenate((index[:, :-1][across], index[:-1][down]))
    end = np.concatenate((index[:, 1:][across], index[1:][down]))
    graph = coo_array((np.ones(len(begin), bool), (begin, end)), shape=(labels.size,) * 2)
    _, parts = connected_components(graph, directed=False)
    _, first, parts, sizes = np.unique(parts, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)  # as a scan of the image meets them
    final = np.full(len(first), -1)
    new = 0
    parts = parts.reshape(height, width)
    for part in order:
        row, column = divmod(int(first[part]), width)
        near = [parts[row - 1, column]] if row else []
        near += [parts[row, column - 1]] if column else []
        touching = [final[p] for p in near if p != part]
        if sizes[part] < smallest and touching:
            final[part] = touching[0]
        else:
            final[part], new = new, new + 1
    return final[parts].astype(np.int32)
