"""Average precision against a brute-force one, YOLO labels read back, and hostile input."""

import builtins
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import DataError, EvalkitError
from evalkit.metrics.detection import Boxes, DrawnAP50, detection_scores, parse_yolo

EMPTY = Boxes(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))


@pytest.fixture
def library():
    return pytest.importorskip("faster_coco_eval")


def boxes(corners, classes, scores=None):
    return Boxes(np.array(corners, float), np.array(classes), None if scores is None else np.array(scores, float))


# ---------------------------------------------------------------- average precision


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def brute_force_ap(predictions, truths, category, threshold):
    """COCO's AP, step by step: greedy matching by score within each image, then 101-point interpolation."""
    hits, total = [], 0
    for image in sorted(truths):
        true = [b for b, c in zip(truths[image].corners, truths[image].classes, strict=True) if c == category]
        total += len(true)
        p = predictions[image]
        found = [(s, b) for s, b, c in zip(p.scores, p.corners, p.classes, strict=True) if c == category]
        free = set(range(len(true)))
        for score, box in sorted(found, key=lambda item: -item[0])[:100]:
            best = max(free, key=lambda i: iou(box, true[i]), default=None)
            hit = best is not None and iou(box, true[best]) >= threshold
            if hit:
                free.discard(best)
            hits.append((score, hit))
    if not total:
        return math.nan
    hits.sort(key=lambda item: -item[0])
    points, right = [], 0
    for count, (_, hit) in enumerate(hits, start=1):
        right += hit
        points.append((right / total, right / count))
    reached = (max((p for r, p in points if r >= recall), default=0) for recall in np.linspace(0, 1, 101))
    return sum(reached) / 101


def scene(seed, images=5, classes=3, crowded=0):
    rng = np.random.default_rng(seed)
    predictions, truths = {}, {}
    for number in range(images):
        corner = rng.random((rng.integers(0, 7), 2)) * 300
        true = np.hstack([corner, corner + 10 + rng.random(corner.shape) * 80])
        ids = rng.integers(0, classes, len(true))
        moved = np.vstack([true, true[:3]]) + rng.normal(0, 5, (len(true) + len(true[:3]), 4))
        kinds = np.concatenate([ids, ids[:3]])
        kinds = np.where(rng.random(len(kinds)) < 0.15, rng.integers(0, classes, len(kinds)), kinds)
        if crowded:
            far = rng.random((crowded, 2)) * 300
            moved = np.vstack([moved, np.hstack([far, far + 20])])
            kinds = np.concatenate([kinds, np.zeros(crowded, int)])
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        truths[f"{number:03d}"] = Boxes(true, ids)
        predictions[f"{number:03d}"] = Boxes(moved, kinds, rng.permutation(len(kinds)) / 1000 + number / 1e5)
    return predictions, truths


@pytest.mark.parametrize("crowded", [0, 130])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_the_brute_force_one(library, seed, crowded):
    predictions, truths = scene(seed, crowded=crowded)
    names = ["person", "car", "lamp"]
    scores = detection_scores(predictions, truths, names)
    thresholds = np.linspace(0.5, 0.95, 10)
    for category, name in enumerate(names):
        values = [brute_force_ap(predictions, truths, category, t) for t in thresholds]
        assert scores["AP50"][name] == pytest.approx(values[0], abs=1e-12)
        assert scores["AP50:95"][name] == pytest.approx(np.mean(values), abs=1e-12)
    assert scores["mAP50"] == pytest.approx(np.mean(list(scores["AP50"].values())))
    assert scores["mAP50:95"] == pytest.approx(np.mean(list(scores["AP50:95"].values())))
    assert scores["missing"] == {}


@pytest.mark.parametrize("crowded", [0, 130])
@pytest.mark.parametrize("seed", range(4))
def test_drawn_images_have_the_precision_of_a_set_with_copies(library, seed, crowded):
    """Boxes on a grid, so that overlaps and sizes tie, beside those of the scenes."""
    predictions, truths = scene(seed, images=7, crowded=crowded)
    random = np.random.default_rng(seed)
    for name in ("grid a", "grid b"):
        corner = random.integers(0, 4, (12, 2)) * 10.0
        kinds = random.integers(0, 3, 12)
        truths[name] = boxes(np.hstack([corner, corner + 20]), kinds)
        moved = corner + random.integers(0, 2, (12, 2)) * 5
        predictions[name] = boxes(np.hstack([moved, moved + 20]), kinds, random.random(12))
    images = sorted(truths)
    drawn = DrawnAP50([predictions[i] for i in images], [truths[i] for i in images], 3)
    checked = 0
    for draw in [np.arange(len(images)), *(random.integers(0, len(images), len(images)) for _ in range(12))]:
        copies = [f"{i:02d}" for i in range(len(draw))]
        expected = detection_scores(
            {name: predictions[images[k]] for name, k in zip(copies, draw, strict=True)},
            {name: truths[images[k]] for name, k in zip(copies, draw, strict=True)},
            ["person", "car", "lamp"],
        )["mAP50"]
        checked += np.isfinite(expected)
        assert drawn(draw) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert checked > 6


