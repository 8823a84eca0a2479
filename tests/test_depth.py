"""Bit depth and kind of image files: read right, or refused with the cure; what a reader should know is said."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import evalkit
from evalkit.cli import main
from evalkit.data.images import parse_depth, read_image
from evalkit.data.samples.samples import write_scenes
from evalkit.errors import ImageError
from evalkit.metrics.evaluate import evaluate
from evalkit.metrics.folders import evaluate_folder

CASES = Path(__file__).parents[2] / "shared" / "cases"
DEEP = (np.arange(30 * 40, dtype=np.uint32) * 53 % 65536).astype(np.uint16).reshape(30, 40)
LEVELS = np.rint(DEEP / 257).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def folders(root: Path, fused: np.ndarray, infrared: np.ndarray, visible: np.ndarray, suffix: str = ".png") -> Path:
    save(root / "fused" / f"s{suffix}", fused)
    save(root / "ir" / "s.png", infrared)
    save(root / "vi" / "s.png", visible)
    return root


def call(root: Path, *arguments: object) -> tuple[int, str]:
    sources = ["--infrared", root / "ir", "--visible", root / "vi"]
    result = CliRunner().invoke(main, [str(a) for a in ("evaluate", root / "fused", *sources, *arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint16, (3, 4), elements=st.integers(0, 65535)), st.sampled_from(["png", "tif"]))
def test_what_each_depth_makes_of_16_bits(tmp_path_factory, deep, suffix):
    path = save(tmp_path_factory.mktemp("deep") / f"deep.{suffix}", deep)
    low, high = int(deep.min()), int(deep.max())
    assert np.array_equal(read_image(path, "16"), np.rint(deep / 257))
    if 0 < high <= 255:
        assert np.array_equal(read_image(path, "8"), deep)
        with pytest.raises(ImageError, match=f"holds no more than {high}"):
            read_image(path)
    else:
        assert np.array_equal(read_image(path), np.rint(deep / 257))
    if high > 255:
        with pytest.raises(ImageError, match=f"values up to {high}"):
            read_image(path, "8")
    if low == high:
        with pytest.raises(ImageError, match="cannot be stretched"):
            read_image(path, "stretch")
    else:
        stretched = read_image(path, "stretch").astype(float)
        assert (stretched.min(), stretched.max()) == (0, 255)
        np.testing.assert_allclose(stretched, (deep - float(low)) * 255 / (high - low), atol=0.5 + 1e-9)


@pytest.mark.parametrize("depth", ["8", "16", "stretch"])
def test_depth_leaves_8_bit_images_alone(tmp_path, depth):
    for name, pixels in (("gray", LEVELS // 2), ("colour", np.dstack([LEVELS // 2] * 3))):
        assert np.array_equal(read_image(save(tmp_path / f"{name}.png", pixels), depth), pixels)


def test_depth_in_both_interfaces(tmp_path):
    levels = LEVELS // 2
    root = folders(tmp_path, levels.astype(np.uint16), LEVELS, LEVELS[::-1].copy())
    expected = evaluate(levels, LEVELS, LEVELS[::-1].copy(), ["EN"])["EN"]
    code, output = call(root, "--metrics", "EN")
    assert code == 3
    assert f"holds no more than {levels.max()}" in output
    assert "--depth 8 (levels 0..255), 16 (parts of 65535) or stretch" in output
    code, output = call(root, "--metrics", "EN", "--depth", "8", "--json")
    assert code == 0, output
    assert json.loads(output)["mean"]["EN"] == expected
    paths = [root / role / "s.png" for role in ("fused", "ir", "vi")]
    assert evaluate(*paths, metrics=["EN"], depth=8)["EN"] == expected
    frame = evaluate_folder(*(path.parent for path in paths), ["EN"], depth="8", workers=1)
    assert frame.loc["s", "EN"] == expected
    assert evalkit.evaluate(*paths, metrics=["EN"], depth="stretch")["EN"] == pytest.approx(expected)
    with pytest.raises(ImageError, match="holds no more than"):
        evaluate(*paths, metrics=["EN"])


@pytest.mark.parametrize("depth", [12, "7", "", True, 8.5])
def test_other_depths_are_refused(depth):
    with pytest.raises(ImageError, match="expected 8, 16 or 'stretch'"):
        parse_depth(depth)


def test_few_levels_are_said(tmp_path):
    kelvin = (29415 + LEVELS.astype(np.uint16) * 4).astype(np.uint16)
    root = folders(tmp_path, LEVELS, kelvin, LEVELS)
    left = len(np.unique(read_image(root / "ir" / "s.png")))
    assert left < 16
    for arguments in ([], ["--convention", "all"]):
        code, output = call(root, "--metrics", "EN,MI", *arguments)
        assert code == 0
        assert f"! s: the infrared image keeps {left} gray levels, of the 16 bits" in output
        assert "--depth stretch" in output
    code, output = call(root, "--metrics", "EN,MI", "--depth", "stretch")
    assert (code, "!" in output) == (0, False)
    code, output = call(root, "--metrics", "EN", "--json")
    assert list(json.loads(output)["notes"].values()) == [["s"]]


def tiff(pixels: np.ndarray, photometric: int, order: str, planes: bool, strips: int) -> bytes:
    """A 16-bit TIFF written by hand, uncompressed; `pixels` is (H, W, channels)."""
    height, width, channels = pixels.shape
    data = np.moveaxis(pixels, 2, 0) if planes else pixels[None]
    rows = -(-height // strips)
    pieces = [
        np.ascontiguousarray(plane[i : i + rows], f"{order}u2").astype(f"{order}u2").tobytes()
        for plane in data
        for i in range(0, height, rows)
    ]
    tags: list[tuple[int, int, list[int]]] = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [16] * channels), (259, 3, [1]), (262, 3, [photometric]),
        (273, 4, []), (277, 3, [channels]), (278, 4, [rows]), (279, 4, [len(p) for p in pieces]),
        (284, 3, [2 if planes else 1]),
    ]  # fmt: skip
    place = 8 + 2 + 12 * len(tags) + 4
    longer = sum(len(v) * (4 if kind == 4 else 2) + 2 for _, kind, v in tags) + 4 * len(pieces)
    starts, start = [], place + longer
    for piece in pieces:
        starts.append(start)
        start += len(piece)
    entries, extra = b"", b""
    for number, kind, values in tags:
        values = starts if number == 273 else values
        packed = struct.pack(f"{order}{len(values)}{'I' if kind == 4 else 'H'}", *values)
        if len(packed) > 4:
            entries += struct.pack(f"{order}HHII", number, kind, len(values), place + len(extra))
            extra += packed + b"\0" * (len(packed) % 2)
        else:
            entries += struct.pack(f"{order}HHI", number, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + b"\0\0\0\0" + extra.ljust(longer, b"\0") + b"".join(pieces)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("strips", [1, 4])
@pytest.mark.parametrize("planes", [False, True], ids=["chunky", "planar"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16bit_tiffs_of_every_kind(tmp_path, order, strips, planes, channels):
    pixels = np.dstack([DEEP, DEEP[::-1], 65535 - DEEP])[..., :channels]
    path = tmp_path / "deep.tif"
    path.write_bytes(tiff(pixels, 2 if channels == 3 else 1, order, planes, strips))
    assert np.array_equal(read_image(path), np.rint(pixels.squeeze() / 257).astype(np.uint8))
    if channels == 1 and order == "<":  # Pillow refuses the other one
        path.write_bytes(tiff(65535 - pixels, 0, order, planes, strips))  # white is zero
        assert np.array_equal(read_image(path), LEVELS)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ImageError, match=r"deep\.tif"):
        read_image(path)


def test_8bit_tiff_that_stores_white_as_zero(tmp_path):
    path = tmp_path / "white.tif"
    Image.fromarray(LEVELS).save(path, tiffinfo={262: 0})
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read_image(path), stored)


def test_bmp_of_5_6_5_bits_is_read_to_its_rounding(tmp_path):
    colour = np.dstack([LEVELS, LEVELS[::-1], 255 - LEVELS]).astype(np.uint16)
    packed = (colour[..., 0] >> 3 << 11) | (colour[..., 1] >> 2 << 5) | (colour[..., 2] >> 3)
    rows = packed[::-1].astype("<u2").tobytes()
    header = struct.pack("<IiiHHIIiiII", 40, 40, 30, 1, 16, 3, len(rows), 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    (tmp_path / "s.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 66 + len(rows), 0, 0, 66) + header + masks + rows)
    difference = np.abs(read_image(tmp_path / "s.bmp").astype(int) - colour).max(axis=(0, 1))
    assert (difference <= [7, 3, 7]).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_jpeg_fused_image_is_said_whatever_its_name(tmp_path, suffix):
    root = folders(tmp_path, LEVELS, LEVELS, LEVELS)
    (root / "fused" / "s.png").unlink()
    save(root / "fused" / f"s{suffix}", LEVELS, format="JPEG")
    code, output = call(root, "--metrics", "EN")
    assert code == 0
    assert "! s: the fused image is a JPEG: its compression changes what is measured" in output
    scores = evaluate(root / "fused" / f"s{suffix}", root / "ir" / "s.png", root / "vi" / "s.png", ["EN"])
    assert len(scores.notes) == 1


def test_jpeg_fused_images_are_said_in_record_and_table(tmp_path):
    data = write_scenes(tmp_path / "data", 2, width=96, height=64)
    place = tmp_path / "outputs" / "CDDFuse" / "TNO"
    for i, file in enumerate(sorted((data / "ir").iterdir())):
        for role in ("ir", "vi"):
            save(tmp_path / "data" / "TNO" / role / file.name, read_image(data / role / file.name))
        image = read_image(file)
        save(place / f"{file.stem}.{'jpg' if i else 'png'}", image, format="JPEG" if i else "PNG")
    arguments = ["reproduce", "smfnet-table1", "--data-root", tmp_path / "data", "--outputs", tmp_path / "outputs"]
    arguments += ["--datasets", "TNO", "--methods", "CDDFuse", "--out", tmp_path / "out"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    said = "1 of its 2 fused images are JPEG"
    assert said in result.output
    [record] = (tmp_path / "out" / "records").glob("*CDDFuse.json")
    assert json.loads(record.read_text())["method"]["jpeg"] == 1
    assert any(said in file.read_text() for file in (tmp_path / "out").rglob("*.md"))


shared = pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases")


@shared
@pytest.mark.parametrize("case", ["white-is-zero-16bit", "planar-rgb-16bit"])
def test_shared_cases_of_one_image_in_two_kinds(case):
    code, output = call(CASES / case, "--metrics", "MSE,CC", "--json")
    assert code == 0
    assert json.loads(output)["mean"] == {"MSE": 0, "CC": pytest.approx(1, abs=1e-12)}


@shared
def test_shared_bmp_565():
    infrared, visible = (read_image(next((CASES / "bmp-565" / role).iterdir())).astype(int) for role in ("ir", "vi"))
    assert (np.abs(infrared - visible).max(axis=(0, 1)) <= [7, 3, 7]).all()
    assert call(CASES / "bmp-565", "--metrics", "MSE")[0] == 0


@shared
def test_shared_centikelvin():
    code, output = call(CASES / "thermal-centikelvin", "--metrics", "EN")
    assert code == 0
    assert "! s: the infrared image keeps 5 gray levels" in output
    assert "!" not in call(CASES / "thermal-centikelvin", "--metrics", "EN", "--depth", "stretch")[1]


@shared
def test_shared_flat_images_are_read():
    assert (read_image(CASES / "constant-fused" / "fused" / "s.png") == 128).all()
    assert not read_image(CASES / "black" / "fused" / "s.png").any()
    code, output = call(CASES / "black", "--metrics", "EN,MSE", "--json")
    assert code == 0
    assert json.loads(output)["mean"] == {"EN": 0, "MSE": 0}
