"""Separable filters of batches, as products with banded matrices: what every device multiplies fastest.

A window's weighted sum along an axis is a product with a matrix that holds the weights along its diagonal. It is taken
for a block of outputs at a time, whose matrix is small and the same for all blocks.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from evalkit.metrics.image import Array

BLOCK = 48  # outputs at a time


def gaussian_weights(side: int, deviation: float) -> Array:
    """A Gaussian of so many samples, an odd number, that sum to 1."""
    weights = np.exp(-(np.arange(-(side // 2), side // 2 + 1) ** 2) / (2 * deviation**2))
    return weights / weights.sum()


@functools.lru_cache(maxsize=64)
def _band(weights: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """(BLOCK + n - 1, BLOCK): column j has the n weights from row j on."""
    n = len(weights)
    band = np.zeros((BLOCK + n - 1, BLOCK))
    for j in range(BLOCK):
        band[j : j + n, j] = weights
    return torch.from_numpy(band).to(device, dtype)


def inside(x: Tensor, weights: Array) -> Tensor:
    """Weighted sums over the n x n windows that lie inside the images, (N, H - n + 1, W - n + 1).

    Args:
        x: (N, H, W), at least as large as the window.
        weights: of one axis, (n,), symmetric.
    """
    n = len(weights)
    band = _band(tuple(weights.tolist()), x.device, x.dtype)
    images, rows, columns = x.shape
    rows, columns = rows - n + 1, columns - n + 1
    x = x.contiguous()
    across = x.new_empty(images, x.shape[1], columns)
    flat, flat_across = x.flatten(0, 1), across.flatten(0, 1)
    for start in range(0, columns, BLOCK):
        size = min(BLOCK, columns - start)
        matrix = band[: size + n - 1, :size]
        torch.mm(flat[:, start : start + size + n - 1], matrix, out=flat_across[:, start : start + size])
    result = x.new_empty(images, rows, columns)
    down = band.t().expand(images, -1, -1)
    for start in range(0, rows, BLOCK):
        size = min(BLOCK, rows - start)
        matrix = down[:, :size, : size + n - 1]
        torch.bmm(matrix, across[:, start : start + size + n - 1], out=result[:, start : start + size])
    return result


def padded(x: Tensor, margin: int, mode: str) -> Tensor:
    """The images with a margin on all sides: "constant" zeros, "replicate" or "reflect" (the border pixel once)."""
    return torch.nn.functional.pad(x, (margin,) * 4, mode)


def sobel(x: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """Sobel differences, to the right and downwards, (N, H, W) each.

    Args:
        x: (N, H, W).
        mode: how the border is padded, as for `padded`.
    """
    x = padded(x, 1, mode)
    down = x[:, :-2] + x[:, 2:]
    down += 2 * x[:, 1:-1]
    across = x[..., :-2] + x[..., 2:]
    across += 2 * x[..., 1:-1]
    return down[..., 2:] - down[..., :-2], across[:, 2:] - across[:, :-2]
