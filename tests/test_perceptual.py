"""CV, CB, VIFF and MS-SSIM: reference values, slow definitions, limits."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.signal import correlate2d

from evalkit.metrics.fusion.multiscale import halve, ms_ssim, ms_ssim_smfnet
from evalkit.metrics.fusion.perceptual import chen_blum, chen_varshney, stretched
from evalkit.metrics.fusion.viff import viff
from evalkit.metrics.image import Image, Pair, UndefinedError

SPECS = Path(__file__).parents[2] / "shared" / "specs"


def pair_of(fused: np.ndarray, infrared: np.ndarray, visible: np.ndarray) -> Pair:
    return Pair(Image(fused, "fused"), Image(infrared, "infrared"), Image(visible, "visible"))


def smooth_pair(height: int, width: int, seed: int = 0) -> Pair:
    """Three related images with structure at several scales; the fused one is the sources' mean and some noise."""
    rng = np.random.default_rng(seed)
    layers = []
    for _ in range(2):
        x = sum(
            k * cv2.resize(rng.normal(size=(height // k + 2, width // k + 2)), (width, height), interpolation=3)
            for k in (1, 4, 9)
        )
        layers.append(128 + 60 * x / np.abs(x).max())
    fused = (layers[0] + layers[1]) / 2 + rng.normal(size=(height, width))
    return pair_of(*(np.clip(np.rint(x), 0, 255).astype(np.uint8) for x in (fused, *layers)))


def swapped(pair: Pair) -> Pair:
    return Pair(pair.fused, pair.visible, pair.infrared)


def same(x: np.ndarray) -> Pair:
    return pair_of(x, x, x)


def ms_ssim_sum_as_piq(pair: Pair) -> float:
    return sum(ms_ssim(pair.fused, source, 255, "first repeated") for source in pair.sources)


def ms_ssim_infrared(pair: Pair) -> float:
    return ms_ssim_smfnet(pair.fused, pair.infrared)


DIALECTS = {
    ("CV", "zhengliu_matlab"): (chen_varshney, 1e-12),
    ("CV", "vifb_matlab_uint8"): (chen_varshney, 1e-12),
    ("CV", "bfliu_matlab_uint8"): (chen_varshney, 1e-12),
    ("CB", "zhengliu_matlab"): (lambda pair: chen_blum(pair, unit_first=True), 1e-10),
    ("CB", "vifb_matlab_uint8"): (chen_blum, 1e-10),
    ("CB", "bfliu_matlab_uint8"): (chen_blum, 1e-10),
    ("VIFF", "han2013_gray"): (viff, 1e-11),
    ("MS-SSIM", "piq_multi_scale_ssim_sum"): (ms_ssim_sum_as_piq, 1e-12),
    ("MS-SSIM", "smfnet_py_float64"): (ms_ssim_infrared, 1e-12),
}


@pytest.mark.skipif(not SPECS.is_dir(), reason="the reference values are not here")
@pytest.mark.parametrize(("metric", "dialect"), DIALECTS)
def test_public_evaluators(metric, dialect):
    function, tolerance = DIALECTS[metric, dialect]
    with (SPECS / "reference_values.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (row["metric"], row["dialect"]) == (metric, dialect)]
    assert rows
    for row in rows:
        stem = SPECS / "reference_images" / f"{row['dataset']}_{row['image']}"
        files = [f"{stem}_F_{row['fusion']}.png", f"{stem}_ir.png", f"{stem}_vi.png"]
        pair = pair_of(*(cv2.imread(name, cv2.IMREAD_UNCHANGED) for name in files))
        assert function(pair) == pytest.approx(float(row["value"]), rel=tolerance)


# --- CV and CB --------------------------------------------------------------------------------------------------


def slow_stretch(image: Image) -> np.ndarray:
    low, high = image.x.min(), image.x.max()
    return np.array([[math.floor((v - low) / (high - low) * 255 + 0.5) for v in row] for row in image.x], float)


def slow_csf(x: np.ndarray, csf, scale: float) -> np.ndarray:
    """Full complex spectrum times the CSF of the distance from the zero frequency in the middle."""
    spectrum = np.fft.fftshift(np.fft.fft2(x))
    for i, j in np.ndindex(x.shape):
        v, u = ((k - n // 2) * 2 * scale for k, n in zip((i, j), x.shape, strict=True))
        spectrum[i, j] *= csf(math.hypot(u, v))
    return np.fft.ifft2(np.fft.ifftshift(spectrum)).real


def slow_chen_varshney(pair: Pair, stretch: bool) -> float:
    images = [slow_stretch(i) if stretch else i.x for i in (pair.fused, *pair.sources)]
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    h, w = pair.fused.shape
    top = bottom = 0.0
    for source in images[1:]:
        gx, gy = correlate2d(source, kernel, "same"), correlate2d(source, kernel.T, "same")
        seen = slow_csf(
            source - images[0], lambda r: 2.6 * (0.0192 + 0.144 * r) * math.exp(-((0.144 * r) ** 1.1)), 1 / 8
        )
        for i in range(0, h, 16):
            for j in range(0, w, 16):
                region = np.s_[i : i + 16, j : j + 16]
                saliency = (np.hypot(gx, gy)[region] ** 5).sum()
                top += saliency * (seen[region] ** 2).sum() / 256
                bottom += saliency
    return top / bottom


def slow_chen_blum(pair: Pair) -> float:
    offsets = np.arange(-15, 16)
    squares = offsets[:, None] ** 2 + offsets[None] ** 2
    contrasts = []
    for image in (pair.fused, *pair.sources):
        seen = slow_csf(
            slow_stretch(image),
            lambda r: math.exp(-((r / 15.387) ** 2)) - 0.7622 * math.exp(-((r / 1.3456) ** 2)),
            1 / 30,
        )
        fine, coarse = (correlate2d(seen, np.exp(-squares / (2 * s * s)) / (2 * np.pi * s * s), "same") for s in (2, 4))
        c = np.abs(fine / coarse - 1)
        contrasts.append(c**3 / (c**2 + 1e-4))
    f, a, b = contrasts
    q_a, q_b = (np.where(s < f, s / f, f / s) for s in (a, b))
    return float(np.mean((a**2 * q_a + b**2 * q_b) / (a**2 + b**2)))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 20), (7, 50), (16, 15)])
def test_cv_and_cb_by_dense_definition(height, width):
    pair = smooth_pair(height, width)
    for stretch in (False, True):
        assert chen_varshney(pair, stretch) == pytest.approx(slow_chen_varshney(pair, stretch), rel=1e-9)
    assert chen_blum(pair) == pytest.approx(slow_chen_blum(pair), rel=1e-8)


def test_stretch_rounds_halves_up_and_is_exact():
    x = np.arange(100, 271 - 100, dtype=np.uint8).reshape(1, -1)  # 71 levels to 0..255
    exact = [(2 * 255 * k + 70) // 140 for k in range(71)]
    assert stretched(Image(x)).ravel().tolist() == exact
    full = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(stretched(Image(full)), full)
    assert np.array_equal(stretched(Image(full), True), full)


def test_perceptual_limits():
    pair = smooth_pair(40, 50)
    equal = same(pair.infrared.pixels)
    assert chen_varshney(equal) == 0
    assert chen_blum(equal) == pytest.approx(1, abs=1e-14)
    assert chen_varshney(pair) > 0
    assert 0 < chen_blum(pair) < 1


@pytest.mark.parametrize("metric", [chen_varshney, chen_blum, viff])
def test_sources_may_change_places(metric):
    pair = smooth_pair(60, 51)
    assert metric(pair) == pytest.approx(metric(swapped(pair)), rel=1e-12)


def test_cv_without_stretch_sees_a_loss_of_contrast():
    x = np.random.default_rng(0).integers(0, 64, (32, 32)).astype(np.uint8) * 4
    weak = pair_of(x // 4 + 100, x, x)
    assert chen_varshney(weak, True) == pytest.approx(0, abs=1)
    assert chen_varshney(weak, False) > 1


def test_cv_and_cb_of_constant_images():
    x = smooth_pair(20, 20).fused.pixels
    flat = np.full_like(x, 50)
    for metric in (chen_varshney, chen_blum):
        for pair in (pair_of(flat, x, x), pair_of(x, flat, x), same(flat), same(np.zeros_like(x))):
            with pytest.raises(UndefinedError, match="image is constant"):
                metric(pair)
    assert chen_varshney(pair_of(flat, x, x), False) > 0
    with pytest.raises(UndefinedError, match="neither source has an edge"):
        chen_varshney(same(np.zeros_like(x)), False)


def test_cv_and_cb_of_tiny_images():
    for height, width in [(1, 2), (2, 1), (2, 2), (3, 5), (1, 17)]:
        x = np.random.default_rng(7).permutation(height * width).reshape(height, width).astype(np.uint8)
        assert chen_varshney(same(x)) == 0
        assert chen_blum(same(x)) == pytest.approx(1)
    with pytest.raises(UndefinedError, match="constant"):
        chen_varshney(same(np.full((1, 1), 3, np.uint8)))


def test_sources_remember_nothing_of_a_fused_image():
    pair = smooth_pair(170, 171)
    for metric in (chen_varshney, chen_blum, viff, ms_ssim_sum_as_piq, ms_ssim_infrared):
        metric(pair)
    assert not [key for source in pair.sources for key in source.memo if pair.fused in key]


# --- VIFF -------------------------------------------------------------------------------------------------------


def slow_viff(pair: Pair) -> float:
    f, a, b = (image.x for image in (pair.fused, *pair.sources))
    value = 0.0
    for scale, weight in enumerate([1, 0, 0.15, 1], start=1):
        n = 2 ** (5 - scale) + 1
        offsets = np.arange(n) - n // 2
        window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * (n / 5) ** 2))
        window /= window.sum()

        def mean(x: np.ndarray, window: np.ndarray = window) -> np.ndarray:
            return correlate2d(x, window, "valid")

        if scale > 1:
            f, a, b = (mean(x)[::2, ::2] for x in (f, a, b))
        kept, present, gains = [], [], []
        for s in (a, b):
            variance_s = mean(s * s) - mean(s) ** 2
            variance_f = mean(f * f) - mean(f) ** 2
            covariance = mean(f * s) - mean(f) * mean(s)
            gain = np.maximum(covariance / variance_s, 0)
            noise = variance_f - gain * covariance
            kept.append(np.log10(1 + gain**2 * variance_s / (noise + 0.005 * 255**2)))
            present.append(np.log10(1 + variance_s / (0.005 * 255**2)))
            gains.append(gain)
        first = gains[0] < gains[1]
        value += weight / 2.15 * (np.where(first, *kept) + 1e-7).sum() / (np.where(first, *present) + 1e-7).sum()
    return float(value)


@pytest.mark.parametrize(("height", "width"), [(41, 41), (46, 63)])
def test_viff_by_dense_definition(height, width):
    pair = smooth_pair(height, width)
    assert viff(pair) == pytest.approx(slow_viff(pair), rel=1e-9)


def test_viff_limits():
    pair = smooth_pair(50, 45)
    x = pair.infrared.pixels
    flat = np.full_like(x, 50)
    assert viff(same(x)) == pytest.approx(1, abs=1e-8)
    assert viff(pair_of(flat, x, x)) == pytest.approx(0, abs=1e-5)
    assert 0 < viff(pair) < 1.2
    with pytest.raises(UndefinedError, match="the visible image is constant"):
        viff(pair_of(x, x, flat))
    with pytest.raises(UndefinedError, match="VIFF needs 41x41"):
        viff(smooth_pair(40, 60))


# --- MS-SSIM ----------------------------------------------------------------------------------------------------


def slow_ms_ssim(f: np.ndarray, s: np.ndarray, L: float = 255, odd: str = "last repeated") -> float:
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    value, c1, c2 = 1.0, (0.01 * L) ** 2, (0.03 * L) ** 2
    for scale, exponent in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        mean = [correlate2d(x, window, "valid") for x in (f, s, f * f, s * s, f * s)]
        covariance = mean[4] - mean[0] * mean[1]
        cs = (2 * covariance + c2) / (mean[2] - mean[0] ** 2 + mean[3] - mean[1] ** 2 + c2)
        luminance = (2 * mean[0] * mean[1] + c1) / (mean[0] ** 2 + mean[1] ** 2 + c1)
        value *= np.mean(cs * luminance if scale == 4 else cs) ** exponent
        if odd == "last repeated":
            f, s = (np.pad(x, [(0, n % 2) for n in x.shape], mode="edge") for x in (f, s))
        else:
            f, s = (np.pad(x, [(n % 2, n % 2) for n in x.shape]) for x in (f, s))
        f, s = (correlate2d(x, np.full((2, 2), 0.25), "valid")[::2, ::2] for x in (f, s))
    return float(value)


@pytest.mark.parametrize(("height", "width"), [(161, 161), (176, 191)])
def test_ms_ssim_by_dense_definition(height, width):
    pair = smooth_pair(height, width)
    f, s = pair.fused, pair.visible
    assert ms_ssim(f, s) == pytest.approx(slow_ms_ssim(f.x, s.x), rel=1e-11)
    assert ms_ssim(f, s, 1, "zeros first") == pytest.approx(slow_ms_ssim(f.x, s.x, 1, "zeros first"), rel=1e-9)


def test_halve_continues_odd_sides():
    x = np.array([[0.0, 4.0, 8.0], [2.0, 6.0, 10.0], [4.0, 8.0, 12.0]])
    assert halve(x).tolist() == [[3, 9], [6, 12]]
    assert halve(x, "first repeated").tolist() == [[0, 6], [3, 9]]
    assert halve(x, "zeros first").tolist() == [[0, 3], [1.5, 9]]


def test_ms_ssim_limits():
    pair = smooth_pair(165, 180)
    x = pair.infrared
    flat = Image(np.full_like(x.pixels, 50))
    assert ms_ssim(x, x) == ms_ssim_smfnet(x, x) == pytest.approx(1, abs=1e-12)
    assert ms_ssim(flat, flat) == pytest.approx(1, abs=1e-12)
    assert ms_ssim(pair.fused, x) == pytest.approx(ms_ssim(x, pair.fused), rel=1e-12)
    assert 0 < ms_ssim(pair.fused, x) < 1
    negative = Image(255 - x.pixels)
    assert ms_ssim(negative, x) == 0
    with pytest.raises(UndefinedError, match="not a number"):
        ms_ssim_smfnet(negative, x)


def test_ms_ssim_smallest_sizes():
    small = smooth_pair(160, 200)
    with pytest.raises(UndefinedError, match="MS-SSIM needs 161x161"):
        ms_ssim(small.fused, small.infrared)
    for side in (16, 17, 31):
        x = smooth_pair(side, side).fused
        assert ms_ssim_smfnet(x, x) == pytest.approx(1)
    tiny = smooth_pair(15, 40)
    with pytest.raises(UndefinedError, match="MS-SSIM needs 16x16"):
        ms_ssim_smfnet(tiny.fused, tiny.infrared)
