"""The plug-in's own tests: what it adds does what its cards say. Needs the package, installed or on the path."""

from pathlib import Path

import numpy as np
import pytest

import evalkit

HERE = Path(__file__).parents[1]


def test_hot_contrast_of_a_hand_made_image():
    infrared = np.zeros((10, 10), np.uint8)
    infrared[0, :5] = 200
    fused = np.full((10, 10), 51, np.uint8)
    fused[0, :5] = 153
    scores = evalkit.evaluate(fused, infrared, fused, ["HC"], "harbour")
    assert scores["HC"] == pytest.approx(0.4)


def test_hot_contrast_is_undefined_where_nothing_is_hot():
    image = np.full((10, 10), 51, np.uint8)
    assert "equally hot" in evalkit.evaluate(image, image, image, ["HC"], "harbour").missing["HC"]


def test_the_convention_takes_over_what_others_define():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 64), np.uint8) for _ in range(3)]
    ours = evalkit.evaluate(*images, ["EN", "SSIM"], "harbour")
    assert list(ours.values()) == list(evalkit.evaluate(*images, ["EN[textbook]", "SSIM[tang]"]).values())


def test_the_published_values_come_out(tmp_path):
    pytest.importorskip("torch")
    table = evalkit.reproduce("harbour-bench", HERE / "data", out=tmp_path, workers=1)
    assert table.complete
    assert {cell.status for cell in table.cells} == {"equal"}


def test_tinyfuse_is_near_the_brighter_source(tmp_path):
    pytest.importorskip("torch")
    evalkit.reproduce("harbour-bench", HERE / "data", methods=["TinyFuse", "maximum"], out=tmp_path, workers=1)
    from evalkit.data.images import read_image

    near, exact = (read_image(tmp_path / "fused" / name / "Harbour" / "01.png") for name in ("TinyFuse", "maximum"))
    assert np.abs(near.astype(float) - exact).mean() < 8
