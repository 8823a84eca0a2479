"""Edges added and lost, and feature information: reference values, slow definitions, limits."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import textured
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.metrics.fusion.artifacts import SMFNET, TANG_PYTHON, UNIT_RANGE, labf, nabf, nabf_of_infrared, qabf
from evalkit.metrics.fusion.feature_information import (
    cosine_coefficients,
    edge_map,
    fmi_dct,
    fmi_edge,
    fmi_of_feature,
    fmi_pixel,
    fmi_wavelet,
    levels,
    mean_window_fmi,
    wavelet_coefficients,
)
from evalkit.metrics.image import Image, Pair, UndefinedError

SPECS = Path(__file__).parents[2] / "shared" / "specs"


def pair_of(fused: np.ndarray, infrared: np.ndarray, visible: np.ndarray) -> Pair:
    return Pair(Image(fused, "fused"), Image(infrared, "infrared"), Image(visible, "visible"))


def random_pair(height: int, width: int, seed: int = 0, levels: int = 256) -> Pair:
    rng = np.random.default_rng(seed)
    return pair_of(*(rng.integers(0, levels, (height, width)).astype(np.uint8) for _ in range(3)))


def swapped(pair: Pair) -> Pair:
    return Pair(pair.fused, pair.visible, pair.infrared)


DIALECTS = {
    ("Nabf", "nabf_matlab_0-255_correct_order"): nabf,
    ("Nabf", "smfnet_py_float64"): lambda pair: nabf(pair, SMFNET, over_both=False),
    ("Nabf", "linfeng_matlab_wrong_argument_order"): nabf_of_infrared,
}


@pytest.mark.skipif(not SPECS.is_dir(), reason="the reference values are not here")
@pytest.mark.parametrize(("metric", "dialect"), DIALECTS)
def test_public_evaluators(metric, dialect):
    with (SPECS / "reference_values.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (row["metric"], row["dialect"]) == (metric, dialect)]
    assert rows
    for row in rows:
        stem = SPECS / "reference_images" / f"{row['dataset']}_{row['image']}"
        files = [f"{stem}_F_{row['fusion']}.png", f"{stem}_ir.png", f"{stem}_vi.png"]
        pair = pair_of(*(cv2.imread(name, cv2.IMREAD_UNCHANGED) for name in files))
        assert DIALECTS[metric, dialect](pair) == pytest.approx(float(row["value"]), rel=1e-12, abs=1e-15)


# --- Nabf and Labf ----------------------------------------------------------------------------------------------


def slow_edge(x: np.ndarray, i: int, j: int) -> tuple[float, float]:
    """Sobel / 8 at one pixel, the image mirrored around its outermost pixels: strength, orientation."""
    h, w = x.shape

    def at(row: int, column: int) -> float:
        row, column = abs(row), abs(column)
        return float(x[2 * h - 2 - row if row >= h else row, 2 * w - 2 - column if column >= w else column])

    weights = {-1: 1, 0: 2, 1: 1}
    dx = sum(k * (at(i + d, j + 1) - at(i + d, j - 1)) for d, k in weights.items()) / 8
    dy = sum(k * (at(i + 1, j + d) - at(i - 1, j + d)) for d, k in weights.items()) / 8
    orientation = 0.0 if dx == dy == 0 else math.copysign(math.pi / 2, dx) if dy == 0 else math.atan(dx / dy)
    return math.hypot(dx, dy), orientation


def slow_account(pair: Pair, strong: float = 2, weak_weight: float = 0.001) -> tuple[float, float, float]:
    """Qabf, Labf, Nabf pixel by pixel."""
    kept = lost = added = total = 0.0
    for i, j in np.ndindex(pair.fused.shape):
        g_f, a_f = slow_edge(pair.fused.x, i, j)
        found = [slow_edge(source.x, i, j) for source in pair.sources]
        for g, a in found:
            strength = min(g, g_f) / max(g, g_f) if g and g_f else 0.0
            orientation = abs(abs(a - a_f) - math.pi / 2) * 2 / math.pi
            q_g = 0.9999 / (1 + math.exp(-19 * (strength - 0.5)))
            q_a = 0.9995 / (1 + math.exp(-22 * (orientation - 0.5)))
            q, weight = math.sqrt(q_g * q_a), g**1.5 if g >= strong else weak_weight
            kept, total = kept + q * weight, total + weight
            if all(g_f > g for g, _ in found):
                added += (1 - q) * weight
            else:
                lost += (1 - q) * weight
    return kept / total, lost / total, added / total


@pytest.mark.parametrize(("height", "width", "levels"), [(3, 3, 256), (2, 9, 256), (13, 8, 256), (17, 16, 4)])
def test_nabf_pixel_by_pixel(height, width, levels):
    pair = random_pair(height, width, levels=levels)
    assert (qabf(pair), labf(pair), nabf(pair)) == pytest.approx(slow_account(pair), rel=1e-11, abs=1e-14)


@pytest.mark.parametrize(("height", "width", "levels"), [(3, 3, 256), (2, 9, 256), (13, 8, 256), (17, 16, 40)])
def test_nabf_variants_pixel_by_pixel(height, width, levels):
    """Where weak edges do not count, and where images in 0..1 have weak ones only."""
    pair = random_pair(height, width, levels=levels)
    assert nabf(pair, TANG_PYTHON) == pytest.approx(slow_account(pair, weak_weight=0)[2], rel=1e-11, abs=1e-14)
    everything_weak = slow_account(pair, strong=math.inf)[2]
    assert nabf(pair, UNIT_RANGE) == pytest.approx(everything_weak, rel=1e-11, abs=1e-14)


def test_where_weak_edges_do_not_count_there_may_be_nothing_to_share():
    flat = np.full((16, 16), 90, np.uint8)
    with pytest.raises(UndefinedError, match="neither source has an edge that counts"):
        nabf(pair_of(flat, flat, flat), TANG_PYTHON)
    assert nabf(pair_of(flat, flat, flat), UNIT_RANGE) == 0


def test_the_three_shares_sum_to_one():
    pair = random_pair(31, 22)
    assert qabf(pair) + labf(pair) + nabf(pair) == pytest.approx(1, abs=1e-14)
    assert all(0 <= share(pair) <= 1 for share in (qabf, labf, nabf))


def test_nothing_is_added_to_equal_images():
    x = np.random.default_rng(1).integers(0, 256, (20, 30)).astype(np.uint8)
    pair = pair_of(x, x, x)
    assert nabf(pair) == nabf(pair, SMFNET, over_both=False) == nabf_of_infrared(pair) == 0
    assert labf(pair) < 1e-3


def test_constant_images_have_no_artifacts_and_edges_over_constant_sources_are_all_artifacts():
    flat = np.full((16, 16), 90, np.uint8)
    edged = np.where(np.indices((16, 16)).sum(axis=0) % 5 < 2, 200, 10).astype(np.uint8)
    assert nabf(pair_of(flat, flat, flat)) == 0
    assert nabf(pair_of(edged, flat, flat)) > 0.7
    assert nabf(pair_of(flat, edged, edged)) == 0
    assert labf(pair_of(flat, edged, edged)) > 0.99


def test_sources_may_change_places_only_where_both_count():
    pair = random_pair(20, 21)
    assert nabf(pair) == pytest.approx(nabf(swapped(pair)), rel=1e-13)
    assert labf(pair) == pytest.approx(labf(swapped(pair)), rel=1e-13)
    assert nabf(pair, SMFNET, over_both=False) != pytest.approx(nabf(swapped(pair), SMFNET, over_both=False))
    assert nabf_of_infrared(pair) == pytest.approx(
        nabf(Pair(pair.infrared, pair.fused, pair.visible)), rel=1e-13
    )  # the slip: the two change places


def test_sources_remember_nothing_of_a_fused_image():
    pair = random_pair(20, 21)
    for metric in (nabf, labf, nabf_of_infrared, fmi_pixel, fmi_edge, fmi_dct, fmi_wavelet):
        metric(pair)
    assert not [key for source in pair.sources for key in source.memo if pair.fused in key]


def test_one_row_has_no_gradient():
    for metric in (nabf, labf, nabf_of_infrared):
        with pytest.raises(UndefinedError, match="gradients need 2x2"):
            metric(random_pair(1, 9))


# --- FMI --------------------------------------------------------------------------------------------------------


def slow_window_fmi(a: np.ndarray, f: np.ndarray, constants_agree: bool = False) -> float:
    """FMI of two 3 x 3 windows from their full 9 x 9 cumulative joint distribution."""
    if (a == f).all() or (constants_agree and np.ptp(a) == np.ptp(f) == 0):
        return 1.0
    p, q = (np.ones(9) if w.min() == w.max() else (w.ravel(order="F") - w.min()) for w in (a, f))
    p, q = p / p.sum(), q / q.sum()
    spreads = [math.sqrt(max(sum(n * n * v for n, v in enumerate(d)) - sum(n * v for n, v in enumerate(d)) ** 2, 0))
               for d in (p, q)]  # fmt: skip
    c = 0.0 if min(np.ptp(p), np.ptp(q)) == 0 else float(np.corrcoef(p, q)[0, 1])
    cp, cq = np.concatenate([[0], np.cumsum(p)]), np.concatenate([[0], np.cumsum(q)])
    bound = np.minimum.outer(cp, cq) if c >= 0 else np.maximum(np.add.outer(cp, cq) - 1, 0)
    covariance = (bound - np.outer(cp, cq)).sum()
    share = c * spreads[0] * spreads[1] / covariance if min(spreads) > 1e-9 and abs(c) > 1e-12 else 0.0
    joint = share * np.diff(np.diff(bound, axis=0), axis=1) + (1 - share) * np.outer(p, q)
    marginal = -sum(v * math.log2(v) for d in (p, q) for v in d if v > 0)
    together = -sum(v * math.log2(abs(v)) for v in joint.ravel() if v != 0)
    return 2 * (marginal - together) / marginal if marginal > 0 else 0.0


@pytest.mark.parametrize("levels", [2, 4, 256])
def test_fmi_window_by_window(levels):
    pair = random_pair(14, 19, levels=levels)
    for source in pair.sources:
        f, s = pair.fused.x, source.x
        slow = [slow_window_fmi(s[i : i + 3, j : j + 3], f[i : i + 3, j : j + 3]) for i, j in np.ndindex(12, 17)]
        assert mean_window_fmi(pair.fused, source) == pytest.approx(np.mean(slow), rel=1e-10)


def test_fmi_of_more_windows_than_one_block(monkeypatch):
    pair = random_pair(40, 30)
    whole = fmi_pixel(pair)
    monkeypatch.setattr("evalkit.metrics.fusion.feature_information.BLOCK", 101)
    pair.fused.memo.clear()
    assert fmi_pixel(pair) == pytest.approx(whole, rel=1e-13)


def test_fmi_of_equal_images_is_one_and_of_constant_against_varying_is_zero():
    x = np.random.default_rng(2).integers(0, 256, (11, 12)).astype(np.uint8)
    flat = np.full_like(x, 7)
    assert fmi_pixel(pair_of(x, x, x)) == 1
    assert fmi_pixel(pair_of(flat, flat, flat)) == 1
    assert fmi_pixel(pair_of(flat, x, x)) == pytest.approx(0, abs=1e-12)
    assert fmi_pixel(pair_of(x, x, flat)) == pytest.approx(0.5)


def test_fmi_does_not_see_a_linear_change_of_a_source():
    x = np.random.default_rng(3).integers(0, 100, (11, 12)).astype(np.uint8)
    pair = random_pair(11, 12, seed=4)
    changed = pair_of(pair.fused.pixels, 2 * x + 9, x)
    assert mean_window_fmi(changed.fused, changed.infrared) == pytest.approx(
        mean_window_fmi(changed.fused, changed.visible), rel=1e-12
    )


def test_fmi_sources_may_change_places_and_smallest_size():
    pair = random_pair(9, 8)
    assert fmi_pixel(pair) == pytest.approx(fmi_pixel(swapped(pair)), rel=1e-15)
    assert math.isfinite(fmi_pixel(random_pair(3, 3)))
    with pytest.raises(UndefinedError, match="FMI needs 3x3"):
        fmi_pixel(random_pair(2, 9))


# --- FMI of features --------------------------------------------------------------------------------------------


def slow_edge_map(x: np.ndarray) -> np.ndarray:
    """MATLAB's `edge`, pixel by pixel, in whole numbers (the gradient times 8)."""
    h, w = x.shape
    p = np.pad(x.astype(int), 1, mode="edge")
    gx, gy = np.zeros((h, w), int), np.zeros((h, w), int)
    for i, j in np.ndindex(h, w):
        n = p[i : i + 3, j : j + 3]
        gx[i, j] = abs((n[:, 2] - n[:, 0]) @ [1, 2, 1])
        gy[i, j] = abs((n[2] - n[0]) @ [1, 2, 1])
    b = gx**2 + gy**2
    q = np.pad(b, 1)
    found = np.zeros((h, w), bool)
    for i, j in np.ndindex(h, w):
        here, left, right, up, down = q[i + 1, j + 1], q[i + 1, j], q[i + 1, j + 2], q[i, j + 1], q[i + 2, j + 1]
        across = gx[i, j] >= gy[i, j] and left <= here > right
        along = gy[i, j] >= gx[i, j] and up <= here > down
        found[i, j] = here * b.size > 4 * b.sum() and (across or along)
    return found


