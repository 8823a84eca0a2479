"""PNG files that are decoded by compiled loops, against Pillow: the same pixels, the same refusals."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evalkit.compiled import kernels
from evalkit.data.images import decode
from evalkit.data.png import plain_pixels
from evalkit.errors import ImageError

compiled = pytest.mark.skipif(not kernels.compiled(), reason="evalkit was installed without a C compiler")
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, colour: int, image_data: bytes, between: bytes = b"", depth: int = 8) -> bytes:
    """A file whose image data are in two chunks, with something between them."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    half = len(image_data) // 2
    parts = chunk(b"IDAT", image_data[:half]), between, chunk(b"IDAT", image_data[half:])
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"tIME", bytes(7)) + b"".join(parts) + chunk(b"IEND")


def filtered_rows(seed: int, width: int, height: int, channels: int, filters: int = 5) -> bytes:
    """Any bytes are filtered rows, but for the first of each, which names the filter."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 256, (height, 1 + width * channels), dtype=np.uint8)
    rows[:, 0] = random.integers(0, filters, height)
    return rows.tobytes()


@compiled
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))
def test_every_filter_gives_the_pixels_that_pillow_reads(seed, width, height, channels):
    data = png(width, height, channels - 1, zlib.compress(filtered_rows(seed, width, height, channels)))
    pixels = plain_pixels(data)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, np.array(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode(data, "a.png"), pixels)


ROWS = filtered_rows(1, 9, 8, 1)
WHOLE = zlib.compress(ROWS)
UNUSUAL = {
    "a filter that PNG has not": png(9, 8, 0, zlib.compress(b"\x05" + ROWS[1:])),
    "a row too few": png(9, 8, 0, zlib.compress(ROWS[10:])),
    "a row too many": png(9, 8, 0, zlib.compress(ROWS + ROWS[:10])),
    "no checksum of the rows": png(9, 8, 0, WHOLE[:-4]),
    "another checksum of the rows": png(9, 8, 0, WHOLE[:-4] + b"abcd"),
    "no compressed data": png(9, 8, 0, ROWS),
    "something between the image data": png(9, 8, 0, WHOLE, chunk(b"tEXt", b"a\0b")),
    "text after the image data": png(9, 8, 0, WHOLE)[:-12] + chunk(b"tEXt", b"a\0b") + chunk(b"IEND"),
    "no end": png(9, 8, 0, WHOLE)[:-12],
    "no image data": SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 8, 8, 0, 0, 0, 0)) + chunk(b"IEND"),
    "four bits": png(18, 8, 0, WHOLE, depth=4),
    "16 bits": png(4, 8, 0, zlib.compress(filtered_rows(1, 4, 8, 2)), depth=16),
    "alpha": png(9, 8, 6, zlib.compress(filtered_rows(1, 9, 8, 4))),
    "a transparent colour": png(9, 8, 0, WHOLE).replace(chunk(b"tIME", bytes(7)), chunk(b"tRNS", b"\0\7")),
    "a second header, of another size": png(9, 8, 0, WHOLE).replace(
        chunk(b"tIME", bytes(7)), chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0))
    ),
    "a text that looks like a header before it": png(9, 8, 0, WHOLE).replace(
        SIGNATURE, SIGNATURE + chunk(b"tEXt", struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0))
    ),
    "a wrong checksum of a chunk": png(9, 8, 0, WHOLE).replace(
        chunk(b"tIME", bytes(7)), chunk(b"tIME", bytes(7))[:-1] + b"x"
    ),
}


def outcome(data: bytes) -> object:
    try:
        return decode(data, "a.png").tolist()
    except ImageError as error:
        return str(error)


@compiled
@pytest.mark.parametrize("case", UNUSUAL)
def test_what_is_unusual_is_read_or_refused_as_by_pillow(case):
    with kernels.without():
        expected = outcome(UNUSUAL[case])
    assert outcome(UNUSUAL[case]) == expected


def test_interlaced_files_and_palettes_are_left_to_pillow():
    plain = png(9, 8, 0, WHOLE)
    assert plain_pixels(plain[:28] + b"\1" + plain[29:]) is None
    buffer = io.BytesIO()
    Image.new("P", (9, 8)).save(buffer, "PNG")
    assert plain_pixels(buffer.getvalue()) is None
