"""Shared fixtures: the real pairs beside the checkout (tests skip without them), and small generated data roots."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings

import evalkit
from evalkit import registry
from evalkit.data.images import write_png

cv2.setNumThreads(1)
os.environ.pop("COLUMNS", None)  # workers of pytest have it; output to a file is then wrapped
settings.register_profile("evalkit", deadline=None)  # benchmarks measure time, tests do not
settings.load_profile("evalkit")
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run side by side: more threads than processors make PyTorch many times slower."""
    if "torch" in sys.modules:  # imported by the tests that were collected
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def _nothing_registered_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test names or registers, its plug-ins among it, is gone after it."""
    monkeypatch.setenv(registry.VARIABLE, os.environ.get(registry.VARIABLE, ""))  # --plugin sets it
    yield
    forget_plugins()


def forget_plugins() -> None:
    """As in a new process: nothing is registered but what ships."""
    for kind in registry._REGISTRIES:
        for origin in [origin for origin in kind._origins.values() if origin is not registry.SHIPPED]:
            kind._forget(origin)
    for module in registry._loaded:
        sys.modules.pop(module, None)
    registry._loaded.clear()
    registry._installed_are_loaded = False


@contextmanager
def two_threads() -> Iterator[None]:
    """For a while PyTorch computes on two threads."""
    torch = sys.modules["torch"]
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real pairs, reference values and published outputs."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the folder ../shared with real pairs")
    return SHARED


def textured(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth random gray image with some noise: it has edges, flat parts and no symmetry."""
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.random((height, width)), (0, 0), 3)
    smooth = (smooth - smooth.min()) / (np.ptp(smooth) or 1)
    return np.clip(smooth * 220 + rng.normal(10, 6, (height, width)), 0, 255).astype(np.uint8)


def make_tno(root: Path, count: int = 25, height: int = 48, width: int = 64) -> Path:
    """A data root with a data set in TNO's layout, of generated pairs."""
    for i in range(1, count + 1):
        write_png(root / "TNO" / "ir" / f"{i:02d}.png", textured(i, height, width))
        write_png(root / "TNO" / "vi" / f"{i:02d}.png", textured(1000 + i, height, width))
    return root


def contents(run: Path) -> dict[str, bytes]:
    """Tables, scores and fused images of a run: all but the records, which hold times."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and "records" not in path.parts]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def finished_run(root: Path) -> Path:
    """root/data and root/outputs, generated, and root/run: a method's outputs, and one that evalkit fused itself."""
    make_tno(root / "data")
    outputs, methods = make_outputs(root / "outputs"), ["CDDFuse", "average"]
    options = {"methods": methods, "datasets": ["TNO"], "workers": 1}
    evalkit.reproduce("smfnet-table1", root / "data", outputs=outputs, out=root / "run", **options)
    return root


def make_outputs(root: Path, method: str = "CDDFuse", count: int = 25, height: int = 48, width: int = 64) -> Path:
    """Fused images of a method for `make_tno`."""
    for i in range(1, count + 1):
        a, b = textured(i, height, width), textured(1000 + i, height, width)
        write_png(root / method / "TNO" / f"{i:02d}.png", np.maximum(a, b))
    return root
