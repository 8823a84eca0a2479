"""What a metric of tensors sees: a batch of gray images with a memo, the batch's pairs, and one value per image."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evalkit.metrics.image import UndefinedError


class Batch:
    """Gray images of one size and a memo of everything computed from them, as `evalkit.metrics.image.Image` has it.

    Args:
        pixels: uint8, (N, H, W).
        name: fused, infrared or visible, for messages.
        dtype: in which metrics are computed: torch.float64 or torch.float32.
    """

    def __init__(self, pixels: Tensor, name: str, dtype: torch.dtype) -> None:
        self.pixels = pixels
        self.name = name
        self.dtype = dtype
        self.memo: dict[Any, Any] = {}

    @functools.cached_property
    def x(self) -> Tensor:
        """(N, H, W) gray as floating-point numbers, 0..255."""
        return self.pixels.to(self.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @functools.cached_property
    def constant(self) -> Tensor:
        """Which images have one gray level only, (N,) bool."""
        flat = self.pixels.flatten(1)
        return flat.amin(1) == flat.amax(1)

    def need(self, side: int, who: str) -> None:
        """Raise UndefinedError where the images are smaller than side x side pixels, which "VIF needs", for one."""
        if min(self.shape) < side:
            raise UndefinedError(f"the image is {self.shape[1]}x{self.shape[0]}: {who} {side}x{side} pixels")


@dataclass(frozen=True)
class BatchPair:
    """Fused images and their sources, N of each, all of one size."""

    fused: Batch
    infrared: Batch
    visible: Batch

    @property
    def sources(self) -> tuple[Batch, Batch]:
        return self.infrared, self.visible


@dataclass(frozen=True)
class Values:
    """A number per image, and which images have none.

    Attributes:
        numbers: float64, (N,).
        undefined: where there is none, (N,) bool, and why; of several reasons the first counts.
    """

    numbers: Tensor
    undefined: tuple[tuple[Tensor, str], ...] = ()

    def __add__(self, other: Values) -> Values:
        return Values(self.numbers + other.numbers, self.undefined + other.undefined)

    def __mul__(self, factor: float) -> Values:
        return Values(self.numbers * factor, self.undefined)


def total(x: Tensor) -> Tensor:
    """Sum over each image, float64 (N,), of (N, ...)."""
    return x.flatten(1).sum(1, dtype=torch.float64)


def added(parts: Iterable[Tensor]) -> Tensor:
    """The sum of tensors of one shape."""
    return torch.stack(list(parts)).sum(0)


def mean(x: Tensor) -> Tensor:
    """Mean over each image, float64 (N,), of (N, ...)."""
    return total(x) / x[0].numel()
