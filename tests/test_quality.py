"""The Q family (Piella, Cvejic, Yang, Wang, Zhao, ...) and IVIF_ZOO's variants: slow definitions, limits, extremes."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import correlate2d
from test_perceptual import pair_of, same, smooth_pair, swapped

import evalkit
from evalkit.metrics.card import CONVENTIONS
from evalkit.metrics.fusion import ivif_zoo
from evalkit.metrics.fusion.gradient import gradient_quality_liu, spatial_frequency_error
from evalkit.metrics.fusion.haar import multiscale_quality
from evalkit.metrics.fusion.joint_information import (
    nonlinear_correlation,
    nonlinear_correlation_liu,
    normalised_mutual_information_liu,
    tsallis_ratio_liu,
    tsallis_sum_liu,
)
from evalkit.metrics.fusion.local_similarity import (
    LIU_7,
    LIU_11,
    LIU_EDGES,
    UNIVERSAL,
    cvejic_similarity,
    cvejic_similarity_liu,
    edge_magnitude,
    piella_edge_dependent_quality,
    piella_edge_quality,
    piella_quality,
    piella_weighted_quality,
    yang_similarity,
    yang_similarity_liu,
)
from evalkit.metrics.fusion.phase_congruency import phase_congruency_quality, phase_maps
from evalkit.metrics.fusion.rounding import gaussian_weights, in_blocks, window_means
from evalkit.metrics.image import Image, Pair, UndefinedError

SIZES = [(33, 29), (24, 40), (17, 16)]


def patchy_pair(height: int, width: int, seed: int = 3) -> Pair:
    """As `smooth_pair`, but with black, white and gray areas in each image, some of them in the same place."""
    pair = smooth_pair(height, width, seed)
    fused, infrared, visible = (image.pixels.copy() for image in (pair.fused, *pair.sources))
    infrared[: height // 3, : width // 2] = 0
    visible[: height // 2, : width // 3] = 255
    fused[: height // 2, : width // 4] = 90
    visible[height // 2 :, width // 2 :] = 77
    infrared[2 * height // 3 :, 2 * width // 3 :] = 30
    return pair_of(fused, infrared, visible)


# --- similarity in windows --------------------------------------------------------------------------------------


def universal_index(x: np.ndarray, y: np.ndarray) -> Fraction | float:
    """Wang and Bovik's index of two windows in exact arithmetic, its parts 1 where they are 0/0."""
    n = x.size
    sx, sy = int(x.sum()), int(y.sum())
    cov = n * int((x * y).sum()) - sx * sy
    variances = n * int((x * x).sum()) - sx * sx + n * int((y * y).sum()) - sy * sy
    luminance = Fraction(2 * sx * sy, sx * sx + sy * sy) if sx or sy else Fraction(1)
    return luminance * (Fraction(2 * cov, variances) if variances else Fraction(1))


def windows_of(pair: Pair, side: int):
    images = [image.pixels.astype(np.int64) for image in (pair.fused, *pair.sources)]
    height, width = images[0].shape
    for i in range(height - side + 1):
        for j in range(width - side + 1):
            yield [x[i : i + side, j : j + side] for x in images]


def variance(x: np.ndarray) -> int:
    return x.size * int((x * x).sum()) - int(x.sum()) ** 2


def covariance(x: np.ndarray, y: np.ndarray) -> int:
    return x.size * int((x * y).sum()) - int(x.sum()) * int(y.sum())


def slow_piella(pair: Pair) -> tuple[float, float]:
    values, weights = [], []
    for f, a, b in windows_of(pair, 8):
        va, vb = variance(a), variance(b)
        share = Fraction(va, va + vb) if va + vb else Fraction(1, 2)
        values.append(float(share * universal_index(a, f) + (1 - share) * universal_index(b, f)))
        weights.append(max(va, vb))
    return float(np.mean(values)), float(np.average(values, weights=weights))


def slow_cvejic(pair: Pair) -> float:
    values = []
    for f, a, b in windows_of(pair, 8):
        ca, cb = covariance(a, f), covariance(b, f)
        share = min(max(Fraction(ca, ca + cb), Fraction(0)), Fraction(1)) if ca + cb else Fraction(1, 2)
        values.append(float(share * universal_index(a, f) + (1 - share) * universal_index(b, f)))
    return float(np.mean(values))


