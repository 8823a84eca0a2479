"""CSMCA and NSST-PAPCNN: their authors' results, the transform, the solver, and files of dictionaries."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from conftest import textured
from scipy.io import savemat
from vectors import BOUND, arrays, difference, torch_values

from evalkit.data.images import to_gray, write_png
from evalkit.data.pairs import ImagePair
from evalkit.data.samples.samples import make_scene
from evalkit.errors import CheckpointError, EvalkitError
from evalkit.methods import shearlets, sparse
from evalkit.methods.fuse import make_fuser
from evalkit.methods.registry import method_card

SIZES = [(1, 1), (1, 7), (5, 2), (17, 23), (64, 80)]
FILES = ("Dc_8_8_32.mat", "Dt_8_8_32.mat")


def filled(key: str) -> np.ndarray:
    """The dictionary that anyone can make, (32, 8, 8): atoms of unit norm."""
    atoms = np.moveaxis(torch_values(key, (8, 8, 32)).astype(np.float64), 2, 0)
    return np.ascontiguousarray(atoms / np.sqrt(np.square(atoms).sum((1, 2), keepdims=True)))


def dictionaries() -> tuple[np.ndarray, np.ndarray]:
    return filled("Dc"), filled("Dt")


def saved(folder: Path) -> Path:
    """The same in files as the authors' are called."""
    for name, atoms in zip(FILES, dictionaries(), strict=True):
        savemat(folder / name, {name[:2]: np.moveaxis(atoms, 0, 2)})
    return folder


# --- NSST-PAPCNN


@pytest.mark.parametrize("pair", ["", "_b"])
def test_nsst_papcnn_gives_the_authors_pixels(pair):
    data = arrays("nsst-papcnn")
    fused = shearlets.nsst_papcnn(data[f"in_0{pair}"], data[f"in_1{pair}"])
    assert (fused != data[f"fused{pair}"]).mean() <= 0.001
    if not pair:
        a, b = (shearlets.forward(data[name] / 255) for name in ("in_0", "in_1"))
        low = np.where(shearlets.low_activity(a[0]) >= shearlets.low_activity(b[0]), a[0], b[0])
        bands = [
            np.where(shearlets.firing_times(x) >= shearlets.firing_times(y), x, y)
            for x, y in zip(a[1], b[1], strict=True)
        ]
        apart = [
            difference(low, data["lowpass_fused"]),
            difference(bands[1][1], data["band_level3_dir2_fused"]),
            difference(shearlets.inverse(low, bands), data["fused_float"]),
        ]
        print(f"{max(apart):.2g}")
        assert max(apart) <= BOUND


def test_windows_and_statistics_of_bands_are_the_authors():
    data = arrays("nsst-papcnn")
    for size, bound in ((8, 1e-15), (16, 1e-8)):  # the second is stored in single precision
        np.testing.assert_allclose(np.moveaxis(shearlets.windows(size), 0, 2), data[f"shear_{size}"], atol=bound)
    bands = shearlets.forward(data["in_0"] / 255)[1]
    for band, (sigma, most, otsu) in zip(
        (b for level in bands for b in level), data["band_statistics_first"][:, 2:], strict=True
    ):
        stimulus = np.abs(band)
        ours = stimulus.std(ddof=1), stimulus.max(), shearlets.otsu_threshold(stimulus)
        np.testing.assert_allclose(ours, (sigma, most, otsu), rtol=1e-9)


def test_filters_are_the_authors():
    data = arrays("nsst-papcnn")
    impulse = np.zeros((41, 41))
    impulse[20, 20] = 1
    powers = [impulse]
    for _ in range(3):
        powers.append(shearlets.mapped(powers[-1], 1))
    for name, coefficients, sign in (
        ("h0", shearlets.LOW, 1),
        ("h1", shearlets.LOW_BACK, -1),
        ("g0", shearlets.LOW_BACK, 1),
        ("g1", shearlets.LOW, -1),
    ):
        taps = data[f"filter_{name}"]
        reach = len(taps) // 2
        ours = shearlets.polynomial(coefficients, powers, sign)
        np.testing.assert_allclose(ours[20 - reach : 21 + reach, 20 - reach : 21 + reach], taps, atol=1e-14)


