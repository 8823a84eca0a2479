"""Your method stands here: `python fusion.py INFRARED VISIBLE FUSED` fuses two folders, pair by pair."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def fuse(infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """The mean of both, rounded. uint8, (H, W) and (H, W, 3) to (H, W, 3)."""
    a, b = infrared[..., None].astype(int), visible.astype(int)
    return ((a + b + 1) // 2).astype(np.uint8)


def fuse_folder(infrared: Path, visible: Path, fused: Path) -> None:
    """Fuse the pairs of images that have the same name."""
    fused.mkdir(parents=True, exist_ok=True)
    for path in sorted(infrared.iterdir()):
        a, b = Image.open(path).convert("L"), Image.open(visible / path.name).convert("RGB")
        Image.fromarray(fuse(np.asarray(a), np.asarray(b))).save(fused / path.name)


if __name__ == "__main__":
    fuse_folder(*map(Path, sys.argv[1:]))
