"""Reading, gray conversion, colour merging and writing of images: the only place where pixels enter and leave."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError, ImageError
from evalkit.files.read import read_file
from evalkit.files.write import write_bytes

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MAX_PIXELS = 100_000_000  # a scene of 100 megapixels; what claims more is a mistake or an attack
LIMIT = "EVALKIT_MAX_PIXELS"  # the environment variable that raises it

Gray = NDArray[np.uint8]  # (H, W)
Colour = NDArray[np.uint8]  # (H, W, 3), RGB


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image file as 8-bit gray (H, W) or RGB (H, W, 3); `decode` says what becomes what.

    Raises:
        ImageError: no such file, or as `decode`.
    """
    return decode(image_bytes(path), path)


def decode(data: bytes, name: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The bytes of an image file as 8-bit gray (H, W) or RGB (H, W, 3); `name` is what errors call it.

    PNG, JPEG, BMP and TIFF with 1, 8 or 16 bits per channel, gray, RGB, palette, with or without alpha. 16-bit values
    are scaled by 1/257 and rounded (65535 becomes 255, no stretching); alpha is dropped, the stored colours are kept; a
    palette or CMYK image becomes RGB; a bilevel image becomes 0 and 255. JPEG orientation tags are ignored, as every
    evaluator of the field ignores them.

    Raises:
        ImageError: not an image, truncated, animated or of several pages, a floating-point image, or more pixels than
            `max_pixels()`.
    """
    with open_bytes(data, name) as image:
        bits = stored_bits(image)  # before load(), which forgets how the file stores them
        gray = image.mode == "LA" or "LA;16" in str(image.tile)
        image.load()  # raises on truncated data
        if bits == 16 and image.mode not in ("I;16", "I;16B", "I;16L", "I"):
            return _read_deep_colour(data, Path(name), image.size, gray)  # Pillow would keep the high bytes only
        return _to_8bit(image, Path(name))


def image_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an image file, no more than an image within `max_pixels()` may have. Raises ImageError."""
    path = Path(path)
    try:
        return read_file(path, 8 * max_pixels() + 2**24)  # 16-bit RGBA, uncompressed, and a header
    except DataError as error:
        message = str(error) if path.exists() else f"no such image: {path}"
        raise ImageError(message) from None


@contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[ImageFile]:
    """A PNG, JPEG, BMP or TIFF file, opened within the limits but not decoded. Raises ImageError as `open_bytes`."""
    with open_bytes(image_bytes(path), path) as image:
        yield image


@contextmanager
def open_bytes(data: bytes, name: str | os.PathLike[str]) -> Iterator[ImageFile]:
    """The bytes of an image file, opened within the limits but not decoded.

    Raises:
        ImageError: as `decode`; also for whatever a decoder raises inside the `with`.
    """
    from PIL import Image, UnidentifiedImageError

    path, limit = Path(name), max_pixels()
    if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit  # else Pillow warns of, or refuses, what is allowed here
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > limit:
                raise ImageError(_too_large(path, f"{width}x{height} pixels", limit, width * height))
            if image.format in ("PNG", "TIFF") and getattr(image, "is_animated", False):
                raise ImageError(f"{path} holds several images (animation or pages). Save the one that is meant alone.")
            yield image
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not a readable PNG, JPEG, BMP or TIFF image. Export it again.") from None
    except Image.DecompressionBombError as error:
        found = re.findall(r"\d+", str(error))  # Pillow looks first: (pixels, its own limit)
        raise ImageError(_too_large(path, f"{found[0]} pixels", limit, found[0])) from None
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        reason = str(error) or type(error).__name__
        raise ImageError(f"{path} is damaged ({reason}). Copy or export it again.") from None


def _too_large(path: Path, claim: str, limit: int, pixels: int | str) -> str:
    return (
        f"{path} claims {claim}, more than the limit of {limit}. If that is meant, raise the limit: {LIMIT}={pixels}."
    )


def max_pixels() -> int:
    """How many pixels an image may have: MAX_PIXELS, or EVALKIT_MAX_PIXELS where it is set. Raises ImageError."""
    text = os.environ.get(LIMIT, "")
    if not text:
        return MAX_PIXELS
    if not re.fullmatch(r"[1-9][0-9]{0,11}", text):
        raise ImageError(f"{LIMIT} is {text!r}, expected a number of pixels such as {2 * MAX_PIXELS}.")
    return int(text)


def stored_bits(image) -> int:  # type: ignore[no-untyped-def]
    """Bits per channel as stored, which Pillow's mode does not always tell."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (8,)))
    return 16 if image.tile and ";16" in str(image.tile[0]) else 8


def _read_deep_colour(data: bytes, path: Path, size: tuple[int, int], gray: bool) -> NDArray[np.uint8]:
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or (pixels.shape[1], pixels.shape[0]) != size:
        raise ImageError(f"{path} has 16 bits per channel in a form that cannot be read. Save it as 8-bit PNG.")
    pixels = _scale_16bit(pixels)
    if pixels.ndim == 2:
        return pixels
    if gray:  # OpenCV repeats a gray that has an alpha channel
        return np.ascontiguousarray(pixels[..., 0])
    return np.ascontiguousarray(pixels[..., 2::-1])


def _scale_16bit(pixels: NDArray) -> NDArray[np.uint8]:
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _to_8bit(image, path: Path) -> NDArray[np.uint8]:  # type: ignore[no-untyped-def]
    mode = image.mode
    if mode in ("L", "RGB"):
        return np.array(image)
    if mode == "1":
        return np.array(image.convert("L"))
    if mode == "LA":
        return np.ascontiguousarray(np.array(image)[..., 0])
    if mode == "RGBA":
        return np.ascontiguousarray(np.array(image)[..., :3])
    if mode.startswith("I"):
        deep = np.array(image)
        if deep.min() < 0 or deep.max() > 65535:
            raise ImageError(f"{path} holds integers outside 0..65535. Save it as 8-bit or 16-bit PNG.")
        return _scale_16bit(deep)
    if mode == "F":
        raise ImageError(f"{path} holds floating-point values, whose range is unknown. Save it as 8-bit PNG (0..255).")
    if mode == "PA" or (mode == "P" and "transparency" in image.info):
        return np.ascontiguousarray(np.array(image.convert("RGBA"))[..., :3])
    return np.array(image.convert("RGB"))


def to_gray(image: NDArray) -> Gray:
    """8-bit luminance: round(0.299 R + 0.587 G + 0.114 B) in float32, as the field's evaluators do; gray stays itself.

    Args:
        image: uint8, (H, W) or (H, W, 3) RGB.

    Raises:
        ImageError: another shape or dtype.
    """
    import cv2

    check_array(image)
    if image.ndim == 2:
        return image
    return np.rint(cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)).astype(np.uint8)


def check_array(image: NDArray, name: str = "image") -> None:
    """Raise ImageError unless `image` is a non-empty uint8 array of shape (H, W) or (H, W, 3)."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"{name} is a {type(image).__name__}, not a numpy array or a path.")
    if image.dtype != np.uint8:
        if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
            raise ImageError(f"{name} contains NaN or infinity.")
        raise ImageError(
            f"{name} has dtype {image.dtype}, expected uint8 with values 0..255. "
            "Convert it, e.g. np.rint(x * 255).astype(np.uint8) for values in [0, 1]."
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise ImageError(f"{name} has shape {image.shape}, expected (H, W) or (H, W, 3).")


def merge_colour(luminance: Gray, visible: NDArray) -> NDArray[np.uint8]:
    """The fused luminance with the chroma of the visible image (full-range YCrCb, BT.601).

    Args:
        luminance: uint8 (H, W).
        visible: uint8 (H, W) or (H, W, 3) RGB of the same size; where it is gray, the luminance itself is the result.

    Returns:
        uint8 (H, W, 3) RGB, or (H, W) for a gray visible image.

    Raises:
        ImageError: another shape or dtype, or two sizes.
    """
    import cv2

    check_array(luminance, "fused luminance")
    check_array(visible, "visible image")
    if luminance.ndim != 2:
        raise ImageError(f"fused luminance has shape {luminance.shape}, expected (H, W).")
    if luminance.shape != visible.shape[:2]:
        raise ImageError(f"fused luminance {luminance.shape} and visible image {visible.shape[:2]} differ in size.")
    if visible.ndim == 2:
        return luminance
    ycrcb = cv2.cvtColor(visible, cv2.COLOR_RGB2YCrCb)
    ycrcb[..., 0] = luminance
    return cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB).astype(np.uint8, copy=False)


def write_png(path: str | os.PathLike[str], image: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> None:
    """Write an 8-bit PNG, with text chunks where given; the file appears complete or not at all.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    from PIL import Image, PngImagePlugin

    check_array(image)
    chunks = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        chunks.add_text(key, value)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=3, pnginfo=chunks)
    write_bytes(path, buffer.getvalue())


def png_text(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text chunks of a PNG file; empty for anything that is not one."""
    try:
        with open_image(path) as image:
            found = image.info if image.format == "PNG" else {}
            return {str(key): value for key, value in found.items() if isinstance(value, str)}
    except ImageError:
        return {}