@pytest.mark.parametrize("size", SIZES)
def test_the_shearlet_transform_rebuilds(size):
    image = np.random.default_rng(1).random(size)
    low, bands = shearlets.forward(image)
    assert [band.shape for band in bands] == [(count, *size) for count in shearlets.SIZES]
    np.testing.assert_allclose(shearlets.inverse(low, bands), image, rtol=0, atol=1e-10)  # less what counts as 0


@pytest.mark.parametrize("count", [8, 16])
def test_a_direction_answers_to_its_gratings(count):
    rows, columns = np.mgrid[:64, :64]
    strongest = []
    for angle in np.pi * (np.arange(count) + 0.5) / count:
        grating = np.cos(2.2 * (np.cos(angle) * rows + np.sin(angle) * columns))
        energy = np.square(shearlets.to_directions(grating, count)).sum((1, 2))
        assert energy.max() > 20 * np.median(energy)
        strongest.append(int(energy.argmax()))
    assert len(set(strongest)) >= count - 2  # two pairs of neighbours share one


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_firing_times_against_the_neurons_one_by_one(weight):
    rng = np.random.default_rng(2)
    bands = rng.normal(0, 0.1, (2, 5, 6)) * (weight + rng.random((2, 5, 6)))
    kernel = np.array([[0.5, 1, 0.5], [1, 0, 1], [0.5, 1, 0.5]])
    for band, times in zip(np.abs(bands), shearlets.firing_times(bands), strict=True):
        sigma, otsu = band.std(ddof=1), shearlets.otsu_threshold(band)
        ratio, alpha = band.max() / otsu, np.log10(1 / sigma)
        raised = np.exp(-alpha) + ratio
        middle = (1 - np.exp(-3 * alpha)) / (1 - np.exp(-alpha)) + (ratio - 1) * np.exp(-alpha)
        decay = np.log(raised / (otsu * middle))
        fired, threshold, activity, total = (np.full((5, 6), start) for start in (0.0, 1.0, 0.0, 0.0))
        for _ in range(110):
            around = np.pad(fired, 1)
            linking = np.array([[(kernel * around[y : y + 3, x : x + 3]).sum() for x in range(6)] for y in range(5)])
            activity = np.exp(-alpha) * activity + band * (1 + (ratio - 1) / 6 * linking)
            fired = (activity > threshold).astype(float)
            threshold = np.exp(-decay) * threshold + raised * fired
            total += fired
        np.testing.assert_array_equal(times, total)
    assert 0 < times.max() < 110


def test_a_band_without_anything_above_its_threshold_never_fires():
    assert not shearlets.firing_times(np.full((1, 4, 4), 1e-3)).any()
    assert not shearlets.firing_times(np.zeros((1, 1, 1))).any()


def test_otsu_threshold_parts_two_levels():
    assert shearlets.otsu_threshold(np.array([0.1, 0.1, 0.9, 0.9, 0.9])) == pytest.approx(
        (26 + 229) / 2 / 255, abs=0.003
    )
    assert shearlets.otsu_threshold(np.array([5.0, 7.0])) == 0


# --- CSMCA


def test_the_solver_goes_the_authors_way():
    data = arrays("csmca")
    image = data["in_0"] / 255
    low = sparse.lowpass(image)
    np.testing.assert_allclose(low, data["lowpass_first"], atol=1e-7)
    for name, atoms, weight, rho in (("cartoon", filled("Dc"), 0.5, 26.0), ("texture", filled("Dt"), 0.1, 1.0)):
        trace = data[f"synthetic_solver_{name}_trace"]
        dictionary = sparse.Dictionary.of(atoms, image.shape)
        for step, expected in zip(sparse.iterations(dictionary, image - low, weight, rho), trace, strict=True):
            np.testing.assert_allclose(step[1:], expected[[4, 5, 8]], rtol=1e-6)
        magnitudes = sparse.activity(step.maps)
        np.testing.assert_allclose(magnitudes, data[f"synthetic_solver_{name}_l1"], atol=1e-6)