def slow_yang(pair: Pair) -> float:
    def ssim(x: np.ndarray, y: np.ndarray) -> float:
        c1, c2 = 2.55**2, 7.65**2
        luminance = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
        return luminance * (2 * np.mean((x - x.mean()) * (y - y.mean())) + c2) / (x.var() + y.var() + c2)

    values = []
    for f, a, b in windows_of(pair, 7):
        va, vb = variance(a), variance(b)
        share = va / (va + vb) if va + vb else 0.5
        one, other = ssim(a, f), ssim(b, f)
        values.append(share * one + (1 - share) * other if ssim(a, b) >= 0.75 else max(one, other))
    return float(np.mean(values))


@pytest.mark.parametrize("make", [smooth_pair, patchy_pair])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_textbook_similarities_by_definition(make, height, width):
    pair = make(height, width)
    expected = slow_piella(pair)
    assert piella_quality(pair) == pytest.approx(expected[0], rel=1e-12)
    assert piella_weighted_quality(pair) == pytest.approx(expected[1], rel=1e-12)
    assert cvejic_similarity(pair) == pytest.approx(slow_cvejic(pair), rel=1e-12)
    assert yang_similarity(pair) == pytest.approx(slow_yang(pair), rel=1e-10)


def test_edge_dependent_quality_is_a_product():
    pair = smooth_pair(40, 31)
    kernel = np.array([[-1, 0, 1]] * 3)
    for image in (pair.fused, *pair.sources):
        gx, gy = correlate2d(image.x, kernel, "same"), correlate2d(image.x, kernel.T, "same")
        assert np.allclose(edge_magnitude(image), np.hypot(gx, gy), rtol=1e-12)
    product = piella_weighted_quality(pair) * piella_edge_quality(pair, UNIVERSAL)
    assert piella_edge_dependent_quality(pair) == product


def gaussian_window(side: int) -> np.ndarray:
    offsets = np.arange(side) - side // 2
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    return window / window.sum()


def dense_moments(pair: Pair, side: int):
    f, a, b = (image.x for image in (pair.fused, *pair.sources))
    mean = lambda x: correlate2d(x, gaussian_window(side), "valid")  # noqa: E731
    cov = lambda x, y: mean(x * y) - mean(x) * mean(y)  # noqa: E731

    def ssim(x: np.ndarray, y: np.ndarray, c1: float, c2: float) -> np.ndarray:
        luminance = (2 * mean(x) * mean(y) + c1) / (mean(x) ** 2 + mean(y) ** 2 + c1)
        return luminance * (2 * cov(x, y) + c2) / (cov(x, x) + cov(y, y) + c2)

    return f, a, b, cov, ssim


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_liu_similarities_by_dense_definition(height, width):
    pair = smooth_pair(height, width)
    f, a, b, cov, ssim = dense_moments(pair, 11)
    share = cov(a, a) / (cov(a, a) + cov(b, b))
    quality = share * ssim(f, a, 6.5025, 58.5225) + (1 - share) * ssim(f, b, 6.5025, 58.5225)
    weight = np.maximum(cov(a, a), cov(b, b))
    assert piella_quality(pair, LIU_11) == pytest.approx(quality.mean(), rel=1e-10)
    assert piella_weighted_quality(pair, LIU_EDGES) == pytest.approx(np.average(quality, weights=weight), rel=1e-10)
    f, a, b, cov, ssim = dense_moments(pair, 7)
    one, other = ssim(f, a, 2e-16, 2e-16), ssim(f, b, 2e-16, 2e-16)
    share = cov(a, f) / (cov(a, f) + cov(b, f))
    quality = np.where(share < 0, 0, np.where(share > 1, 1, share * one + (1 - share) * other))
    assert cvejic_similarity_liu(pair) == pytest.approx(quality.mean(), rel=1e-10)
    share = cov(a, a) / (cov(a, a) + cov(b, b))
    quality = np.where(ssim(a, b, 2e-16, 2e-16) >= 0.75, share * one + (1 - share) * other, np.maximum(one, other))
    assert yang_similarity_liu(pair) == pytest.approx(quality.mean(), rel=1e-10)


# --- rounding in windows of one level ---------------------------------------------------------------------------


def exactly_rounded(values: np.ndarray, weights: np.ndarray, fused: bool) -> float:
    total = 0.0
    for j in reversed(range(len(weights))):
        for i in reversed(range(len(weights))):
            product = Fraction(weights[i, j]) * Fraction(int(values[i, j]))
            step = product if fused else Fraction(float(product))
            total = float(Fraction(total) + step)
    return total


