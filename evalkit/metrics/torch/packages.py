"""pyiqa and torchmetrics as functions of arrays; what would download something is refused and named."""

from __future__ import annotations

import importlib
import io
import os
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evalkit.errors import DataError

Pixels = NDArray[np.uint8]
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # switches of libraries that fetch weights, read when imported


class _Refused(BaseException):
    """Something would have been fetched. Not an Exception: a package must not take it for a failure to try again."""


def make(package: str, name: str) -> Callable[[Pixels, Pixels | None], float]:
    """A measure of a package with its weights, as a function of (H, W) or (H, W, 3) uint8: the image, and a reference.

    Args:
        package: pyiqa or torchmetrics.
        name: what the package calls the measure.

    Raises:
        DataError: weights are not on this machine, or the package cannot make it.
        ImportError: the package or something that it needs is not installed.
    """
    for switch in OFFLINE:
        os.environ.setdefault(switch, "1")
    function = _pyiqa(name) if package == "pyiqa" else _torchmetrics(name)

    def measure(image: Pixels, reference: Pixels | None) -> float:
        images = [_tensor(x) for x in (image, reference) if x is not None]
        with torch.no_grad(), _offline(package, name):
            return float(function(*images))

    if package == "torchmetrics":  # loads weights when it is called
        blank = np.zeros((64, 64), np.uint8)
        measure(blank, None if name == "clip_iqa" else blank)
    return measure


def _pyiqa(name: str) -> Callable[..., Tensor]:
    module = importlib.import_module("pyiqa")  # before downloads are replaced: it keeps a name of its own for them
    with _offline("pyiqa", name):
        return module.create_metric(name, device=torch.device("cpu"))


def _torchmetrics(name: str) -> Callable[..., Any]:
    if name == "clip_iqa":
        module = importlib.import_module("torchmetrics.functional.multimodal")
        return lambda image: module.clip_image_quality_assessment(image, data_range=1.0)
    module = importlib.import_module("torchmetrics.functional.image")
    if name == "lpips":
        return lambda a, b: module.learned_perceptual_image_patch_similarity(a, b, net_type="alex", normalize=True)
    return lambda a, b: module.deep_image_structure_and_texture_similarity(a, b)


def _tensor(pixels: Pixels) -> Tensor:
    """(1, 3, H, W), 0 .. 1."""
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    return torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1))[None]).float() / 255


@contextmanager
def _offline(package: str, name: str) -> Iterator[None]:
    """Nothing is fetched inside, by this thread: what tries to is told as the file that is missing.

    Weights are read as numbers alone, whatever code their files hold, and what the package prints is lost.
    """
    load, connect, download = torch.load, socket.socket.connect, torch.hub.download_url_to_file
    thread = threading.get_ident()

    def no_download(url: str, dst: str, *_: object, **__: object) -> None:
        raise _Refused(f"{dst} is not there: get it from {url}")

    def no_url(url: Any, *_: object, **__: object) -> None:
        raise _Refused(f"it would fetch {getattr(url, 'full_url', url)}: put that file where {package} looks for it")

    def no_connection(self: socket.socket, address: Any) -> None:
        if threading.get_ident() == thread and self.family in (socket.AF_INET, socket.AF_INET6):
            raise _Refused(f"it would connect to {address}: put its weights where {package} looks for them")
        connect(self, address)

    def safe_load(*arguments: Any, **options: Any) -> Any:
        return load(*arguments, **options | {"weights_only": True})

    places: list[tuple[Any, str, Callable]] = [
        (torch, "load", safe_load),
        (urllib.request, "urlopen", no_url),
        (socket.socket, "connect", no_connection),
    ]
    modules = [m for m in list(sys.modules.values()) if vars(m).get("download_url_to_file") is download]
    places += [(module, "download_url_to_file", no_download) for module in modules]
    before = [getattr(owner, attribute) for owner, attribute, _ in places]
    try:
        for owner, attribute, replacement in places:
            setattr(owner, attribute, replacement)
        with redirect_stdout(io.StringIO()):
            yield
    except _Refused as refused:
        raise DataError(f"{name} of {package} has no weights here: {refused}. evalkit downloads nothing.") from None
    except Exception as error:  # a package of others may raise anything
        raise DataError(f"{name} of {package} failed: {type(error).__name__}: {error}") from None
    finally:
        for (owner, attribute, _), original in zip(places, before, strict=True):
            setattr(owner, attribute, original)
