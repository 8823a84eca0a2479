"""Salient-object measures: recorded reference values, dense oracles, properties, and the cases at the edge."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from evalkit.data.images import read_image, write_png
from evalkit.errors import EvalkitError, ImageError
from evalkit.metrics.saliency import saliency, saliency_curves, saliency_dataset

SPECS = Path(__file__).resolve().parents[2] / "shared" / "specs"
REFERENCE = SPECS / "saliency_reference_values.csv"
MEASURES = ["MAE", "S", "F_adaptive", "F_mean", "F_max", "F_weighted", "E_adaptive", "E_mean", "E_max"]
EPS = np.spacing(1)


def image(seed, height, width, levels=256):
    return np.random.default_rng(seed).integers(0, levels, (height, width)).astype(np.uint8)


def mask(seed, height, width, part=0.3):
    return np.where(np.random.default_rng(seed + 1).random((height, width)) < part, 255, 0).astype(np.uint8)


def pairs(least=1):
    sizes = st.integers(least, 24)
    part = st.sampled_from([0.0, 0.02, 0.3, 0.8, 1.0])

    def build(seed, height, width, levels, part):
        return image(seed, height, width, levels), mask(seed, height, width, part)

    return st.builds(build, st.integers(0, 10**6), sizes, sizes, st.sampled_from([1, 2, 5, 256]), part)


def stretch(prediction):
    p = prediction / 255
    return (p - p.min()) / (p.max() - p.min()) if p.max() > p.min() else p


# ---------------------------------------------------------------- recorded values


def reference_rows():
    if not REFERENCE.exists():
        return []
    with REFERENCE.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(not REFERENCE.exists(), reason="the recorded reference values are not in this checkout")
def test_recorded_values():
    names = {"S-measure(alpha=.5)": "S", "F_adaptive(beta2=.3)": "F_adaptive", "wF": "F_weighted"}
    measured = {}
    for row in reference_rows():
        stem, fused = f"{row['dataset']}_{row['image']}", row["prediction"].split()[0]
        if (stem, fused) not in measured:
            paths = [SPECS / "reference_images" / f"{stem}_{kind}.png" for kind in (fused, "GT_otsu_ir")]
            curves = saliency_curves(*paths)
            # item 128 of the reference's curves, which run from threshold 255 down: threshold 127
            points = {"P@thr128": curves.precision[127], "R@thr128": curves.recall[127]}
            measured[stem, fused] = saliency(*paths) | points
        value = measured[stem, fused][names.get(row["metric"], row["metric"])]
        assert value == pytest.approx(float(row["value"]), rel=1e-6), row
    assert len(measured) == 6


# ---------------------------------------------------------------- dense oracles


def dense_curves(prediction, truth):
    """The 256 binary maps, literally; E from the alignment matrix of each."""
    levels, g = (stretch(prediction) * 255).astype(np.uint8), truth > 128
    rows = []
    for threshold in range(256):
        b = levels >= threshold
        tp = np.count_nonzero(b & g)
        precision, recall = tp / max(np.count_nonzero(b), 1), tp / max(np.count_nonzero(g), 1)
        f = 1.3 * precision * recall / (0.3 * precision + recall) if tp else 0
        rows.append((precision, recall, f, dense_e(b, g)))
    return np.array(rows).T


def dense_e(b, g):
    if not g.any():
        matrix = ~b
    elif g.all():
        matrix = b
    else:
        x, y = b - b.mean(), g - g.mean()
        matrix = (2 * x * y / (x * x + y * y + EPS) + 1) ** 2 / 4
    return matrix.sum() / (g.size - 1)


def dense_weighted_f(p, g):
    if not g.any():
        return 0.0
    distance, (rows, columns) = ndimage.distance_transform_edt(~g, return_indices=True)
    error = np.abs(p - g)
    extended = error[rows, columns]
    axis = np.arange(-3, 4)
    window = np.exp(-(axis[:, None] ** 2 + axis**2) / 50)
    smooth = ndimage.convolve(extended, window / window.sum(), mode="constant")
    weighted = np.where(g & (smooth < error), smooth, error) * np.where(g, 1, 2 - 0.5 ** (distance / 5))
    tp, fp = g.sum() - weighted[g].sum(), weighted[~g].sum()
    recall, precision = 1 - weighted[g].mean(), tp / (tp + fp + EPS)
    return 2 * recall * precision / (recall + precision + EPS)


def dense_s(p, g):
    if not g.any() or g.all():
        return p.mean() if g.any() else 1 - p.mean()

    def similar(x):
        return 2 * x.mean() / (x.mean() ** 2 + 1 + (x.std(ddof=1) if x.size > 1 else 0) + EPS)

    def ssim(x, y):
        n, mx, my = x.size, x.mean(), y.mean()
        sx, sy, sxy = (v.sum() / (n - 1 + EPS) for v in ((x - mx) ** 2, (y - my) ** 2, (x - mx) * (y - my)))
        above, below = 4 * mx * my * sxy, (mx**2 + my**2) * (sx + sy)
        return above / (below + EPS) if above else float(below == 0)

    objects = g.mean() * similar(p[g]) + (1 - g.mean()) * similar(1 - p[~g])
    row, column = (int(c) + 1 for c in np.argwhere(g).mean(axis=0).round())
    quadrants = [(r, c) for r in (slice(row), slice(row, None)) for c in (slice(column), slice(column, None))]
    region = sum(p[q].size / p.size * ssim(p[q], g[q]) for q in quadrants if p[q].size)
    return max(0, objects / 2 + region / 2)


@settings(deadline=None, max_examples=60)
@given(pairs(least=2))
def test_curves_are_those_of_256_binary_maps(pair):
    curves = saliency_curves(*pair)
    found = np.array([curves.precision, curves.recall, curves.f, curves.e])
    assert found.shape == (4, 256)
    np.testing.assert_allclose(found, dense_curves(*pair), rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=150)
@given(pairs(least=2))
def test_values_are_those_of_the_definitions(pair):
    p, g = stretch(pair[0]), pair[1] > 128
    b = p >= min(2 * p.mean(), 1)
    tp = np.count_nonzero(b & g)
    precision, recall = tp / max(b.sum(), 1), tp / max(g.sum(), 1)
    f, e = dense_curves(*pair)[2:]
    expected = {
        "MAE": np.abs(p - g).mean(),
        "S": dense_s(p, g),
        "F_adaptive": 1.3 * precision * recall / (0.3 * precision + recall) if tp else 0,
        "F_mean": f.mean(),
        "F_max": f.max(),
        "F_weighted": dense_weighted_f(p, g),
        "E_adaptive": dense_e(b, g),
        "E_mean": e.mean(),
        "E_max": e.max(),
    }
    values = saliency(*pair)
    assert list(values) == MEASURES
    assert values == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_weighted_f_takes_the_nearest_pixel_as_scipy_does():
    """A sparse lattice: most background pixels have two or four nearest object pixels, with different errors."""
    for step in (2, 3, 4, 5, 6):
        truth = np.zeros((37, 43), np.uint8)
        truth[::step, ::step] = 255
        prediction = image(step, 37, 43)
        expected = dense_weighted_f(stretch(prediction), truth > 128)
        assert saliency(prediction, truth)["F_weighted"] == pytest.approx(expected, rel=1e-7)


# ---------------------------------------------------------------- properties


@settings(deadline=None, max_examples=100)
@given(pairs(least=2))
def test_bounds(pair):
    size = pair[0].size
    for name, value in saliency(*pair).items():
        # E divides by N - 1; a rounding error more for the rest
        assert 0 <= value <= (size / (size - 1) if name[0] == "E" else 1) + 1e-12, name


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 24), st.integers(4, 24))
def test_perfect_prediction(seed, height, width):
    truth = mask(seed, height, width)
    truth[0, 0], truth[1, 1] = 0, 255
    values = saliency(truth, truth)
    assert values["MAE"] == 0
    for name in ("S", "F_adaptive", "F_max", "F_weighted"):
        assert values[name] == pytest.approx(1, abs=1e-12), name
    for name in ("E_adaptive", "E_max"):
        assert values[name] == pytest.approx(truth.size / (truth.size - 1)), name


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 51))
def test_stretching_the_prediction_changes_nothing(seed, gain, offset):
    prediction, truth = image(seed, 16, 18, levels=51), mask(seed, 16, 18)
    plain, moved = saliency(prediction, truth), saliency(prediction * np.uint8(gain) + np.uint8(offset), truth)
    for name in ("MAE", "S", "F_weighted"):  # the others compare levels, where the last bit may decide a tie
        assert moved[name] == pytest.approx(plain[name], rel=1e-9), name


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 254), st.integers(1, 255))
def test_two_levels_are_any_two_levels(seed, low, difference):
    drawn, truth = mask(seed, 12, 15, part=0.5), mask(seed + 5, 12, 15)
    high = min(low + difference, 255)
    moved = saliency(np.where(drawn > 0, high, low).astype(np.uint8), truth)
    assert moved == pytest.approx(saliency(drawn, truth), rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_inverted_prediction_is_worse(seed):
    truth = np.zeros((20, 24), np.uint8)
    truth[5:13, 6:16] = 255
    prediction = np.where(truth > 0, 155, 0).astype(np.uint8) + image(seed, 20, 24, levels=100)
    right, wrong = saliency(prediction, truth), saliency(255 - prediction, truth)
    assert right["MAE"] < wrong["MAE"]
    assert all(right[name] > wrong[name] for name in MEASURES if name != "MAE")


@settings(deadline=None)
@given(pairs(least=2))
def test_recall_falls_with_the_threshold(pair):
    assert (np.diff(saliency_curves(*pair).recall) <= 0).all()


# ---------------------------------------------------------------- the edge


def test_truth_without_an_object():
    prediction, truth = image(3, 12, 14), np.zeros((12, 14), np.uint8)
    values, p = saliency(prediction, truth), stretch(prediction)
    assert values["S"] == pytest.approx(1 - p.mean())
    assert values["F_adaptive"] == values["F_mean"] == values["F_max"] == values["F_weighted"] == 0
    assert values["E_adaptive"] == pytest.approx((p < min(2 * p.mean(), 1)).sum() / (p.size - 1))
    assert values["MAE"] == pytest.approx(p.mean())


def test_truth_that_is_all_object():
    prediction, truth = image(4, 12, 14), np.full((12, 14), 255, np.uint8)
    values, p = saliency(prediction, truth), stretch(prediction)
    assert values["S"] == pytest.approx(p.mean())
    assert values["E_max"] == pytest.approx(p.size / (p.size - 1))
    assert values["MAE"] == pytest.approx(1 - p.mean())
    assert values["F_max"] == pytest.approx(1)


@pytest.mark.parametrize("level", [0, 1, 100, 128, 255])
def test_constant_prediction_is_not_stretched(level):
    prediction, truth = np.full((9, 11), level, np.uint8), mask(7, 9, 11)
    values, part = saliency(prediction, truth), (truth > 0).mean()
    assert values["MAE"] == pytest.approx(part * (1 - level / 255) + (1 - part) * level / 255)
    # above twice its own mean is nothing, but for 0 >= 0 and 1 >= 1
    precision = part if level in (0, 255) else 0
    assert values["F_adaptive"] == pytest.approx(1.3 * precision / (0.3 * precision + 1))
    assert all(math.isfinite(value) for value in values.values())


def test_threshold_of_the_truth():
    prediction = image(1, 6, 6)
    at, above = np.full((6, 6), 128, np.uint8), np.full((6, 6), 129, np.uint8)
    at[0, 0] = 255
    assert saliency(prediction, at) == saliency(prediction, np.where(at == 255, at, 0))
    assert saliency(prediction, above) == saliency(prediction, np.full((6, 6), 255, np.uint8))


@pytest.mark.parametrize("truth", [0, 255])
def test_single_pixel_has_no_e(truth):
    values = saliency(np.full((1, 1), 51, np.uint8), np.full((1, 1), truth, np.uint8))
    assert {name for name, value in values.items() if math.isnan(value)} == {"E_adaptive", "E_mean", "E_max"}
    assert values["MAE"] == pytest.approx(0.2 if truth == 0 else 0.8)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 2), (2, 1)])
def test_one_row_or_column(shape):
    truth = np.zeros(shape, np.uint8)
    truth.flat[-1] = 255
    assert all(math.isfinite(value) for value in saliency(image(2, *shape), truth).values())
    assert saliency(truth, truth)["S"] == pytest.approx(1)


def test_sizes_that_differ_are_named():
    with pytest.raises(ImageError, match=r"20x10 .* 10x20"):
        saliency(np.zeros((10, 20), np.uint8), np.zeros((20, 10), np.uint8))


def test_mask_of_zero_and_one_is_refused():
    with pytest.raises(ImageError, match="Multiply it by 255"):
        saliency(image(0, 4, 4), np.eye(4, dtype=np.uint8))


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4), bool), np.zeros((0, 4), np.uint8), [[0, 1]]])
def test_what_is_no_image_is_refused(bad):
    good = np.zeros((4, 4), np.uint8)
    with pytest.raises(ImageError, match="prediction"):
        saliency(bad, good)
    with pytest.raises(ImageError, match="ground truth"):
        saliency(good, bad)


def test_paths_arrays_and_colour_agree(tmp_path):
    prediction, truth = image(8, 10, 12), mask(8, 10, 12)
    write_png(tmp_path / "p.png", np.repeat(prediction[..., None], 3, axis=2))
    write_png(tmp_path / "g.png", truth)
    expected = saliency(prediction, truth)
    assert saliency(tmp_path / "p.png", str(tmp_path / "g.png")) == expected
    assert saliency(read_image(tmp_path / "p.png"), truth) == expected


# ---------------------------------------------------------------- data sets


def test_dataset_averages_curves_before_the_maximum():
    images = [(image(seed, 9 + seed, 14), mask(seed, 9 + seed, 14)) for seed in range(5)]
    images.append((image(9, 8, 8), np.zeros((8, 8), np.uint8)))
    result = saliency_dataset(iter(images))
    rows = [saliency(*pair) for pair in images]
    assert result.images == tuple(rows)
    assert result.missing == {}
    assert list(result.scores) == MEASURES
    for name in ("MAE", "S", "F_adaptive", "F_weighted", "E_adaptive"):
        assert result.scores[name] == pytest.approx(sum(row[name] for row in rows) / 6), name
    mean = np.mean([dense_curves(*pair) for pair in images], axis=0)
    for curve, expected in zip(("precision", "recall", "f", "e"), mean, strict=True):
        np.testing.assert_allclose(getattr(result.curves, curve), expected, rtol=1e-12)
    for name, curve in (("F", mean[2]), ("E", mean[3])):
        assert result.scores[f"{name}_max"] == pytest.approx(curve.max())
        assert result.scores[f"{name}_mean"] == pytest.approx(curve.mean())
    assert result.scores["F_max"] < np.mean([row["F_max"] for row in rows])


def test_dataset_of_one_image_is_that_image():
    pair = image(2, 10, 10), mask(2, 10, 10)
    assert saliency_dataset([pair]).scores == pytest.approx(saliency(*pair))


def test_dataset_takes_no_mean_over_a_missing_value():
    pixel = np.zeros((1, 1), np.uint8)
    result = saliency_dataset([(image(2, 10, 10), mask(2, 10, 10)), (pixel, pixel)])
    assert set(result.missing) == {"E_adaptive", "E_mean", "E_max"}
    assert all("image 1" in reason and math.isnan(result.scores[name]) for name, reason in result.missing.items())
    assert math.isfinite(result.scores["MAE"])


def test_empty_dataset_is_an_error():
    with pytest.raises(EvalkitError, match="no saliency maps"):
        saliency_dataset([])
