"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from evalkit.errors import OutputError

PART = ".evalkit.part"  # the end of a name that is not complete yet; it begins with a dot
OURS = re.compile(rf"\.[a-z0-9_]{{8}}{re.escape(PART)}")  # as mkstemp makes them
UMASK = os.umask(0)  # asked once: asking sets it, and another thread might write meanwhile
os.umask(UMASK)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file atomically: into a temporary neighbour, then rename. Raises OutputError."""
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=PART)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~UMASK)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another --out."
        ) from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def remove_parts(folder: Path) -> None:
    """Remove what killed runs left half-written below a folder that nobody else writes to now; nothing else."""
    for path in folder.rglob(f".*{PART}"):
        if OURS.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError):
                path.unlink()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text with Unix line ends atomically. Raises OutputError."""
    write_bytes(path, text.encode())
