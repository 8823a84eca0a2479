"""A folder that is replaced as a whole, at once, without touching what others put into it.

The folder holds a manifest: every file that was written, with its SHA-256. Only such files, as long as they have that
hash, are ever replaced or removed. The new folder is made beside the old one, gets a hard link to everything that is
not ours, and is exchanged with it in one step; then the old one is removed. A kill leaves the old or the new folder,
and the next call removes what lies beside it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from evalkit.errors import DataError, OutputError
from evalkit.files.lock import LOCK, locked
from evalkit.files.read import read_file

HASH = re.compile(r"[0-9a-f]{64}")
PLAN, PART = "plan.json", "part"  # of the folder that the new one is made in
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux


def replace_folder(out: str | os.PathLike[str], files: Mapping[str, bytes], manifest: str) -> None:
    """Put files in the place of those that an earlier call wrote; everything else in the folder stays as it is.

    Args:
        out: the folder; a symbolic link to one stays a link.
        files: relative path with forward slashes -> content.
        manifest: the manifest's name, written beside the files.

    Raises:
        OutputError: `out` is not a folder, holds files without a manifest, or one that was changed or is another's
            where a new one belongs; it cannot be written; or another call is writing it.
    """
    place = Path(os.path.realpath(out))
    stage = place.parent / f".{place.name}.evalkit"
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    text = (json.dumps({"files": hashes}, indent=1, sort_keys=True) + "\n").encode()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _make_stage(stage)
        try:
            with locked(stage):
                _clear(stage, place, manifest)
                others = others_of(place, [*files, manifest], manifest)
                try:
                    _fill(stage, {**files, manifest: text}, place, others)
                    _exchange(stage, place)
                finally:
                    _clear(stage, place, manifest)
        finally:
            with suppress(OSError):  # another call holds it, or a file there is not ours
                stage.rmdir()
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write {place}: {reason}. Free space or choose another OUT.") from None


def others_of(out: Path, names: Iterable[str], manifest: str) -> list[str]:
    """What is in the folder and is not ours: files and empty folders, as relative paths, folders before their content.

    Args:
        out: the folder, which need not exist.
        names: the files that are to be written; one of them must not be another's.
        manifest: the manifest's name.

    Raises:
        OutputError: see `replace_folder`.
    """
    if not out.is_dir():
        if os.path.lexists(out):
            raise OutputError(f"{out} is not a folder. Choose a new or empty folder.")
        return []
    present = _walk(out)
    known = _hashes(out / manifest)
    if present and known is None:
        raise OutputError(
            f"{out} is not empty and holds no evalkit site or submission ({manifest}). Choose a new or empty folder."
        )
    owned = {name for name in present if _is(out / name, (known or {}).get(name))} | {manifest}
    others = [name for name in present if name not in owned]
    paths = {PurePosixPath(name) for name in names}
    taken = paths.union(*(path.parents for path in paths))
    for name in others:
        path = PurePosixPath(name)
        if path in taken or paths.intersection(path.parents):
            if path in taken - paths and (out / name).is_dir() and not (out / name).is_symlink():
                continue  # an empty folder where one is needed
            why = "was changed since evalkit wrote it" if name in (known or {}) else "was not written by evalkit"
            raise OutputError(
                f"{out / name} {why}, and a file of evalkit belongs there. Move it away, or choose another OUT."
            )
    return others


def _walk(folder: Path) -> list[str]:
    """Files, links and empty folders below a folder, as relative paths; links are not followed."""
    names = []
    for home, folders, files in os.walk(folder):
        below = Path(home).relative_to(folder)
        links = [name for name in folders if (Path(home) / name).is_symlink()]
        names += [(below / name).as_posix() for name in (*files, *links)]
        if not folders and not files and below.parts:
            names.append(below.as_posix())
    return sorted(names)


def _hashes(path: Path) -> dict[str, str] | None:
    """Name -> SHA-256 of a manifest that evalkit wrote; None for any other file."""
    try:
        fields = json.loads(read_file(path))
        files = fields["files"]
        whole = set(fields) == {"files"} and all(HASH.fullmatch(sha) and _is_below(name) for name, sha in files.items())
    except (DataError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return files if whole and not path.is_symlink() else None


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _is(path: Path, sha: str | None) -> bool:
    """Whether a path is a plain file with that hash."""
    if sha is None or path.is_symlink() or not path.is_file():
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha


def _make_stage(stage: Path) -> None:
    """The folder beside the site, ours alone: one that holds anything without our plan is another's."""
    if stage.is_symlink() or (stage.exists() and not stage.is_dir()):
        raise OutputError(f"{stage} is not a folder of evalkit. Move it away.")
    stage.mkdir(exist_ok=True)
    present = {path.name for path in stage.iterdir()} - {LOCK, PART}
    started = present == {"new"} and not any((stage / "new").iterdir())
    if present and not started and _plan(stage) is None:
        raise OutputError(f"{stage} is not a folder of evalkit. Move it away.")


