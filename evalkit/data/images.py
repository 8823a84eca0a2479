"""Reading, gray conversion, colour merging and writing of images: the only place where pixels enter and leave."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from evalkit.data.damage import jpeg_claim, jpeg_damage, png_damage
from evalkit.data.gray import GRAYS, ROUNDED
from evalkit.data.png import plain_pixels
from evalkit.errors import DataError, ImageError, UnknownNameError, UnreadableError, UnreadableImageError
from evalkit.files.read import read_file
from evalkit.files.write import write_bytes

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MAX_PIXELS = 100_000_000  # a scene of 100 megapixels; what claims more is a mistake or an attack
PHOTOMETRIC, PLANES = 262, 284  # tags of TIFF (revision 6.0, sections 3 and 8)
LIMIT = "EVALKIT_MAX_PIXELS"  # the environment variable that raises it

Gray = NDArray[np.uint8]  # (H, W)
Depth = Literal["8", "16", "stretch"]  # what the values of a 16-bit image are, see `decode`
DEPTHS: tuple[Depth, ...] = ("8", "16", "stretch")
JPEG_NOTE = "the fused image is a JPEG: its compression changes what is measured; save fused images as PNG"


def read_image(path: str | os.PathLike[str], depth: Depth | None = None) -> NDArray[np.uint8]:
    """Read an image file as 8-bit gray (H, W) or RGB (H, W, 3); `decode` says what becomes what.

    Raises:
        ImageError: no such file, or as `decode`.
    """
    return decode(image_bytes(path), path, depth)


def decode(data: bytes, name: str | os.PathLike[str], depth: Depth | None = None) -> NDArray[np.uint8]:
    """The bytes of an image file as 8-bit gray (H, W) or RGB (H, W, 3); `name` is what errors call it.

    PNG, JPEG, BMP and TIFF with 1, 2, 4, 8 or 16 bits per channel, gray, RGB, palette, with or without alpha. Fewer
    than 8 bits fill the range (1 bit: 0 and 255); alpha is dropped, the stored colours are kept; a palette or CMYK
    image becomes RGB; where a TIFF stores white as zero, it is turned round. JPEG orientation tags are ignored, as
    every evaluator of the field ignores them.

    Args:
        depth: what the values of a 16-bit image are; other images are not touched by it. "8": levels 0..255 as they
            stand. "16": parts of 65535, scaled by 1/257 and rounded. "stretch": whatever they are, the smallest becomes
            0 and the largest 255 (in this image, over all channels). None: "16", but an image that holds no more than
            255 is refused, for it would become all but black.

    Raises:
        ImageError: not an image, cut off or damaged so that its decoder notices, animated or of several pages, a
            floating-point image, more pixels than `max_pixels()`, or 16 bits that may mean two things.
    """
    path = Path(name)
    with open_bytes(data, name) as image:
        bits = stored_bits(image)  # before load(), which forgets how the file stores them
        gray = image.mode == "LA" or "LA;16" in str(image.tile)
        if image.format == "PNG":
            _refuse(path, png_damage(data))
            if (pixels := plain_pixels(data)) is not None:
                return pixels
        if image.format == "JPEG":
            _refuse(path, jpeg_claim(data, *image.size))
        if is_misread_bmp(data, image):
            return read_gray_bmp(data)
        if bits == 16 and image.format == "TIFF" and image.tag_v2.get(PLANES) == 2:  # type: ignore[attr-defined]
            deep = _read_planes(data, image, path)
        else:
            image.load()  # raises on truncated data
            if image.format == "JPEG":
                _refuse(path, jpeg_damage(data, image.tobytes()))
            if bits <= 8:
                return _to_8bit(image, path)
            deep = _read_deep(image, path) if image.mode[0] in "IF" else _read_deep_colour(data, path, image.size)
        return _to_levels(deep[..., 0] if gray and deep.ndim == 3 else deep, bits, depth, path)


def _refuse(path: Path, damage: str) -> None:
    if damage:
        raise ImageError(f"{path} is damaged ({damage}). Copy or export it again.")


def image_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an image file, no more than an image within `max_pixels()` may have. Raises ImageError."""
    path = Path(path)
    try:
        return read_file(path, 8 * max_pixels() + 2**24)  # 16-bit RGBA, uncompressed, and a header
    except DataError as error:
        if not isinstance(error, UnreadableError):
            raise ImageError(str(error)) from None
        message = str(error) if path.exists() else f"no such image: {path}"
        raise UnreadableImageError(message) from None


