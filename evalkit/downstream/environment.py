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

from evalkit.errors import EvalkitError, OutputError

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
    if named := os.environ.get("EVALKIT_CACHE"):
        return Path(named)
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
def ultralytics() -> ModuleType:
    """The package, quiet and offline. Raises EvalkitError without the extra, OutputError for the cache folder."""
    need("detection")
    set_variables()
    from evalkit.downstream.operators import add_operators  # PyTorch

    add_operators()
    # read the variables above when they are imported
    import ultralytics as package  # an extra
    from ultralytics.data import dataset  # an extra

    utils = package.utils

    plots = importlib.util.find_spec("matplotlib")
    assert plots is not None
    assert plots.origin is not None
    own = Path(plots.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    for font in ("Arial.ttf", "Arial.Unicode.ttf"):  # else fetched, whatever the offline switch says
        if not (utils.USER_CONFIG_DIR / font).is_file():
            shutil.copyfile(own, utils.USER_CONFIG_DIR / font)
    utils.LOGGER.setLevel(logging.ERROR)
    dataset.load_dataset_cache_file, dataset.save_dataset_cache_file = _no_cache, _note_version
    off = {name: False for name, value in utils.SETTINGS.items() if isinstance(value, bool) and value}
    if off:  # analytics and the loggers of other companies
        utils.SETTINGS.update(off)
    return package


def _no_cache(path: Path) -> None:
    """In place of ultralytics' reader of labels that it has seen before, which are a pickle beside the images."""
    raise FileNotFoundError(f"{path} is not opened")


def _note_version(prefix: str, path: Path, labels: dict, version: str) -> None:
    """In place of its writer, which does this, too."""
    labels["version"] = version


@contextmanager
def calm(threads: int = 1) -> Iterator[None]:
    """Third-party warnings silenced, the number of threads and the random state restored afterwards."""
    import torch  # optional, and slow to import: tables without a downstream task do without

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
