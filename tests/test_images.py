"""Images: what every format and mode becomes, what is refused, and the gray and colour conversions."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from evalkit.data.images import check_array, merge_colour, read_image, to_gray, write_png
from evalkit.errors import ImageError, OutputError

GRAY = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40).astype(np.uint8)
COLOUR = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=-1)
DEEP = (np.arange(30 * 40, dtype=np.uint32) * 53 % 65536).astype(np.uint16).reshape(30, 40)
DEEP_COLOUR = np.stack([DEEP, DEEP[::-1], 65535 - DEEP], axis=-1)


def as_8bit(deep: np.ndarray) -> np.ndarray:
    return np.rint(deep / 257).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
@pytest.mark.parametrize("pixels", [GRAY, COLOUR], ids=["gray", "colour"])
def test_8bit_lossless_formats_come_back_exactly(tmp_path, suffix, pixels):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(pixels).save(path)
    assert np.array_equal(read_image(path), pixels)


@pytest.mark.parametrize("pixels", [GRAY // 8 + 100, COLOUR // 8 + 100], ids=["gray", "colour"])
def test_jpeg_keeps_shape_and_roughly_its_values(tmp_path, pixels):
    path = tmp_path / "image.jpg"
    Image.fromarray(pixels).save(path, quality=95, subsampling=0)
    read = read_image(path)
    assert read.shape == pixels.shape
    assert np.abs(read.astype(int) - pixels).mean() < 8


def test_jpeg_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    path = tmp_path / "image.jpg"
    Image.fromarray(GRAY).save(path, exif=exif)
    assert read_image(path).shape == GRAY.shape


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(COLOUR).convert("CMYK").save(path)
    assert read_image(path).shape == COLOUR.shape


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_is_dropped_and_stored_colours_are_kept(tmp_path, suffix):
    alpha = np.zeros_like(GRAY)  # fully transparent: the colours below must still come out
    for name, pixels in {"rgba": np.dstack([COLOUR, alpha]), "la": np.dstack([GRAY, alpha])}.items():
        path = tmp_path / f"{name}{suffix}"
        Image.fromarray(pixels, "RGBA" if name == "rgba" else "LA").save(path)
        expected = COLOUR if name == "rgba" else GRAY
        assert np.array_equal(read_image(path), expected)


def test_palette_becomes_rgb_with_and_without_transparency(tmp_path):
    indices = (GRAY % 4).astype(np.uint8)
    palette = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0], [7, 7, 7]], np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette(palette.ravel().tolist())
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=0)
    image.save(tmp_path / "alphas.png", transparency=bytes([0, 128, 255, 255]))
    for name in ("plain", "clear", "alphas"):
        assert np.array_equal(read_image(tmp_path / f"{name}.png"), palette[indices])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_bilevel_becomes_black_and_white(tmp_path, suffix):
    bits = GRAY > 100
    path = tmp_path / f"bits{suffix}"
    Image.fromarray(bits).save(path)
    assert np.array_equal(read_image(path), np.where(bits, 255, 0))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16bit_gray_is_divided_by_257(tmp_path, suffix):
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(DEEP).save(path)
    read = read_image(path)
    assert np.array_equal(read, as_8bit(DEEP))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16bit_rgb_keeps_its_order_and_is_divided_by_257(tmp_path, suffix):
    path = tmp_path / f"deep{suffix}"
    assert cv2.imwrite(str(path), np.ascontiguousarray(DEEP_COLOUR[..., ::-1]))
    assert np.array_equal(read_image(path), as_8bit(DEEP_COLOUR))


def test_16bit_rgba_drops_its_alpha(tmp_path):
    path = tmp_path / "deep.png"
    assert cv2.imwrite(str(path), np.dstack([DEEP_COLOUR[..., ::-1], np.full_like(DEEP, 9)]))
    assert np.array_equal(read_image(path), as_8bit(DEEP_COLOUR))


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_16bit_gray_with_alpha_stays_gray(tmp_path):
    values = np.dstack([DEEP, np.full_like(DEEP, 1000)]).astype(">u2")
    rows = b"".join(b"\x00" + row.tobytes() for row in values)
    (tmp_path / "deep.png").write_bytes(png(40, 30, 16, 4, rows))
    assert np.array_equal(read_image(tmp_path / "deep.png"), as_8bit(DEEP))


@pytest.mark.parametrize("depth", [2, 4])
def test_gray_of_few_bits_fills_the_range(tmp_path, depth):
    rows = b"\x00" + bytes([0b00011011 if depth == 2 else 0x0F])
    (tmp_path / "few.png").write_bytes(png(8 // depth, 1, depth, 0, rows))
    assert read_image(tmp_path / "few.png").tolist() == [[0, 85, 170, 255] if depth == 2 else [0, 255]]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("kept", [0.3, 0.8])
def test_truncated_file_is_named(tmp_path, suffix, kept):
    rng = np.random.default_rng(0)
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(rng.integers(0, 256, (200, 200, 3), np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError, match="cut"):
        read_image(path)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50), b"II*\x00" + bytes(20)])
def test_what_is_no_image_is_named(tmp_path, data):
    path = tmp_path / "notes.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"notes\.png"):
        read_image(path)


def test_other_formats_are_refused_whatever_their_suffix(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(COLOUR).save(path, format="GIF")
    with pytest.raises(ImageError, match="not a readable PNG"):
        read_image(path)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(ImageError, match="no such image"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot read"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [11_000, 20_000])
def test_more_pixels_than_the_limit_are_refused_before_decoding(tmp_path, side):
    (tmp_path / "huge.png").write_bytes(png(side, side, 8, 0, b""))
    with pytest.raises(ImageError, match="limit"):
        read_image(tmp_path / "huge.png")


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_float_tiff_is_refused(tmp_path, value):
    path = tmp_path / "float.tif"
    Image.fromarray(np.full((4, 5), value, np.float32)).save(path)
    with pytest.raises(ImageError, match="floating-point"):
        read_image(path)


def test_integers_beyond_16_bit_are_refused(tmp_path):
    path = tmp_path / "wide.tif"
    Image.fromarray(np.full((4, 5), 70_000, np.int32)).save(path)
    with pytest.raises(ImageError, match="outside"):
        read_image(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((3, 3), np.nan), "NaN or infinity"),
        (np.full((3, 3), np.inf, np.float32), "NaN or infinity"),
        (np.zeros((3, 3)), "dtype float64"),
        (np.zeros((3, 3), np.uint16), "dtype uint16"),
        (np.zeros((3, 3, 4), np.uint8), "shape"),
        (np.zeros((3, 3, 1), np.uint8), "shape"),
        (np.zeros(9, np.uint8), "shape"),
        (np.zeros((0, 3), np.uint8), "shape"),
        ([[1, 2]], "list"),
    ],
)
def test_arrays_of_another_kind_are_refused(array, message):
    with pytest.raises(ImageError, match=message):
        check_array(array)
    with pytest.raises(ImageError, match=message):
        to_gray(array)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_gray_agrees_with_a_float_computation(image):
    exact = image.astype(np.float64) @ [0.299, 0.587, 0.114]
    gray = to_gray(image)
    assert gray.shape == image.shape[:2]
    assert np.abs(gray - exact).max() <= 0.5 + 1e-4  # a float32 sum may fall on the other side of a half


def test_gray_stays_itself_also_in_three_channels():
    assert to_gray(GRAY) is GRAY
    assert np.array_equal(to_gray(np.dstack([GRAY] * 3)), GRAY)


def test_merge_with_gray_visible_image_is_the_luminance():
    other = GRAY[::-1].copy()
    assert np.array_equal(merge_colour(GRAY, other), GRAY)
    assert np.array_equal(merge_colour(GRAY, np.dstack([other] * 3)), np.dstack([GRAY] * 3))


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.uint8, (6, 7), elements=st.integers(60, 195)),
    hnp.arrays(np.uint8, (6, 7, 3), elements=st.integers(100, 150)),
)
def test_merge_keeps_the_luminance_where_nothing_saturates(luminance, visible):
    merged = merge_colour(luminance, visible)
    assert merged.dtype == np.uint8
    assert np.abs(to_gray(merged).astype(int) - luminance).max() <= 1


def test_merge_keeps_the_chroma_of_the_visible_image():
    visible = np.broadcast_to(np.array([180, 120, 90], np.uint8), (4, 4, 3)).copy()
    merged = merge_colour(to_gray(visible), visible)
    assert np.abs(merged.astype(int) - visible).max() <= 2


@pytest.mark.parametrize("visible", [GRAY, COLOUR], ids=["gray", "colour"])
def test_merge_refuses_other_sizes_and_float_luminance(visible):
    with pytest.raises(ImageError, match="differ in size"):
        merge_colour(GRAY[:-1], visible)
    with pytest.raises(ImageError, match="dtype"):
        merge_colour(GRAY / 255, visible)
    with pytest.raises(ImageError, match="shape"):
        merge_colour(COLOUR, visible)


def test_merge_does_not_change_its_arguments():
    luminance, visible = GRAY.copy(), COLOUR.copy()
    merge_colour(luminance, visible)
    assert np.array_equal(luminance, GRAY)
    assert np.array_equal(visible, COLOUR)


@pytest.mark.parametrize("pixels", [GRAY, COLOUR, COLOUR[::2, ::-1]], ids=["gray", "colour", "strided"])
def test_png_round_trip(tmp_path, pixels):
    path = tmp_path / "new" / "bild ä 图.png"
    write_png(path, pixels)
    assert np.array_equal(read_image(path), pixels)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_png_below_a_file_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_png(tmp_path / "file" / "image.png", GRAY)


def test_png_onto_a_folder_is_an_output_error_and_leaves_nothing(tmp_path):
    (tmp_path / "image.png").mkdir()
    with pytest.raises(OutputError):
        write_png(tmp_path / "image.png", GRAY)
    assert [p.name for p in tmp_path.iterdir()] == ["image.png"]


def test_png_that_cannot_be_completed_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    write_png(path, GRAY)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        write_png(path, COLOUR)
    monkeypatch.undo()
    assert np.array_equal(read_image(path), GRAY)
    assert [p.name for p in tmp_path.iterdir()] == ["image.png"]


def test_png_refuses_floats(tmp_path):
    with pytest.raises(ImageError):
        write_png(tmp_path / "image.png", GRAY / 255)
    assert not list(tmp_path.iterdir())


def test_written_bytes_are_the_same_each_time(tmp_path: Path):
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, COLOUR)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).mode == "RGB"