@pytest.mark.parametrize("side", [7, 11])
def test_window_means_round_every_step(side):
    rng = np.random.default_rng(side)
    x = rng.integers(0, 256, (40, 30)).astype(float)
    y = rng.integers(0, 256, (40, 30)).astype(float)
    x[5:20, 3:18] = 201
    weights = gaussian_weights(side, 1.5)
    assert np.allclose(weights, gaussian_window(side), rtol=1e-15)
    rows, columns = (index.ravel() for index in np.mgrid[0 : 41 - side : 3, 0 : 31 - side : 3])
    fused = rows % 2 == 0
    for images in ([x], [x, y], [x, x]):
        whole = np.prod(images, axis=0)
        windows = [whole[i : i + side, j : j + side] for i, j in zip(rows, columns, strict=True)]
        constant = np.array([window.min() == window.max() for window in windows])
        assert constant.any() == (len(images) == 1 or images[1] is x)
        found = window_means(images, (rows, columns), weights, fused, constant)
        expected = [exactly_rounded(w, weights, one) for w, one in zip(windows, fused, strict=True)]
        assert found.tolist() == expected


def test_the_last_rows_are_not_fused():
    assert in_blocks(np.arange(20), 20).tolist() == [True] * 16 + [False] * 4
    assert not in_blocks(np.arange(15), 15).any()
    assert in_blocks(np.arange(32), 32).all()


def test_windows_of_one_level_do_not_depend_on_the_strip():
    """Noise decides there: the value must be that of the window alone, wherever it lies."""
    pair = patchy_pair(150, 60)
    for measure in (cvejic_similarity_liu, yang_similarity_liu):
        whole = measure(pair, left_out=True)
        assert math.isfinite(whole)
        assert whole == measure(patchy_pair(150, 60), left_out=True)
    flat = pair_of(*(np.full((40, 40), level, np.uint8) for level in (90, 90, 90)))
    assert cvejic_similarity_liu(flat) == pytest.approx(1) == yang_similarity_liu(flat)
    assert piella_quality(flat, LIU_11) == pytest.approx(1)


