"""Fusing a whole data set with a method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalkit.data.card import load_card
from evalkit.data.images import merge_colour, read_image, to_gray, write_png
from evalkit.data.pairs import ImagePair, find_pairs
from evalkit.errors import DataError, EvalkitError, ImageError
from evalkit.methods.classical import FUSERS
from evalkit.methods.registry import method_card
from evalkit.metrics.parallel import in_order


@dataclass
class FuseResult:
    """Where the fused images lie, how many there are, and which pairs could not be fused."""

    folder: Path
    fused: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def fuse_dataset(
    method: str,
    dataset: str,
    data_root: Path,
    out: Path,
    split: str | None = None,
    gray: bool = False,
    workers: int | None = None,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
) -> FuseResult:
    """Fuse every pair of a data set into OUT/<method>/<dataset>/<stem>.png.

    Args:
        method, dataset, split: names; the data set's default split when None.
        gray: write the fused luminance only, not merged with the chroma of the visible image.

    Raises:
        UnknownNameError: method, data set or split.
        DataError: the data set is not below the data root.
        OutputError: the output folder cannot be written.
    """
    card, chosen = load_card(dataset), method_card(method)
    if chosen.name not in FUSERS:
        raise EvalkitError(
            f"evalkit has no code for {chosen.name} yet. Methods that can fuse here: {', '.join(FUSERS)}. "
            "Bring its fused images with --outputs instead."
        )
    pairs = find_pairs(card, data_root, split)
    result = FuseResult(out / chosen.name / card.name)
    result.failures |= {stem: f"no {role} image" for role, stem in pairs.unpaired}

    def task(pair: ImagePair) -> str:
        try:
            write_png(result.folder / f"{pair.stem}.png", fuse_pair(chosen.name, pair, gray))
        except DataError as error:
            return str(error)
        return ""

    reasons = zip(pairs.pairs, in_order(task, pairs.pairs, workers), strict=True)
    for pair, reason in progress(reasons, len(pairs.pairs), f"fuse {card.name} with {chosen.name}"):
        if reason:
            result.failures[pair.stem] = reason
        else:
            result.fused += 1
    return result


def fuse_pair(method: str, pair: ImagePair, gray: bool = True) -> NDArray[np.uint8]:
    """Fuse a pair's luminance by a classical method; with the visible chroma unless `gray`. Raises ImageError."""
    visible = read_image(pair.visible)
    a, b = to_gray(read_image(pair.infrared)), to_gray(visible)
    if a.shape != b.shape:
        sizes = f"infrared is {a.shape[1]}x{a.shape[0]}, visible is {b.shape[1]}x{b.shape[0]}"
        raise ImageError(f"{pair.stem}: {sizes}. A pair must be registered and of one size.")
    fused = FUSERS[method](a, b)
    return fused if gray else merge_colour(fused, visible)
