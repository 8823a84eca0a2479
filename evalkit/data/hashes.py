"""Hashes: of files, of sets of them, and of what a result depends on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from evalkit.errors import UnreadableError


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes. Raises UnreadableError."""
    try:
        if not Path(path).is_file() and Path(path).exists():  # a pipe or a device may never end
            raise OSError("it is not a file")
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror or error}") from None


def combine_hashes(entries: Iterable[tuple[str, ...]]) -> str:
    """One SHA-256 for (stem, hash, hash) entries, whatever their order."""
    digest = hashlib.sha256()
    for entry in sorted(entries):
        digest.update(json.dumps(entry).encode() + b"\n")
    return digest.hexdigest()


def digest(*parts: object) -> str:
    """What a fused image or a row of scores depends on, in 16 hexadecimal digits."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:16]
