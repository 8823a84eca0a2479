"""Wavelet VIF: each source alone against the public values, a slow definition, limits."""

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
from scipy.ndimage import correlate

from evalkit.metrics.fusion import vif_wavelet
from evalkit.metrics.fusion.vif_wavelet import subband, wavelet_vif
from evalkit.metrics.image import Image, UndefinedError

SPECS = Path(__file__).parents[2] / "shared" / "specs"
DIALECTS = {  # metric -> of which image, reference, gray levels that count as 1
    "VIF_wavelet_ref_ir_0-255": ("fused", "ir", 1),
    "VIF_wavelet_ref_vi_0-255": ("fused", "vi", 1),
    "VIF_wavelet_ref_ir_0-1": ("fused", "ir", 255),
    "VIF_wavelet_ref_vi_0-1": ("fused", "vi", 255),
    "VIF_wavelet_ref_fused_of_ir_0-255": ("ir", "fused", 1),
    "VIF_wavelet_ref_fused_of_vi_0-255": ("vi", "fused", 1),
}


@pytest.mark.skipif(not SPECS.is_dir(), reason="the reference values are not here")
@pytest.mark.parametrize("metric", DIALECTS)
def test_each_source_alone_has_the_public_value(metric):
    with (SPECS / "reference_values2.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == metric]
    assert len(rows) == 6
    distorted, reference, unit = DIALECTS[metric]
    for row in rows:
        stem = SPECS / "reference_images" / f"{row['dataset']}_{row['image']}"
        files = {"fused": f"{stem}_F_{row['fusion']}.png", "ir": f"{stem}_ir.png", "vi": f"{stem}_vi.png"}
        images = {role: Image(cv2.imread(name, cv2.IMREAD_UNCHANGED), role) for role, name in files.items()}
        value = wavelet_vif(images[distorted], images[reference], unit)
        assert value == pytest.approx(float(row["value"]), rel=1e-12)


# --- a slow definition ------------------------------------------------------------------------------------------


def slow_subbands(x: np.ndarray) -> list[np.ndarray]:
    first, between, vertical = vif_wavelet._FIRST, vif_wavelet._BETWEEN, vif_wavelet._VERTICAL
    x, found = correlate(x, first, mode="mirror"), []
    for level in range(4):
        if level:
            x = correlate(x, between, mode="mirror")[::2, ::2]
        for weights in (vertical, vertical.T):
            rows, columns = x.shape[0] // 3 * 3, x.shape[1] // 3 * 3
            found.append(correlate(x, weights, mode="mirror")[:rows, :columns])
    return found


def slow_wavelet_vif(distorted: np.ndarray, reference: np.ndarray) -> float:
    """Block by block, in bits, with the channel's sums taken window by window."""
    kept = present = 0.0
    for number, (d, r) in enumerate(zip(slow_subbands(distorted), slow_subbands(reference), strict=True)):
        radius = 2 ** (3 - number // 2)
        side = 2 * radius + 1
        vectors = np.array([r[i : i + 3, j : j + 3].ravel() for i, j in np.ndindex(r.shape[0] - 2, r.shape[1] - 2)])
        covariance = np.cov(vectors.T, bias=True)
        inverse, eigenvalues = np.linalg.inv(covariance), np.linalg.eigvalsh(covariance)
        padded_d, padded_r = np.pad(d, radius, mode="reflect"), np.pad(r, radius, mode="reflect")
        margin = math.ceil(radius / 3)
        for i in range(margin, r.shape[0] // 3 - margin):
            for j in range(margin, r.shape[1] // 3 - margin):
                window = np.s_[3 * i + 1 : 3 * i + 1 + side, 3 * j + 1 : 3 * j + 1 + side]
                a, b = padded_r[window], padded_d[window]
                var_a, var_b, cov = (((x - x.mean()) * (y - y.mean())).sum() for x, y in ((a, a), (b, b), (a, b)))
                gain = cov / (var_a + 1e-15)
                noise = (var_b - gain * cov) / side**2
                if gain < 0:
                    gain, noise = 0.0, var_b
                block = r[3 * i : 3 * i + 3, 3 * j : 3 * j + 3].ravel()
                scale = block @ inverse @ block / 9
                kept += np.log2(1 + gain**2 * scale * eigenvalues / (noise + 0.4)).sum()
                present += np.log2(1 + scale * eigenvalues / 0.4).sum()
    return float(kept / present)


@pytest.mark.parametrize(("height", "width"), [(72, 75), (83, 97)])
def test_by_slow_definition(height, width):
    rng = np.random.default_rng(height)
    reference = textured(1, height, width)
    for distorted in (textured(2, height, width), cv2.blur(reference, (3, 3)), 255 - reference):
        noisy = np.clip(distorted + rng.normal(0, 4, reference.shape), 0, 255).astype(np.uint8)
        value = wavelet_vif(Image(noisy), Image(reference))
        assert value == pytest.approx(slow_wavelet_vif(noisy.astype(float), reference.astype(float)), rel=1e-9)


def test_filters_keep_constants_and_derive_ramps():
    assert vif_wavelet._BETWEEN.sum() == pytest.approx(2, abs=1e-6)
    down, across = vif_wavelet._VERTICAL, vif_wavelet._VERTICAL.T
    assert abs(down.sum()) < 1e-12
    ramp = np.add.outer(np.arange(7.0), np.zeros(7))
    assert abs((down * ramp).sum()) > 0.1
    assert abs((across * ramp).sum()) < 1e-12


def test_strips_and_what_is_kept_do_not_matter(monkeypatch):
    one, other = textured(3, 90, 100), textured(4, 90, 100)
    whole = wavelet_vif(Image(one), Image(other))
    monkeypatch.setattr("evalkit.metrics.image.LARGE", 0)
    assert wavelet_vif(Image(one), Image(other)) == whole
    monkeypatch.setattr("evalkit.metrics.image.STRIP", 7)
    assert wavelet_vif(Image(one), Image(other)) == pytest.approx(whole, rel=1e-12)


# --- limits -----------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.integers(0, 2**20), st.integers(72, 110), st.integers(72, 110))
def test_an_image_has_all_of_its_own_information_and_blur_takes_some(seed, height, width):
    x = textured(seed, height, width)
    assert wavelet_vif(Image(x), Image(x)) == pytest.approx(1, abs=1e-9)
    blurred = wavelet_vif(Image(cv2.GaussianBlur(x, (0, 0), 1.5)), Image(x))
    assert 0 <= blurred < 0.9
    assert wavelet_vif(Image(np.full_like(x, 80)), Image(x)) == pytest.approx(0, abs=1e-9)


@settings(max_examples=15)
@given(st.integers(0, 2**20), st.integers(0, 3))
def test_turned_and_mirrored_images_differ_only_where_levels_are_halved(seed, turns):
    """The transpose exchanges the two orientations; sizes of 8 n + 1 keep their pixels when mirrored."""
    one, other = textured(seed, 97, 97), textured(seed + 1, 97, 97)
    transposed = wavelet_vif(Image(one.T.copy()), Image(other.T.copy()))
    assert transposed == pytest.approx(wavelet_vif(Image(one), Image(other)), rel=1e-9)


def test_contrast_adds_information():
    x = textured(5, 90, 90) // 2 + 20
    assert wavelet_vif(Image((x - 20) * 2), Image(x)) > 1


def test_no_texture_and_small_images_have_a_reason():
    x = textured(6, 80, 80)
    stripes = np.repeat(np.arange(80, dtype=np.uint8)[:, None] * 37 % 200, 80, axis=1)
    for reference in (np.zeros_like(x), np.full_like(x, 255), stripes.astype(np.uint8), stripes.T.astype(np.uint8)):
        with pytest.raises(UndefinedError, match="no texture in one direction"):
            wavelet_vif(Image(x), Image(np.ascontiguousarray(reference), "infrared"))
    with pytest.raises(UndefinedError, match="wavelet VIF needs 72x72"):
        wavelet_vif(Image(x[:71]), Image(x[:71]))
    assert math.isfinite(wavelet_vif(Image(x[:72, :72]), Image(x[:72, 8:].copy())))


def test_the_reference_remembers_nothing_of_the_distorted_image():
    one, other = Image(textured(7, 80, 80)), Image(textured(8, 80, 80))
    wavelet_vif(one, other)
    assert not [key for key in other.memo if one in key]


def test_there_are_eight_subbands_of_whole_blocks():
    image = Image(textured(9, 100, 77))
    bands = [subband(image, band) for band in range(8)]
    assert [band.shape for band in bands[::2]] == [(99, 75), (48, 39), (24, 18), (12, 9)]
    assert [band.shape for band in bands[1::2]] == [band.shape for band in bands[::2]]