@pytest.mark.parametrize("pair", ["", "_b"])
def test_csmca_gives_the_authors_pixels(pair):
    data = arrays("csmca")
    a, b = (data[f"in_{i}{pair}"] / 255 for i in (0, 1))
    fused = sparse.fused(a, b, *dictionaries())
    apart = np.abs(fused - data[f"synthetic_fused_float{pair}"])
    print(f"{difference(fused, data[f'synthetic_fused_float{pair}']):.2g}")
    assert (apart > 1e-5).mean() <= 0.001
    assert (sparse.to_8bit(255 * fused) != data[f"synthetic_fused{pair}"]).mean() <= 0.001
    if not pair:
        parts = [sparse.Dictionary.of(atoms, a.shape) for atoms in dictionaries()]
        for name, part, maps in zip(
            ("cartoon", "texture"), parts, sparse.decomposed(a - sparse.lowpass(a), *parts), strict=True
        ):
            np.testing.assert_allclose(part.image(maps), data[f"synthetic_{name}_first"], atol=1e-6)
            np.testing.assert_allclose(sparse.activity(maps), data[f"synthetic_activity_{name}_first"], atol=1e-6)


def test_csmca_with_the_authors_dictionaries(shared):
    data, folder = arrays("csmca"), shared / "checkpoints"
    if not all((folder / name).is_file() for name in FILES):
        pytest.skip("the authors' dictionaries are not at hand")
    fuse = sparse.csmca(*(folder / name for name in FILES))
    for pair in ("", "_b", "_c"):
        assert (fuse(data[f"in_0{pair}"], data[f"in_1{pair}"]) != data[f"published_fused{pair}"]).mean() <= 0.001


def test_the_solver_reaches_a_minimum():
    """In the end no map can be changed for the better: the optimality of the l1 norm."""
    rng = np.random.default_rng(3)
    dictionary = sparse.Dictionary.of(filled("Dc")[:6], (20, 24))
    image, weight = rng.normal(0, 0.3, (20, 24)), 0.2
    maps = sparse.sparse_maps(dictionary, image, weight, 50 * weight + 1)
    residual = np.fft.rfft2(image - dictionary.image(maps))
    slopes = np.fft.irfft2(dictionary.spectra.conj() * residual, (20, 24))
    assert (maps != 0).any()
    assert np.abs(slopes).max() <= weight * 1.02
    np.testing.assert_allclose(slopes[maps != 0], weight * np.sign(maps[maps != 0]), atol=0.02 * weight)


def test_lowpass_solves_its_equation():
    wide = np.pad(np.random.default_rng(4).random((9, 13)), sparse.BORDER, mode="symmetric")
    x = sparse.lowpass(wide)  # mirrored once more, so the inner part sees what the equation sees
    laplacian = 4 * x - sum(np.roll(x, step, axis) for step in (-1, 1) for axis in (0, 1))
    np.testing.assert_allclose((x + 60 * laplacian)[1:-1, 1:-1], wide[1:-1, 1:-1], atol=1e-10)


def test_windows_of_nothing_are_nothing():
    values = np.zeros((30, 40))
    values[3, 4] = 1e9 / 3
    sums = sparse.windowed(values, 2)
    assert sums[3, 4] == values[3, 4]
    assert not sums[6:].any()


@pytest.mark.parametrize("size", SIZES[:4])
def test_csmca_of_any_size(size, tmp_path):
    fuse = sparse.csmca(*(saved(tmp_path) / name for name in FILES))
    a, b = (np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8) for seed in (1, 2))
    fused = fuse(a, b)
    assert fused.dtype == np.uint8
    assert fused.shape == size
    flat = np.full(size, 90, np.uint8)
    np.testing.assert_array_equal(fuse(flat, flat), flat)
    np.testing.assert_array_equal(fuse(flat, np.full(size, 40, np.uint8)), np.full(size, 65))


