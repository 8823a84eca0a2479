"""What a metric sees: images that remember what was computed from them, and the pair they belong to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evalkit.data.gray import JPEG, ROUNDED
from evalkit.data.images import check_array, to_gray
from evalkit.errors import ImageError

Array = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Any])


class UndefinedError(ValueError):
    """The metric has no value for this input (0/0, infinity); the message says why."""


class Image:
    """An 8-bit image and a memo of everything computed from it; the memo lives as long as the image.

    Args:
        array: uint8, (H, W) or (H, W, 3) RGB.
        name: of the image, for messages.
        gray: how its colours become gray, see `evalkit.data.gray`.
        luma: gives the luma that its JPEG file stores; None, or giving None, where there is none.
    """

    def __init__(
        self,
        array: NDArray[np.uint8],
        name: str = "image",
        gray: str = ROUNDED,
        luma: Callable[[], NDArray[np.uint8] | None] | None = None,
    ) -> None:
        check_array(array, name)
        self.array = np.ascontiguousarray(array)  # of a view, too: compiled loops go through the rows
        self.name = name
        self.gray = gray
        self.luma = luma
        self.notes: list[str] = []  # what a reader of its values should know of the file
        self.memo: dict[Any, Any] = {}

    @functools.cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """(H, W) gray, 8-bit."""
        stored = self.luma() if self.gray == JPEG and self.luma is not None else None
        return to_gray(self.array, self.gray) if stored is None else stored

    def in_gray(self, gray: str) -> Image:
        """The image with its colours turned to gray in another way; itself where that makes no difference."""
        if gray == self.gray or self.array.ndim == 2:
            return self
        if ("gray", gray) not in self.memo:
            other = Image(self.array, self.name, gray, self.luma)
            other.notes = self.notes
            self.memo["gray", gray] = other
        return self.memo["gray", gray]

    @functools.cached_property
    def x(self) -> Array:
        """(H, W) gray as float64, 0..255."""
        return self.pixels.astype(np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.shape[0], self.array.shape[1]

    @property
    def large(self) -> bool:
        """Whether arrays of intermediate values are not kept, but computed anew or in strips."""
        return self.array.shape[0] * self.array.shape[1] >= LARGE

    def forget(self) -> None:
        """Let go of what was computed from it."""
        self.memo.clear()
        self.__dict__.pop("x", None)

    def rows(self, top: int, bottom: int) -> Image:
        """An image of some of its rows."""
        return Image(self.pixels[top:bottom], self.name)


def once(function: Function) -> Function:
    """Compute `function(image, *args)` once per image and arguments, and remember the value with the first image.

    Where two images enter, the shorter-lived one (the fused image) comes first: sources outlive many fused images and
    must not keep what belongs to one of them.
    """

    @functools.wraps(function)
    def remembered(image: Image, *args: Any) -> Any:
        # an image that stood in its own memo would live until the garbage collector comes by
        key = (function, *("itself" if argument is image else argument for argument in args))
        if key not in image.memo:
            image.memo[key] = function(image, *args)
        return image.memo[key]

    return remembered  # type: ignore[return-value]


LARGE = 6_000_000  # pixels: one array of doubles takes 48 MB from there on
STRIP = 64  # rows computed at a time: their intermediate values stay in the processor's cache
WIDE_STRIP = 256  # of a large image


def strips(rows: int, height: int = STRIP) -> Iterator[slice]:
    """Consecutive slices of `height` rows that cover so many rows."""
    return (slice(top, min(top + height, rows)) for top in range(0, rows, height))


@dataclass(frozen=True)
class Pair:
    """A fused image and its two sources, all of one size."""

    fused: Image
    infrared: Image
    visible: Image

    def __post_init__(self) -> None:
        infrared, visible = self.sources
        if infrared.shape != visible.shape:
            raise ImageError(
                f"the sources differ from each other: the {infrared.name} image is {_size(infrared)}, the "
                f"{visible.name} image {_size(visible)} (width x height). Register them to one size first: "
                "evalkit does not resize, it would change the numbers."
            )
        for source in self.sources:
            if source.shape != self.fused.shape:
                larger = all(own >= its for own, its in zip(self.fused.shape, source.shape, strict=True))
                cure = " A network that padded its images: --crop." if larger else ""
                raise ImageError(
                    f"the fused image is {_size(self.fused)} but the {source.name} image is {_size(source)} "
                    "(width x height). Fuse at the sources' size: evalkit does not resize, it would change the numbers."
                    f"{cure}"
                )

    @property
    def sources(self) -> tuple[Image, Image]:
        return self.infrared, self.visible

    def parts(self) -> Iterator[tuple[Pair, slice]]:
        """The pair itself, or where it is large its strips with a row of each neighbour; and which rows count."""
        rows = self.fused.shape[0]
        if not self.fused.large:
            yield self, slice(0, rows)
            return
        for strip in strips(rows, WIDE_STRIP):
            top, bottom = max(strip.start - 1, 0), min(strip.stop + 1, rows)
            images = (image.rows(top, bottom) for image in (self.fused, *self.sources))
            yield Pair(*images), slice(strip.start - top, strip.stop - top)

    def in_gray(self, gray: str) -> Pair:
        """The pair with colours turned to gray in another way; itself where that makes no difference."""
        fused, infrared, visible = (image.in_gray(gray) for image in (self.fused, *self.sources))
        same = fused is self.fused and infrared is self.infrared and visible is self.visible
        return self if same else Pair(fused, infrared, visible)


def _size(image: Image) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