def header_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Width and height as the file says, without decoding it; None where it does not say."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def is_jpeg(data: bytes) -> bool:
    """Whether these are the bytes, or the first two, of a JPEG file."""
    return data[:2] == b"\xff\xd8"


def parse_depth(depth: int | str | None) -> Depth | None:
    """8, 16 or "stretch" as `decode` takes it. Raises ImageError."""
    if depth is None:
        return None
    for known in DEPTHS:
        if str(depth).strip().lower() == known:
            return known
    raise ImageError(f"depth is {depth!r}, expected 8, 16 or 'stretch'.")


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
        pixels = re.findall(r"\d+", str(error))[0]  # Pillow looks first: (pixels, its own limit)
        raise ImageError(_too_large(path, f"{pixels} pixels", limit, pixels)) from None
    except ImageError:
        raise
    except MemoryError:
        raise UnreadableImageError(f"memory ran out while {path} was decoded. Use fewer --workers.") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        reason = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of the decoder
            raise UnreadableImageError(f"cannot read {path}: {reason}") from None
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
    """Bits per channel as stored, which Pillow's mode does not always tell; of an image that is not yet loaded."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))
    if image.mode == "1":
        return 1
    if image.format != "PNG":  # of a BMP, "BGR;16" are the bits of a pixel
        return 8
    bits = re.search(r";(2|4|16)B?\b", str(image.tile[0])) if image.tile else None
    return int(bits[1]) if bits else 1 if image.tile and "P;1" in str(image.tile[0]) else 8


def is_white_zero(image) -> bool:  # type: ignore[no-untyped-def]
    """Whether a TIFF stores white as zero."""
    return image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == 0


def is_misread_bmp(data: bytes, image) -> bool:  # type: ignore[no-untyped-def]
    """Whether Pillow misreads a BMP: one with a gray palette it takes for 1 bit (two colours) or 8 bits a pixel."""
    if image.format != "BMP" or image.mode not in ("1", "L"):
        return False
    place = 24 if int.from_bytes(data[14:18], "little") == 12 else 28  # of the bits a pixel in the older header
    return int.from_bytes(data[place : place + 2], "little") != {"1": 1, "L": 8}[image.mode]


def read_gray_bmp(data: bytes) -> Gray:
    """A BMP with a gray palette as OpenCV reads it. Raises ValueError."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its palette cannot be read")
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0])


def _read_planes(data: bytes, image, path: Path) -> NDArray[np.uint16]:  # type: ignore[no-untyped-def]
    """The channels of a 16-bit TIFF that stores them one after the other, which neither Pillow nor OpenCV reads.

    Returns:
        (H, W), or (H, W, 3) RGB.
    """
    tags, (width, height) = image.tag_v2, image.size
    offsets, counts = tags.get(273), tags.get(279)
    if tags.get(259, 1) != 1 or not offsets or not counts or tags.get(PHOTOMETRIC) not in (0, 1, 2):
        raise ImageError(f"{path} stores 16 bits per channel in compressed planes. Save it as PNG.")
    raw = b"".join(data[start : start + count] for start, count in zip(offsets, counts, strict=True))
    channels = int(tags.get(277, 1))
    if len(raw) != 2 * width * height * channels:
        raise ImageError(f"{path} is damaged (its planes are not of its size). Copy or export it again.")
    order = "<u2" if data[:2] == b"II" else ">u2"
    planes = np.frombuffer(raw, order).reshape(channels, height, width)
    if channels >= 3:
        return np.ascontiguousarray(np.moveaxis(planes[:3], 0, 2)).astype(np.uint16)
    return (65535 - planes[0] if is_white_zero(image) else planes[0]).astype(np.uint16)