def test_cvejic_of_liu_knows_the_order_of_the_sources_and_the_textbook_does_not_mind():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 256, (40, 40)).astype(np.uint8)
    pair = pair_of(x, x // 2, 255 - x)
    assert cvejic_similarity_liu(pair) != pytest.approx(cvejic_similarity_liu(swapped(pair)), abs=1e-3)
    assert cvejic_similarity(pair) == pytest.approx(cvejic_similarity(swapped(pair)), rel=1e-12)


# --- joint histograms -------------------------------------------------------------------------------------------


def stretched_levels(x: np.ndarray) -> np.ndarray:
    low, high = int(x.min()), int(x.max())
    return np.array([[math.floor((int(v) - low) * 255 / (high - low) + 0.5) for v in row] for row in x])


def slow_tsallis(x: np.ndarray, f: np.ndarray, q: float) -> float:
    x, f = stretched_levels(x), stretched_levels(f)
    joint: dict = {}
    for cell in zip(x.ravel().tolist(), f.ravel().tolist(), strict=True):
        joint[cell] = joint.get(cell, 0) + 1 / x.size
    p_x, p_f = (np.bincount(image.ravel(), minlength=256) / x.size for image in (x, f))
    total = sum(p**q / (p_f[i] * p_x[j]) ** (q - 1) for (i, j), p in joint.items() if p_f[i] * p_x[j] > 0)
    return (1 - total) / (1 - q)


def slow_entropy(x: np.ndarray) -> float:
    p = np.bincount(x.ravel()) / x.size
    return -sum(v * math.log2(v) for v in p if v > 0)


@pytest.mark.parametrize(("height", "width"), [(30, 40), (64, 64)])
def test_tsallis_information_by_loops(height, width):
    pair = smooth_pair(height, width)
    f, a, b = (image.pixels // 3 for image in (pair.fused, *pair.sources))
    pair = pair_of(f, a, b)
    assert tsallis_sum_liu(pair) == pytest.approx(slow_tsallis(a, f, 1.85) + slow_tsallis(b, f, 1.85), rel=1e-12)
    q = 0.43137
    total = slow_entropy(a) ** q + slow_entropy(b) ** q + slow_tsallis(a, b, q)
    ratio = (slow_tsallis(a, f, q) + slow_tsallis(b, f, q)) / total
    assert tsallis_ratio_liu(pair) == pytest.approx(ratio, rel=1e-12)


def test_nonlinear_correlation_by_definition():
    pair = smooth_pair(40, 50)

    def ncc(x: np.ndarray, y: np.ndarray) -> float:
        both = x.astype(int) * 256 + y
        return (slow_entropy(x) + slow_entropy(y) - slow_entropy(both)) / 8

    images = [image.pixels for image in (*pair.sources, pair.fused)]
    matrix = [[1 if x is y else ncc(x, y) for y in images] for x in images]
    shares = np.linalg.eigvalsh(matrix) / 3
    expected = 1 + float((shares * np.log2(shares)).sum()) / 8
    assert nonlinear_correlation(pair) == pytest.approx(expected, rel=1e-12)
    assert nonlinear_correlation_liu(pair) == nonlinear_correlation(pair)
    unrelated = same(np.full((9, 9), 5, np.uint8))
    assert nonlinear_correlation(unrelated) == pytest.approx(1 - math.log(3, 256))


# --- edges and wavelets -----------------------------------------------------------------------------------------


SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def slow_gradient_quality(pair: Pair) -> float:
    def edges(image: Image) -> list[tuple[float, float]]:
        gx, gy = correlate2d(image.x, SOBEL, "same"), correlate2d(image.x, SOBEL.T, "same")
        return [(math.hypot(x, y), math.atan(y / (x or 1e-5))) for x, y in zip(gx.flat, gy.flat, strict=True)]

    values = []
    for (g_f, a_f), *sources in zip(*(edges(image) for image in (pair.fused, *pair.sources)), strict=True):
        top = bottom = 0.0
        for k, (g, a) in enumerate(sources):
            ratio = 0.0 if k == 0 and g > g_f == 0 else min(g or 1e-5, g_f or 1e-5) / max(g or 1e-5, g_f or 1e-5)
            turn = abs(abs(a - a_f) - math.pi / 2) * 2 / math.pi
            top += (g or 1e-5) / (1 + math.exp(-10 * (ratio - 0.5))) / (1 + math.exp(-20 * (turn - 0.75)))
            bottom += g or 1e-5
        values.append(top / bottom)
    return float(np.mean(values))


def test_gradient_quality_pixel_by_pixel():
    for pair in (patchy_pair(30, 26), smooth_pair(12, 15)):
        assert gradient_quality_liu(pair) == pytest.approx(slow_gradient_quality(pair), rel=1e-12)
    assert 0 < gradient_quality_liu(same(np.zeros((9, 9), np.uint8))) <= 1


def test_spatial_frequency_error_by_loops():
    pair = smooth_pair(17, 22)
    f, a, b = (image.pixels.astype(int) for image in (pair.fused, *pair.sources))
    fused = reference = 0.0
    for di, dj, weight in ((0, 1, 1), (1, 0, 1), (1, 1, math.sqrt(0.5)), (1, -1, math.sqrt(0.5))):
        for i in range(17 - di):
            for j in range(max(0, -dj), 22 - max(0, dj)):
                d = [abs(int(x[i, j]) - int(x[i + di, j + dj])) for x in (f, a, b)]
                fused += weight * d[0] ** 2
                reference += weight * max(d[1:]) ** 2
    assert spatial_frequency_error(pair) == pytest.approx(math.sqrt(fused / reference) - 1, rel=1e-12)
    assert spatial_frequency_error(same(pair.fused.pixels)) == 0


def haar_matrix(n: int) -> np.ndarray:
    """Rows: n / 2 means, then n / 2 differences."""
    matrix = np.zeros((n, n))
    for k in range(n // 2):
        matrix[k, 2 * k : 2 * k + 2] = math.sqrt(0.5)
        matrix[n // 2 + k, 2 * k : 2 * k + 2] = math.sqrt(0.5), -math.sqrt(0.5)
    return matrix


@pytest.mark.parametrize(("height", "width"), [(16, 24), (19, 23), (4, 4)])
def test_multiscale_quality_by_matrices(height, width):
    rng = np.random.default_rng(1)
    pair = pair_of(*(rng.integers(0, 12, (height, width)).astype(np.uint8) for _ in range(3)))
    images = [image.x for image in (pair.fused, *pair.sources)]
    expected = 1.0
    for exponent in (2 / 3, 1 / 3):
        images = [x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2] for x in images]
        h, w = images[0].shape
        both = [haar_matrix(h) @ x @ haar_matrix(w).T for x in images]
        images = [x[: h // 2, : w // 2] for x in both]
        bands = [(x[: h // 2, w // 2 :], x[h // 2 :, : w // 2], x[h // 2 :, w // 2 :]) for x in both]
        top = bottom = 0.0
        for source in bands[1:]:
            energy = sum(band**2 for band in source)
            kept = sum(np.exp(-abs(s - f)) for s, f in zip(source, bands[0], strict=True))
            top, bottom = top + (kept * energy).sum() / 3, bottom + energy.sum()
        expected *= (top / bottom) ** exponent
    assert multiscale_quality(pair) == pytest.approx(expected, rel=1e-12)
    assert multiscale_quality(pair, 1) == pytest.approx(3 * expected, rel=1e-12)


# --- phase congruency -------------------------------------------------------------------------------------------


def slow_features(x: np.ndarray, stabilised: bool):
    """Phase congruency and moments with full complex spectra, filters made frequency by frequency."""
    height, width = x.shape
    frequency = [[(k - n // 2) / (n - 1 if n % 2 else n) for k in range(n)] for n in (height, width)]
    spectrum = np.fft.fft2(x)
    energies, amplitudes, moments = np.zeros(x.shape), np.zeros(x.shape), np.zeros((3, *x.shape))
    for orientation in range(6):
        angle = orientation * math.pi / 6
        responses, gains = [], []
        for scale in range(4):
            gain = np.zeros(x.shape)
            for i, j in np.ndindex(x.shape):
                # of odd sides, the published low-pass filter is shifted the other way round than the rest
                low = [(k + n - n // 2) % n - n // 2 for k, n in ((i, height), (j, width))]
                v, u = frequency[0][(i + height // 2) % height], frequency[1][(j + width // 2) % width]
                if u == v == 0:
                    continue
                radial = math.exp(-(math.log(math.hypot(v, u) * 3 * 2.1**scale) ** 2) / (2 * math.log(0.55) ** 2))
                low_pass = 1 / (1 + (math.hypot(low[0] / height, low[1] / width) / 0.45) ** 30)
                turn = math.atan2(-v, u) - angle
                turn = abs(math.atan2(math.sin(turn), math.cos(turn)))
                gain[i, j] = radial * low_pass * math.exp(-(turn**2) / (2 * (math.pi / 6 / 1.2) ** 2))
            gains.append(gain)
            responses.append(np.fft.ifft2(spectrum * gain))
        amplitude = sum(np.abs(r) for r in responses)
        total = sum(responses)
        unit = total / (np.abs(total) + 1e-4)
        energy = sum((r * unit.conj()).real - np.abs((r * unit.conj()).imag) for r in responses)
        spatial = [np.fft.ifft2(gain).real * math.sqrt(x.size) for gain in gains]
        noise = np.median(np.abs(responses[0]) ** 2) / math.log(2) / (gains[0] ** 2).sum()
        products = sum((spatial[i] * spatial[j]).sum() for i in range(4) for j in range(i + 1, 4))
        tau = math.sqrt((2 * noise * sum((s * s).sum() for s in spatial) + 4 * noise * products) / 2)
        threshold = (tau * math.sqrt(math.pi / 2) + 2 * math.sqrt((2 - math.pi / 2) * tau**2)) / 1.7
        spread = amplitude / (np.max(np.abs(responses), axis=0) + 1e-4) / 4
        energy = np.maximum(energy - threshold, 0) / (1 + np.exp(10 * (0.5 - spread)))
        energies, amplitudes = energies + energy, amplitudes + amplitude
        pc = energy / (amplitude + (1e-4 if stabilised else 0))
        c, s = math.cos(angle), math.sin(angle)
        moments += np.array([(pc * c) ** 2, (pc * s) ** 2, pc * c * pc * s])
    xx, yy, xy = moments[0] / 3, moments[1] / 3, moments[2] / 6
    root = np.sqrt(xy**2 + (xx - yy) ** 2) + 1e-4
    return energies / (amplitudes + 1e-4), (xx + yy + root) / 2, (xx + yy - root) / 2


def slow_phase_quality(pair: Pair, stabilised: bool) -> float:
    a, b, f = (slow_features(image.x, stabilised) for image in (*pair.sources, pair.fused))
    mean = lambda x: correlate2d(x, gaussian_window(11), "same")  # noqa: E731
    masks = a[0] > 0.1, b[0] > 0.1, np.maximum(a[0], b[0]) > 0.1
    value = 1.0
    for k in range(3):
        maps = a[k], b[k], np.where(a[0] > b[0], a[k], b[k])
        best = np.full(f[k].shape, -np.inf)
        for one, mask in zip(maps, masks, strict=True):
            one = one * mask
            variance = [mean(x * x) - mean(x) ** 2 for x in (one, f[k])]
            covariance = mean(one * f[k]) - mean(one) * mean(f[k])
            ratio = (covariance + 1e-4) / (np.sqrt(np.abs(variance[0] * variance[1])) + 1e-4)
            best = np.maximum(best, np.where(mask, ratio, 0))
        value *= best.sum() / masks[2].sum()
    return float(value)


@pytest.mark.parametrize(("height", "width"), [(24, 20), (21, 26), (23, 19)])
def test_phase_congruency_by_definition(height, width):
    pair = smooth_pair(height, width)
    for stabilised in (False, True):
        found = phase_maps(pair.fused, stabilised)
        for one, other in zip(found, slow_features(pair.fused.x, stabilised), strict=True):
            assert np.allclose(one, other, rtol=1e-9, atol=1e-12)
        assert phase_congruency_quality(pair, stabilised) == pytest.approx(slow_phase_quality(pair, stabilised))


def test_phase_congruency_does_not_see_contrast():
    pair = smooth_pair(64, 80)
    x = pair.infrared.pixels // 2
    bright, dark = (phase_maps(Image(image), True).congruency for image in (2 * x, x))
    assert np.median(np.abs(bright - dark)) < 1e-4


# --- laws and extremes ------------------------------------------------------------------------------------------

PERFECT = ["QS", "QW", "QE", "QC", "QY", "QM"]


def test_equal_images_are_perfect():
    x = smooth_pair(48, 40).fused.pixels
    scores = evalkit.evaluate(x, x, x, [*PERFECT, "QSF", "QNCIE", "QP"])
    assert [scores[name] for name in PERFECT] == pytest.approx([1] * len(PERFECT), abs=1e-12)
    assert scores["QSF"] == 0
    assert 0.5 < scores["QP"] <= 1
    for name in ("QS", "QW", "QC", "QY"):
        assert evalkit.evaluate(x, x, x, [name], "liu")[name] == pytest.approx(1, abs=1e-9)
    assert evalkit.evaluate(x, x, x, ["QMI", "QM"], "liu") == pytest.approx({"QMI": 2, "QM": 3})


small = arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24)))
few_levels = st.sampled_from([0, 1, 128, 254, 255])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_image_gives_a_number_or_a_reason(data):
    f = data.draw(small)
    a, b = (data.draw(arrays(np.uint8, f.shape, elements=few_levels, fill=few_levels)) for _ in range(2))
    for convention in ("textbook", "liu", "mefb", "zoo"):
        scores = evalkit.evaluate(f, a, b, convention=convention)
        for metric, value in scores.items():
            assert math.isfinite(value) != (metric in scores.missing), (convention, metric, value)
            assert scores.missing.get(metric, "a reason")
    bounds = {
        "QS": (-1, 1),
        "QW": (-1, 1),
        "QE": (-1, 1),
        "QC": (-1, 1),
        "QY": (-1, 1),
        "QM": (0, 1),
        "QP": (-1.1, 1.1),
    }
    bounds |= {"QNCIE": (0.8, 1), "QSF": (-1, math.inf)}
    scores = evalkit.evaluate(f, a, b, list(bounds))
    for metric, (low, high) in bounds.items():
        assert metric in scores.missing or low - 1e-9 <= scores[metric] <= high + 1e-9, metric


EXTREMES = {
    "constant": np.full((40, 50), 90, np.uint8),
    "black": np.zeros((40, 50), np.uint8),
    "white": np.full((40, 50), 255, np.uint8),
    "textured": np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8),
}


@pytest.mark.parametrize("convention", ["textbook", "liu", "mefb", "zoo"])
@pytest.mark.parametrize("fused", EXTREMES)
@pytest.mark.parametrize("source", EXTREMES)
def test_extreme_images(convention, fused, source):
    f, a, b = EXTREMES[fused], EXTREMES[source], EXTREMES["textured"][::-1].copy()
    for sources in ((a, b), (b, a), (a, a)):
        scores = evalkit.evaluate(f, *sources, convention=convention)
        for metric, value in scores.items():
            assert math.isfinite(value) != (metric in scores.missing), (metric, value)


def test_constant_images_have_reasons():
    x, flat = EXTREMES["textured"], EXTREMES["constant"]
    scores = evalkit.evaluate(flat, x, x, convention="liu")
    for metric in ("QMI", "QTE", "QTE185", "QNCIE"):
        assert "cannot be stretched" in scores.missing[metric]
    scores = evalkit.evaluate(x, flat, flat)
    for metric in ("QW", "QE", "QM", "QSF", "QP"):
        assert "0/0" in scores.missing[metric]
    black = EXTREMES["black"]
    assert "both sources are black" in evalkit.evaluate(x, black, black, ["QTE"], "liu").missing["QTE"]


# --- IVIF_ZOO ---------------------------------------------------------------------------------------------------


def slow_zoo_vif(reference: np.ndarray, distorted: np.ndarray) -> float:
    kept = present = 0.0
    for scale in range(1, 5):
        n = 2 ** (5 - scale) + 1
        offsets = np.linspace(-(n + 1) / 2, (n - 1) / 2, n)
        window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * (n / 5) ** 2))
        window /= window.sum()
        mean = functools.partial(correlate2d, in2=window, mode="same")
        if scale > 1:
            reference, distorted = mean(reference)[::2, ::2], mean(distorted)[::2, ::2]
        v_r, v_d = (mean(x * x) - mean(x) ** 2 for x in (reference, distorted))
        cov = mean(reference * distorted) - mean(reference) * mean(distorted)
        gain = np.maximum(cov / (v_r + 1e-10), 0)
        kept += np.log(1 + gain**2 * v_r / (np.maximum(v_d - gain * cov, 1e-10) + 2)).sum()
        present += np.log(1 + v_r / 2).sum()
    return float(kept / present)


def test_zoo_by_definition():
    pair = smooth_pair(44, 37)
    f, a, b = (image.x for image in (pair.fused, *pair.sources))
    zoo = {name: ivif_zoo.ZOO[name][0](pair) for name in ("VIF", "QY", "QNCIE", "CE", "TE", "EI")}
    assert zoo["VIF"] == pytest.approx(slow_zoo_vif(a, f) + slow_zoo_vif(b, f), rel=1e-8)
    row = np.exp(-((np.arange(7) - 3) ** 2) / 4.5)
    window = np.tile(row / row.sum(), (7, 1))
    mean = lambda x: correlate2d(x, window, "same")  # noqa: E731
    cov = lambda x, y: mean(x * y) - mean(x) * mean(y)  # noqa: E731

    def ssim(x, y):
        luminance = (2 * mean(x) * mean(y) + 1e-4) / (mean(x) ** 2 + mean(y) ** 2 + 1e-4)
        return luminance * (2 * cov(x, y) + 9e-4) / (cov(x, x) + cov(y, y) + 9e-4)

    share = cov(a, a) / (cov(a, a) + cov(b, b) + 1e-10)
    alike = ssim(a, b) >= 0.75
    quality = np.where(alike, share * ssim(a, f) + (1 - share) * ssim(b, f), np.maximum(ssim(a, f), ssim(b, f)))
    assert zoo["QY"] == pytest.approx(quality.mean(), rel=1e-9)
    shares = np.linalg.eigvalsh(np.corrcoef([x.ravel() for x in (a, b, f)])) / 3
    assert zoo["QNCIE"] == pytest.approx(1 + (shares * np.log2(shares)).sum() / 8, rel=1e-9)
    levels = [np.float32(1) / (np.float32(1) + np.exp(-x.astype(np.float32))) for x in (f, a, b)]
    low, high = np.float32(1e-7), np.float32(1 - 1e-7)
    p, t = (np.clip(x, low, high).astype(float) for x in (levels[0], (levels[1] + levels[2]) / 2))
    assert zoo["CE"] == pytest.approx(-np.mean(t * np.log(p) + (1 - t) * np.log1p(-p)), rel=1e-6)
    entropies = [slow_entropy(image.pixels) for image in (*pair.sources, pair.fused)]
    assert zoo["TE"] == pytest.approx(entropies[0] + entropies[1] - entropies[2])
    edge = np.hypot(correlate2d(f, SOBEL, "same"), correlate2d(f, SOBEL.T, "same"))
    assert zoo["EI"] == pytest.approx(edge.mean(), rel=1e-12)


def test_zoo_contrast_by_dense_definition():
    pair = smooth_pair(33, 28)
    offsets = np.arange(-15, 16)
    squares = offsets[:, None] ** 2 + offsets[None] ** 2
    v, u = np.fft.fftfreq(33)[:, None] * 33 / 30, np.fft.fftfreq(28)[None] * 28 / 30
    r = np.hypot(v, u)
    gain = np.exp(-((r / 15.387) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))
    contrasts = []
    for image in (pair.fused, *pair.sources):
        x = (image.x - image.x.min()) / (image.x.max() - image.x.min())
        seen = np.fft.ifft2(np.fft.fft2(x) * gain).real
        fine, coarse = (correlate2d(seen, np.exp(-squares / (2 * s * s)) / (2 * np.pi * s * s), "same") for s in (2, 4))
        c = np.abs(fine / (coarse + 1e-10) - 1)
        contrasts.append(c**3 / (c**2 + 1e-4))
    f, a, b = contrasts
    q_a, q_b = (np.where(s < f, s / f, f / s) for s in (a, b))
    expected = np.mean((a**2 * q_a + b**2 * q_b) / (a**2 + b**2 + 1e-10))
    assert ivif_zoo.ZOO["CB"][0](pair) == pytest.approx(expected, rel=1e-8)


def test_zoo_correlations_of_equal_images_have_no_rounding():
    """An eigenvalue that is 0 came out as NaN or as a number by chance."""
    for seed in range(5):
        pair = smooth_pair(30, 31, seed)
        equal = pair_of(pair.visible.pixels, pair.infrared.pixels, pair.visible.pixels)
        assert math.isfinite(ivif_zoo.ZOO["QNCIE"][0](equal))


# --- MEFB -------------------------------------------------------------------------------------------------------


def test_mefb_measures_colour_by_channels_and_gray_pairs_by_the_first():
    pair = smooth_pair(50, 60)
    f, a, b = (image.pixels for image in (pair.fused, *pair.sources))
    metrics = [metric for metric in CONVENTIONS["mefb"].definitions if metric != "MEF-MS-SSIM"]  # of gray images
    colour = np.dstack([f, np.roll(f, 3), 255 - f])
    first = evalkit.evaluate(colour, a, b, metrics, "mefb")
    assert dict(first) == pytest.approx(dict(evalkit.evaluate(f, a, b, metrics, "mefb")))
    in_colour = np.dstack([b, np.roll(b, 5, 1), b // 2])
    channels = [evalkit.evaluate(colour[..., k].copy(), a, in_colour[..., k].copy(), metrics, "mefb") for k in range(3)]
    together = evalkit.evaluate(colour, a, in_colour, metrics, "mefb")
    for metric in metrics:
        if metric != "SF":  # which sees the channels side by side
            assert together[metric] == pytest.approx(np.mean([one[metric] for one in channels]), rel=1e-9), metric


def test_mefb_takes_the_visible_image_first():
    pair = smooth_pair(40, 40)
    scores = evalkit.evaluate(pair.fused.pixels, pair.infrared.pixels, pair.visible.pixels, ["QC"], "mefb")
    assert scores["QC"] == cvejic_similarity_liu(swapped(pair), left_out=True)
    with pytest.raises(UndefinedError, match="needs 7x7"):
        cvejic_similarity_liu(pair_of(*(np.zeros((6, 9), np.uint8) for _ in range(3))))
    assert LIU_7.window.side == 7


def test_normalised_mutual_information_of_liu_needs_a_stretch():
    pair = smooth_pair(20, 20)
    textbook = evalkit.evaluate(*(image.pixels for image in (pair.fused, *pair.sources)), ["NMI"])["NMI"]
    assert normalised_mutual_information_liu(pair) == textbook
    black = pair_of(np.zeros((20, 20), np.uint8), pair.infrared.pixels, pair.visible.pixels)
    assert normalised_mutual_information_liu(black) == 0
