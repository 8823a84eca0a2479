"""Fused images that a user brings: OUTPUTS/<method>/<dataset>/<stem>.png."""

from __future__ import annotations

import os
from pathlib import Path

from evalkit.data.pairs import image_files, resolve
from evalkit.files.names import file_name


def find_outputs(
    outputs: str | os.PathLike[str] | None, method: str, dataset: str, split: str | None
) -> dict[str, Path]:
    """The fused images of a method on a data set, by stem; empty where there is no such folder.

    Looks for <method>/<dataset>/<split> first, then <method>/<dataset>, whatever the case of the names. The folder is
    called as the method, or, where no folder can be, as `file_name` writes it.

    Args:
        outputs: the user's folder; None where there is none.
        method, dataset, split: names; None for a data set without splits.

    Raises:
        DataError: two files there have one stem.
    """
    if outputs is None:
        return {}
    root = Path(outputs)
    exact = method if os.path.basename(method) == method and (root / method).is_dir() else file_name(method)
    for place in [f"{exact}/{dataset}/{split}"] * (split is not None) + [f"{exact}/{dataset}"]:
        folder = resolve(root, place)
        if folder is not None:
            return image_files(folder, allow_empty=True)
    return {}
