"""One run at a time in a folder: a lock that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalkit.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Hold the folder's lock, a file that says which process holds it; removed at the end.

    The lock is the system's (flock): what a killed run left behind holds nobody up. On a file system without locks the
    file alone counts; it is stale where its process was one of this machine and is gone.

    Raises:
        OutputError: another run holds the lock, with its process and machine; or the file cannot be written.
    """
    path = folder / LOCK
    try:
        handle = _take(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}. Choose another --out.") from None
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()  # before the lock is given back, so that it is never another run's file
        os.close(handle)


def _take(path: Path) -> int:
    while True:
        if path.is_symlink():  # what it leads to is somebody's file
            raise OutputError(f"{path} is a symbolic link, a lock is a file of its own. Remove the link.")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            holder = _read(path)
            free = _flock(handle)
            if free is False or (free is None and _alive(holder)):
                raise OutputError(_in_use(path, holder, free is None))
            with suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(path), os.fstat(handle)):  # not removed by a run that just ended
                    own = {"pid": os.getpid(), "host": socket.gethostname(), "started": _now()}
                    os.ftruncate(handle, 0)
                    os.write(handle, json.dumps(own).encode())
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _flock(handle: int) -> bool | None:
    """Whether the lock was free, and is now this process's; None where the file system knows no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        holder = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _alive(holder: dict[str, Any]) -> bool:
    """Whether the process may still run; one of another machine may."""
    if holder.get("host") != socket.gethostname():
        return bool(holder)
    try:
        os.kill(int(holder["pid"]), 0)
    except (KeyError, TypeError, ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:  # it runs, as another user
        pass
    return True


def _in_use(path: Path, holder: dict[str, Any], unsure: bool) -> str:
    who = "process {pid} on {host}, since {started}".format_map({"pid": "?", "host": "?", "started": "?"} | holder)
    cure = f" If that process is gone, remove {path}." if unsure else ""
    return f"another run writes to {path.parent} ({who}). Wait until it ends, or choose another --out.{cure}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