def test_a_draw_without_objects_of_a_class_has_no_value():
    truths = [boxes([[0, 0, 10, 10]], [0]), boxes([[0, 0, 10, 10]], [1])]
    drawn = DrawnAP50([boxes([], [], []), boxes([[0, 0, 10, 10]], [1], [0.5])], truths, 2)
    assert np.isnan(drawn(np.array([0, 0])))
    assert drawn(np.array([0, 1])) == pytest.approx(0.5, abs=1e-12)


def test_perfect_detections(library):
    truths = {"a": boxes([[0, 0, 10, 10], [20, 20, 50, 40]], [0, 1]), "b": boxes([[5, 5, 9, 30]], [1])}
    predictions = {name: Boxes(t.corners, t.classes, np.ones(len(t.classes))) for name, t in truths.items()}
    scores = detection_scores(predictions, truths, ["x", "y"])
    assert scores["mAP50"] == scores["mAP50:95"] == pytest.approx(1)


def test_first_image_and_first_box_count(library):
    """Ids from 0 would lose the first match."""
    scores = detection_scores({"a": boxes([[0, 0, 9, 9]], [0], [0.5])}, {"a": boxes([[0, 0, 9, 9]], [0])}, ["x"])
    assert scores["AP50"]["x"] == pytest.approx(1)


def test_nothing_found_is_zero(library):
    scores = detection_scores({"a": EMPTY}, {"a": boxes([[0, 0, 9, 9]], [0])}, ["x"])
    assert scores["mAP50"] == scores["mAP50:95"] == 0
    assert scores["missing"] == {}


def test_class_without_truth_is_a_missing_value(library):
    truths = {"a": boxes([[0, 0, 9, 9]], [0])}
    predictions = {"a": boxes([[0, 0, 9, 9], [1, 1, 5, 5]], [0, 1], [0.9, 0.8])}
    scores = detection_scores(predictions, truths, ["x", "y"])
    assert math.isnan(scores["AP50"]["y"])
    assert math.isnan(scores["mAP50"])
    assert scores["mAP50 (defined classes)"] == scores["mAP50:95 (defined classes)"] == pytest.approx(1)
    assert set(scores["missing"]) == {"AP50 y", "mAP50", "AP50:95 y", "mAP50:95"}


def test_no_box_at_all(library):
    scores = detection_scores({"a": EMPTY}, {"a": EMPTY}, ["x"])
    assert math.isnan(scores["mAP50"])
    assert math.isnan(scores["mAP50 (defined classes)"])


def test_order_of_images_and_boxes_does_not_matter(library):
    predictions, truths = scene(11)
    turned = {n: Boxes(b.corners[::-1], b.classes[::-1], b.scores[::-1]) for n, b in reversed(predictions.items())}
    assert detection_scores(turned, truths, list("abc")) == detection_scores(predictions, truths, list("abc"))


def test_library_is_silent(library, capfd):
    detection_scores(*scene(0), list("abc"))
    assert capfd.readouterr() == ("", "")


def test_missing_library_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("faster_coco_eval"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EvalkitError, match=r"pip install 'evalkit\[detection\]'"):
        detection_scores({"a": EMPTY}, {"a": EMPTY}, ["x"])


ONE = boxes([[0, 0, 9, 9]], [0], [0.5])


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (boxes([[0, 0, 9, 9]], [2], [0.5]), "class id 2"),
        (boxes([[0, 0, 9, 9]], [-1], [0.5]), "class id -1"),
        (boxes([[0, 0, 9, 9]], [0.0], [0.5]), "expected integers"),
        (boxes([[9, 0, 0, 9]], [0], [0.5]), "x2 < x1"),
        (boxes([[0, 0, 9, math.nan]], [0], [0.5]), "finite"),
        (boxes([[0, 0, 9, 9]], [0], [math.inf]), "finite"),
        (boxes([[0, 0, 9, 9]], [0]), "scores none"),
        (boxes([[0, 0, 9, 9]], [0], [0.5, 0.5]), "one for every box"),
        (boxes([[0, 0, 9]], [0], [0.5]), r"expected \(N, 4\)"),
        (boxes([[0, 0, 9, 9]], [0, 1], [0.5]), r"expected \(N, 4\)"),
        (Boxes(np.array([["a", "b", "c", "d"]]), np.array([0]), np.array([0.5])), "finite"),
    ],
)
def test_malformed_boxes_are_refused(prediction, message):
    with pytest.raises(EvalkitError, match=message):
        detection_scores({"a": prediction}, {"a": ONE}, ["x", "y"])


