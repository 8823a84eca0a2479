"""Where a number comes from: versions, commit, machine."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "opencv-python", "pillow", "scipy", "pandas", "torch")


@cache
def provenance() -> dict[str, Any]:
    """evalkit's version and commit, Python, packages and platform, as a JSON-able dict."""
    return {
        "evalkit": version(),
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: v for name in PACKAGES if (v := version_of(name))},
        "platform": platform.platform(),
        "device": "cpu",
    }


def version() -> str:
    """The installed version of evalkit."""
    return version_of("evalkit") or "unknown"


def version_of(package: str) -> str | None:
    """The installed version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> dict[str, Any] | None:
    """Commit of the source tree evalkit runs from, and whether it was changed since; None for an installed copy."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"hash": commit, "dirty": bool(_git(root, "status", "--porcelain"))} if commit else None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=5)
    return done.stdout.strip() if done.returncode == 0 else ""
