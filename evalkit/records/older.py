"""A run's folder that another version of evalkit wrote: what cannot be read is set aside, never mixed or lost."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from evalkit.errors import OutputError
from evalkit.files.names import alike, look
from evalkit.records.record import OLDEST_READ, SCHEMA_VERSION

PARTS = ("records", "scores")


def set_aside_older(out: Path) -> Path | None:
    """Move records and scores of an older schema to OUT/schema-<version>, to be measured again; tell it as a warning.

    Args:
        out: the folder of a run.

    Returns:
        Where they are now; None where there was nothing to move.

    Raises:
        OutputError: the folder was written by a newer evalkit, or cannot be changed.
    """
    versions = {path: _version(path) for path in sorted((out / "records").glob("*.json"))}
    read = range(OLDEST_READ, SCHEMA_VERSION + 1)
    known = [version for version in versions.values() if version is not None and version not in read]
    if not known:
        return None
    if max(known) > SCHEMA_VERSION:
        raise OutputError(
            f"{out} was written by a newer evalkit (records of schema {max(known)}, this one reads {SCHEMA_VERSION}). "
            "Update evalkit, or choose another --out."
        )
    target = out / f"schema-{min(known)}"
    number = 1
    while target.exists():
        number += 1
        target = out / f"schema-{min(known)}-{number}"
    try:
        target.mkdir()
        for part in PARTS:
            if (out / part).exists():
                os.replace(out / part, target / part)
    except OSError as error:
        raise OutputError(f"cannot move {out}/records to {target}: {error.strerror or error}.") from None
    logging.getLogger("evalkit").warning(
        f"{out} holds records of schema {min(known)}, this evalkit writes {SCHEMA_VERSION}: "
        f"they and their scores are now in {target}, and are measured again."
    )
    return target


def check_folder(out: Path, protocol: str, datasets: Iterable[str], methods: Iterable[str]) -> None:
    """Make sure that no two methods or data sets, of a run and of those before it in its folder, share files there, and
    that all are of one protocol: its table would replace the other's.

    Args:
        out: the run's folder.
        protocol: the name of the run's.
        datasets: the run's.
        methods: the run's rows.

    Raises:
        OutputError: they do, or are not.
    """
    pairs = dict.fromkeys((dataset, method) for dataset in datasets for method in methods)
    for path in sorted((out / "records").glob("*.json")):
        try:
            record = json.loads(path.read_bytes())
            other, dataset, method = (record[part]["name"] for part in ("protocol", "dataset", "method"))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # damaged: the run replaces it
        if other != protocol:
            raise OutputError(
                f"{out} holds the records of {other}, and its table would be replaced by that of {protocol}. "
                "Choose another --out."
            )
        pairs[str(dataset), str(method)] = None
    for names in zip(*pairs, strict=True) if pairs else ():
        if two := alike(names):
            raise OutputError(
                f"{two[0]!a} and {two[1]!a} would share files in {out}: they differ in what folders cannot show. "
                "Rename one of them, or choose another --out."
            )
    files: dict[str, str] = {}
    for dataset, method in pairs:
        name = files.setdefault(f"{look(dataset)}__{look(method)}", f"{dataset} and {method}")
        if name != f"{dataset} and {method}":
            raise OutputError(f"{name}, and {dataset} and {method}, would share a record in {out}. Rename one of them.")


def _version(path: Path) -> int | None:
    """The schema of a record; None for a file that is none, e.g. a damaged one, which the run replaces."""
    try:
        version = json.loads(path.read_bytes()).get("schema_version")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return version if isinstance(version, int) else None