def slow_cosines(x: np.ndarray) -> np.ndarray:
    def matrix(n: int) -> np.ndarray:
        k = np.arange(n)
        m = np.cos(np.pi * k[:, None] * (2 * k + 1) / (2 * n)) * math.sqrt(2 / n)
        m[0] /= math.sqrt(2)
        return m

    return matrix(x.shape[0]) @ x @ matrix(x.shape[1]).T


def slow_wavelet(x: np.ndarray) -> np.ndarray:
    """One level from the definition: extended by half-point symmetry, filtered, every second value kept."""
    import pywt

    bank = pywt.Wavelet("dmey")

    def along(x: np.ndarray, taps: list[float]) -> np.ndarray:
        """Of the last axis."""
        n = x.shape[-1]
        indices = np.arange(-len(taps) + 1, n + len(taps) - 1) % (2 * n)
        extended = x[..., np.where(indices < n, indices, 2 * n - 1 - indices)]
        full = np.apply_along_axis(lambda row: np.convolve(row, taps, "valid"), -1, extended)
        return full[..., 1::2]

    low, high = (along(x, taps) for taps in (bank.dec_lo, bank.dec_hi))  # over the columns
    parts = [along(part.T, taps).T for part in (low, high) for taps in (bank.dec_lo, bank.dec_hi)]
    mean, horizontal, vertical, diagonal = parts
    return np.block([[mean, horizontal], [vertical, diagonal]])


