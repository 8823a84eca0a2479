"""The classical fusion methods: transforms rebuild exactly, rules keep what they promise, results stay as they were."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import textured
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evalkit.methods import classical, filters, pyramids, wavelets
from evalkit.methods.classical import FROM_FILES, FUSERS
from evalkit.methods.registry import method_cards

SIZES = [(1, 1), (1, 7), (2, 2), (17, 23), (64, 80)]
METHODS = list(FUSERS)
# laplacian keeps the infrared coefficient where two tie in magnitude, and so does NSST-PAPCNN; GTF takes intensities
# from one, gradients from the other
SYMMETRIC = [name for name in METHODS if name not in ("laplacian", "NSST-PAPCNN", "GTF")]


def pair(height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    return textured(1, height, width), textured(2, height, width)


images = hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)))


# --- what holds for every method


def test_every_classical_card_has_its_function():
    assert {card.name for card in method_cards().values() if card.kind == "classical"} == {*FUSERS, *FROM_FILES}


def test_wavelets_are_imported_when_used():
    code = "import sys, evalkit.methods.classical; assert not {'pywt', 'scipy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", METHODS)
def test_shape_and_dtype(name, size):
    a, b = (np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8) for seed in (1, 2))
    before = a.copy(), b.copy()
    fused = FUSERS[name](a, b)
    assert fused.dtype == np.uint8
    assert fused.shape == size
    np.testing.assert_array_equal(fused, FUSERS[name](a, b))
    np.testing.assert_array_equal((a, b), before)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", METHODS)
def test_an_image_fused_with_itself_is_itself(name, size):
    image = np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8)
    np.testing.assert_array_equal(FUSERS[name](image, image), image)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_sources_are_exchangeable(name):
    for size in (*SIZES, (48, 64)):
        a, b = pair(*size)
        np.testing.assert_array_equal(FUSERS[name](a, b), FUSERS[name](b, a))


@pytest.mark.parametrize("name", SYMMETRIC)
@given(pair=hnp.arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 40), st.integers(1, 40))))
@settings(max_examples=15, deadline=None)
def test_any_sources_are_exchangeable(name, pair):
    np.testing.assert_array_equal(FUSERS[name](*pair), FUSERS[name](*pair[::-1]))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("levels", [(0, 0), (255, 255), (0, 255), (40, 90)])
def test_constant_images(name, levels):
    a, b = (np.full((33, 40), level, np.uint8) for level in levels)
    expected = {"maximum": max(levels), "GTF": levels[0], "NSST-PAPCNN": levels[0]}.get(name, round(sum(levels) / 2))
    slack = 1 if name == "DTCWT" else 0  # its published filters let 1e-6 of a constant into the details
    np.testing.assert_allclose(FUSERS[name](a, b), np.full((33, 40), expected), atol=slack)


@pytest.mark.parametrize("name", METHODS)
def test_a_view_fuses_as_its_copy(name):
    a, b = (image[::-1, ::2] for image in pair())
    np.testing.assert_array_equal(FUSERS[name](a, b), FUSERS[name](a.copy(), b.copy()))


@pytest.mark.parametrize("name", METHODS)
@given(image=images)
@settings(max_examples=15, deadline=None)
def test_any_image_fused_with_itself_is_itself(name, image):
    np.testing.assert_array_equal(FUSERS[name](image, image), image)


GOLDEN = {  # mean, and every 16th pixel of every 12th line
    "average": (102.23, [93, 88, 78, 87, 103, 170, 126, 116, 108, 50, 66, 102, 115, 100, 144, 72]),
    "maximum": (125.96, [109, 103, 111, 127, 127, 186, 157, 120, 136, 61, 100, 103, 135, 103, 183, 73]),
    "PCA": (102.27, [93, 87, 77, 88, 103, 170, 125, 117, 108, 50, 66, 102, 115, 100, 145, 73]),
    "laplacian": (102.32, [106, 86, 73, 81, 117, 173, 128, 120, 110, 49, 65, 102, 116, 93, 146, 71]),
    "RP": (106.39, [105, 89, 84, 95, 115, 172, 132, 120, 116, 51, 69, 102, 116, 106, 149, 74]),
    "contrast": (99.98, [105, 85, 67, 71, 115, 172, 132, 120, 116, 49, 57, 102, 116, 93, 149, 71]),
    "DWT": (101.86, [66, 103, 71, 75, 120, 194, 112, 126, 83, 8, 71, 63, 127, 71, 152, 37]),
    "DTCWT": (102.22, [77, 84, 62, 75, 134, 175, 140, 126, 105, 12, 50, 99, 104, 88, 171, 59]),
    "MSVD": (102.25, [100, 87, 82, 75, 113, 170, 126, 113, 117, 41, 55, 96, 115, 90, 153, 64]),
    "GFF": (100.27, [106, 89, 105, 94, 95, 176, 119, 118, 114, 48, 61, 101, 111, 98, 150, 71]),
    "GTF": (103.79, [129, 92, 65, 110, 144, 175, 114, 113, 101, 59, 67, 100, 96, 123, 143, 63]),
    "NSST-PAPCNN": (113.17, [95, 84, 80, 67, 90, 190, 151, 126, 125, 38, 64, 111, 144, 112, 197, 74]),
}


@pytest.mark.parametrize("name", METHODS)
def test_results_stay(name):
    mean, pixels = GOLDEN[name]
    fused = FUSERS[name](*pair())
    assert fused.mean() == pytest.approx(mean, abs=0.05)
    np.testing.assert_allclose(fused[5::12, 7::16].ravel(), pixels, atol=1)


# --- pixels and blocks


@given(a=hnp.arrays(np.uint8, (5, 6)), b=hnp.arrays(np.uint8, (5, 6)))
def test_pca_weight_is_the_leading_eigenvector(a, b):
    weight = classical.pca_weight(a, b)
    assert 0 <= weight <= 1
    assert weight + classical.pca_weight(b, a) == pytest.approx(1)
    values, vectors = np.linalg.eigh(np.cov(a.ravel(), b.ravel()))
    if values[1] > values[0] * 1.001:
        leading = np.abs(vectors[:, 1])
        assert weight == pytest.approx(leading[0] / leading.sum(), abs=1e-6)


def test_pca_prefers_the_source_of_larger_variance():
    a, b = pair()
    assert classical.pca_weight(a, b // 4) > 0.8


@pytest.mark.parametrize("size", SIZES)
def test_blocks_rebuild(size):
    image = np.random.default_rng(4).random(size)
    np.testing.assert_array_equal(classical.from_blocks(classical.to_blocks(image), size), image)


def test_msvd_keeps_the_texture_of_either_source():
    texture = textured(5)
    flat = np.full_like(texture, 128)
    fused = classical.msvd(flat, texture).astype(float)
    smooth = (texture.reshape(24, 2, 32, 2).mean((1, 3)) + 128) / 2
    assert np.corrcoef(fused.reshape(24, 2, 32, 2).mean((1, 3)).ravel(), smooth.ravel())[0, 1] > 0.99
    inner = texture[::2, ::2].astype(float) - texture[1::2, 1::2]
    assert np.corrcoef((fused[::2, ::2] - fused[1::2, 1::2]).ravel(), inner.ravel())[0, 1] > 0.9


# --- pyramids


@pytest.mark.parametrize("size", [*SIZES, (33, 101), (128, 65)])
def test_pyramids_rebuild(size):
    image = np.random.default_rng(5).random(size) * 255
    image[: size[0] // 2] = 0  # black: the ratio 0 / 0
    for rebuilt in (
        pyramids.from_laplacian(pyramids.laplacian_pyramid(image)),
        pyramids.from_ratios(pyramids.ratio_pyramid(image)),
    ):
        np.testing.assert_allclose(rebuilt, image, rtol=0, atol=1e-10)


def test_ratio_keeps_bright_details_and_contrast_keeps_strong_ones():
    flat, bright, dark = (np.full((64, 64), 100, np.uint8) for _ in range(3))
    bright[30:34, 30:34], dark[30:34, 30:34] = 120, 60
    assert pyramids.ratio(flat, bright)[31, 31] > 108
    assert pyramids.ratio(flat, dark)[31, 31] > 90  # the dark spot is passed over
    assert pyramids.contrast(flat, dark)[31, 31] < 80
    assert pyramids.contrast(bright, dark)[31, 31] < 80  # -40 % against +20 %


# --- wavelets


@pytest.mark.parametrize("size", [*SIZES, (33, 101), (128, 65)])
def test_wavelets_rebuild(size):
    image = np.random.default_rng(6).random(size) * 255
    np.testing.assert_allclose(wavelets.dwt_inverse(wavelets.dwt_forward(image), size), image, rtol=0, atol=1e-10)
    np.testing.assert_allclose(wavelets.dtcwt_inverse(*wavelets.dtcwt_forward(image), size), image, rtol=0, atol=1e-10)


def test_dtcwt_has_the_levels_and_orientations_of_the_paper():
    low, levels = wavelets.dtcwt_forward(np.zeros((64, 96)))
    assert low.shape == (8, 12)
    assert [level.shape for level in levels] == [(6, 32, 48), (6, 16, 24), (6, 8, 12), (6, 4, 6)]


def test_dtcwt_energy_hardly_depends_on_the_place_of_an_edge():
    def energies(forward, place):
        image = np.zeros((128, 128))
        image[:, 56 + place :] = 1
        return forward(image)

    def complex_energy(image):
        return [np.sum(np.abs(level) ** 2) for level in wavelets.dtcwt_forward(image)[1]]

    def real_energy(image):
        return [sum(np.sum(band**2) for band in level) for level in wavelets.dwt_forward(image)[:0:-1]]

    for forward, limit in ((complex_energy, 1.4), (real_energy, np.inf)):
        measured = np.array([energies(forward, place) for place in range(16)])
        spread = measured.max(0) / measured.min(0)
        assert (spread < limit).all()
    assert (spread > 3).all()  # the real transform, for comparison


@pytest.mark.parametrize("mirrored", [False, True])
def test_dtcwt_tells_an_orientation_from_its_mirror_image(mirrored):
    rows, columns = np.mgrid[:128, :128]
    grating = np.cos(2 * np.pi * 0.16 * (columns + (-rows if mirrored else rows)) / np.sqrt(2))
    energy = [np.mean(np.abs(band[8:-8, 8:-8]) ** 2) for band in wavelets.dtcwt_forward(grating)[1][1]]
    strong, weak = sorted((energy[4], energy[5]), reverse=True)
    assert strong > 100 * weak
    assert (energy[5] > energy[4]) == mirrored


# --- guided filter fusion


def test_guided_filter_against_its_definition():
    rng = np.random.default_rng(7)
    guide, image, radius, eps = rng.random((9, 11)), rng.random((9, 11)), 2, 0.01

    def window(values, y, x):
        return values[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]

    slope, offset = np.empty_like(image), np.empty_like(image)
    for y, x in np.ndindex(image.shape):
        g, p = window(guide, y, x), window(image, y, x)
        slope[y, x] = np.mean((g - g.mean()) * (p - p.mean())) / (g.var() + eps)
        offset[y, x] = p.mean() - slope[y, x] * g.mean()
    expected = [window(slope, y, x).mean() * guide[y, x] + window(offset, y, x).mean() for y, x in np.ndindex(9, 11)]
    np.testing.assert_allclose(filters.guided_filter(guide, image, radius, eps).ravel(), expected, atol=1e-10)


def test_gff_takes_the_sharp_half_of_each_source():
    sharp = textured(8, 64, 128)
    flat = np.full_like(sharp, int(sharp.mean()))
    left, right = sharp.copy(), sharp.copy()
    left[:, 64:], right[:, :64] = flat[:, 64:], flat[:, :64]
    error = np.abs(filters.gff(left, right).astype(float) - sharp)
    assert error[:, 16:48].mean() < 4
    assert error[:, 80:112].mean() < 4


# --- gradient transfer fusion


def halves(rng: np.random.Generator) -> np.ndarray:
    """A step, noise on it and some outliers: what a total variation keeps, removes and removes."""
    d = np.where(np.arange(24) < 12, -0.4, 0.4) + rng.normal(0, 0.1, (12, 24))
    d[rng.random(d.shape) < 0.05] = 1
    return d


def tv_l1_dense(d: np.ndarray, rounds: int = 3000, rho: float = 4.0) -> np.ndarray:
    """Alternating directions with dense matrices: slow, and another algorithm than the one under test."""
    n, width = d.size, d.shape[1]
    index = np.arange(n).reshape(d.shape)
    K = np.zeros((2, n, n))
    for row in index:
        K[0, row[:-1], row[1:]], K[0, row[:-1], row[:-1]] = 1, -1
    K[1, index[:-1], index[1:]], K[1, index[:-1], index[:-1]] = 1, -1
    A = np.vstack([np.eye(n), *K])
    solve = np.linalg.inv(A.T @ A) @ A.T
    u, y = d.ravel(), np.zeros(3 * n)
    for _ in range(rounds):
        v = A @ u + y
        z = v.copy()
        z[:n] = d.ravel() + np.sign(v[:n] - d.ravel()) * np.maximum(np.abs(v[:n] - d.ravel()) - 1 / rho, 0)
        g = v[n:].reshape(2, n)
        z[n:] = (g * np.maximum(1 - 4 / rho / np.maximum(np.hypot(*g), 1e-12), 0)).ravel()
        y = v - z
        u = solve @ (z - y)
    return u.reshape(-1, width)


def test_tv_l1_reaches_the_minimum():
    d = halves(np.random.default_rng(9))
    u = filters.tv_l1(d)
    found = filters.tv_l1_objective(u, d)
    reference = tv_l1_dense(d)
    assert np.ptp(reference) > 0.5  # the step has survived: not just the median
    assert found < 0.7 * filters.tv_l1_objective(d, d)
    assert found == pytest.approx(filters.tv_l1_objective(reference, d), rel=2e-3)
    assert found <= 1.002 * filters.tv_l1_objective(np.full_like(d, np.median(d)), d)


def test_tv_l1_in_single_precision():
    d = halves(np.random.default_rng(10))
    u = filters.tv_l1(d.astype(np.float32))
    assert u.dtype == np.float32
    np.testing.assert_allclose(u, filters.tv_l1(d), atol=1e-3)


def test_gtf_of_equal_images_is_exact():
    image = textured(11)
    difference = np.zeros(image.shape, np.float32)
    np.testing.assert_array_equal(filters.tv_l1(difference), difference)
    np.testing.assert_array_equal(filters.gtf(image, image), image)


def test_gtf_has_the_intensities_of_the_infrared_and_the_texture_of_the_visible():
    infrared, visible = np.full((48, 64), 60, np.uint8), textured(12) // 4 + 100
    infrared[:, 32:] = 180
    fused = filters.gtf(infrared, visible).astype(float)
    for half in (np.s_[8:-8, 4:28], np.s_[8:-8, 36:60]):
        assert np.median(fused[half]) == pytest.approx(np.median(infrared[half]), abs=6)
        assert np.corrcoef(fused[half].ravel(), visible[half].ravel())[0, 1] > 0.9
