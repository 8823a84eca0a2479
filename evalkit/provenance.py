"""Where a number comes from: versions, commit, machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from evalkit.compiled.kernels import compiled

PACKAGES = ("numpy", "opencv-python", "pillow", "scipy", "pandas", "torch")


def provenance(device: str = "cpu") -> dict[str, Any]:
    """Versions, commit, platform, processor and device, as a JSON-able dict.

    Args:
        device: of networks: cpu, cuda or cuda:N, whose GPU is named; or in words what is known of it.
    """
    return _software() | {"device": _named(device), "processor": _processor()}


@cache
def _software() -> dict[str, Any]:
    return {
        "evalkit": version(),
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: v for name in PACKAGES if (v := version_of(name))},
        "platform": platform.platform(),
    }


def _processor() -> dict[str, Any]:
    """What the last digits of a number may depend on: the processor's instructions that libraries use, and threads."""
    import cv2  # not for `evalkit --version`

    processor = {"machine": platform.machine(), "features": cv2.getCPUFeaturesLine(), "opencv": cv2.__version__}
    threads = {"processors": os.cpu_count(), "opencv": cv2.getNumThreads()}
    if torch := sys.modules.get("torch"):  # where it was used: importing it takes seconds
        processor["torch"] = torch.backends.cpu.get_cpu_capability()
        threads["torch"] = torch.get_num_threads()
    return processor | {"kernels": "compiled" if compiled() else "NumPy", "threads": threads}


def _named(device: str) -> str:
    """The device with its GPU's name."""
    torch = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return device


def version() -> str:
    """The installed version of evalkit."""
    return version_of("evalkit") or "unknown"


def version_of(package: str) -> str | None:
    """The installed version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def source_hash() -> str:
    """SHA-256 of evalkit's code: versions of a source tree have one number."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(path for suffix in ("py", "c") for path in root.rglob(f"*.{suffix}")):
        digest.update(
            f"{path.relative_to(root).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()


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