def test_images_are_paired_by_name():
    with pytest.raises(EvalkitError, match=r"'00012' has a truth but no prediction. Did you mean '0012'"):
        detection_scores({"0012": ONE}, {"00012": ONE}, ["x"])
    with pytest.raises(EvalkitError, match="'b' has predictions but no truth"):
        detection_scores({"a": ONE, "b": ONE}, {"a": ONE}, ["x"])
    with pytest.raises(EvalkitError, match="no images"):
        detection_scores({}, {}, ["x"])
    for names in ([], ["x", "x"]):
        with pytest.raises(EvalkitError, match="class names"):
            detection_scores({"a": ONE}, {"a": ONE}, names)


# ---------------------------------------------------------------- YOLO labels


def test_yolo_by_hand():
    found = parse_yolo("0 0.5 0.5 0.5 0.25\r\n\n 2 .25 1e-1 0.1 0.2\n", 640, 480, 3)
    np.testing.assert_allclose(found.corners, [[160, 180, 480, 300], [128, 0, 192, 96]], atol=1e-9)
    np.testing.assert_array_equal(found.classes, [0, 2])
    assert found.corners.dtype == np.float64
    assert found.classes.dtype == np.int64
    assert found.scores is None


@pytest.mark.parametrize("text", ["", "\n", "  \r\n\n"])
def test_no_lines_are_no_objects(text):
    found = parse_yolo(text, 10, 10, 1)
    assert found.corners.shape == (0, 4)
    assert found.classes.shape == (0,)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), *[st.floats(0.3, 0.7)] * 2, *[st.floats(0.05, 0.6)] * 2), max_size=8))
def test_yolo_there_and_back(rows):
    text = "\n".join(f"{c} {cx:.17g} {cy:.17g} {w:.17g} {h:.17g}" for c, cx, cy, w, h in rows)
    found = parse_yolo(text, 200, 100, 6)
    x1, y1, x2, y2 = found.corners.T / np.array([[200], [100], [200], [100]])
    back = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=1)
    np.testing.assert_allclose(back, np.array([row[1:] for row in rows]).reshape(-1, 4), atol=1e-12)
    assert found.classes.tolist() == [row[0] for row in rows]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", "4 fields"),
        ("0 0.5 0.5 0.5 0.5 0.9", "6 fields"),
        ("3 0.5 0.5 0.5 0.5", "id from 0 to 2"),
        ("-1 0.5 0.5 0.5 0.5", "id from 0 to 2"),
        ("1.5 0.5 0.5 0.5 0.5", "id from 0 to 2"),
        ("car 0.5 0.5 0.5 0.5", "id from 0 to 2"),
        ("٢ 0.5 0.5 0.5 0.5", "id from 0 to 2"),
        ("9" * 10000 + " 0.5 0.5 0.5 0.5", "id from 0 to 2"),
        ("0 nan 0.5 0.5 0.5", "not a number"),
        ("0 inf 0.5 0.5 0.5", "not a number"),
        ("0 1e999 0.5 0.5 0.5", "not a number"),
        ("0 0x1 0.5 0.5 0.5", "not a number"),
        ("0 0_1 0.5 0.5 0.5", "not a number"),
        ("0 -0.1 0.5 0.5 0.5", "not a box within the image"),
        ("0 320 240 50 60", "not a number"),
        ("0 " + "1" * 100000 + "x 0.5 0.5 0.5", "not a number"),
        ("0 0.5 0.5 0 0.5", "no area"),
        ("0 0.5 0.5 0.5 0.0", "no area"),
        ("0 0.5 0.5 1e-300 0.5", "no area"),
        ("\x00", "1 fields"),
    ],
)
def test_malformed_lines_are_named(line, message):
    with pytest.raises(DataError, match=rf"labels, line 2: .*{message}") as caught:
        parse_yolo(f"0 0.5 0.5 0.5 0.5\n{line}", 10, 10, 3)
    assert len(str(caught.value)) < 200


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet=st.sampled_from("0123456789. eE+-\n\t\x00x٢"), max_size=60))
def test_any_text_is_boxes_or_an_error(text):
    try:
        found = parse_yolo(text, 10, 10, 3)
    except DataError:
        return
    assert np.isfinite(found.corners).all()
    assert (found.corners[:, 2:] > found.corners[:, :2]).all()


def test_image_size_is_checked():
    with pytest.raises(EvalkitError, match="0x10"):
        parse_yolo("", 0, 10, 1)
