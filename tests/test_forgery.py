"""Stored numbers are not believed: what was changed is found, by hashes, by means, or by measuring again."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import finished_run

import evalkit
from evalkit.cli import main
from evalkit.data.images import write_png
from evalkit.errors import DataError
from evalkit.leaderboards.verify import UNPROVEN, verify
from evalkit.protocols.table.table import read_table
from evalkit.records.per_image import read_per_image, row_digest
from evalkit.records.record import load

RECORD, SCORES = "records/TNO__average.json", "scores/TNO/average.csv"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("original"))


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "copy")
    return tmp_path / "copy"


def edit_scores(run: Path, image: int, column: str, value: str) -> None:
    """Write a number over one of the per-image scores, and the digest of its row."""
    path = run / SCORES
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    rows[image][header.index(column)] = value
    rows[image][-1] = row_digest(header, rows[image][:-1])
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def redo_record(run: Path, means: bool = True, hashes: bool = True) -> None:
    """The record of somebody who knows how means and hashes are made."""
    path = run / RECORD
    rows = read_per_image(run / SCORES)
    record = load(path)
    if means:
        record.scores.update({metric: rows.mean(metric) for metric in rows.metrics})
    if hashes:
        record.scores_hash = rows.hash()
    record.record_hash = record.hash()
    path.write_text(json.dumps(record.model_dump(), indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def redo_table(run: Path) -> None:
    table, record = read_table(run), load(run / RECORD)
    table.cells = [
        replace(cell, value=record.scores[cell.metric]) if cell.method == "average" else cell for cell in table.cells
    ]
    table.write(run)


def one_digit(run: Path) -> None:
    text = (run / SCORES).read_text()
    place = text.index(".", text.index("\n")) + 3
    (run / SCORES).write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])


def one_score(run: Path) -> None:
    edit_scores(run, 0, "EN", "7.5")


def one_score_and_means(run: Path) -> None:
    one_score(run)
    redo_record(run, hashes=False)


def a_mean(run: Path) -> None:
    record = json.loads((run / RECORD).read_text())
    record["scores"]["EN"] += 1e-9
    (run / RECORD).write_text(json.dumps(record))


def a_mean_and_its_hash(run: Path) -> None:
    a_mean(run)
    redo_record(run, means=False)


def the_table(run: Path) -> None:
    table = read_table(run)
    table.cells[0] = replace(table.cells[0], value=table.cells[0].value + 1)
    table.write(run)


def no_scores(run: Path) -> None:
    (run / SCORES).unlink()


INCONSISTENT = [one_digit, one_score, one_score_and_means, a_mean, a_mean_and_its_hash, the_table, no_scores]


def everything(run: Path, images: int | None = None) -> None:
    """A forgery in which all fits: scores, means, every hash and the table."""
    count = len(read_per_image(run / SCORES).rows)
    for image in range(count if images is None else images):
        edit_scores(run, image, "EN", "7.5")
    redo_record(run)
    redo_table(run)


@pytest.mark.parametrize("forge", INCONSISTENT)
def test_what_does_not_fit_is_refused_by_every_command(
    forge: Callable[[Path], None], root: Path, tmp_path: Path
) -> None:
    run = root / "run"
    forge(run)
    assert any(verdict.problems for verdict in verify(run))
    for arguments in (
        ["rank", str(run)],
        ["plot", "radar", str(run), "--out", str(tmp_path / "figure.svg")],
        ["compare", "CDDFuse", "average", "--run", str(run)],
        ["leaderboard", "build", str(tmp_path / "site"), "--records", str(run), "--no-plots"],
        ["leaderboard", "verify", str(run)],
    ):
        done = CliRunner().invoke(main, arguments)
        said = " ".join(done.output.split())
        assert done.exit_code == (1 if "verify" in arguments else 2), said
        assert "Traceback" not in said
        if "verify" not in arguments:
            assert "run `evalkit reproduce` into that folder again" in said
    assert not (tmp_path / "site").exists()
    assert not (tmp_path / "figure.svg").exists()


def test_a_forgery_in_which_all_fits_is_found_with_the_images_alone(root: Path) -> None:
    run = root / "run"
    images = {"data_root": root / "data", "fused": run / "fused"}
    assert verify(run / RECORD, **images)[0].ok
    everything(run)
    (without,) = verify(run / RECORD)
    assert without.ok
    assert UNPROVEN in without.notes  # said, not hidden
    (found,) = verify(run / RECORD, **images)
    assert "measured again" in found.checked
    assert len(found.problems) == 3
    assert all("EN is 7.5, measured again " in problem for problem in found.problems)
    done = CliRunner().invoke(main, ["leaderboard", "verify", str(run / RECORD), "--data-root", str(root / "data")])
    assert done.exit_code == 1


def test_one_forged_image_is_found_where_all_are_measured_again(root: Path) -> None:
    run = root / "run"
    everything(run, images=1)
    command = ["leaderboard", "verify", str(run / RECORD), "--data-root", str(root / "data"), "--json"]
    done = CliRunner().invoke(main, [*command, "--remeasure", "all"])
    assert done.exit_code == 1
    (problem,) = json.loads(done.output)[0]["problems"]
    assert problem.startswith("01: EN is 7.5, measured again ")
    for few in ("0", "1"):
        notes = json.loads(CliRunner().invoke(main, [*command, "--remeasure", few]).output)[0]["notes"]
        assert (UNPROVEN if few == "0" else "1 of 25 images were measured again; --remeasure all takes all") in notes
    for odd in ("-1", "some", "1.5"):
        assert CliRunner().invoke(main, [*command, "--remeasure", odd]).exit_code == 2


def test_the_last_digits_of_another_processor_are_no_forgery(root: Path) -> None:
    run = root / "run"
    value = next(iter(read_per_image(run / SCORES).rows.values())).values["EN"]
    assert value is not None
    images = {"data_root": root / "data", "remeasure": None}
    for factor, problems in ((1 + 1e-11, 0), (1 + 1e-8, 1)):
        edit_scores(run, 0, "EN", repr(value * factor))
        redo_record(run)
        assert len(verify(run / RECORD, **images)[0].problems) == problems


def test_an_image_forged_with_its_hashes_is_measured(root: Path) -> None:
    """Other pixels under the same name, with the hash of the set redone: the keys of the rows are of other images."""
    run = root / "run"
    write_png(run / "fused/average/TNO/05.png", np.full((48, 64), 99, np.uint8))
    assert any(
        "are not those that were measured" in p for p in verify(run / RECORD, data_root=root / "data")[0].problems
    )


def test_costs_are_counted_again(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run = tmp_path / "run"
    evalkit.reproduce("smfnet-table5", methods=["DenseFuse"], out=run)
    (tmp_path / "data").mkdir()
    for where in ({}, {"data_root": tmp_path / "data"}):
        verdicts = verify(run, **where)
        assert [verdict.problems for verdict in verdicts] == [[], []]
        assert "counted again" in verdicts[0].checked
    path, scores = run / "records/MSRS__DenseFuse.json", run / "scores/MSRS/DenseFuse.csv"
    record = load(path)
    text = scores.read_text()
    value = repr(record.scores["Params"])
    assert value in text
    record.scores["Params"] *= 2
    header, row = list(csv.reader(text.splitlines()))
    row[header.index("Params")] = repr(record.scores["Params"])
    row[-1] = row_digest(header, row[:-1])
    scores.write_text("\n".join(map(",".join, (header, row))) + "\n")
    record.scores_hash = read_per_image(scores).hash()
    record.record_hash = record.hash()
    path.write_text(json.dumps(record.model_dump()))
    (found,) = verify(path)
    assert [problem.partition(" is ")[0] for problem in found.problems] == ["Params"]


def test_a_run_whose_older_store_was_set_aside_is_verified(root: Path) -> None:
    run = root / "run"
    old = run / "schema-0/records/TNO__average.json"
    old.parent.mkdir(parents=True)
    old.write_text(json.dumps({"schema_version": 0}))
    assert [verdict.problems for verdict in verify(run)] == [[], [], []]
    assert CliRunner().invoke(main, ["rank", str(run)]).exit_code == 0
    with pytest.raises(DataError, match="schema version 0"):
        verify(old)  # named itself, it is read
