"""Several data roots: the first that has all pairs of a data set, or of its split, gives them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import make_tno

import evalkit
from evalkit.cli import main
from evalkit.data.card import Split, load_card
from evalkit.data.pairs import find_pairs
from evalkit.errors import DataError
from evalkit.leaderboards.verify import verify


def data_root(folder: Path, dataset: str, count: int) -> Path:
    """A data root with generated pairs, called 01, 02, ..., of one data set."""
    make_tno(folder, count)
    (folder / "TNO").rename(folder / dataset)
    return folder


def test_of_several_roots_the_first_with_all_pairs_is_taken(tmp_path):
    (tmp_path / "none").mkdir()
    some, two, whole = (data_root(tmp_path / str(count), "RoadScene", count) for count in (1, 2, 3))
    roots = (tmp_path / "none", some, two, whole)
    split = Split(name="two", stems=("01", "02"), pairs=2)
    card = load_card("RoadScene").model_copy(update={"pairs": 3, "splits": (split,)})
    assert find_pairs(card, roots, "two").root == two / "RoadScene"
    assert find_pairs(card, roots).root == whole / "RoadScene"
    assert find_pairs(card, roots[:3]).root == some / "RoadScene"  # none is whole
    assert find_pairs(card, roots[:2], "two").unpaired
    with pytest.raises(DataError, match=r"(?s)RoadScene is not in .*none: .* It is not in .*nothing, either"):
        find_pairs(card, (tmp_path / "none", tmp_path / "nothing"))


def test_several_roots_are_named_by_options_or_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("EVALKIT_DATA", raising=False)
    roots = data_root(tmp_path / "a", "TNO", 2), data_root(tmp_path / "b", "RoadScene", 3)
    named = [f"--data-root={root}" for root in roots]
    command = ["reproduce", "smfnet-table1", "--plan", "--json", "--methods", "average"]
    by_options = CliRunner().invoke(main, [*command, *named]).output
    plan = json.loads(by_options)
    assert [one["found"] for one in plan["datasets"]] == [2, 0, None]  # pairs of other names than the split's
    assert plan["data_root"] == ", ".join(map(str, roots))
    monkeypatch.setenv("EVALKIT_DATA", os.pathsep.join(map(str, roots)))
    assert CliRunner().invoke(main, command).output == by_options
    checked = CliRunner().invoke(main, ["data", "check", "--json", *named]).output
    assert [one["dataset"] for one in json.loads(checked) if one["present"]] == ["TNO", "RoadScene"]
    gone = CliRunner().invoke(main, [*command, named[0], "--data-root=gone"])
    assert gone.exit_code == 2
    assert "the data root gone is not a folder" in gone.output


def test_a_run_and_its_verification_read_from_several_roots(tmp_path):
    roots = data_root(tmp_path / "a", "TNO", 2), data_root(tmp_path / "b", "RoadScene", 2)
    fields = {"title": "t", "convention": "smfnet", "metrics": "EN", "methods": "average"}
    bench = fields | {"datasets": {"TNO": {}, "RoadScene": {}}}
    table = evalkit.benchmark(bench, data_root=roots, out=tmp_path / "run", workers=1)
    assert [table.cell(name, "average", "EN").images for name in ("TNO", "RoadScene")] == [2, 2]
    verdicts = verify(tmp_path / "run", data_root=roots, remeasure=None)
    assert all(verdict.ok for verdict in verdicts), [v.problems for v in verdicts]
    assert sum("measured again" in verdict.checked for verdict in verdicts) == 2
