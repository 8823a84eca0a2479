"""A benchmark made of folders of fused images and of their sources, without a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from evalkit.data.pairs import natural_key
from evalkit.data.patterns import is_hidden, parse_pattern
from evalkit.errors import EvalkitError
from evalkit.metrics.registry import definitions
from evalkit.protocols.schema import Protocol, make_protocol

IMAGES = "images"  # the data set's name where folders do not tell it


def method_folders(fused: Sequence[str], name: str) -> dict[str, Path]:
    """Method -> folder of its fused images.

    Args:
        fused: folders, each of a method of its name or written NAME=FOLDER; or one folder of such folders.
        name: how fused images are called in them.

    Raises:
        EvalkitError: a folder that is not there; two of one name.
    """
    named: dict[str, Path] = {}
    for text in fused:
        method, folder = _named(text)
        if not folder.is_dir():
            raise EvalkitError(f"{folder} is not a folder. Name folders of fused images, a folder a method.")
        if method in named:
            raise EvalkitError(
                f"{named[method]} and {folder} are both called {method}. Write NAME=FOLDER for one of them."
            )
        named[method] = folder
    if len(named) == 1:
        (folder,) = named.values()
        if not _holds(folder, name):
            inside = {path.name: path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)}
            holding = {method: path for method, path in inside.items() if _holds(path, name)}
            named = {method: holding[method] for method in sorted(holding, key=natural_key)} or named
    return named


def _named(text: str) -> tuple[str, Path]:
    method, equals, folder = text.partition("=")
    if equals and method and os.sep not in method and not os.path.isdir(text):
        return method, Path(folder)
    return Path(os.path.abspath(text)).name, Path(text)


def _holds(folder: Path, name: str) -> bool:
    pattern = parse_pattern(name)
    return pattern.fill(**dict.fromkeys(pattern.fields - {"stem"}, "*")).holds_files(folder)


def folders_protocol(
    methods: Mapping[str, Path],
    infrared: Path,
    visible: Path,
    metrics: Iterable[str] | None,
    convention: str,
    names: tuple[str, str, str] = ("{stem}",) * 3,
    dataset: str = "",
) -> Protocol:
    """The benchmark of these folders.

    Args:
        methods: method -> folder of its fused images.
        infrared, visible: folders of the sources.
        metrics: names; None for all of the convention.
        convention: of metrics that do not name theirs.
        names: how images are called in the folders of fused, infrared and visible images.
        dataset: its name; that of the folder which holds both sources where none is given.

    Raises:
        UnknownNameError: a metric or the convention.
        DataError: a name that is not a pattern.
    """
    fused, *sources = names
    beside = {Path(os.path.abspath(folder)).parent.name for folder in (infrared, visible)}
    return make_protocol(
        {
            "name": "evaluate",
            "title": f"{len(methods)} folder{'s' if len(methods) > 1 else ''} of fused images",
            "convention": convention,
            "metrics": list(definitions(metrics, convention)),
            "datasets": {
                dataset or (beside.pop() if len(beside) == 1 else "") or IMAGES: {
                    "infrared": f"{infrared}/{sources[0]}",
                    "visible": f"{visible}/{sources[1]}",
                }
            },
            "methods": {method: f"{folder}/{fused}" for method, folder in methods.items()},
        }
    )
