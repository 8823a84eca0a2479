"""Protocols and their published numbers: they agree with each other, can be planned, printed and partly run."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import make_outputs, make_tno

import evalkit
from evalkit.cli import main
from evalkit.data.card import load_card
from evalkit.errors import DataError, EvalkitError
from evalkit.methods.registry import method_card
from evalkit.metrics.card import CONVENTIONS, DEFINITIONS
from evalkit.protocols import tasks
from evalkit.protocols.cost import PREFIX
from evalkit.protocols.report import plan_report, report_text
from evalkit.protocols.schema import parse, protocol, protocols, published_values, rows_of
from evalkit.protocols.table.blank import published_table
from evalkit.protocols.table.cells import Cell, Column
from evalkit.protocols.table.export import FORMATS
from evalkit.protocols.table.grid import Grid, paper_axes
from evalkit.protocols.table.latex import to_latex
from evalkit.protocols.table.published import HEADER, decimals_of, read_rows
from evalkit.protocols.table.style import PLAIN
from evalkit.protocols.table.table import Table, read_table

GOLDEN = Path(__file__).parent / "golden"
PUBLISHED = Path(evalkit.__file__).parent / "protocols" / "published"
NAMES = sorted(protocols())
PRINTED = [name for name in NAMES if protocol(name).published]


def run(*arguments: object):
    """Exit code, standard output, standard error; a traceback fails the test."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


# --- protocols and published numbers hold together


def test_every_file_of_numbers_has_its_protocol():
    assert sorted(file.stem for file in PUBLISHED.glob("*.csv")) == PRINTED


@pytest.mark.parametrize("name", NAMES)
def test_protocol_names_what_evalkit_knows(name):
    chosen = protocol(name)
    for dataset, use in chosen.datasets.items():
        card = load_card(dataset)
        assert card.name == dataset
        assert use.split is None or card.split(use.split)
    if tasks.tasks_of(chosen)[0].name == "fusion":
        assert chosen.convention in CONVENTIONS
    assert len(set(chosen.methods)) == len(chosen.methods)
    assert set(chosen.ablations) <= set(chosen.methods)
    assert all(method_card(method).name == method for method in chosen.rows.values())
    if chosen.task == "complexity":
        assert all(unit.split()[0] in PREFIX for unit in chosen.units.values())


@pytest.mark.parametrize("name", PRINTED)
def test_numbers_and_protocol_name_the_same_things(name):
    chosen, rows = protocol(name), rows_of(protocol(name))
    assert sum(bool(row.printed) for row in rows) == len(published_values(chosen)) > 0
    found = {
        "datasets": {row.dataset for row in rows} - {""},
        "variants": {row.variant for row in rows} - {""},
        "methods": {row.method for row in rows},
        "classes": {row.class_ for row in rows} - {"", "mean"},
        "metrics": {row.metric.removesuffix(" std") for row in rows},
    }
    if any(not row.dataset for row in rows):  # the paper does not name the data set, the protocol decides for one
        assert any("data set" in sentence for sentence in chosen.left_open)
        found["datasets"] |= set(chosen.datasets)
    assert found == {part: set(getattr(chosen, part)) for part in found}


@pytest.mark.parametrize("name", PRINTED)
def test_every_printed_cell_has_a_place_in_the_papers_arrangement(name):
    table = published_table(name)
    grid = Grid(table, PLAIN, *paper_axes(table), {})
    assert len(grid.cells) == len(table.cells)
    axes = [*protocol(name).layout.rows, *protocol(name).layout.header]
    left_out = {"dataset", "variant", "method", "class", "metric"} - set(axes)
    keys = {grid.key(cell, axes) for cell in table.cells}
    assert len(keys) == len(table.cells), f"the layout leaves out one of {left_out}"


