"""Making torchvision, ultralytics and mmengine quiet, offline and confined to one folder, before they are imported.

Everything a user would have to set by hand is set here, once per process:

- no network: offline switches, no analytics, no update checks, no installing of packages at run time;
- files: their settings go to the cache folder (EVALKIT_CACHE, else XDG_CACHE_HOME/evalkit, else ~/.cache/evalkit);
- no chatter: warnings and errors only;
- threads that wait sleep; plots need no display.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from evalkit.errors import EvalkitError, OutputError

if TYPE_CHECKING:
    from torch import Tensor

EXTRAS = {
    "detection": ("torch", "torchvision", "ultralytics", "faster_coco_eval"),
    "segmentation": ("torch", "torchvision", "mmengine", "mmcv", "mmseg"),
    "networks": ("torch",),
}


def missing(extra: str) -> str:
    """Why a task cannot run here, with the command that cures it; empty where it can."""
    absent = [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]
    return f"needs {', '.join(absent)}: pip install 'evalkit[{extra}]'" if absent else ""


def need(extra: str) -> None:
    """Raises EvalkitError where a package of the extra is not installed."""
    if reason := missing(extra):
        raise EvalkitError(f"{extra} {reason}.")


def cache_folder() -> Path:
    """Where third parties may keep their settings: the only place outside --out that is written."""
    if chosen := os.environ.get("EVALKIT_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "evalkit"


def set_variables() -> None:
    """The environment variables, for this process and those it starts. What the user has set stays, but offline is set.

    Raises:
        OutputError: the cache folder cannot be written.
    """
    folder = cache_folder().absolute()
    try:
        (folder / "ultralytics").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}. Set EVALKIT_CACHE.") from None
    os.environ |= {
        "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "False",
        "YOLO_VERBOSE": "False",
        "YOLO_CONFIG_DIR": str(folder / "ultralytics"),
        "HF_HUB_OFFLINE": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }
    defaults = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "TORCH_HOME": str(folder / "torch"),
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@functools.cache
def add_operators() -> None:
    """Let torchvision be imported beside a torch of another build (a wheel for CUDA beside a CPU-only torch).

    Its compiled operators do not load then and importing it fails. The two that its Python code registers shapes for
    are declared here, non-maximum suppression with code of its own; the others are not available.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    libraries = sorted(Path(spec.origin).parent.glob("_C*"))
    try:
        for library in libraries:
            if library.suffix in (".so", ".pyd", ".dylib"):
                torch.ops.load_library(str(library))
        return
    except OSError:
        pass
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.library.impl(f"torchvision::{name}", ("CPU", "CUDA"), greedy_nms)
    import torchvision.extension

    torchvision.extension._has_ops = lambda: True


def greedy_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that are kept, by falling score: a box goes when it overlaps a kept one by more.

    Args:
        boxes: (N, 4), x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: intersection over union above which the lower box goes.
    """
    import torch

    x1, y1, x2, y2 = boxes.float().unbind(1)
    areas = (x2 - x1) * (y2 - y1)
    order = torch.argsort(scores, descending=True, stable=True)
    kept = []
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(best)
        width = (torch.minimum(x2[best], x2[rest]) - torch.maximum(x1[best], x1[rest])).clamp(min=0)
        height = (torch.minimum(y2[best], y2[rest]) - torch.maximum(y1[best], y1[rest])).clamp(min=0)
        common = width * height
        order = rest[common / (areas[best] + areas[rest] - common) <= iou_threshold]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long, device=boxes.device)


@functools.cache
def ultralytics() -> ModuleType:
    """The package, quiet and offline. Raises EvalkitError without the extra, OutputError for the cache folder."""
    need("detection")
    set_variables()
    add_operators()
    import matplotlib as mpl
    import ultralytics as package
    from ultralytics.utils import LOGGER, SETTINGS, USER_CONFIG_DIR

    for font in (
        "Arial.ttf",
        "Arial.Unicode.ttf",
    ):  # fetched where they are not there, whatever the offline switch says
        if not (USER_CONFIG_DIR / font).is_file():
            shutil.copyfile(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", USER_CONFIG_DIR / font)
    LOGGER.setLevel(logging.ERROR)
    off = {name: False for name, value in SETTINGS.items() if isinstance(value, bool) and value}
    if off:  # analytics and the loggers of other companies
        SETTINGS.update(off)
    return package


@contextmanager
def calm(threads: int = 1) -> Iterator[None]:
    """Third-party warnings silenced, the number of threads and the random state restored afterwards."""
    import torch

    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        torch.set_num_threads(before)
        torch.random.set_rng_state(state)
        torch.use_deterministic_algorithms(deterministic)
