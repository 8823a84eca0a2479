"""Colour for gray results: from bytes, and from a luminance that is rounded once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evalkit.data.images import luminance, merge_levels, write_png
from evalkit.data.pairs import ImagePair
from evalkit.methods.network import NetworkMethod, gray_levels, round_levels, unit_gray_pair
from evalkit.methods.network_fuser import NetworkFuser

COLOURS = arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)))


@given(COLOURS)
def test_an_image_gets_its_own_colour_back(image):
    np.testing.assert_array_equal(merge_levels(luminance(image), image), image)


@given(COLOURS, st.floats(-20, 20))
def test_a_brighter_luminance_is_a_brighter_image(image, step):
    moved = merge_levels(luminance(image) + step, image).astype(float)
    expected = np.clip(image + step, 0, 255)
    assert np.abs(moved - expected).max() <= 0.5 + 0.1  # the coefficients of there and back differ by 3 in 10,000


def test_coefficients_are_those_of_opencv_of_floats():
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    image, levels = rng.integers(0, 256, (64, 64, 3), np.uint8), rng.uniform(0, 255, (64, 64)).astype(np.float32)
    parts = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2YCrCb)
    np.testing.assert_allclose(luminance(image), parts[..., 0], atol=1e-4)
    parts[..., 0] = levels
    expected = cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB).clip(0, 255)
    assert np.abs(merge_levels(levels, image) - expected).max() <= 0.5 + 1e-4


class Visible(torch.nn.Module):
    """Gives back the visible image."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, infrared, visible):
        return visible * self.factor


@pytest.fixture
def fuser(tmp_path):
    torch.save({"factor": torch.ones(1)}, tmp_path / "visible.pth")

    def make(levels, recolour=True):
        method = NetworkMethod(
            Visible, unit_gray_pair, round_levels, ("visible.pth",), lambda state, path: state, levels=levels
        )
        return NetworkFuser("average", method, {}, [tmp_path / "visible.pth"], "cpu", recolour)

    return make


@pytest.fixture
def pair(tmp_path):
    rng = np.random.default_rng(1)
    write_png(tmp_path / "ir.png", rng.integers(0, 256, (40, 50), np.uint8))
    write_png(tmp_path / "vi.png", rng.integers(0, 256, (40, 50, 3), np.uint8))
    return ImagePair("1", tmp_path / "ir.png", tmp_path / "vi.png")


def test_a_network_with_levels_loses_nothing_of_a_colour_image(fuser, pair):
    from evalkit.data.images import read_image

    visible = read_image(pair.visible)
    unrounded, bytes_ = fuser(gray_levels), fuser(None)
    np.testing.assert_array_equal(next(iter(unrounded.fuse([pair]))), visible)
    through_bytes = next(iter(bytes_.fuse([pair])))
    assert 0 < np.abs(through_bytes.astype(int) - visible).max() <= 2  # rounded three times
    assert unrounded.identity != bytes_.identity  # images of the one are not taken for those of the other
    assert (unrounded.recoloured, bytes_.recoloured) == ("unrounded", True)


def test_another_process_finds_the_weights_from_another_folder(fuser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = fuser(gray_levels)
    relative.files = [path.relative_to(tmp_path) for path in relative.files]
    _, arguments = relative.__reduce__()
    assert arguments[3] == (tmp_path / "visible.pth",)  # a worker that is used again stands where it was started


def test_without_recolouring_and_of_gray_images_levels_change_nothing(fuser, pair, tmp_path):
    gray = next(iter(fuser(gray_levels, recolour=False).fuse([pair])))
    assert gray.ndim == 2
    assert fuser(gray_levels, recolour=False).recoloured is False
    write_png(tmp_path / "gray.png", gray)
    of_gray = ImagePair("1", pair.infrared, tmp_path / "gray.png")
    np.testing.assert_array_equal(next(iter(fuser(gray_levels).fuse([of_gray]))), gray)
