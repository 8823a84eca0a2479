"""Damaged images: what their decoders notice is an error that names the file, and nothing that is whole is refused."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evalkit.data.damage import jpeg_damage, png_damage
from evalkit.data.images import decode, read_image
from evalkit.errors import ImageError
from evalkit.metrics.folders import evaluate_folder

CASES = Path(__file__).parents[2] / "shared" / "cases" / "images"
REAL = Path(__file__).parents[2] / "shared" / "data"
WAYS = {
    "plain": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "rows": {"restart_marker_rows": 1},
    "fine": {"quality": 100, "subsampling": 0},
    "coarse": {"quality": 10, "subsampling": 2},
}
END = b"\xff\xd9"


def scene(seed: int, width: int = 96, height: int = 64, channels: int = 3) -> np.ndarray:
    """Something with edges, noise and flat parts."""
    random = np.random.default_rng(seed)
    image = np.repeat(np.repeat(random.integers(0, 256, (height // 16, width // 16, channels)), 16, 0), 16, 1)
    image[: height // 2] += random.integers(-20, 20, (height // 2, width, channels))
    return np.clip(image, 0, 255).astype(np.uint8).squeeze()


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), width=st.integers(16, 100), height=st.integers(16, 100), gray=st.booleans())
def test_whole_jpeg_files_are_read(way, seed, width, height, gray):
    data = jpeg(scene(seed, 112, 112, 1 if gray else 3)[:height, :width], **WAYS[way])
    for tail in (b"", b"\0\0", b"after the end \xff\xda"):
        assert decode(data + tail, "whole.jpg").shape[:2] == (height, width)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 0.9))
def test_jpeg_that_lacks_data_is_named_wherever_it_was_cut(way, seed, share):
    data = jpeg(scene(seed), **WAYS[way])
    start = data.index(b"\xff\xda") + 14
    cut = data[: start + int(share * (len(data) - start))].rstrip(b"\xff") + END
    with pytest.raises(ImageError, match=r"cut\.jpg is damaged"):
        decode(cut, "cut.jpg")
    with pytest.raises(ImageError, match=r"cut\.jpg is damaged"):
        decode(cut.removesuffix(END), "cut.jpg")


def test_progressive_jpeg_that_lacks_whole_scans_is_named():
    data = jpeg(scene(7), progressive=True)
    scans = [place for place in range(len(data) - 1) if data[place : place + 2] in (b"\xff\xda", b"\xff\xc4")]
    for place in scans[2:]:
        if data[:place].count(b"\xff\xda"):
            with pytest.raises(ImageError, match="damaged"):
                decode(data[:place] + END, "cut.jpg")


@pytest.mark.parametrize("way", ["plain", "restarts", "rows"])
def test_jpeg_that_lacks_its_last_bytes_is_named(way):
    data = jpeg(scene(1), quality=95, **WAYS[way]).removesuffix(END)
    for lacking in range(4, 40):
        with pytest.raises(ImageError, match="damaged"):
            decode(data[:-lacking].rstrip(b"\xff") + END, "cut.jpg")


def test_jpeg_whose_restart_interval_is_missing_is_named():
    data = jpeg(scene(2), restart_marker_blocks=3)
    marks = [i for i in range(len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
    assert len(marks) > 3
    for first, second in itertools.pairwise(marks):
        with pytest.raises(ImageError, match="damaged"):
            decode(data[:first] + data[second:], "gap.jpg")
    with pytest.raises(ImageError, match="damaged"):  # the last ones, whole
        decode(data[: marks[-1]] + END, "gap.jpg")


@pytest.mark.parametrize("size", [(9999, 9999), (65500, 1000), (4000, 20000)])
def test_jpeg_that_claims_more_than_it_can_hold_is_named_before_it_is_decoded(size):
    data = bytearray(jpeg(scene(3, 16, 16, 1)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = size[1].to_bytes(2, "big") + size[0].to_bytes(2, "big")
    with pytest.raises(ImageError, match=f"claims {size[0]}x{size[1]} pixels but has {len(data)} bytes"):
        decode(bytes(data), "claim.jpg")


def test_largest_flat_jpeg_is_read():
    data = jpeg(np.zeros((4000, 4000), np.uint8), optimize=True, quality=1, progressive=True)
    assert decode(data, "flat.jpg").shape == (4000, 4000)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_flipped_bit_of_a_png_is_named(data):
    whole = png(scene(4, 32, 32))
    flipped = bytearray(whole)
    flipped[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ImageError, match=r"flip\.png"):
        decode(bytes(flipped), "flip.png")


def test_any_cut_of_a_png_is_named_and_what_follows_its_end_is_not():
    whole = png(scene(5, 32, 32))
    for length in range(len(whole)):
        with pytest.raises(ImageError, match=r"cut\.png"):
            decode(whole[:length], "cut.png")
    assert png_damage(whole) == png_damage(whole + b"more") == ""


def test_damaged_fused_image_has_no_values(tmp_path):
    for role in ("ir", "vi", "fused"):
        (tmp_path / role).mkdir()
        for stem in "ab":
            (tmp_path / role / f"{stem}.png").write_bytes(png(scene(6)))
    data = bytearray(png(scene(6)))
    data[data.index(b"IDAT") + 40] ^= 4
    (tmp_path / "fused" / "b.png").write_bytes(bytes(data))
    frame = evaluate_folder(tmp_path / "fused", tmp_path / "ir", tmp_path / "vi", ["EN"], workers=1)
    assert frame.loc["a", "EN"] > 0
    assert np.isnan(frame.loc["b", "EN"])
    assert "checksum of its 'IDAT' chunk" in frame.attrs["missing"]["b", "EN"]


@pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("half.jpg", "image data are missing"),
        ("bitflip.png", "the checksum of its 'IDAT' chunk is wrong"),
        ("9999_of_8.jpg", "it claims 9999x9999 pixels but has 337 bytes"),
    ],
)
def test_shared_cases(name, reason):
    with pytest.raises(ImageError) as caught:
        read_image(CASES / name)
    assert str(caught.value) == f"{CASES / name} is damaged ({reason}). Copy or export it again."


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data")
def test_no_real_jpeg_is_refused():
    files = sorted(REAL.rglob("*.jpg"))
    assert files
    for file in files:
        data = file.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            assert jpeg_damage(data, image.tobytes()) == "", file
