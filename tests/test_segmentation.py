"""Confusion matrices against plain loops, scores against hand computation, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalkit.errors import EvalkitError, ImageError
from evalkit.metrics.segmentation import confusion, segmentation_scores


def loops(prediction, truth, classes, ignore):
    matrix = [[0] * classes for _ in range(classes)]
    for row in range(truth.shape[0]):
        for column in range(truth.shape[1]):
            if truth[row, column] != ignore:
                matrix[truth[row, column]][prediction[row, column]] += 1
    return np.array(matrix)


@settings(deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(1, 7), st.integers(1, 7), st.sampled_from([np.uint8, np.int32]))
def test_confusion_is_that_of_loops(data, classes, height, width, dtype):
    ids = st.integers(0, classes - 1)
    prediction = data.draw(arrays(dtype, (height, width), elements=ids))
    truth = data.draw(arrays(dtype, (height, width), elements=ids | st.just(255)))
    matrix = confusion(prediction, truth, classes)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, loops(prediction, truth, classes, 255))


def test_rows_are_the_truth():
    matrix = confusion(np.array([[0, 0, 2]]), np.array([[0, 1, 2]]), 3)
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [1, 0, 0], [0, 0, 1]])


def test_ignored_pixels_are_not_counted_whatever_is_predicted_there():
    prediction, truth = np.array([[0, 255, 1]], np.uint8), np.array([[0, 255, 1]], np.uint8)
    np.testing.assert_array_equal(confusion(prediction, truth, 2), np.eye(2))
    np.testing.assert_array_equal(confusion(prediction % 2, truth % 2, 2, ignore=0), [[0, 0], [0, 2]])
    with pytest.raises(EvalkitError, match="255"):
        confusion(prediction, truth, 2, ignore=None)


@pytest.mark.parametrize("wrong", [-1, 3, 300])
def test_ids_out_of_range_are_named(wrong):
    good, bad = np.zeros((2, 2), np.int32), np.full((2, 2), wrong, np.int32)
    with pytest.raises(EvalkitError, match=rf"truth holds class id {wrong}, .* 0 to 2"):
        confusion(good, bad, 3)
    with pytest.raises(EvalkitError, match=rf"prediction holds class id {wrong}"):
        confusion(bad, good, 3)


def test_what_are_no_label_maps_is_refused():
    good = np.zeros((2, 3), np.uint8)
    for bad in (good.astype(float), good.astype(bool), good[..., None], [[0]]):
        with pytest.raises(ImageError, match="label map"):
            confusion(bad, good, 2)
    with pytest.raises(ImageError, match=r"3x2 .* 2x3"):
        confusion(good, good.T, 2)
    with pytest.raises(EvalkitError, match="at least one"):
        confusion(good, good, 0)


def test_scores_by_hand():
    scores = segmentation_scores(np.array([[6, 2], [1, 1]]), ["road", "car"])
    assert scores["IoU"] == {"road": pytest.approx(6 / 9), "car": pytest.approx(1 / 4)}
    assert scores["Acc"] == {"road": pytest.approx(6 / 8), "car": pytest.approx(1 / 2)}
    assert scores["mIoU"] == pytest.approx((6 / 9 + 1 / 4) / 2)
    assert scores["mAcc"] == pytest.approx(5 / 8)
    assert scores["aAcc"] == pytest.approx(7 / 10)
    assert scores["missing"] == {}
    assert "mIoU (defined classes)" not in scores


def test_set_matrix_is_not_the_mean_of_images():
    one, two = np.array([[9, 1], [0, 0]]), np.array([[0, 0], [1, 1]])
    scores = segmentation_scores(one + two)
    assert scores["IoU"] == {"0": pytest.approx(9 / 11), "1": pytest.approx(1 / 3)}


def test_class_that_never_occurs_is_a_missing_value():
    matrix = np.array([[5, 1, 0], [2, 2, 0], [0, 0, 0]])
    scores = segmentation_scores(matrix, ["road", "car", "bump"])
    assert math.isnan(scores["IoU"]["bump"])
    assert math.isnan(scores["mIoU"])
    assert scores["mIoU (defined classes)"] == pytest.approx((5 / 8 + 2 / 5) / 2)
    assert scores["aAcc"] == pytest.approx(7 / 10)
    assert set(scores["missing"]) == {"IoU bump", "mIoU", "Acc bump", "mAcc"}
    assert "bump" in scores["missing"]["mIoU"]


def test_class_only_predicted_has_an_iou_of_zero_and_no_accuracy():
    scores = segmentation_scores(np.array([[3, 1], [0, 0]]))
    assert scores["IoU"]["1"] == 0
    assert scores["mIoU"] == pytest.approx(3 / 8)
    assert math.isnan(scores["Acc"]["1"])
    assert math.isnan(scores["mAcc"])
    assert set(scores["missing"]) == {"Acc 1", "mAcc"}


def test_nothing_counted():
    scores = segmentation_scores(np.zeros((2, 2), np.int64))
    assert all(math.isnan(scores[name]) for name in ("mIoU", "mAcc", "aAcc", "mIoU (defined classes)"))
    assert {"mIoU", "mAcc", "aAcc"} <= set(scores["missing"])


@settings(deadline=None)
@given(arrays(np.int64, (4, 4), elements=st.integers(1, 1000)))
def test_bounds(matrix):
    scores = segmentation_scores(matrix)
    for name, iou in scores["IoU"].items():
        assert 0 <= iou <= scores["Acc"][name] <= 1
    assert 0 <= scores["mIoU"] <= scores["mAcc"] <= 1
    assert 0 <= scores["aAcc"] <= 1


def test_perfect_prediction():
    labels = np.arange(12).reshape(3, 4) % 5
    scores = segmentation_scores(confusion(labels, labels, 5))
    assert scores["mIoU"] == scores["mAcc"] == scores["aAcc"] == 1


@pytest.mark.parametrize(
    ("matrix", "names"),
    [
        (np.zeros((2, 3), int), None),
        (np.zeros(4, int), None),
        (np.zeros((0, 0), int), None),
        (np.eye(2), None),
        (-np.eye(2, dtype=int), None),
        (np.eye(2, dtype=int), ["a"]),
        (np.eye(2, dtype=int), ["a", "a"]),
    ],
)
def test_malformed_matrices_and_names_are_refused(matrix, names):
    with pytest.raises(EvalkitError):
        segmentation_scores(matrix, names)