def _identity(path: Path) -> list[int]:
    about = path.lstat()
    return [about.st_dev, about.st_ino]


def _plan(stage: Path) -> dict[str, Any] | None:
    """What the last call wrote of itself; None where no call came so far."""
    try:
        plan = json.loads(read_file(stage / PLAN))
        return plan if isinstance(plan["made"], list) and isinstance(plan["linked"], dict) else None
    except (DataError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _write(stage: Path, name: str, data: bytes) -> None:
    """Write a file of the stage at once: none there is ever half a file."""
    (stage / PART).write_bytes(data)
    os.replace(stage / PART, stage / name)


def _fill(stage: Path, files: Mapping[str, bytes], place: Path, others: Iterable[str]) -> None:
    """Make stage/new: the files, and the others of the folder as it is."""
    new = stage / "new"
    new.mkdir()
    plan: dict[str, Any] = {"made": _identity(new), "linked": {}}  # which folder is new, whatever its name is later
    _write(stage, PLAN, json.dumps(plan).encode())
    for name, data in files.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        _write(stage, f"new/{name}", data)
    for name in others:
        plan["linked"][name] = _identity(place / name)
        _link(place / name, new / name)
    _write(stage, PLAN, json.dumps(plan).encode())


def _link(old: Path, new: Path) -> None:
    """The same file under a second name; a copy where the file system knows no links."""
    if old.is_dir() and not old.is_symlink():
        new.mkdir(parents=True, exist_ok=True)
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:
        shutil.copy2(old, new, follow_symlinks=False)


def _exchange(stage: Path, place: Path) -> None:
    """Put stage/new in its place, and what was there into the stage: one step where the system can (Linux)."""
    if not place.exists():
        os.rename(stage / "new", place)
        return
    shutil.copystat(place, stage / "new")
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
        done = swap(AT_FDCWD, os.fsencode(stage / "new"), AT_FDCWD, os.fsencode(place), RENAME_EXCHANGE) == 0
    except (AttributeError, OSError, TypeError):
        done = False
    if not done:
        os.rename(place, stage / "old")
        os.rename(stage / "new", place)


def _clear(stage: Path, place: Path, manifest: str) -> None:
    """Remove what a call left in the stage. A file that is neither ours nor also in its place is put there again."""
    if (stage / "old").is_dir() and not place.exists():  # killed between two renames
        os.rename(stage / "old", place)
    plan = _plan(stage) or {"made": None, "linked": {}}
    for folder in (stage / "new", stage / "old"):
        if not folder.is_dir():
            continue
        if _identity(folder) == plan["made"]:  # never came to its place: all in it was written or linked by us
            shutil.rmtree(folder)
            continue
        known = _hashes(folder / manifest) or {}
        for name in sorted(_walk(folder), key=lambda name: name == manifest):  # the manifest last: it says what is ours
            path, twin = folder / name, place / name
            if path.is_dir() and not path.is_symlink():
                continue
            if name == manifest or _is(path, known.get(name)) or _identity(path) == plan["linked"].get(name):
                path.unlink()
            elif not os.path.lexists(twin):
                twin.parent.mkdir(parents=True, exist_ok=True)
                os.rename(path, twin)
            else:
                raise OutputError(f"{path} is not in {place}, where another file has its name. Move one of them away.")
        for home, _, _ in os.walk(folder, topdown=False):
            os.rmdir(home)
    for name in (PART, PLAN):
        with suppress(FileNotFoundError):
            (stage / name).unlink()
