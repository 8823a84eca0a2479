"""MTMR and SGDL, which rank superpixels: the published programs' numbers, and what must hold for any pair."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label
from skimage.segmentation import slic
from skimage.transform import resize

from evalkit.methods.saliency import graphs, superpixels
from evalkit.methods.saliency.systems import mtmr, sgdl
from evalkit.metrics.saliency import saliency

GOLDEN = Path(__file__).parent / "golden" / "saliency_systems"


def published(name: str) -> tuple[np.ndarray, float]:
    """Ranks of every other region from the authors' MATLAB program under Octave, and the deviation of all."""
    content = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return np.array(content["values"]), content["std"]


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels in squares of 8x8 pixels, a visible and a thermal image of noise with a bright object, features."""
    rng = np.random.default_rng(1)
    visible, thermal = rng.integers(0, 256, (2, 48, 64, 3), np.uint8)
    for image, base in ((visible, 180), (thermal, 0)):
        image[16:32, 24:48] = image[16:32, 24:48] // 4 + base
    labels = (np.arange(48)[:, None] // 8 * 8 + np.arange(64) // 8).astype(np.int32)
    return labels, visible, np.repeat(thermal[..., :1], 3, axis=2), rng.random((4, 48, 5))


def test_mtmr_ranks_as_the_published_program(pair) -> None:
    labels, visible, thermal, _ = pair
    values, deviation = published("MTMR")
    ranks = mtmr.region_ranks(labels, visible, thermal)
    assert np.abs(ranks[::2] - values).max() < 1e-10 * deviation


def test_sgdl_ranks_as_the_published_program(pair) -> None:
    labels, visible, thermal, features = pair
    values, deviation = published("SGDL")
    colours = [graphs.lab(superpixels.region_means(labels, image)) for image in (visible, thermal)]
    ranks = sgdl.region_ranks(labels, [*features[:2], colours[0]], [*features[2:], colours[1]])
    assert np.abs(ranks[::2] - values).max() < 1e-10 * deviation


def test_edges_of_regions() -> None:
    labels = np.repeat(np.arange(5)[None], 7, axis=0)  # stripes: every one touches the border
    assert len(graphs.edges(labels.astype(np.int32))[0]) == 10
    labels = np.zeros((7, 9), np.int32)
    for k, column in enumerate(range(1, 8), 1):
        labels[3, column] = k  # a row of pixels inside one region
    begin, end = graphs.edges(labels)
    pairs = set(zip(begin.tolist(), end.tolist(), strict=True))
    assert (1, 2) in pairs  # touch
    assert (1, 7) in pairs  # both touch region 0
    assert all(a < b for a, b in pairs)


def test_affinity_falls_with_distance() -> None:
    pairs = (np.array([0, 0, 1]), np.array([1, 2, 2]))
    weights = graphs.affinity(pairs, np.array([[0.0], [1.0], [3.0]]), 2)
    assert weights[0, 1] == 1  # the nearest pair
    assert weights[2, 0] == pytest.approx(np.exp(-2))  # the farthest
    assert np.array_equal(weights, weights.T)
    assert not weights.diagonal().any()
    assert np.array_equal(graphs.affinity(pairs, np.ones((3, 1)), 2), 1 - np.eye(3))  # all alike


@pytest.mark.parametrize("shape", [(37, 53), (5, 4), (1, 60)])
def test_superpixels_are_connected_and_all_numbered(shape) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    labels = superpixels.superpixels(image, 20)
    assert labels.shape == shape
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    for k in range(labels.max() + 1):
        assert label(labels == k)[1] == 1


def test_superpixels_keep_to_edges_as_another_slic_does() -> None:
    """A disc: few pixels lie in a superpixel that is mostly on the other side."""
    rows, columns = np.mgrid[:96, :128]
    disc = (rows - 48) ** 2 + (columns - 60) ** 2 < 30**2
    noise = np.random.default_rng(0).integers(0, 60, (96, 128, 3))
    image = (noise + 150 * disc[..., None]).astype(np.uint8)

    def astray(labels: np.ndarray) -> float:
        share = superpixels.region_means(labels, disc[..., None].astype(float))[labels, 0]
        return float(((share > 0.5) != disc).mean())

    ours = superpixels.superpixels(image, 100, 20)
    theirs = slic(image, 100, compactness=20, start_label=0)
    assert 60 < ours.max() < 140
    assert astray(ours) <= astray(theirs) + 0.005


def test_bicubic_resizing_as_pillow_and_scikit_image_do_it() -> None:
    values = np.random.default_rng(0).random((9, 12)).astype(np.float32)
    ours = sgdl.bicubic(9, 31) @ values @ sgdl.bicubic(12, 40).T
    theirs = np.array(Image.fromarray(values).resize((40, 31), Image.Resampling.BICUBIC))
    assert np.abs(ours - theirs)[7:-7, 7:-7].max() < 1e-5  # borders: MATLAB mirrors, Pillow cuts
    assert sgdl.bicubic(30, 7).sum(axis=1) == pytest.approx(1)
    smooth = resize(np.linspace(0, 1, 60)[:, None], (15, 1), order=3, anti_aliasing=True)
    assert np.abs(sgdl.bicubic(60, 15) @ np.linspace(0, 1, 60)[:, None] - smooth).max() < 0.02


def test_means_of_resized_maps_equal_those_of_the_whole_map(pair) -> None:
    labels = pair[0]
    values = np.random.default_rng(0).random((6, 8, 35))
    means = sgdl.resized_means(labels, values)
    assert means.shape == (48, 35)
    whole = np.einsum("ih,jw,hwc->ijc", sgdl.bicubic(6, 48), sgdl.bicubic(8, 64), values)
    assert means == pytest.approx(superpixels.region_means(labels, whole))


METHODS = {
    "mtmr": mtmr.mtmr,
    "sgdl": lambda visible, thermal: sgdl.sgdl(visible, thermal, sgdl.filter_features),
}


@pytest.fixture
def few(monkeypatch) -> None:
    """Fewer superpixels than published: small images, in less time."""
    for module in (mtmr, sgdl):
        monkeypatch.setattr(module, "COUNT", 80)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", METHODS)
def test_a_bright_object_is_found_and_a_flat_pair_stays_finite(name) -> None:
    visible = np.full((61, 83, 3), 60, np.uint8)
    thermal = np.full_like(visible, 40)
    flat = METHODS[name](visible, thermal)
    assert np.isfinite(flat).all()
    assert 0 <= flat.min() <= flat.max() <= 1
    mask = np.zeros((61, 83), bool)
    mask[20:42, 30:55] = True
    visible[mask], thermal[mask] = (200, 30, 30), 220
    found = METHODS[name](visible, thermal)
    assert (found.min(), found.max()) == (0, 1)
    assert np.array_equal(found, METHODS[name](visible, thermal))
    assert found[mask].mean() > found[~mask].mean() + 0.4


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", METHODS)
def test_real_pairs_are_told_from_their_background(name) -> None:
    """Better than the thermal image itself read as a map, on two pairs of VT5000."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "VT5000"
    if not folder.is_dir():
        pytest.skip("no pairs of VT5000 beside this checkout")
    gain = []
    for stem in ("00305", "01078"):
        visible, thermal, mask = (
            cv2.resize(cv2.imread(str(folder / place / stem) + ending), (160, 120), interpolation=cv2.INTER_AREA)
            for place, ending in (("RGB", ".jpg"), ("T", ".jpg"), ("GT", ".png"))
        )
        mask = np.where(mask[..., 0] > 128, 255, 0).astype(np.uint8)
        ours = np.rint(255 * METHODS[name](visible[..., ::-1], thermal[..., ::-1])).astype(np.uint8)
        gain.append(saliency(ours, mask)["S"] - saliency(thermal[..., 0], mask)["S"])
    assert np.mean(gain) > 0.05