def _read_deep(image: ImageFile, path: Path) -> NDArray[np.uint16]:
    """Gray of more than 8 bits, (H, W)."""
    if image.mode == "F":
        raise ImageError(f"{path} holds floating-point values, whose range is unknown. Save it as 8-bit PNG (0..255).")
    deep = np.array(image)
    if deep.min() < 0 or deep.max() > 65535:
        raise ImageError(f"{path} holds integers outside 0..65535. Save it as 8-bit or 16-bit PNG.")
    if is_white_zero(image):
        if deep.dtype != np.uint16 or stored_bits(image) != 16:
            raise ImageError(f"{path} stores white as zero in {stored_bits(image)} bits. Save it as 8-bit PNG.")
        deep = 65535 - deep
    return deep.astype(np.uint16)


def _read_deep_colour(data: bytes, path: Path, size: tuple[int, int]) -> NDArray[np.uint16]:
    """16 bits per channel of RGB or gray with alpha, (H, W) or (H, W, 3): Pillow would keep the high bytes only."""
    with open_bytes(data, path) as image:
        known = image.mode in ("RGB", "RGBA", "RGBX", "LA")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if known else None
    if pixels is None or pixels.dtype != np.uint16 or (pixels.shape[1], pixels.shape[0]) != size:
        raise ImageError(f"{path} has 16 bits per channel in a form that cannot be read. Save it as 8-bit PNG.")
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 2::-1])


