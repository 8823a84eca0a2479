"""Images as they stand in a report: shrunk until they fit their share of the file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
WIDTHS = (480, 420, 360, 320, 280, 240, 200, 160, 120, 80)  # pixels, tried in this order
QUALITY = 92  # of JPEG
BUDGET = 6_000_000  # bytes of all images of a report; base64 makes 8 million of them
SHARE = 60_000  # bytes of one image at most, on the mean of its scene


@dataclass(frozen=True)
class Fitted:
    """Images as data URIs, and what became of them in words."""

    uris: list[str]
    how: str


def overviews(images: Sequence[Pixels], room: int) -> Fitted:
    """Whole images as JPEG, all shrunk to the first width at which they need no more than `room` bytes."""
    return _fit(images, room, [(width, _jpeg) for width in WIDTHS])


def details(images: Sequence[Pixels], room: int) -> Fitted:
    """Details as PNG, pixel by pixel where they need no more than `room` bytes; else as JPEG, and then shrunk."""
    whole = max((image.shape[1] for image in images), default=1)
    return _fit(images, room, [(whole, _png), (whole, _jpeg), *((width, _jpeg) for width in WIDTHS if width < whole)])


def uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


Encoder = Callable[[Pixels], bytes]


def _fit(images: Sequence[Pixels], room: int, ways: Sequence[tuple[int, Encoder]]) -> Fitted:
    """The images in the first of the ways (width and encoder) in which they fit; in the last where they never do."""
    files: list[bytes] = []
    for width, encode in ways:
        files = [encode(shrunk(image, width)) for image in images]
        if sum(map(len, files)) <= room:
            break
    kind, form = FORMS[encode]
    small = any(image.shape[1] > width for image in images)
    how = f"shrunk to a width of {width} pixels (mean over areas), {form}" if small else f"every pixel, {form}"
    return Fitted([uri(data, kind) for data in files], how)


def shrunk(image: Pixels, width: int) -> Pixels:
    """The image at that width, averaged over areas; one that is no wider stays itself.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        width: pixels, at least 1.
    """
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _jpeg(image: Pixels) -> bytes:
    return _saved(image, format="JPEG", quality=QUALITY, subsampling=0)


def _png(image: Pixels) -> bytes:
    return _saved(image, format="PNG", optimize=True)


def _saved(image: Pixels, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


FORMS: dict[Encoder, tuple[str, str]] = {
    _jpeg: ("image/jpeg", f"JPEG of quality {QUALITY}"),
    _png: ("image/png", "PNG"),
}
