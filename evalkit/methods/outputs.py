"""Fused images that a user brings: OUTPUTS/<method>/<dataset>/<stem>.png, or as a pattern says."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from evalkit.data.pairs import image_files, resolve
from evalkit.data.patterns import PathPattern, parse_pattern
from evalkit.errors import EvalkitError
from evalkit.files.names import file_name

PLAIN = "{method}/{dataset}/"


def parse_name(name: str) -> PathPattern:
    """A pattern of paths below OUTPUTS; one without folders is of the names in OUTPUTS/<method>/<dataset>.

    Raises:
        EvalkitError: it is not a pattern, or does not tell methods apart.
    """
    pattern = parse_pattern(name if "/" in name else PLAIN + name)
    if "method" not in pattern.fields:
        raise EvalkitError(f"the pattern {name!r} has no {{method}}: it would give all methods the same images.")
    return pattern


def find_outputs(
    outputs: str | os.PathLike[str] | None, method: str, dataset: str, split: str | None, name: str = ""
) -> dict[str, Path]:
    """The fused images of a method on a data set, by stem; empty where there is no such folder.

    Looks for <method>/<dataset>/<split> first, then <method>/<dataset>, whatever the case of the names. The folder is
    called as the method, or, where no folder can be, as `file_name` writes it.

    Args:
        outputs: the user's folder; None where there is none.
        method, dataset, split: names; None for a data set without splits.
        name: instead, how files are called below it, as `parse_name` takes it; "" for the above.

    Raises:
        DataError: two files there have one stem.
        EvalkitError: the name is not a pattern.
    """
    if outputs is None:
        return {}
    root = Path(outputs)
    if name:
        pattern = parse_name(name).fill(dataset=dataset)
        return pattern.fill(method=method).listing(root)[0] or pattern.fill(method=file_name(method)).listing(root)[0]
    exact = method if os.path.basename(method) == method and os.path.isdir(root / method) else file_name(method)
    for place in [f"{exact}/{dataset}/{split}"] * (split is not None) + [f"{exact}/{dataset}"]:
        folder = resolve(root, place)
        if folder is not None:
            return image_files(folder, allow_empty=True)
    return {}


def methods_of(outputs: Path, datasets: Iterable[str], name: str = "") -> list[str]:
    """The methods that folders in OUTPUTS hold images of, by name.

    Args:
        outputs: the user's folder.
        datasets: names; a folder without images of any of them is not a method's.
        name: as in `find_outputs`; one whose folders do not tell methods gives none.

    Raises:
        DataError: a folder cannot be listed.
        EvalkitError: the name is not a pattern.
    """
    pattern = parse_name(name or PLAIN + "{stem}")
    methods: dict[str, None] = {}
    for dataset in datasets:
        filled = pattern.fill(dataset=dataset)
        for method in filled.methods(outputs):
            if filled.fill(method=method).holds_files(outputs):
                methods[method] = None
    return sorted(methods)
