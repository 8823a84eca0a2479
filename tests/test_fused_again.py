"""`leaderboard verify` of records that come without their fused images: evalkit fuses some again and measures them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import make_tno

import evalkit
from evalkit.leaderboards.verify import verify
from evalkit.records.per_image import read_per_image
from evalkit.records.record import load


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose fused images are not there any more, beside its data root."""
    home = tmp_path_factory.mktemp("shipped")
    make_tno(home / "data", 4)
    options = {"methods": ["average", "maximum"], "datasets": "TNO", "workers": 1}
    evalkit.reproduce("smfnet-table1", home / "data", out=home / "run", **options)
    shutil.rmtree(home / "run" / "fused")
    return home


def test_images_are_fused_again_and_are_the_same_files(shipped):
    *records, table = verify(shipped / "run" / "records", data_root=shipped / "data", remeasure=2)
    assert table.checked == ["table"]
    for verdict in records:
        assert verdict.ok, verdict.problems
        assert {"sources", "fused again", "keys", "measured again"} <= set(verdict.checked)
        assert any("2 of 4 images were measured again" in note for note in verdict.notes)
    none = verify(shipped / "run" / "records", data_root=shipped / "data", remeasure=0)
    assert all("fused again" not in verdict.checked for verdict in none)


def test_scores_that_another_method_measured_are_found(shipped, tmp_path):
    """A record that fits its scores, all hashes redone, but is of other images: measuring again finds it."""
    shutil.copytree(shipped / "run", tmp_path / "run")
    shutil.copy(tmp_path / "run/scores/TNO/maximum.csv", tmp_path / "run/scores/TNO/average.csv")
    path = tmp_path / "run/records/TNO__average.json"
    other = load(tmp_path / "run/records/TNO__maximum.json")
    forged = load(path).model_copy(update={"scores": other.scores, "scores_hash": other.scores_hash})
    path.write_text(json.dumps(forged.model_copy(update={"record_hash": forged.hash()}).model_dump()))
    assert read_per_image(tmp_path / "run/scores/TNO/average.csv").hash() == forged.scores_hash
    (alone,) = verify(path)
    assert alone.ok  # numbers that fit together
    (found,) = verify(path, data_root=shipped / "data")
    assert any("fused again: EN is" in problem for problem in found.problems)
    assert any("are other files than those" in note for note in found.notes)


def test_weights_that_are_not_at_hand_are_said(shipped, tmp_path):
    shutil.copytree(shipped / "run", tmp_path / "run")
    path = tmp_path / "run/records/TNO__average.json"
    record = load(path)
    method = record.method | {"card": "DenseFuse", "filled_from": "checkpoint"}
    changed = record.model_copy(update={"method": method})
    path.write_text(json.dumps(changed.model_copy(update={"record_hash": changed.hash()}).model_dump()))
    (verdict,) = verify(path, data_root=shipped / "data")
    assert any("are not fused again: needs its weights densefuse_gray.model" in note for note in verdict.notes)
    assert "measured again" not in verdict.checked
