"""PIQE: how much of the blocks with structure is distorted (Venkatanath et al. 2015, doi:10.1109/NCC.2015.7084843)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.card import describes
from evalkit.metrics.image import Array, Image, UndefinedError
from evalkit.metrics.noreference.natural_scenes import normalised

Mask = NDArray[np.bool_]
SIDE, SEGMENT = 16, 6  # pixels of a block's edge, and of a part of it
ACTIVE, FLAT = 0.1, 0.1  # variance of a block with structure; deviation of a part of an edge without any
CENTRE, AROUND = [7, 8], [k for k in range(SIDE) if k not in (7, 9)]  # columns; MATLAB's code takes out 7 and 9


@describes(
    "PIQE",
    "Perception based image quality evaluator",
    better="lower",
    range="0 .. about 100",
    unit="1",
    definition="Distortion of the 16 x 16 blocks that have structure, of the fused image alone; 100 where none has. "
    "Made for visible photographs, not validated on infrared or fused images.",
    source="Venkatanath et al. 2015, doi:10.1109/NCC.2015.7084843",
)
def piqe(image: Image) -> float:
    """PIQE as MATLAB computes it; float64, deterministic.

    Args:
        image: of any size; what is missing to whole blocks is mirrored.

    Raises:
        UndefinedError: the image is black: the program divides by its largest level.
    """
    x = image.x
    if not x.max():
        raise UndefinedError("PIQE of a black image: it is stretched to its largest level, which is 0")
    height, width = x.shape
    x = np.pad(x, ((0, -height % SIDE), (0, -width % SIDE)), mode="symmetric")
    values, _ = normalised(np.rint(255 * (x / x.max())), "edge")
    blocks = values.reshape(len(values) // SIDE, SIDE, -1, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)
    variance = blocks.var(axis=(1, 2), ddof=1)
    active = variance > ACTIVE
    blocks, variance = blocks[active], variance[active]
    distortion = _artifacts(blocks) * (1 - variance) + _noise(blocks, np.sqrt(variance)) * variance
    return float((distortion.sum() + 1) / (len(blocks) + 1) * 100)


def _artifacts(blocks: Array) -> Mask:
    """Whether a part of an edge of a block is flat, (N,)."""
    edges = np.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], axis=1)
    parts = np.lib.stride_tricks.sliding_window_view(edges, SEGMENT, axis=2)
    return (parts.std(axis=-1, ddof=1) < FLAT).any(axis=(1, 2))


def _noise(blocks: Array, deviation: Array) -> Mask:
    """Whether a block is as varied in its middle columns as around them, (N,)."""
    centre, around = blocks[:, :, CENTRE], blocks[:, :, AROUND]
    with np.errstate(divide="ignore", invalid="ignore"):  # 0/0 counts 0; infinity has no relation, so is no noise
        ratio = centre.std(axis=(1, 2), ddof=1) / around.std(axis=(1, 2), ddof=1)
        ratio = np.where(np.isnan(ratio), 0, ratio)
        return deviation > 2 * (np.abs(deviation - ratio) / np.maximum(deviation, ratio))
