"""Mixed precision: networks in half precision, what they learn from and the losses in float32.

SSIM and the like take differences of squares. With the eight bits of bfloat16 their variances are not those of the
images: an SSIM of 1.9, or none at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


class MixedNetwork(MixedPrecision):
    """Mixed precision that leaves a batch as it is: its images and boxes are what the losses compare with."""

    def convert_input(self, data: Any) -> Any:
        return data


def full_precision(loss: Callable[P, R]) -> Callable[P, R]:
    """A loss that is computed in float32, whatever precision its arguments come in; float64 is left alone.

    Args:
        loss: a function of tensors, and of tuples and mappings of them.
    """

    @wraps(loss)
    def computed(*args: P.args, **options: P.kwargs) -> R:
        device = next(_tensors((args, options))).device.type
        with torch.autocast(device, enabled=False):
            return loss(*_widened(args), **_widened(options))

    return computed


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    if isinstance(value, dict):
        return {key: _widened(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [_widened(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