def test_a_wrong_protocol_is_told_by_field():
    text = "title: t\npaper: p\ntable: T\ntask: fusion\nconvention: tang\nmetrics: EN\nmethods: [A]\ncitation: c\n"
    chosen = parse(text + "training: {epochs: 300, size: [640, 480], lr: 1.0e-2}\nmarks: bold is best\n", "mine.yaml")
    assert chosen.metrics == ("EN",)
    assert chosen.training == {"epochs": "300", "size": "640, 480", "lr": "0.01"}
    assert chosen.marks == {"note": "bold is best"}
    assert chosen.layout.header == ("dataset", "metric")
    for line, message in [
        ("epoch: 3", "epoch"),
        ("layout: {rows: method, header: [method, metric]}", "once"),
        ("layout: {rows: method, header: dataset}", "must stand"),
        ("published: ../other.csv", "beside"),
        ("draws: pie", "draws"),
    ]:
        with pytest.raises(DataError, match=message):
            parse(text + line, "mine.yaml")


# --- reading published numbers


def test_rows_of_a_file():
    lines = ["MSRS,BANet,PSFusion,Car,IoU,89.10,best,", "MSRS,,PSFusion,,EN,,,lost", ",image,PSFusion,mean,IoU,-1e-3,,"]
    text = "\n".join([",".join(HEADER), *lines])
    first, empty, last = read_rows(text, "mine.csv")
    assert (first.protocol, first.block, first.column, first.value) == ("mine", "MSRS · BANet", "Car IoU", 89.1)
    assert (first.decimals, first.mark, first.printed) == (2, "best", "89.10")
    assert (empty.value, empty.block, empty.column, empty.decimals) == (None, "MSRS", "EN", 0)
    assert last.key == ("image", "PSFusion", "mean IoU")
    assert last.value == -0.001
    assert [decimals_of(text) for text in ("7", "0.5130", "1e-6", "1.5e-3", "-.25", "")] == [0, 4, 6, 4, 2, 0]