def _to_levels(deep: NDArray[np.uint16], bits: int, depth: Depth | None, path: Path) -> NDArray[np.uint8]:
    """Values of more than 8 bits as levels 0..255, as `depth` says."""
    low, high = int(deep.min()), int(deep.max())
    full = 2 ** min(bits, 16) - 1
    if depth == "stretch":
        if low == high:
            raise ImageError(f"{path} holds nothing but the value {low}, which cannot be stretched.")
        return np.rint((deep.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)
    if depth == "8":
        if high > 255:
            raise ImageError(f"{path} holds values up to {high}: these are not 8-bit levels. Try depth 16 or stretch.")
        return deep.astype(np.uint8)
    if depth is None and 0 < high <= 255:
        raise ImageError(
            f"{path} has {bits} bits per channel but holds no more than {high}. Save it with 8 bits, or tell "
            "`evalkit evaluate` what its values are: --depth 8 (levels 0..255), 16 (parts of 65535) or stretch (the "
            "smallest to 0, the largest to 255)."
        )
    return ((deep.astype(np.uint32) * 255 + full // 2) // full).astype(np.uint8)


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
    if mode == "PA" or (mode == "P" and "transparency" in image.info):
        return np.ascontiguousarray(np.array(image.convert("RGBA"))[..., :3])
    return np.array(image.convert("RGB"))


def to_gray(image: NDArray, gray: str = ROUNDED) -> Gray:
    """8-bit luminance; gray stays itself.

    Args:
        image: uint8, (H, W) or (H, W, 3) RGB.
        gray: how colour becomes gray, one of `evalkit.data.gray.GRAYS`: "rounded" is 0.299 R + 0.587 G + 0.114 B to
            the nearest integer, halves to the even one.

    Raises:
        ImageError: another shape or dtype.
    """
    check_array(image)
    return image if image.ndim == 2 else GRAYS[gray](image)


def stored_luma(data: bytes, name: str | os.PathLike[str]) -> Gray | None:
    """The luma that a JPEG file stores, (H, W), as its decoder gives it; None where the file stores none.

    Args:
        data: the bytes of a file that `decode` takes.
        name: what errors call it.

    Raises:
        ImageError: as `decode`.
    """
    if not is_jpeg(data):
        return None
    with open_bytes(data, name) as image:
        as_rgb = image.info.get("adobe_transform") == 0 or [layer[0] for layer in image.layer] == [*b"RGB"]  # type: ignore[attr-defined]
        if image.mode not in ("L", "RGB") or (image.mode == "RGB" and as_rgb):
            return None
        image.draft("L", image.size)
        return np.array(image)


def parse_gray(gray: str | None) -> str:
    """A way to turn colour to gray by name, in any case; "" where none is named. Raises UnknownNameError."""
    if not gray:
        return ""
    if (name := str(gray).strip().lower()) not in GRAYS:
        raise UnknownNameError("way to turn colour to gray", gray, GRAYS)
    return name


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


def luminance(visible: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The luminance Y of BT.601, not rounded: (H, W, 3) RGB, uint8 -> (H, W), float64 in [0, 255]."""
    red, green, blue = np.moveaxis(visible.astype(np.float64), -1, 0)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def merge_levels(levels: NDArray[np.floating], visible: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A fused luminance that is not rounded with the chroma of the visible image, rounded once at the end.

    That is how the published test script of SMFNet saves images; its coefficients are those of OpenCV's YCrCb of
    floats. In float64, whose rounding errors no processor changes.

    Args:
        levels: (H, W), nominally in [0, 255].
        visible: uint8 (H, W, 3) RGB of the same size.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    y = luminance(visible)
    red, blue = ((visible[..., channel] - y) * factor for channel, factor in ((0, 0.713), (2, 0.564)))
    fused = levels.astype(np.float64)
    rgb = np.stack((fused + 1.403 * red, fused - 0.714 * red - 0.344 * blue, fused + 1.773 * blue), axis=2)
    return np.rint(rgb.clip(0, 255)).astype(np.uint8)


def named_jpeg(path: Path) -> bool:
    """Whether a file's name is that of a JPEG."""
    return path.suffix.lower() in (".jpg", ".jpeg")


def through_jpeg(image: NDArray[np.uint8], saved: str) -> NDArray[np.uint8]:
    """What is left of an image that is saved as a JPEG and read again.

    Args:
        image: uint8 (H, W), or (H, W, 3) RGB.
        saved: "pillow 75" or "opencv 95", the program and the quality that it takes by itself.

    Returns:
        uint8, of the same shape.
    """
    program, quality = saved.split()
    if program == "pillow":
        content = io.BytesIO()
        Image.fromarray(image).save(content, "JPEG", quality=int(quality))
        encoded = np.frombuffer(content.getvalue(), np.uint8)
    else:
        bgr = image if image.ndim == 2 else image[..., ::-1]
        encoded = cv2.imencode(".jpg", np.ascontiguousarray(bgr), [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    assert decoded is not None  # it was encoded here
    return decoded if decoded.ndim == 2 else np.ascontiguousarray(decoded[..., ::-1])


def write_png(path: str | os.PathLike[str], image: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> None:
    """Write an 8-bit PNG, with text chunks where given; the file appears complete or not at all.

    Args:
        path: of the file; its folder is made where it is not there.
        image: uint8 (H, W), or (H, W, 3) RGB.
        text: keyword -> text of the chunks.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    check_array(image)
    chunks = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        chunks.add_text(key, value)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=3, pnginfo=chunks)
    write_bytes(path, buffer.getvalue())


def pixel_digest(image: NDArray[np.uint8]) -> str:
    """SHA-256 of the pixels and their shape, in 16 hexadecimal digits: what a fused image says of itself."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(image.tobytes())
    return digest.hexdigest()[:16]


def png_text(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text chunks of a PNG file; empty for anything that is not one."""
    try:
        with open_image(path) as image:
            chunks = image.info if image.format == "PNG" else {}
            return {str(key): value for key, value in chunks.items() if isinstance(value, str)}
    except ImageError:
        return {}
