"""`scripts/gpu_check.py` on the processor, with tiny sizes: every part runs, and one that fails stops no other."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import gpu_check
import gpu_training

from evalkit.data.samples.samples import write_scenes
from evalkit.training.find_recipe import load_recipe


@pytest.mark.slow
def test_every_part_runs_on_the_processor(tmp_path: Path) -> None:
    write_scenes(tmp_path / "data", 6, 7, 160, 128)
    out = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--quick", "--seconds", "500"]
    status = gpu_check.main([*arguments, "--data-root", str(tmp_path / "data"), "--out", str(out)])
    result = json.loads(out.read_text())
    assert not result["steps of the recipes, bf16"]["problems"]
    assert status == 0
    assert result["networks"]["difference"] == {"DenseFuse": 0.0, "IFCNN": 0.0}  # the same device twice
    (stage, *_) = result["steps of the recipes"]["recipes"]["IGNet"]
    assert stage["steps"] == 2
    assert stage["images_per_second"] == pytest.approx(stage["batch"] / stage["seconds_per_step"])
    assert stage["notes"] == ["6 pairs of samples"]
    row = result["SMFNet"]["row"]
    assert set(row) == set(gpu_check.NINE)
    assert row["EN"] > 0
    assert result["SMFNet"]["pairs"] == 6


def test_a_part_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    def fails(end: float) -> None:
        raise RuntimeError("CUDA out of memory.\nmore")

    def differs(end: float) -> dict:
        return {"problems": ["SMFNet differs by 2.0e-03"]}

    result: dict = {}
    parts = {"first": fails, "second": differs, "third": lambda end: {"left": end - time.monotonic()}}
    problems = gpu_check.run(parts, 10, result, tmp_path / "out.json")
    assert problems == ["first failed: RuntimeError: CUDA out of memory.", "SMFNet differs by 2.0e-03"]
    assert 0 < result["third"]["left"] <= 10
    assert json.loads((tmp_path / "out.json").read_text()) == result
    late: dict = {}
    assert gpu_check.run({"equality": fails, "kernels": fails}, 0, late, None) == ["equality was left out"]
    assert late == dict.fromkeys(("equality", "kernels"), "left out: no time")


def test_a_network_that_fails_is_told_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no kernel image")

    methods = {"broken": SimpleNamespace(network=broken), "DenseFuse": gpu_training.METHODS["DenseFuse"]}
    monkeypatch.setattr(gpu_training, "METHODS", methods)
    measured = gpu_training.networks("cpu", time.monotonic() + 100, ("broken", "DenseFuse"), 80, 64)
    assert measured["problems"] == ["broken failed: RuntimeError: no kernel image"]
    assert measured["difference"] == {"DenseFuse": 0.0}
    assert gpu_training.networks("cpu", 0.0, ("DenseFuse",), 80, 64)["difference"] == {"DenseFuse": "left out: no time"}


def test_steps_end_with_their_time(tmp_path: Path) -> None:
    root = write_scenes(tmp_path / "data", 6, 7, 160, 128)
    measured = gpu_training.recipe_steps("cpu", time.monotonic() + 0.01, ("IGNet",), "small", 50, root, None)
    (stage,) = measured["recipes"]["IGNet"]
    assert 1 <= stage["steps"] < 50
    assert "no more time" in stage["notes"][-1]


@pytest.mark.parametrize("name", ["S4Fusion", "PSFusion", "SMR-Net"])
def test_missing_weights_of_the_paper_recipes_are_random_ones(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, "paper")
    gpu_training.random_weights(recipe, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(recipe.weights.values())
