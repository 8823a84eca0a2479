"""Labels: ids are ids whatever their bit depth or palette; what may mean two things is refused; one rule for boxes."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from evalkit.cli import main
from evalkit.data.card import load_card
from evalkit.data.check import check_dataset
from evalkit.data.images import decode, to_gray
from evalkit.data.labels import BORDER, decode_mask, parse_boxes, read_boxes, read_mask, read_salient
from evalkit.data.pairs import ImagePair
from evalkit.data.samples.samples import draw_scenes
from evalkit.downstream.detection.train import prepare_data, truths
from evalkit.downstream.splits import Division
from evalkit.errors import DataError
from evalkit.metrics.detection import parse_yolo

PALETTE = np.random.default_rng(0).permutation(256 * 3).reshape(256, 3).astype(np.uint8)


def gray_png(ids: np.ndarray, bits: int) -> bytes:
    """A gray PNG of any bit depth, written by hand."""
    height, width = ids.shape
    planes = (ids[..., None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(planes.reshape(height, width * bits).astype(np.uint8), axis=1)
    return png(width, height, bits, 0, b"".join(b"\0" + row.tobytes() for row in rows))


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def masks(bits: int) -> st.SearchStrategy[np.ndarray]:
    shape = st.tuples(st.integers(1, 9), st.integers(1, 9))
    return hnp.arrays(np.uint16, shape, elements=st.integers(0, min(2**bits, 256) - 1))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ids_of_any_bit_depth_are_those_stored(bits, data):
    ids = data.draw(masks(bits))
    read = decode_mask(gray_png(ids, bits), "mask.png")
    assert read.dtype == np.uint8
    assert np.array_equal(read, ids)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_ids_with_a_palette_are_its_indices(tmp_path_factory, suffix, bits, data):
    ids = data.draw(masks(bits)).astype(np.uint8)
    image = Image.fromarray(ids, "P")
    image.putpalette(PALETTE[: 2**bits].ravel().tolist())
    path = tmp_path_factory.mktemp("palette") / f"mask.{suffix}"
    image.save(path, **({"bits": bits} if suffix == "png" else {}))
    assert np.array_equal(read_mask(path), ids)


@settings(max_examples=60, deadline=None)
@given(masks(8), st.permutations(range(1, 200)))
def test_gray_palette_is_read_by_index_or_refused(tmp_path_factory, ids, levels):
    ids = ids % 9
    palette = np.repeat(np.array([0, *levels[:8]], np.uint8)[:, None], 3, axis=1)
    image = Image.fromarray(ids.astype(np.uint8), "P")
    image.putpalette(palette.ravel().tolist())
    path = tmp_path_factory.mktemp("gray") / "mask.png"
    image.save(path)
    used = np.unique(ids)
    if np.array_equal(palette[used, 0], used):
        assert np.array_equal(read_mask(path), ids)
    else:
        with pytest.raises(DataError, match=r"gray palette .*8-bit gray PNG"):
            read_mask(path)


def test_black_and_white_palette_holds_the_ids_0_and_1(tmp_path):
    image = Image.fromarray(np.eye(5, dtype=np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    for suffix in ("png", "bmp", "tif"):
        image.save(tmp_path / f"mask.{suffix}")
        assert np.array_equal(read_mask(tmp_path / f"mask.{suffix}"), np.eye(5))


@pytest.mark.parametrize(("bits", "colours"), [(1, 2), (4, 2), (4, 9), (4, 16), (8, 2), (8, 9), (8, 256)])
def test_bmp_with_a_gray_palette_is_read_at_its_own_depth(bits, colours):
    """Pillow takes the pixels of two colours for bits, and those of a palette that counts for bytes."""
    ids = (np.arange(64).reshape(4, 16) % colours).astype(np.uint8)
    levels = np.array([0, 255] if colours == 2 else range(colours), np.uint8)
    packed = np.packbits(((ids[..., None] >> np.arange(bits)[::-1]) & 1).reshape(4, -1).astype(np.uint8), axis=1)
    rows = b"".join(row.tobytes().ljust(-(-row.size // 4) * 4, b"\0") for row in packed[::-1])
    palette = b"".join(bytes((level, level, level, 0)) for level in levels)
    start = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, 16, 4, 1, bits, 0, len(rows), 0, 0, colours, 0)
    data = b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + palette + rows
    assert np.array_equal(decode_mask(data, "mask.bmp"), ids)
    assert np.array_equal(to_gray(decode(data, "image.bmp")), levels[ids])
    for kept in (start, start + len(rows) // 2):
        for read in (decode, decode_mask):
            with pytest.raises(DataError, match=r"cut\.bmp"):
                read(data[:kept], "cut.bmp")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_bilevel_masks_hold_0_and_1(tmp_path, suffix):
    path = tmp_path / f"mask.{suffix}"
    Image.fromarray(np.eye(9, dtype=bool)).save(path)
    assert np.array_equal(read_mask(path), np.eye(9))


@settings(max_examples=30, deadline=None)
@given(st.integers(256, 65535))
def test_ids_that_no_card_has_are_refused(value):
    ids = np.array([[0, value]], np.uint16)
    with pytest.raises(DataError, match=f"holds the value {value} in 16 bits"):
        decode_mask(gray_png(ids, 16), "mask.png")


def test_what_keeps_no_ids_is_refused(tmp_path):
    ids = np.arange(64, dtype=np.uint8).reshape(8, 8) % 9
    Image.fromarray(ids).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: is a JPEG"):
        read_mask(tmp_path / "a.jpg")
    for stored in (ids, ids.astype(bool), ids.astype(np.uint16)):
        Image.fromarray(stored).save(tmp_path / "b.tif", tiffinfo={262: 0})
        with pytest.raises(DataError, match=r"b\.tif: stores white as zero"):
            read_mask(tmp_path / "b.tif")
    Image.fromarray(np.dstack([ids, ids, ids[::-1]])).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png: is in colours"):
        read_mask(tmp_path / "c.png")


def write(path: Path, data: bytes | np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        Image.fromarray(data).save(path)
    return path


# --- whole commands ---------------------------------------------------------------------------------------------------


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def segmentation(folder: Path) -> dict:
    code, output = call("evaluate-segmentation", folder / "pred", "--truth", folder / "gt", "--json")
    assert code in (0, 3), output
    return json.loads(output)


TRUTH = np.array([[0, 0, 1, 1], [2, 2, 2, 0], [3, 3, 1, 0], [0, 0, 0, 0]], np.uint16)
FOUND = np.array([[0, 0, 1, 2], [2, 2, 2, 0], [3, 1, 1, 0], [0, 0, 0, 1]], np.uint16)


@pytest.mark.parametrize(("truth_bits", "found_bits"), [(8, 8), (16, 16), (8, 16), (16, 8), (4, 4), (8, 4), (2, 2)])
def test_scores_do_not_depend_on_the_bit_depth(tmp_path, truth_bits, found_bits):
    write(tmp_path / "gt" / "s.png", gray_png(TRUTH, truth_bits))
    write(tmp_path / "pred" / "s.png", gray_png(FOUND, found_bits))
    scores = segmentation(tmp_path)
    assert scores["aAcc"] == 13 / 16
    assert scores["IoU"]["car"] == 2 / 5
    assert (scores["pixels"], scores["ignored"]) == (16, 0)


def test_ignored_pixels_are_counted_and_said(tmp_path):
    truth = np.where(TRUTH > 1, 255, 0).astype(np.uint8)
    write(tmp_path / "gt" / "s.png", truth)
    write(tmp_path / "pred" / "s.png", (TRUTH > 1).astype(np.uint8))
    assert segmentation(tmp_path)["ignored"] == 5
    code, output = call("evaluate-segmentation", tmp_path / "pred", "--truth", tmp_path / "gt")
    assert code == 3
    assert "! 5 of 16 pixels (31.2 %) have the id 255" in output


@pytest.mark.parametrize("level", [1, 2, 38, 100, 127, 128])
@pytest.mark.parametrize("kind", ["gray", "palette", "mixed"])
def test_salient_truth_is_never_silently_empty(tmp_path, level, kind):
    shape = np.eye(8, dtype=np.uint8)
    image = Image.fromarray(shape * np.uint8(level) if kind != "palette" else shape)
    if kind == "palette":
        image = Image.fromarray(shape, "P")
        image.putpalette([0, 0, 0, level, level, level])
    (tmp_path / "gt").mkdir()
    image.save(tmp_path / "gt" / "a.png")
    write(tmp_path / "pred" / "a.png", shape * 200)
    if kind == "mixed":  # beside a good one
        write(tmp_path / "gt" / "b.png", shape * 255)
        write(tmp_path / "pred" / "b.png", shape * 200)
    with pytest.raises(DataError, match="objects are > 128"):
        read_salient(tmp_path / "gt" / "a.png")
    code, output = call("evaluate-saliency", tmp_path / "pred", "--truth", tmp_path / "gt")
    assert code == (3 if kind == "mixed" else 2)
    assert "a.png: ground truth holds" in output


@pytest.mark.parametrize("palette", [[0, 0, 0, 255, 255, 255], [0, 0, 0, 255, 255, 0], [255, 255, 255, 0, 0, 0]])
def test_salient_truth_with_a_palette_is_read_by_its_colours(tmp_path, palette):
    image = Image.fromarray(np.eye(8, dtype=np.uint8), "P")
    image.putpalette(palette)
    image.save(tmp_path / "a.png")
    bright = np.eye(8) == (palette[0] == 0)
    assert np.array_equal(read_salient(tmp_path / "a.png") > 128, bright)


def test_black_truth_is_one_without_objects(tmp_path):
    assert not read_salient(write(tmp_path / "a.png", np.zeros((4, 4), np.uint8))).any()
    assert np.array_equal(read_salient(write(tmp_path / "b.png", np.eye(4, dtype=bool))), 255 * np.eye(4))


# --- boxes ------------------------------------------------------------------------------------------------------------

PARTS = st.floats(-0.1, 1.1, allow_nan=False)


@pytest.mark.parametrize(("x", "reaches"), [(0.9, 1), (0.9049, 1), (0.9051, 1), (0.9101, None), (0.95, None)])
def test_a_box_may_reach_a_hundredth_beyond_its_image(x, reaches):
    """Of a width of 0.2: its right side lies at x + 0.1."""
    line = f"0 {x} 0.5 0.2 0.2"
    if reaches is None:
        with pytest.raises(ValueError, match="within the image"):
            parse_boxes(line, [0])
    else:
        ((_, centre, _, width, _),) = parse_boxes(line, [0])
        assert centre + width / 2 == pytest.approx(min(x + 0.1, reaches))


@settings(max_examples=300, deadline=None)
@given(PARTS, PARTS, st.floats(0.001, 1.2), st.floats(0.001, 1.2))
def test_one_rule_for_boxes_that_reach_beyond_the_image(x, y, w, h):
    line = f"0 {x:.6f} {y:.6f} {w:.6f} {h:.6f}"
    x, y, w, h = map(float, line.split()[1:])
    reach = max(-(x - w / 2), -(y - h / 2), x + w / 2 - 1, y + h / 2 - 1)
    assume(abs(reach - BORDER) > 1e-9 and abs(reach) > 1e-9)
    try:
        [(_, *box)] = parse_boxes(line, [0])
    except ValueError:
        assert reach > BORDER or not (0 < x < 1 and 0 < y < 1)
        with pytest.raises(DataError):
            parse_yolo(line, 200, 100, 1)
        return
    assert reach < BORDER
    if reach < 0:
        assert box == [x, y, w, h]
    # what preparation writes is read by evaluation as the same box, within the image
    written = "0 " + " ".join(f"{value:.6f}" for value in box)
    for text in (line, written):
        corners = parse_yolo(text, 200, 100, 1).corners[0] / [200, 100, 200, 100]
        np.testing.assert_allclose(corners, np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, 1), atol=2e-6)
        assert corners.min() >= 0
        assert corners.max() <= 1


def test_box_just_outside_is_the_same_in_check_preparation_and_evaluation(tmp_path):
    """A height of 1.0004 was taken by the check and refused after the training."""
    card, pairs, images = load_card("MSRS"), {}, {}
    for stem in "abc":
        images[stem] = write(tmp_path / f"{stem}.png", np.zeros((240, 320, 3), np.uint8))
        label = write(tmp_path / f"{stem}.txt", b"1 0.3040172 0.5002812 0.608034 1.0004374\n")
        pairs[stem] = ImagePair(stem, images[stem], images[stem], {"boxes": label})
    assert len(read_boxes(tmp_path / "c.txt", "yolo", card.detection)) == 1
    data = prepare_data(tmp_path / "out", pairs, images, Division(("a",), ("b",), ("c",)), card)
    [corners] = truths(data, {"c": (320, 240)}, 3)["c"].corners
    np.testing.assert_allclose(corners, [0, 0.015, 194.571, 240], atol=2e-3)


VOC = (
    "<annotation><size><width>{}</width><height>{}</height></size><object><name>Car</name><bndbox><xmin>1</xmin>"
    "<ymin>2</ymin><xmax>5</xmax><ymax>4</ymax></bndbox></object></annotation>"
)


@pytest.mark.parametrize(("width", "height"), [(16, 12), (6, 8), (8, 7)])
def test_voc_of_another_size_is_named_where_it_is_checked_and_where_it_is_used(tmp_path, width, height):
    root = tmp_path / "M3FD" / "M3FD_Detection"
    for stem, size in (("00000", (8, 6)), ("00001", (width, height))):
        write(root / "Ir" / f"{stem}.png", np.zeros((6, 8), np.uint8))
        write(root / "Vis" / f"{stem}.png", np.zeros((6, 8, 3), np.uint8))
        write(root / "Annotation" / f"{stem}.xml", VOC.format(*size).encode())
    said = f"00001.xml: states {width}x{height} pixels, its image has 8x6"
    code, output = call("data", "check", "M3FD", "--data-root", tmp_path)
    assert code == 3
    assert said in output
    assert "00000.xml" not in output
    classes = load_card("M3FD").detection
    assert len(read_boxes(root / "Annotation" / "00000.xml", "voc", classes, (8, 6))) == 1
    with pytest.raises(DataError, match=said):
        read_boxes(root / "Annotation" / "00001.xml", "voc", classes, (8, 6))


def test_check_names_masks_that_are_not_8_bit_gray(tmp_path):
    root = tmp_path / "MSRS" / "test"
    ids = np.arange(48, dtype=np.uint16).reshape(6, 8) % 2
    for stem, mask in (("00001N", gray_png(ids, 16)), ("00002N", gray_png(ids, 1)), ("00003N", gray_png(ids, 8))):
        write(root / "ir" / f"{stem}.png", np.zeros((6, 8), np.uint8))
        write(root / "vi" / f"{stem}.png", np.zeros((6, 8, 3), np.uint8))
        write(root / "Segmentation_labels" / f"{stem}.png", mask)
    [report] = [s for s in check_dataset(load_card("MSRS"), tmp_path).splits if s.split == "test"]
    label = report.labels["classes"]
    assert label.counts == {"background": 3, "car": 3}
    assert {depth: [Path(file).stem for file in files] for depth, files in label.depths.items()} == {
        "16-bit": ["00001N"],
        "1-bit": ["00002N"],
    }
    _, output = call("data", "check", "MSRS", "--data-root", tmp_path)
    assert "1 16-bit: 00001N.png; 1 1-bit: 00002N.png" in output


@pytest.mark.parametrize("part", ["ir", "vi", "Segmentation_labels", "salient", "detection_labels"])
def test_sample_scenes_without_one_of_their_parts_are_drawn_again(tmp_path, part):
    draw_scenes(tmp_path, 2, width=64, height=64)
    folder = tmp_path / "samples" / part
    last = sorted(folder.iterdir())[-1]
    content = last.read_bytes()
    last.unlink()
    draw_scenes(tmp_path, 2, width=64, height=64)
    assert last.read_bytes() == content
    before = last.stat().st_mtime_ns
    draw_scenes(tmp_path, 2, width=64, height=64)
    assert last.stat().st_mtime_ns == before


# --- the cases of ../shared -------------------------------------------------------------------------------------------

CASES = Path(__file__).parents[2] / "shared" / "cases"
shared = pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases")


@shared
@pytest.mark.parametrize("case", ["masks-16bit", "masks-16bit-prediction-only", "masks-4bit"])
def test_shared_masks(case):
    scores = segmentation(CASES / case)
    assert scores["mIoU (defined classes)"] == pytest.approx(0.6405, abs=5e-5)
    assert scores["aAcc"] == pytest.approx(0.9421, abs=5e-5)


@shared
def test_shared_1bit_truth():
    scores = segmentation(CASES / "masks-1bit-truth")
    assert (scores["IoU"]["car"], scores["ignored"]) == (0, 0)
    assert scores["aAcc"] == pytest.approx(0.9675, abs=5e-5)


@shared
def test_shared_ignored_pixels():
    scores = segmentation(CASES / "masks-0-1-against-0-255")
    with Image.open(CASES / "masks-0-1-against-0-255" / "gt" / "s.png") as image:
        assert scores["ignored"] == np.count_nonzero(np.array(image) == 255) > 0


@shared
@pytest.mark.parametrize(("case", "level"), [("salient-truth-0-100", 100), ("salient-truth-palette/*", 38)])
def test_shared_salient_truths(case, level):
    [folder] = CASES.glob(case)
    code, output = call("evaluate-saliency", folder / "pred", "--truth", folder / "gt")
    assert code == 2
    assert f"no level above {level}, and objects are > 128" in output


@shared
def test_shared_boxes():
    code, output = call("data", "check", "M3FD", "--data-root", CASES / "voc-of-another-size" / "D")
    assert code == 3
    assert "00001.xml: states 640x480 pixels, its image has 320x240" in output
    assert "00002.xml: states 240x320 pixels, its image has 320x240" in output
    code, output = call("data", "check", "MSRS", "--data-root", CASES / "yolo-box-just-outside" / "D")
    assert code == 0, output
    assert "1 16-bit: 00004N.png; 1 1-bit: 00537D.png" in output
    file = CASES / "yolo-box-just-outside" / "D" / "MSRS" / "test" / "detection_labels" / "00600N.txt"
    assert parse_yolo(file.read_text(), 320, 240, 3).corners[0, 3] == 240
