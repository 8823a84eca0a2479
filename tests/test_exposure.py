"""MEF-SSIM and MEF-MS-SSIM: a slow definition window by window, properties, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import textured
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.metrics.fusion.exposure import mef_ms_ssim, mef_ssim
from evalkit.metrics.image import Image, Pair, UndefinedError

OFFSETS = np.arange(-5, 6)
GAUSSIAN = np.exp(-(OFFSETS[:, None] ** 2 + OFFSETS[None] ** 2) / (2 * 1.5**2))
GAUSSIAN /= GAUSSIAN.sum()


def pair_of(fused: np.ndarray, infrared: np.ndarray, visible: np.ndarray) -> Pair:
    return Pair(Image(fused, "fused"), Image(infrared, "infrared"), Image(visible, "visible"))


def some_pair(height: int, width: int, seed: int = 0) -> Pair:
    a, b = textured(seed, height, width), textured(seed + 1, height, width)
    return pair_of(((a.astype(int) + 2 * b) // 3).astype(np.uint8), a, b)


def slow_mef_ssim(f: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    values = []
    for i, j in np.ndindex(f.shape[0] - 10, f.shape[1] - 10):
        window = np.s_[i : i + 11, j : j + 11]
        x = [s[window] - s[window].mean() for s in (a, b)]
        norms = [np.linalg.norm(d) for d in x]
        eps = np.finfo(float).eps
        agreement = (np.linalg.norm(x[0] + x[1]) + eps) / (sum(norms) + eps)
        exponent = min(math.tan(math.pi / 2 * min(max(agreement, eps), 1 - eps)), 10)
        weights = [((norm + 0.001) / 11) ** exponent + eps for norm in norms]
        best = sum(w / sum(weights) * d / (n + 0.001) for w, d, n in zip(weights, x, norms, strict=True))
        if np.linalg.norm(best) > 0:
            best *= (max(norms) + 0.001) / np.linalg.norm(best)
        best, y = best - (GAUSSIAN * best).sum(), f[window] - (GAUSSIAN * f[window]).sum()
        covariance, of_best, of_fused = ((GAUSSIAN * u * v).sum() for u, v in ((best, y), (best, best), (y, y)))
        values.append((2 * covariance + 7.65**2) / (of_best + of_fused + 7.65**2))
    return float(np.mean(values))


def slow_mef_ms_ssim(*images: np.ndarray) -> float:
    value, exponents = 1.0, np.array([0.0448, 0.2856, 0.3001])
    for exponent in exponents / exponents.sum():
        value *= slow_mef_ssim(*images) ** exponent
        padded = [np.pad(x, [(0, 1), (0, 1)], mode="symmetric") for x in images]
        images = tuple(((x[:-1, :-1] + x[1:, :-1] + x[:-1, 1:] + x[1:, 1:]) / 4)[::2, ::2] for x in padded)
    return value


@pytest.mark.parametrize(("height", "width"), [(11, 11), (11, 30), (28, 17)])
def test_mef_ssim_window_by_window(height, width):
    pair = some_pair(height, width)
    slow = slow_mef_ssim(pair.fused.x, pair.infrared.x, pair.visible.x)
    assert mef_ssim(pair) == pytest.approx(slow, rel=1e-9)


@pytest.mark.parametrize(("height", "width"), [(41, 41), (44, 47)])
def test_mef_ms_ssim_window_by_window(height, width):
    pair = some_pair(height, width)
    slow = slow_mef_ms_ssim(pair.fused.x, pair.infrared.x, pair.visible.x)
    assert mef_ms_ssim(pair) == pytest.approx(slow, rel=1e-9)


def test_strips_do_not_matter(monkeypatch):
    pair = some_pair(60, 50)
    whole = mef_ssim(pair)
    monkeypatch.setattr("evalkit.metrics.image.STRIP", 7)
    assert mef_ssim(pair) == pytest.approx(whole, rel=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 2**20), st.integers(41, 60), st.integers(41, 60))
def test_sources_may_change_places_and_equal_images_are_perfect(seed, height, width):
    pair = some_pair(height, width, seed)
    assert mef_ssim(pair) == pytest.approx(mef_ssim(Pair(pair.fused, pair.visible, pair.infrared)), rel=1e-9)
    assert -1 <= mef_ssim(pair) <= 1
    same = pair_of(*[pair.infrared.pixels] * 3)
    for metric in (mef_ssim, mef_ms_ssim):
        assert metric(same) == pytest.approx(1, abs=1e-6)  # contrasts have an offset of 0.001


def test_mean_levels_do_not_count():
    pair = some_pair(50, 50)
    x = pair.fused.pixels // 2
    values = [mef_ssim(pair_of(x + shift, pair.infrared.pixels, pair.visible.pixels)) for shift in (0, 40)]
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_constant_and_small_images():
    x = textured(1, 41, 41)
    flat, black = np.full_like(x, 90), np.zeros_like(x)
    for metric in (mef_ssim, mef_ms_ssim):
        assert metric(pair_of(black, black, black)) == pytest.approx(1, abs=1e-6)
        assert metric(pair_of(flat, black, flat)) == pytest.approx(1, abs=1e-6)
        assert 0 <= metric(pair_of(flat, x, x)) < 0.9
        assert metric(pair_of(x, x, flat)) == pytest.approx(1, abs=1e-3)  # the only structure there is
    with pytest.raises(UndefinedError, match="MEF-SSIM needs 11x11"):
        mef_ssim(some_pair(10, 30))
    with pytest.raises(UndefinedError, match="MEF-MS-SSIM needs 41x41"):
        mef_ms_ssim(some_pair(60, 40))


def test_the_opposite_of_the_sources_has_no_multi_scale_value():
    x = textured(2, 60, 60)
    opposite = pair_of(255 - x, x, x)
    assert mef_ssim(opposite) < 0
    with pytest.raises(UndefinedError, match="mean similarity is negative"):
        mef_ms_ssim(opposite)


def test_opposite_sources_have_a_value():
    x = textured(3, 50, 50)
    assert math.isfinite(mef_ssim(pair_of(x, x, 255 - x)))


def test_sources_remember_nothing_of_a_fused_image():
    pair = some_pair(50, 50)
    mef_ms_ssim(pair)
    assert not [key for source in pair.sources for key in source.memo if pair.fused in key]
