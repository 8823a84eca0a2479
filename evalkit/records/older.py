"""A run's folder that another version of evalkit wrote: what cannot be read is set aside, never mixed or lost."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from evalkit.errors import OutputError
from evalkit.records.record import SCHEMA_VERSION

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
    known = [version for version in versions.values() if version is not None and version != SCHEMA_VERSION]
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


def check_one_protocol(out: Path, name: str) -> None:
    """Make sure that a run's folder holds no other protocol's records: its table would replace theirs.

    Raises:
        OutputError: it does.
    """
    for path in sorted((out / "records").glob("*.json")):
        try:
            other = json.loads(path.read_bytes())["protocol"]["name"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # damaged: the run replaces it
        if other != name:
            raise OutputError(
                f"{out} holds the records of {other}, and its table would be replaced by that of {name}. "
                "Choose another --out."
            )


def _version(path: Path) -> int | None:
    """The schema of a record; None for a file that is none, e.g. a damaged one, which the run replaces."""
    try:
        version = json.loads(path.read_bytes()).get("schema_version")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return version if isinstance(version, int) else None