def test_csmca_keeps_the_sharp_half_of_each_source():
    sharp = textured(8, 48, 96) / 255
    left, right = sharp.copy(), sharp.copy()
    left[:, 48:] = right[:, :48] = sharp.mean()
    fused = sparse.fused(left, right, *dictionaries())
    for half in (np.s_[8:-8, 8:40], np.s_[8:-8, 56:88]):
        assert np.corrcoef(fused[half].ravel(), sharp[half].ravel())[0, 1] > 0.9


def test_csmca_gives_the_same_bytes_everywhere():
    scene = make_scene(0, 0, 160, 120)
    a, b = (image[30:78, 50:114] / 255 for image in (scene.infrared, to_gray(scene.visible)))
    fused = sparse.to_8bit(255 * sparse.fused(a, b, *dictionaries()))
    assert hashlib.sha256(fused.tobytes()).hexdigest()[:16] == "9f4c2b0beb64e9b5"


def test_csmca_runs_as_a_method_with_its_files(tmp_path):
    card = method_card("csmca")
    with pytest.raises(EvalkitError, match=r"needs its weights Dc_8_8_32.mat and Dt_8_8_32.mat: give --checkpoints"):
        make_fuser(card)
    infrared, visible = textured(1, 24, 32), np.dstack([textured(seed, 24, 32) for seed in (2, 3, 4)])
    pair = ImagePair("1", tmp_path / "i.png", tmp_path / "v.png")
    write_png(pair.infrared, infrared)
    write_png(pair.visible, visible)
    gray, colour = (make_fuser(card, saved(tmp_path), gray=gray) for gray in (True, False))
    assert list(gray.weights) == list(FILES)
    assert all(digest in gray.identity for digest in gray.weights.values())
    assert gray.identity != colour.identity
    (first,), (second,) = gray.fuse([pair]), colour.fuse([pair])
    assert first.shape == (24, 32)
    assert second.shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"D": np.zeros((8, 8))}, r"has the shape \(8, 8\), expected"),
        ({"D": np.full((8, 8, 32), np.nan)}, "holds NaN or infinity"),
        ({"D": np.zeros((8, 8, 3), complex)}, "does not hold one array of numbers"),
        ({"D": np.zeros((8, 8, 3)), "E": np.zeros((8, 8, 3))}, "does not hold one array of numbers"),
        ({"D": "text"}, "does not hold one array of numbers"),
        ({"D": np.zeros((8, 8, 0))}, "has the shape"),
        ({"D": np.zeros((65, 8, 4))}, "has the shape"),
    ],
)
def test_a_file_that_is_not_a_dictionary_is_refused(content, message, tmp_path):
    savemat(tmp_path / "D.mat", content)
    with pytest.raises(CheckpointError, match=message):
        sparse.read_atoms(tmp_path / "D.mat")


def test_a_damaged_file_is_refused(tmp_path):
    file = io.BytesIO()
    savemat(file, {"D": filled("Dc")}, do_compression=True)
    data = file.getvalue()
    rng = np.random.default_rng(5)
    damaged = [b"", b"no MATLAB file", data[:200], data[:-1000], bytes(2**20 + 1)]
    for place in rng.integers(0, len(data), 60):
        damaged.append(data[:place] + bytes([data[place] ^ int(rng.integers(1, 256))]) + data[place + 1 :])
    refused = 0
    for content in damaged:
        (tmp_path / "D.mat").write_bytes(content)
        try:
            assert sparse.read_atoms(tmp_path / "D.mat").ndim == 3  # damage of a name, or of the description
        except CheckpointError:
            refused += 1
    assert refused >= 50
    with pytest.raises(CheckpointError, match="cannot be read"):
        sparse.read_atoms(tmp_path / "none.mat")