def test_a_readers_own_file_needs_three_columns():
    (row,) = read_rows("\ufeffmethod, metric ,value\r\nmine,EN,7.1\r\n", "mine.csv")
    assert row.key == ("", "mine", "EN")
    assert row.value == 7.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method,metrik,printed\n", "line 1: unknown column 'metrik'. Did you mean 'metric'"),
        ("method,printed\nA,1\n", "line 1: no column metric"),
        ("method,metric\nA,EN\n", "no column printed"),
        ("method,metric,printed,value\nA,EN,1,1\n", "not both"),
        ("method,metric,metric,printed\n", "more than once"),
        ("", "no column method"),
        ("method,metric,printed\nA,EN,7.1\nA,SD,4l.2\n", "mine.csv, line 3: '4l.2' is not a number"),
        ("method,metric,printed\nA,EN,71 %\n", "line 2: '71 %' is not a number"),
        ("method,metric,printed\nA,EN,nan\n", "line 2: 'nan' is not a number"),
        ("method,metric,printed\nA,EN,1e999\n", "line 2: '1e999' is not a number"),
        ("method,metric,printed\nA,EN,7,1\n", "line 2: 4 cells, expected 3"),
        ("method,metric,printed\n,EN,7\n", "line 2: the method is empty"),
        ("method,metric,printed\nA,,7\n", "line 2: the metric is empty"),
        ("method,metric,printed,mark\nA,EN,7,bold\n", "line 2: the mark is 'bold'"),
        ("method,metric,printed\nA,EN,7\nB,EN,8\nA,EN,7\n", "line 4: A, EN is already on line 2"),
    ],
)
def test_damaged_files_are_told_by_line(text, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read_rows(text, "mine.csv")


def test_published_rows_of_unknown_and_silent_protocols():
    assert rows_of(protocol("vifb")) == []
    assert rows_of(protocol("SMFNET-table1")) == rows_of(protocol("smfnet-table1"))
    with pytest.raises(EvalkitError, match="Did you mean 'smfnet-table1'"):
        rows_of(protocol("smfnet-tabel1"))


# --- plans


def tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_can_be_planned_and_nothing_is_written(name, tmp_path, monkeypatch):
    monkeypatch.delenv("EVALKIT_DATA", raising=False)
    root = make_tno(tmp_path / "data", 1)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    code, out, _ = run("reproduce", name, "--plan")
    assert code == 0
    assert "nothing was run or written" in out
    chosen = protocol(name)
    for dataset in chosen.datasets:
        assert load_card(dataset).source in out
    for entry in [*chosen.methods, *chosen.left_open, *chosen.decisions, *chosen.training.values()]:
        assert entry in out
    code, out, _ = run("reproduce", name, "--plan", "--json", "--data-root", root)
    report = json.loads(out)
    assert code == 0
    assert report["published"] == len(published_values(chosen))
    assert {row["method"] for row in report["rows"]} == (set(chosen.methods) if chosen.datasets else set())
    assert all(row["from"] or row["missing"] for row in report["rows"])
    assert tree(tmp_path) == before


def test_a_plan_says_what_the_run_then_does(tmp_path):
    root, outputs = make_tno(tmp_path / "data"), make_outputs(tmp_path / "outputs")
    report = plan_report("smfnet-table1", root, outputs=outputs)
    assert report["cells"] == {"total": 288, "would_run": 8, "comparable": 8}  # by names and count: nothing is read
    assert {d["name"]: (d["expected"], d["found"]) for d in report["datasets"]} == {
        "TNO": (25, 25),
        "RoadScene": (50, None),
        "MSRS": (361, None),
    }
    rows = {(row["method"], row["dataset"]): row for row in report["rows"]}
    assert rows["CDDFuse", "TNO"]["from"] == "outputs"
    assert "model_VIF.pth" in rows["SMFNet", "TNO"]["missing"]
    assert "CDDFuse: outputs on TNO" in report_text(report)
    out = tmp_path / "run"
    code, text, _ = run("reproduce", "smfnet-table1", "--data-root", root, "--outputs", outputs, "--out", out)
    assert code == 3
    assert "8 of 288 cells measured" in text
    assert read_table(out).counts() == {
        "cells": 288,
        "measured": 8,
        "equal": 0,
        "close": 0,
        "differs": 0,
        "unpublished": 0,
        "other data": 8,
        "missing": 280,
    }


def test_plan_of_a_user_mistake(tmp_path):
    assert run("reproduce", "smfnet-table1", "--plan", "--data-root", tmp_path / "nowhere")[0] == 2
    assert run("reproduce", "smfnet-table1", "--plan", "--sample")[0] == 2
    assert "Did you mean" in run("reproduce", "smfnet-tabel1", "--plan")[2]


# --- runners, columns without a definition


def test_a_task_fills_its_table(tmp_path, monkeypatch):
    """A task that fills one row: its cells are judged beside the published ones, the others stay missing values."""

    def fill(job, table):
        for key, row in job.published.items():
            if row.method == job.methods[0]:
                table.cells.append(Cell(*key, row.value, row.printed, 1, "equal"))

    monkeypatch.setattr(tasks.TASKS["detection"], "fill", fill)
    table = evalkit.reproduce("s4fusion-table4", tmp_path, out=tmp_path / "run")
    assert table.counts()["equal"] == 7
    assert table.counts()["missing"] == 70
    assert table.coverage() == "7 of 77 cells measured; of 7 with a published value 7 equal, 0 close, 0 differs"


def test_a_column_that_the_convention_does_not_define_is_a_named_missing_value(tmp_path, monkeypatch):
    assert "VIF" in CONVENTIONS["tsjnet"].definitions
    monkeypatch.delitem(DEFINITIONS._items, "VIF[tsjnet]")
    root, outputs = make_tno(tmp_path / "data", 1), make_outputs(tmp_path / "outputs", count=1)
    (root / "TNO").rename(root / "RoadScene")
    (outputs / "CDDFuse" / "TNO").rename(outputs / "CDDFuse" / "RoadScene")
    more = ["--outputs", outputs, "--datasets", "RoadScene", "--methods", "CDDFuse", "--out", tmp_path / "run"]
    code, _, _ = run("reproduce", "tsjnet-table1", "--data-root", root, *more)
    assert code == 3
    table = read_table(tmp_path / "run")
    vif = table.cell("RoadScene", "CDDFuse", "VIF")
    assert vif.value is None
    assert "convention 'tsjnet' has no VIF" in vif.reason
    assert vif.published is not None
    assert table.cell("RoadScene", "CDDFuse", "PSNR").status == "other data"
    assert "5 cannot be compared" in table.coverage()
    assert r"\textsuperscript{*}" in to_latex(table)


def test_a_row_with_a_slash_in_its_name_has_files_of_its_own(tmp_path):
    from evalkit.protocols.plan import file_name

    assert file_name("w/o Mask") == "w-o Mask"
    assert file_name("Bit1+2") == "Bit1+2"
    root, outputs = make_tno(tmp_path / "data", 1), make_outputs(tmp_path / "outputs", "w-o Mask", 1)
    (root / "TNO").rename(root / "RoadScene")
    (outputs / "w-o Mask" / "TNO").rename(outputs / "w-o Mask" / "MSRS")
    (root / "MSRS").mkdir()
    (root / "RoadScene").rename(root / "MSRS" / "test")
    out = tmp_path / "run"
    more = ["--outputs", outputs, "--methods", "w/o Mask", "--out", out]
    assert run("reproduce", "psfusion-table3", "--data-root", root, *more)[0] == 3
    assert (out / "scores" / "MSRS" / "w-o Mask.csv").is_file()
    assert (out / "records" / "MSRS__w-o Mask.json").is_file()
    cells = [cell for cell in read_table(out).cells if cell.dataset == "MSRS"]
    assert {cell.metric for cell in cells if cell.value is not None} == set(protocol("psfusion-table3").metrics)


def test_a_figure_of_fusion_metrics_is_measured_like_a_table(tmp_path):
    figures = [protocol(name) for name in NAMES if protocol(name).draws == "cumulative"]
    chosen = next(figure for figure in figures if "TNO" in figure.datasets)
    root = make_tno(tmp_path / "data", 2)
    more = ["--datasets", "TNO", "--methods", "average", "--out", tmp_path / "run"]
    code, out, _ = run("reproduce", chosen.name, "--data-root", root, *more)
    assert code == 0, out
    assert read_table(tmp_path / "run").counts()["measured"] == len(chosen.metrics)


@pytest.mark.parametrize("name", [name for name in NAMES if protocol(name).ablations])
def test_ablations_are_variants_of_the_papers_network(name):
    pytest.importorskip("torch")
    card = method_card(protocol(name).paper)
    variants = import_module(f"evalkit.training.papers.{card.module}").ABLATIONS
    assert set(protocol(name).ablations.values()) <= set(variants)


def test_a_plan_names_the_recipe_of_a_row():
    report = plan_report("smfnet-table6")
    rows = {row["method"]: row for row in report["rows"]}
    assert rows["AE3"]["train"].startswith("or train it with `evalkit train SMFNet --recipe paper --variant AE3`")
    assert "no weights of it are published" in rows["AE3"]["missing"]


# --- tables on paper


@pytest.mark.parametrize("name", PRINTED)
def test_every_printed_number_is_in_every_format(name):
    table = published_table(name)
    printed = sorted(row.printed for row in rows_of(protocol(name)) if row.printed)
    texts = {form: export(table) for form, (_, export) in FORMATS.items()}
    assert sorted(r["published"] for r in csv.DictReader(io.StringIO(texts["csv"])) if r["published"]) == printed
    assert sorted(c["published"] for c in json.loads(texts["json"])["cells"] if c["published"]) == printed
    for form, cell in [
        ("markdown", r"\| (?:\*\*|<u>)?([-+\d.e]+)(?=[* <])"),
        ("html", r'<span class="\w*">([-+\d.e]+)<'),
    ]:
        assert sorted(re.findall(cell, texts[form])) == printed, form
    body = texts["latex"].partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    entries = re.split(r"&|\\\\|\\,\$\\pm\$\\,|\n", re.sub(r"\\(?:textbf|underline)\{([^}]*)\}", r"\1", body))
    numbers = [entry.strip() for entry in entries if re.fullmatch(r"\s*[-+]?[\d.]+(e-?\d+)?\s*", entry)]
    assert sorted(numbers) == printed


def with_measured(name: str) -> Table:
    """The published table with two measured rows: the first as printed, the second one percent above."""
    table = published_table(name)
    methods = list(dict.fromkeys(cell.method for cell in table.cells))
    cells = []
    for cell in table.cells:
        if cell.published and cell.method == methods[0]:
            cell = replace(cell, value=float(cell.published), status="equal", images=3)
        elif cell.published and cell.method == methods[1]:
            reason = "measured on 3 pairs, the paper's table on 362"
            value = 1.01 * float(cell.published)
            cell = replace(cell, value=value, status="other data", images=3, reason=reason)
        cells.append(cell)
    table.cells = cells
    return table


@pytest.mark.parametrize("name", ["tsjnet-table3", "smrnet-table3"])
@pytest.mark.parametrize("form", sorted(FORMATS))
def test_golden_tables(name, form):
    """To write them anew after a wanted change: EVALKIT_GOLDEN=write pytest tests/test_protocols.py -k golden"""
    suffix, export = FORMATS[form]
    path, text = GOLDEN / f"{name}.{suffix}", export(with_measured(name))
    if os.environ.get("EVALKIT_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_json_reads_back(tmp_path):
    table = with_measured("tsjnet-table3")
    table.write(tmp_path)
    assert read_table(tmp_path) == table


def test_latex_has_the_papers_header_and_tells_measured_from_published():
    columns = [Column(f"{c} IoU", "higher", "set", c) for c in ("Car", "Bike")]
    columns += [Column("Time", "lower", "x", "", "ms"), Column("Time std", "lower", "x")]
    table = Table("p", "Title", "P Table 1", "set", "c", columns, blocks={"MSRS · A": ["MSRS", "A"], "B": ["", "B"]})
    table.layout = {"rows": ["method"], "header": ["variant", "metric", "class"]}
    for block in table.blocks:
        table.cells += [
            Cell(block, "M_1", f"{c} IoU", None, "0.70", 0, "missing", mark="best") for c in ("Car", "Bike")
        ]
        table.cells.append(Cell(block, "M_2", "Car IoU", 0.7149, "0.71", 9, "equal"))
        table.cells.append(Cell(block, "M_2", "Bike IoU", None, None, 0, "missing", "none"))
    table.cells.append(Cell("B", "M_1", "Time", None, "5.1", 0, "missing"))
    table.cells.append(Cell("B", "M_1", "Time std", None, "0.2", 0, "missing"))
    text = to_latex(table)
    assert r" & \multicolumn{2}{c}{A} & \multicolumn{3}{c}{B} \\ \cmidrule(lr){2-3} \cmidrule(lr){4-6}" in text
    assert r"\multicolumn{2}{c}{IoU $\uparrow$} & \multicolumn{1}{c}{Time (ms) $\downarrow$} \\" in text
    gray = r"\textcolor{gray}{\textbf{0.70}}"
    assert rf"M\_1 & {gray} & {gray} & {gray} & {gray} & \textcolor{{gray}}{{5.1\,$\pm$\,0.2}} \\" in text
    assert r"M\_2 & 0.71 & -- & 0.71 & -- &  \\" in text
    assert "-- M\\_2 on B: none" in text
    assert "Gray: published" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_of_all_tables_compiles(tmp_path):
    packages = r"\usepackage{booktabs,graphicx,xcolor}\usepackage[T1]{fontenc}\usepackage[margin=1cm]{geometry}"
    tables = [to_latex(published_table(name)) for name in PRINTED] + [to_latex(with_measured("tsjnet-table3"))]
    body = "\\clearpage\n".join(tables)
    document = f"\\documentclass{{article}}\n{packages}\n\\begin{{document}}\n{body}\\end{{document}}\n"
    (tmp_path / "tables.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_table_command():
    code, out, _ = run("table", "--published", "smrnet-table3", "--format", "latex")
    assert code == 0
    assert out == to_latex(published_table("smrnet-table3"))
    assert run("table")[0] == 2
    assert run("table", "somewhere", "--published", "smrnet-table3")[0] == 2
    code, _, error = run("table", "--published", "vifb")
    assert code == 2
    assert "no published numbers" in error


@pytest.mark.parametrize("name", NAMES)
def test_show_explains_a_protocol(name):
    code, out, _ = run("show", name)
    assert code == 0
    for sentence in [*protocol(name).left_open, *protocol(name).decisions]:
        assert sentence in out
