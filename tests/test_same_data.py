"""A record stands beside printed numbers only where it is of the paper's own pairs: by names and content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import make_tno

import evalkit
from evalkit.cli import main
from evalkit.data.card import DATASETS, Split, load_card
from evalkit.data.images import read_image, write_png
from evalkit.data.pairs import find_pairs
from evalkit.leaderboards.site.entries import read_entries, shipped_entries
from evalkit.leaderboards.site.pages import pages
from evalkit.protocols.report import plan_report
from evalkit.protocols.same_data import other_data, unknown_pairs
from evalkit.protocols.schema import parse, protocol, protocols
from evalkit.protocols.use import DatasetUse
from evalkit.records.record import Record, load

TABLE = """
title: A paper's table
paper: P
convention: smfnet
metrics: EN
datasets: {TNO: {pairs: 4}}
methods: average
published: numbers.csv
"""


@pytest.fixture
def tno(tmp_path, monkeypatch):
    """A data root with four generated pairs that TNO's card describes: as if they were the paper's."""
    root = make_tno(tmp_path / "data", 4)
    content = find_pairs(load_card("TNO"), root).content_hash()
    card = load_card("TNO").model_copy(update={"pairs": 4, "content": content})
    monkeypatch.setitem(DATASETS._items, "TNO", card)
    (tmp_path / "table.yaml").write_text(TABLE)
    (tmp_path / "numbers.csv").write_text("dataset,method,metric,printed\nTNO,average,EN,6.1\n")
    return root


def measured(root: Path, table: str = TABLE) -> tuple[str, str]:
    """Status and reason of the one cell; the record's own reason is the same, and it is verified."""
    home = root.parent
    (home / "table.yaml").write_text(table)
    result = evalkit.benchmark(home / "table.yaml", data_root=root, out=home / "run", workers=1)
    cell = result.cell("TNO", "average", "EN")
    record = load(home / "run/records/TNO__average.json")
    assert other_data(record, parse(table, "table.yaml")) == cell.reason
    verified = CliRunner().invoke(main, ["leaderboard", "verify", str(home / "run"), "--data-root", str(root)])
    assert verified.exit_code == 0, verified.output
    assert ("no printed ones" in verified.output) == bool(cell.reason and "pairs, the paper's" not in cell.reason)
    return cell.status, cell.reason


def test_the_papers_own_pairs_are_compared(tno):
    assert measured(tno) == ("differs", "")


def test_one_pair_replaced(tno):
    write_png(tno / "TNO/ir/02.png", read_image(tno / "TNO/ir/02.png")[::-1].copy())
    status, reason = measured(tno)
    assert status == "other data"
    assert "names or image files are others" in reason


def test_a_renamed_pair(tno):
    for folder in ("ir", "vi"):
        (tno / "TNO" / folder / "02.png").rename(tno / "TNO" / folder / "20.png")
    assert measured(tno)[0] == "other data"


def test_a_part_of_the_pairs(tno):
    for folder in ("ir", "vi"):
        (tno / "TNO" / folder / "02.png").unlink()
    assert measured(tno) == ("other data", "measured on 3 pairs, the paper's table on 4")


def test_as_many_pairs_as_the_paper_are_not_its_pairs(tno):
    for folder in ("ir", "vi"):
        (tno / "TNO" / folder / "02.png").unlink()
    status, reason = measured(tno, TABLE.replace("pairs: 4", "pairs: 3"))
    assert status == "other data"
    assert reason == "which 3 pairs of TNO the paper measured is not published: the data set has 4"


def test_all_pairs_where_the_paper_drew_as_many_of_more(tno):
    status, reason = measured(tno, TABLE.replace("pairs: 4", "pairs: 4, unlisted: true"))
    assert (status, reason) == ("other data", "which 4 pairs of TNO the paper measured is not published")


def test_a_set_of_ones_own_that_is_called_tno(tno):
    shutil.rmtree(tno / "TNO")
    make_tno(tno, 8)
    for i in range(1, 5):
        for folder in ("ir", "vi"):
            (tno / "TNO" / folder / f"0{i + 4}.png").replace(tno / "TNO" / folder / f"0{i}.png")
    assert measured(tno)[0] == "other data"
    own = TABLE.replace("paper: P\n", "")  # a benchmark of one's own is of the pairs that are there
    shutil.rmtree(tno.parent / "run")
    assert measured(tno, own)[0] == "differs"


def test_a_split_by_list_counts_by_its_names_where_no_content_is_known(tno, monkeypatch):
    split = Split(name="two", stems=("01", "03"), pairs=2)
    card = load_card("TNO").model_copy(update={"splits": (split,), "content": ""})
    monkeypatch.setitem(DATASETS._items, "TNO", card)
    assert measured(tno, TABLE.replace("pairs: 4", "pairs: 2, split: two")) == ("differs", "")
    assert unknown_pairs(DatasetUse(pairs=3, split="two"), card)


def test_fifteen_pairs_of_tno_are_not_smr_nets(tmp_path):
    root = make_tno(tmp_path / "data", 15)
    options = {"datasets": "TNO", "methods": "average", "workers": 1}
    table = evalkit.reproduce("smrnet-table1", root, out=tmp_path / "run", **options)
    assert table.cell("TNO", "average", "MSE").reason.startswith("which 15 pairs of TNO")
    page = next(p for p in pages(read_entries(tmp_path / "run", own=True)) if p.protocol.name == "smrnet-table1")
    row = next(row for block in page.blocks for row in block.rows if row.entry)
    assert row.other_data == table.cell("TNO", "average", "MSE").reason
    (dataset,) = plan_report("smrnet-table1", root, datasets=["TNO"])["datasets"]
    assert dataset["found"] == dataset["expected"] == 15
    assert dataset["unknown"] == row.other_data


def test_what_ships_is_of_the_data_that_it_is_compared_on():
    """Records of before this rule, too: they hold the hashes that it needs."""
    compared = 0
    for entry in shipped_entries():
        of_paper = protocol(entry.record.protocol["name"])
        use = of_paper.datasets.get(entry.dataset)
        if use is None or entry.record.method["filled_from"] == "code" or other_data(entry.record, of_paper):
            continue
        card = load_card(entry.dataset)
        known = card.content_of(use.split or card.default_split)
        assert entry.record.dataset["content_hash"] == known != "", entry.run
        compared += 1
    assert compared > 50


def test_a_record_of_other_pairs_cannot_say_that_it_is_of_the_papers():
    entry = next(e for e in shipped_entries() if e.dataset == "TNO" and not e.record.missing)
    fields = json.loads(entry.text)
    fields["dataset"]["content_hash"] = "0" * 64
    assert other_data(Record.model_validate(fields), protocol("smfnet-table1"))


def test_papers_whose_pairs_are_not_published_are_told():
    unknown = {
        (name, dataset)
        for name, of_paper in protocols().items()
        for dataset, use in of_paper.datasets.items()
        if of_paper.paper and unknown_pairs(use, load_card(dataset))
    }
    assert unknown == {
        ("psfusion-fig13", "TNO"),
        ("psfusion-fig14", "RoadScene"),
        ("s4fusion-table4", "M3FD"),
        ("smfnet-table4", "MRI-PET"),
        ("smrnet-table1", "TNO"),
        ("smrnet-table1", "RoadScene"),
        ("smrnet-table1", "MSRS"),
        ("tsjnet-table1", "MSRS"),
        ("tsjnet-table3", "MSRS"),
    }
