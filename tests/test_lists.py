"""Lists that keep neighbouring frames apart beside those that a paper has, and what neighbours are worth."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evalkit.data.images import write_png
from evalkit.data.pairs import ImagePair
from evalkit.downstream.detection import table as detection
from evalkit.downstream.leakage import similarities
from evalkit.downstream.segmentation import table as segmentation
from evalkit.downstream.segmentation.recipe import schedules
from evalkit.downstream.segmentation.run import Variant
from evalkit.downstream.segmentation.scenes import SegmentationScenes
from evalkit.downstream.splits import BLOCK, PARTS, Division
from evalkit.errors import EvalkitError
from evalkit.protocols.plan import Settings, plan_datasets
from evalkit.protocols.schema import protocol
from evalkit.protocols.table.table import Table
from evalkit.protocols.tasks import Job


def job(name: str, recipe: str, tmp_path: Path) -> Job:
    chosen = protocol(name)
    settings = Settings(out=tmp_path, recipe=recipe)
    return Job(chosen, plan_datasets(chosen, None, False), ["Visible"], {}, tmp_path, False, settings)


def empty_table(name: str) -> Table:
    return SimpleNamespace(blocks={}, columns=[], cells=[], pairs={}, note="", protocol=name)  # type: ignore[return-value]


@pytest.mark.parametrize(("recipe", "with_images", "kinds"), [
    ("paper", True, ["sequence", "random"]),
    ("paper", False, ["sequence"]),
    ("small", True, ["sequence"]),
])  # fmt: skip
def test_detection_by_paper_is_on_both_lists(recipe, with_images, kinds, tmp_path, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(detection, "fill_block", lambda *arguments: calls.append(arguments) or with_images)
    for name in ("smfnet-table2", "s4fusion-table4", "tsjnet-table2"):
        calls.clear()
        detection.Detection().fill(job(name, recipe, tmp_path), empty_table(name))
        assert [arguments[4].split for arguments in calls] == kinds, name
        blocks = [arguments[5] for arguments in calls]
        assert len(set(blocks)) == len(blocks)
        if len(calls) == 2:
            assert calls[0][4].hash != calls[1][4].hash  # neither takes the other's detectors for its own
            assert "random lists" in blocks[1]
            assert (calls[0][7], calls[1][7]) == (True, True)  # the paper's names of the classes in both


def some_scenes(count: int) -> SegmentationScenes:
    """MSRS as its own lists have it: every fourth frame is tested on."""
    stems = [f"{i:05d}{'D' if i % 200 < 100 else 'N'}" for i in range(count)]
    test = tuple(stems[::4])
    train = tuple(stem for stem in stems if stem not in set(test))
    scenes = object.__new__(SegmentationScenes)
    pairs = [SimpleNamespace(stem=stem, labels={}) for stem in stems]
    scenes.images = SimpleNamespace(pairs=SimpleNamespace(pairs=pairs, dataset="MSRS"))  # type: ignore[assignment]
    held = count // 40
    scenes.split, scenes.how = Division(train[held:], train[:held], test), "own"
    scenes._shown = lambda: [0]  # type: ignore[method-assign]
    return scenes


def neighbours(split: Division) -> float:
    """Share of test frames whose next frame before or after, in the same light, is trained on."""
    train = {(int(stem[:-1]), stem[-1]) for stem in split.train}
    return np.mean([any((int(s[:-1]) + d, s[-1]) in train for d in (-1, 1)) for s in split.test])


def test_segmentation_lists_in_sequences_are_as_long_and_keep_neighbours_together() -> None:
    scenes = some_scenes(1200)
    apart = scenes.in_sequences()
    assert scenes.how == "own"  # the first one is as it was
    assert "runs of neighbouring frames" in apart.how
    for part in PARTS:
        assert abs(len(getattr(apart.split, part)) - len(getattr(scenes.split, part))) <= 2 * BLOCK
    whole = [stem for part in PARTS for stem in getattr(apart.split, part)]
    assert sorted(whole) == sorted(stem for part in PARTS for stem in getattr(scenes.split, part))
    assert neighbours(scenes.split) > 0.9
    assert neighbours(apart.split) <= 2 / BLOCK


def test_segmentation_by_paper_has_a_block_in_sequences_beside_each(tmp_path, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(segmentation, "fill_block", lambda *arguments: calls.append(arguments))
    name = "psfusion-table1"
    variants = [Variant(key, one, True) for key, one in schedules()["paper"][name].items()]
    table = empty_table(name)
    segmentation.fill_sequences(job(name, "paper", tmp_path), table, "MSRS", variants, some_scenes(1200))
    assert [one[3].name for one in calls] == [f"{one.name}, sequence lists" for one in variants]
    assert not any(one[3].published for one in calls)
    assert len(table.blocks) == len(variants)
    calls.clear()
    segmentation.fill_sequences(job(name, "paper", tmp_path), table, "MSRS", variants, some_scenes(40))
    assert all(one[5] is None and one[6] for one in calls)  # too few: missing values with the reason


def test_similar_pairs_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for i, seed in enumerate((1, 1, 2)):
        for role in ("ir", "vi"):
            scene = np.random.default_rng(seed).integers(0, 200, (6, 8)).repeat(20, 0).repeat(20, 1)
            write_png(tmp_path / role / f"{i}.png", (scene + rng.integers(0, 30, scene.shape)).astype(np.uint8))
        pairs.append(ImagePair(str(i), tmp_path / "ir" / f"{i}.png", tmp_path / "vi" / f"{i}.png"))
    alike = similarities(pairs)
    assert np.allclose(alike, alike.T)
    assert np.allclose(np.diag(alike), 1, atol=1e-5)
    assert alike[0, 1] > 0.95
    assert alike[0, 2] < 0.5


def test_too_few_pairs_for_sequences_are_an_error() -> None:
    with pytest.raises(EvalkitError, match="leave nothing for"):
        some_scenes(40).in_sequences()
