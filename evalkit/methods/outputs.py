"""Fused images that a user brings: OUTPUTS/<method>/<dataset>/<stem>.png."""

from __future__ import annotations

import os
from pathlib import Path

from evalkit.data.pairs import image_files, resolve


def find_outputs(
    outputs: str | os.PathLike[str] | None, method: str, dataset: str, split: str | None
) -> dict[str, Path]:
    """The fused images of a method on a data set, by stem; empty where there is no such folder.

    Looks for <method>/<dataset>/<split> first, then <method>/<dataset>, whatever the case of the names.

    Args:
        outputs: the user's folder; None where there is none.
        method, dataset, split: names; None for a data set without splits.

    Raises:
        DataError: two files there have one stem.
    """
    if outputs is None:
        return {}
    root = Path(outputs)
    for place in [f"{method}/{dataset}/{split}"] * (split is not None) + [f"{method}/{dataset}"]:
        folder = resolve(root, place)
        if folder is not None:
            return image_files(folder, allow_empty=True)
    return {}
