"""Rankings, comparisons and audits in a notebook, in a terminal's one line, as LaTeX and as data frames."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_rank import scores, write_run

import evalkit
from evalkit.leaderboards.shown import Shown, TextTable, to_html
from evalkit.protocols.table.published import read_rows

HOSTILE = r"""<script>alert(1)</script>"'&\input{x}$_^%#~{}[*""" + "\x1b[2J"


class Result(Shown):
    """A result of one table."""

    def __init__(self, *tables: TextTable) -> None:
        self.tables = list(tables)

    def summary(self) -> str:
        return self.tables[0].title

    def texts(self) -> list[TextTable]:
        return self.tables


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    """A result of every kind, of two data sets; a method is called as no method should be."""
    root = tmp_path_factory.mktemp("shown")
    of = {"a": scores(1), "b": scores(2, 1), "c_$": scores(3, 3)}
    runs = [write_run(root / dataset, of, dataset=dataset) for dataset in ("TNO", "RoadScene")]
    rankings = evalkit.rank(*runs)
    assert rankings.overall is not None
    text = "dataset,method,metric,printed\n" + "".join(
        f"TNO,{method},{metric},{value}\n"
        for method in ("a", '"<b>x"')
        for metric, value in {"EN": "9.1", "SD": "40.12", "AG": "3.21", "SF": "9.87", "VIF": ".812"}.items()
    )
    return {
        "ranking": rankings[0],
        "rankings": rankings,
        "overall": rankings.overall,
        "comparison": evalkit.compare("a", "c_$", runs[0]),
        "report": evalkit.audit(read_rows(text, "mine.csv")),
    }


KINDS = ["ranking", "rankings", "overall", "comparison", "report"]


class Parsed(HTMLParser):
    """Tags, the texts of cells, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_shows_every_cell(results, kind):
    page = Parsed(results[kind]._repr_html_())
    assert page.open == []
    assert page.cells == [cell for table in results[kind].texts() for row in table.rows for cell in row]
    assert set(page.tags) <= {"div", "style", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "br"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_terminal_shows_one_short_line(results, kind):
    text = repr(results[kind])
    assert text.startswith(f"<{type(results[kind]).__name__}: ")
    assert "\n" not in text
    assert len(text) < 200


@pytest.mark.parametrize("kind", KINDS)
def test_frames_have_a_row_per_result(results, kind):
    frame = results[kind].frame
    rows = {
        "ranking": 3 * 2,
        "rankings": 2 * 3 * 2,
        "overall": 3,
        "comparison": 2,
        "report": len(results["report"].findings),
    }
    assert len(frame) == rows[kind] > 0


def test_a_frame_without_rows_has_its_columns():
    report = evalkit.audit(read_rows("method,metric,printed\na,EN,7.1\n", "mine.csv"))
    assert list(report.frame.columns)[:2] == ["check", "sure"]
    assert report.frame.empty


def test_a_missing_rank_has_its_reason_in_the_frame(tmp_path):
    of = {"a": scores(1), "b": scores(2), "d": {"EN": [8.0] * 6, "MSE": [1.0] * 5 + [None]}}
    frame = evalkit.rank(write_run(tmp_path / "run", of)).frame.set_index(["method", "metric"])
    assert frame.loc[("d", "MSE"), "reason"] == "not measured"
    assert frame["rank"].isna().sum() == 1
    assert frame.loc["d", "mean_rank"].isna().all()


def test_hostile_names_are_only_text():
    result = Result(TextTable(HOSTILE, ["method", HOSTILE], [[HOSTILE, HOSTILE]], [HOSTILE]))
    page = Parsed(result._repr_html_())
    assert "script" not in page.tags
    assert page.cells == [HOSTILE.replace("\x1b", "\\x1b")] * 2
    assert "\x1b" not in result._repr_html_() + repr(result) + result.to_latex()
    body = result.to_latex()
    assert r"\input" not in body
    assert not re.search(r"(?<!\\)[$#]", body.replace("$\\", ""))


def test_without_rows_there_is_no_table():
    result = Result(TextTable("nothing", [], [], ["because"]))
    assert "<table>" not in to_html(result.texts())
    assert "tabular" not in result.to_latex()


def test_long_tables_go_on_in_another_float():
    rows = [[f"m{i}", "text " * 30, f"{i}.5"] for i in range(60)]
    text = Result(TextTable("long", ["method", "words", "value"], rows, ["the end"])).to_latex()
    assert text.count(r"\begin{table*}") == text.count("(continued)") + 1 > 1
    assert text.count("the end") == 1
    assert [f"m{i} &" in text for i in range(60)] == [True] * 60
    assert "p{" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(results, tmp_path: Path):
    hostile = Result(TextTable(HOSTILE, ["method", HOSTILE], [[HOSTILE, HOSTILE]], [HOSTILE]))
    rows = [["[1]", "*"], ["*", "–"], ["ä ≥ é", "1.5"]]
    odd = Result(TextTable("brackets", ["[a]", "b"], rows, []), TextTable("alone", [], [], ["a note"]))
    body = "\n".join(result.to_latex() for result in [*results.values(), hostile, odd])
    packages = r"\usepackage{array,booktabs,graphicx}\usepackage[T1]{fontenc}"
    source = rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "t.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