@pytest.mark.parametrize(("height", "width"), [(3, 3), (14, 19), (33, 20)])
def test_features_by_definition(height, width):
    for image in (Image(textured(1, height, width)), random_pair(height, width).fused):
        assert np.array_equal(edge_map(image), slow_edge_map(image.pixels))
        assert cosine_coefficients(image) == pytest.approx(slow_cosines(image.x), abs=1e-7)
        assert wavelet_coefficients(image) == pytest.approx(slow_wavelet(image.x), abs=1e-7)
        assert wavelet_coefficients(image).shape == tuple(2 * ((n + 61) // 2) for n in image.shape)


@pytest.mark.parametrize(
    ("metric", "feature"), [(fmi_edge, edge_map), (fmi_dct, cosine_coefficients), (fmi_wavelet, wavelet_coefficients)]
)
@pytest.mark.parametrize("levels", [2, 256])
def test_fmi_of_features_window_by_window(metric, feature, levels):
    pair = random_pair(14, 19, levels=levels)
    f = feature(pair.fused).astype(float)
    values = []
    for source in pair.sources:
        s = feature(source).astype(float)
        values += [
            slow_window_fmi(s[i : i + 3, j : j + 3], f[i : i + 3, j : j + 3], constants_agree=True)
            for i, j in np.ndindex(f.shape[0] - 2, f.shape[1] - 2)
        ]
    assert metric(pair) == pytest.approx(np.mean(values), rel=1e-8)


def test_windows_without_contrast_agree_in_the_public_program_alone():
    one, other = np.full((9, 9), 40, np.uint8), np.full((9, 9), 41, np.uint8)
    pair = pair_of(one, other, other)
    assert fmi_of_feature(pair, levels) == 1
    assert fmi_pixel(pair) == 0


@settings(max_examples=20)
@given(st.integers(0, 2**20), st.integers(3, 40), st.integers(3, 40))
def test_fmi_of_features_is_symmetric_and_one_of_equal_images(seed, height, width):
    pair = random_pair(height, width, seed)
    x = pair.fused.pixels
    for metric in (fmi_edge, fmi_dct, fmi_wavelet):
        assert metric(pair) == pytest.approx(metric(swapped(pair)), rel=1e-12)
        assert metric(pair_of(x, x, x)) == pytest.approx(1, abs=1e-12)
        assert math.isfinite(metric(pair))


@pytest.mark.parametrize("metric", [fmi_edge, fmi_dct, fmi_wavelet])
def test_fmi_of_features_of_extreme_images(metric):
    x = textured(1, 20, 21)
    for level in (0, 90, 255):
        flat = np.full_like(x, level)
        assert metric(pair_of(flat, flat, flat)) == 1
        assert 0 <= metric(pair_of(flat, x, x)) <= 1
    stripes = np.tile(np.array([0, 255, 90], np.uint8), (21, 7)).T.copy()[:20]
    assert math.isfinite(metric(pair_of(stripes, x[:, :21], x[:, :21])))
    with pytest.raises(UndefinedError, match="FMI needs 3x3"):
        metric(random_pair(2, 9))
