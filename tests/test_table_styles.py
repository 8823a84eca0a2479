"""Tables as people want them: digits, marks, ranks, spreads, arrangements, published rows, in every format."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_commands import run

from evalkit.errors import EvalkitError
from evalkit.metrics.evaluate import Scores
from evalkit.protocols.schema import protocol_of_run, rows_of
from evalkit.protocols.table.cells import Cell, Column, status_of
from evalkit.protocols.table.export import FORMATS
from evalkit.protocols.table.mean_rank import average_ranks, with_mean_rank
from evalkit.protocols.table.published import PublishedRow
from evalkit.protocols.table.published_rows import with_published
from evalkit.protocols.table.read import read_table as as_rows
from evalkit.protocols.table.style import TableStyle, parse_digits
from evalkit.protocols.table.table import Table, read_table
from evalkit.records.store import ScoreFile

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = r"""[x]<script>alert(1)</script>"'&|`$\input{/etc/passwd}#%_^~{}*=1+1"""
COLUMNS = [
    Column("EN", "higher", "smfnet"),
    Column("MSE", "lower", "smfnet"),
    Column("SSIM[tang]", "higher", "tang"),
]


def cell(
    dataset: str, method: str, metric: str, value: float | None, printed: str | None = None, why: str = ""
) -> Cell:
    status = status_of(value, printed, why)
    reason = why if value is not None else "no fused images"
    return Cell(dataset, method, metric, value, printed, 3, status, reason)


def small() -> Table:
    """Two data sets, three methods, one of which lacks a value on the second; a published value beside one."""
    table = Table("mine", "My methods", "My benchmark", "smfnet", "Me", list(COLUMNS), pairs={"TNO": 3, "MSRS": 2})
    values = {"A_1": (7.12345, 30.5, 0.61), "B": (6.5, 20.25, 0.7), "C": (7.0, 41.0, 0.7)}
    for dataset, scale in (("TNO", 1.0), ("MSRS", 1.5)):
        for method, row in values.items():
            for column, value in zip(COLUMNS, row, strict=True):
                lost = (dataset, method, column.name) == ("MSRS", "B", "MSE")
                printed = "7.12" if (dataset, method, column.name) == ("TNO", "A_1", "EN") else None
                table.cells.append(cell(dataset, method, column.name, None if lost else scale * value, printed))
    return table


ROWS = [
    PublishedRow("mine", dataset, "", method, "", metric, printed, mark)
    for dataset, method, metric, printed, mark in [
        ("TNO", "A_1", "EN", "7.12", ""),
        ("TNO", "P&Q", "EN", "7.20", "best"),
        ("TNO", "P&Q", "MSE", "20.30", ""),
        ("TNO", "R", "EN", "6.90", ""),
        ("MSRS", "P&Q", "EN", "9.99", ""),
        ("VIFB", "P&Q", "EN", "5.00", ""),
    ]
]


def with_scores(table: Table, out: Path) -> Table:
    """The table of a run that has two images whose mean is the table's value, one below and one above."""
    for dataset in table.datasets:
        for method in table.methods(dataset):
            cells = [c for c in table.cells if (c.dataset, c.method) == (dataset, method)]
            metrics = [c.metric for c in cells if c.value is not None]
            file = ScoreFile(out / "scores" / dataset / f"{method}.csv", metrics)
            rows = {
                name: Scores({c.metric: c.value * factor for c in cells if c.value is not None})
                for name, factor in (("1", 0.9), ("2", 1.1))
            }
            file.finish(rows, dict.fromkeys(rows, "key"))
    table.write(out)
    return read_table(out)


# --- what is ranked and marked


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(-5, 5), min_size=1, max_size=8))
def test_ranks_are_those_of_scipy_and_sum_to_the_same_whatever_the_ties(values: dict[str, int]) -> None:
    from scipy.stats import rankdata

    for better, sign in (("higher", -1), ("lower", 1)):
        ranks = average_ranks({name: float(value) for name, value in values.items()}, better)
        assert list(ranks.values()) == list(rankdata([sign * value for value in values.values()]))


def test_a_mean_rank_is_of_one_convention_and_of_the_columns_that_all_rows_have() -> None:
    ranked = with_mean_rank(small())
    ranks = {(c.dataset, c.method, c.metric): c.value for c in ranked.cells if c.status == "derived"}
    assert ranks["TNO", "A_1", "Mean rank[smfnet]"] == (1 + 2) / 2  # EN 7.12 first, MSE 30.5 second
    assert ranks["TNO", "B", "Mean rank[smfnet]"] == (3 + 1) / 2
    assert ranks["TNO", "B", "Mean rank[tang]"] == 1.5  # shared with C
    assert ranks["MSRS", "B", "Mean rank[smfnet]"] == 3  # over EN alone: MSE of B is missing
    assert "Mean rank[smfnet]: over EN, not MSE, which not all rows have (on MSRS)" in ranked.note
    assert ranked.marks("TNO", Column("Mean rank[tang]", "lower", "tang"))["B"] == "best"


def test_a_row_without_a_number_has_no_rank_and_says_so() -> None:
    table = small()
    table.cells += [cell("TNO", "none", column.name, None) for column in COLUMNS]
    ranked = with_mean_rank(table)
    lost = ranked.cell("TNO", "none", "Mean rank[smfnet]")
    assert (lost.value, lost.reason) == (None, "no rank: the row has no number")
    assert ranked.cell("TNO", "A_1", "Mean rank[smfnet]").value == 1.5
    assert ranked.coverage() == table.coverage()
    assert "no rank: the row has no number" in table.to_markdown(rank_column=True)


def test_classes_are_not_ranked_beside_their_mean() -> None:
    columns = [Column(f"{c} IoU", "higher", "set", c) for c in ("Car", "mean")]
    table = Table("p", "t", "s", "set", "", columns)
    for method, car, mean in (("A", 1.0, 2.0), ("B", 2.0, 1.0)):
        table.cells += [cell("D", method, "Car IoU", car), cell("D", method, "mean IoU", mean)]
    assert with_mean_rank(table).cell("D", "A", "Mean rank").value == 1


def test_published_rows_stand_below_and_are_marked_together_where_they_may() -> None:
    table = with_published(small(), ROWS)
    assert table.methods("TNO") == ["A_1", "B", "C", "P&Q (published)", "R (published)"]
    assert table.methods("MSRS") == ["A_1", "B", "C", "P&Q (published)"]
    assert "VIFB" not in table.datasets
    assert table.marks("TNO", COLUMNS[0]) == {"P&Q (published)": "best", "A_1": "second"}
    # MSE 20.25 of B rounds to the printed digits 20.25, which is below 20.30
    assert table.marks("TNO", COLUMNS[1]) == {"B": "best", "P&Q (published)": "second"}
    assert "over measured and published rows together" in table.note
    assert "apart" not in table.note
    assert table.counts()["measured"] == small().counts()["measured"]


def test_what_rounds_to_the_printed_number_shares_its_mark() -> None:
    table = Table("p", "t", "s", "x", "", [Column("EN", "higher", "x")])
    table.cells = [cell("D", "A", "EN", 7.12034), cell("D", "B", "EN", 7.0)]
    joined = with_published(table, [PublishedRow("p", "D", "", "P", "", "EN", "7.12")])
    assert joined.marks("D", joined.columns[0]) == {"A": "best", "P (published)": "best", "B": "second"}


@pytest.mark.parametrize("printed", ["9.0", None], ids=["own number printed", "own method"])
def test_rows_of_other_data_are_marked_apart_and_the_note_says_why(printed: str | None) -> None:
    why = "measured on 2 pairs, the paper's table on 25"
    table = Table("p", "t", "s", "x", "", [Column("EN", "higher", "x"), Column("SD", "higher", "x")])
    table.cells = [cell("D", m, "EN", v, printed, why) for m, v in (("A", 7.0), ("B", 6.0), ("C", 5.0))]
    table.cells += [cell("D", m, "SD", v) for m, v in (("A", 7.0), ("B", 6.0), ("C", 5.0))]
    rows = [PublishedRow("p", "D", "", m, "", "EN", v) for m, v in (("P", "8.0"), ("Q", "9.0"), ("R", "1.0"))]
    rows += [PublishedRow("p", "D", "", "P", "", "SD", "6.5")]
    joined = with_published(table, rows)
    marks = joined.marks("D", joined.columns[0])
    assert marks == {"A": "best", "B": "second", "Q (published)": "best", "P (published)": "second"}
    assert joined.marks("D", joined.columns[1]) == {"A": "best", "P (published)": "second"}
    assert f"on D (EN) measured and published rows are marked apart: {why}" in joined.note
    ranked = with_mean_rank(joined)
    assert ranked.cell("D", "A", "Mean rank").value == 1
    assert ranked.cell("D", "Q (published)", "Mean rank").value == 1
    assert "measured and published rows apart" in ranked.note


def test_a_row_that_was_asked_for_and_is_missing_is_its_published_row() -> None:
    table = small()
    table.cells += [cell("TNO", "R", "EN", None, "6.90"), cell("TNO", "R", "MSE", None)]
    joined = with_published(table, ROWS)
    assert "R" not in joined.methods("TNO")
    row = joined.cell("TNO", "R (published)", "EN")
    assert (row.published, row.status, row.reason) == ("6.90", "published", "no fused images")


def test_published_rows_of_no_data_set_of_the_run_are_an_error() -> None:
    with pytest.raises(EvalkitError, match="has printed numbers of VIFB"):
        with_published(small(), [row for row in ROWS if row.dataset == "VIFB"])
    code, _, error = run("reproduce", "smfnet-table1", "--sample", "--with-published")
    assert code == 2
    assert "leave --with-published out" in error


# --- digits


def test_digits_are_of_all_columns_or_of_those_named() -> None:
    assert parse_digits("3") == 3
    assert parse_digits("EN=2, VIF=4") == {"EN": 2, "VIF": 4}
    text = small().to_markdown(digits={"": 1, "en": 2})
    assert "7.12<br>7.12 (=) | 30.5 | **0.7**" not in text
    assert "**7.12**<br>7.12 (=) | <u>30.5</u> | <u>0.6</u>" in text
    printed = with_published(small(), ROWS)
    assert "**7.2**" in printed.to_markdown(digits=1)
    assert "20.30" in printed.to_markdown(digits=5)  # never lengthened


@pytest.mark.parametrize("text", ["", "x", "EN=", "EN=-1", "1.5", "EN=2,EN=3", "²"])
def test_digits_that_are_not_understood(text: str) -> None:
    with pytest.raises(EvalkitError, match="digits"):
        parse_digits(text)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"digits": {"ENN": 2}}, "Did you mean 'EN'"),
        ({"digits": 99}, "from 0 to 12"),
        ({"digits": {"EN": "2"}}, "from 0 to 12"),
        ({"marks": "green"}, "neither 'bold' nor 'colour'"),
        ({"layout": "tall"}, "neither 'per-dataset' nor 'wide'"),
        ({"label": r"tab:\x"}, "as LaTeX needs it"),
        ({"std": True}, "not read from a run"),
        ({"with_published": True}, "mine"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict, says: str) -> None:
    with pytest.raises(EvalkitError, match=re.escape(says)):
        small().to_latex(**options)


def test_options_that_a_format_lacks_are_named() -> None:
    for form, options in (("csv", {"digits": 2}), ("json", {"caption": "x"}), ("html", {"siunitx": True})):
        with pytest.raises(EvalkitError, match=f"{next(iter(options))} is not for {form}"):
            FORMATS[form][1](small(), TableStyle(**options))


# --- spreads


def test_std_is_over_the_images_of_the_run(tmp_path: Path) -> None:
    table = with_scores(small(), tmp_path)
    expected = statistics.stdev([0.9 * 7.12345, 1.1 * 7.12345])
    assert rf"7.12\,$\pm$\,{expected:.2f}" in table.to_latex(std=True)
    assert f"7.1235 ± {expected:.4f}" in table.to_markdown(std=True)
    assert "standard deviation over the images (n - 1)" in table.to_html(std=True)


def test_a_run_without_scores_says_so_and_one_whose_scores_are_not_its_own(tmp_path: Path) -> None:
    small().write(tmp_path / "a")
    with pytest.raises(EvalkitError, match="holds no scores"):
        read_table(tmp_path / "a").to_markdown(std=True)
    table = with_scores(small(), tmp_path / "b")
    table.cells = [replace(c, value=c.value + 1) if c.value else c for c in table.cells]
    with pytest.raises(EvalkitError, match=r"the mean of EN is not the table's 8\.12345"):
        table.to_markdown(std=True)


# --- every format

STYLES = {
    "plain": {},
    "colour": {"marks": "colour", "digits": 2, "rank_column": True},
    "wide": {"layout": "wide", "caption": "Mine", "std": True},
    "transposed": {"transpose": True, "layout": "per-dataset", "digits": {"EN": 1}},
}


@pytest.mark.parametrize("name", sorted(STYLES))
@pytest.mark.parametrize("form", ["latex", "markdown", "html"])
def test_golden_styles(name: str, form: str, tmp_path: Path) -> None:
    """To write them anew after a wanted change: EVALKIT_GOLDEN=write pytest tests/test_table_styles.py -k golden"""
    style = TableStyle(**STYLES[name], siunitx=form == "latex" and name == "colour")
    text = FORMATS[form][1](with_scores(small(), tmp_path), style)
    path = GOLDEN / "styles" / f"{name}.{FORMATS[form][0]}"
    if os.environ.get("EVALKIT_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def numbers_of(text: str) -> list[str]:
    return re.findall(r"\d+\.\d{5,}", text)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.lists(st.floats(-999, 999, width=32), min_size=2, max_size=2), min_size=1, max_size=4),
    transpose=st.booleans(),
    layout=st.sampled_from([None, "per-dataset", "wide"]),
    marks=st.sampled_from(["bold", "colour"]),
    siunitx=st.booleans(),
)
def test_every_number_is_in_every_arrangement_once(values, transpose, layout, marks, siunitx) -> None:
    columns = [Column("EN", "higher", "x"), Column("SD", "lower", "x")]
    table = Table("p", "t", "s", "x", "", columns)
    for dataset in ("D", "E"):
        for i, row in enumerate(values):
            table.cells += [cell(dataset, f"M{i}", c.name, value) for c, value in zip(columns, row, strict=True)]
    expected = sorted(f"{abs(c.value):.6f}" for c in table.cells if c.value is not None)
    options = {"transpose": transpose, "layout": layout, "marks": marks, "digits": 6}
    tex = re.sub(r"\\llap\{\\underline\{\\phantom\{[^}]*\}\}\}", "", table.to_latex(**options, siunitx=siunitx))
    assert sorted(numbers_of(tex)) == expected
    assert sorted(numbers_of(table.to_markdown(**options))) == expected
    assert sorted(numbers_of(re.sub("<style>.*</style>", "", table.to_html(**options), flags=re.S))) == expected


TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table", "thead", "tbody", "tr", "th",
    "td", "span", "ul", "li",
}  # fmt: skip


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=12))
@example(HOSTILE)
@example("\\end{table*}")
@example("x\n% y")
@example("-->")
def test_names_and_captions_are_only_text(name: str) -> None:
    table = Table(name, name, name, "smfnet", name, [Column("EN", "higher", "smfnet"), Column(name, "lower", "smfnet")])
    table.cells = [cell(name, name, "EN", 1.5, "1.5"), cell(name, name + "b", "EN", None), cell(name, name, name, 2.5)]
    table.cells += [cell(name, name + "c", name, 3.5), cell(name, name + "c", "EN", 3.5, None, name)]
    table = with_published(table, [PublishedRow(name, name, "", name + "p", "", name, "4.5")])
    for layout, transpose in itertools.product(["wide", "per-dataset", None], [False, True]):
        options = {"layout": layout, "transpose": transpose, "caption": name, "rank_column": True}
        page = Page()
        page.feed(table.to_html(**options))
        assert set(page.tags) <= TAGS
        tex = table.to_latex(**options)
        lines = [line for line in tex.splitlines() if not line.startswith("%")]
        assert all(ord(c) >= 32 for line in lines for c in line)
        commands = {*re.findall(r"(?<!\\)\\([A-Za-z]+)", "\n".join(lines))}
        assert not commands & {"input", "write", "alert", "immediate", "openout"}
        body = "\n".join(lines)
        assert (
            body.count(r"\begin{table*}") == body.count(r"\end{table*}") == (2 if False else body.count(r"\caption{"))
        )
        markdown = table.to_markdown(**options)
        assert "<script" not in markdown.replace("\\<", "")


# --- LaTeX


@pytest.mark.parametrize("options", [{}, {"siunitx": True}, {"marks": "colour"}, {"siunitx": True, "marks": "colour"}])
@pytest.mark.parametrize("std", [False, True])
def test_latex_reads_back_with_its_numbers_spreads_and_marks(options: dict, std: bool, tmp_path: Path) -> None:
    """`evalkit audit --table` takes what `evalkit table` gives."""
    table = with_scores(small(), tmp_path)
    read = as_rows(table.to_latex(**options, std=std, layout="wide"), "t.tex")
    rows = {(row.dataset, row.method, row.metric): (row.printed, row.mark) for row in read.rows}
    means = {key: value for key, value in rows.items() if not key[2].endswith(" std")}
    for c in table.cells:
        column = next(column for column in COLUMNS if column.name == c.metric)
        number, mark = means.pop((c.dataset, c.method, c.metric))
        assert mark == table.marks(c.dataset, column).get(c.method, "")
        assert number == (
            "" if c.value is None else f"{c.value:.{2 if (c.dataset, c.metric) == ('TNO', 'EN') else 4}f}"
        )
    assert not means
    assert len(rows) == len(table.cells) * (2 if std else 1) - (1 if std else 0)


PREAMBLE = (
    "\\documentclass{article}\n\\usepackage{booktabs,graphicx,xcolor,siunitx}\\usepackage[T1]{fontenc}"
    "\\usepackage[margin=1cm]{geometry}\n\\begin{document}\n"
)


def compiled(tables: list[str], folder: Path) -> str:
    """The log of pdfLaTeX; an error in it is a failure."""
    (folder / "tables.tex").write_text(PREAMBLE + "\\clearpage\n".join(tables) + "\\end{document}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_with_every_combination_of_options(tmp_path: Path) -> None:
    run_table = with_scores(small(), tmp_path / "run")
    joined = with_published(run_table, ROWS)
    joined.cells = [replace(c, sign="†") if c.method == "B" and c.value else c for c in joined.cells]
    joined.cells.append(cell("TNO", "D", "EN", -0.5, "7.0", "measured on 3 pairs, the paper's table on 25"))
    joined.cells.append(Cell("TNO", "E (published)", "EN", None, "1e-3", 0, "published"))
    tables = []
    for i, (marks, siunitx, layout, transpose, std, ranks) in enumerate(
        itertools.product(["bold", "colour"], *[[False, True]] * 1, [None, "wide", "per-dataset"], *[[False, True]] * 3)
    ):
        options = {"marks": marks, "siunitx": siunitx, "layout": layout, "transpose": transpose, "std": std}
        label, caption = (f"tab:{i}", "Übung: 100 % of α, 融合 & more") if i % 2 else (None, None)
        for table in (joined,) if i % 3 else (joined, run_table):
            tables.append(
                table.to_latex(**options, rank_column=ranks, label=label and f"{label}.{len(tables)}", caption=caption)
            )
    log = compiled(tables, tmp_path)
    assert "Overfull" not in log
    assert "multiply" not in log


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_whatever_the_names(tmp_path: Path) -> None:
    names = [
        HOSTILE,
        "融合 🙂",
        "naïve – “x” µ² Ελλ ŉ ſ \u200b\u202e",
        "".join(map(chr, range(1, 0x180))),
        "--- ?` << ,,",
    ]
    tables = []
    for name in names:
        table = Table(
            name, name, name, name, name, [Column("EN", "higher", "x"), Column(name, "lower", "x", unit=name)]
        )
        table.cells = [cell(name, name, "EN", 1.5, "1.5"), cell(name, "b", "EN", None), cell(name, name, name, 2.5)]
        tables += [table.to_latex(caption=name, layout="wide"), table.to_latex(transpose=True, siunitx=True)]
    compiled(tables, tmp_path)


# --- Excel


def test_excel_reads_back_numbers_reasons_and_marks(tmp_path: Path) -> None:
    pytest.importorskip("xlsxwriter")
    openpyxl = pytest.importorskip("openpyxl")
    table = with_scores(small(), tmp_path / "run")
    path = tmp_path / "t.xlsx"
    table.to_xlsx(path, std=True, rank_column=True)
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["TNO", "MSRS"]
    heads = [c.value for c in book["TNO"][4]]
    assert heads[:4] == ["Method", "EN ↑", "EN ↑ std", "MSE ↓"]
    first = dict(zip(heads, book["TNO"][5], strict=False))
    assert first["EN ↑"].value == 7.12345
    assert first["EN ↑"].number_format == "0.0000"
    assert first["EN ↑"].font.b
    assert first["EN ↑ std"].value == pytest.approx(statistics.stdev([0.9 * 7.12345, 1.1 * 7.12345]))
    lost = book["MSRS"].cell(6, heads.index("MSE ↓") + 1)
    assert lost.value is None
    assert lost.comment.text == "no fused images"
    before = path.read_bytes()
    table.to_xlsx(path, std=True, rank_column=True)
    assert path.read_bytes() == before
    with_published(table, ROWS).to_xlsx(path, layout="wide", marks="colour", digits=1)
    sheet = openpyxl.load_workbook(path).active
    assert [c.value for c in sheet[4]][1] == "TNO"
    values = {row[0].value: row[1] for row in sheet.iter_rows(min_row=6)}
    assert values["P&Q (published)"].value == 7.2
    assert values["P&Q (published)"].font.color.rgb == "FFD00000"


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=3, unique=True))
@example(["=1+1", "http://x", "1.5"])
@example(["00000000\x1f\x1f\x1f\x08\x08𐀀𐀀", "\ufffe"])
@example(["History", "history", "a/b:c"])
def test_excel_takes_every_name_as_text(names: list[str]) -> None:
    pytest.importorskip("xlsxwriter")
    openpyxl = pytest.importorskip("openpyxl")
    from evalkit.protocols.table.excel import to_xlsx

    table = Table("p", names[0], "s", "x", "", [Column("EN", "higher", "x")])
    table.cells = [cell(dataset, method, "EN", 1.5) for dataset in names for method in names]
    book = openpyxl.load_workbook(io.BytesIO(to_xlsx(table)))
    assert len(book.sheetnames) == len(names)
    for sheet in book:
        assert all(c.data_type in ("s", "n") and c.hyperlink is None for row in sheet.iter_rows() for c in row)
        assert [sheet.cell(5 + i, 2).value for i in range(len(names))] == [1.5] * len(names)


def test_without_the_package_excel_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(EvalkitError, match=re.escape("pip install 'evalkit[xlsx]'")):
        small().to_xlsx(tmp_path / "t.xlsx")


# --- the command


def test_the_command_has_every_option(tmp_path: Path) -> None:
    with_scores(small(), tmp_path / "run")
    more = ["--digits", "3,EN=1", "--rank-column", "--std", "--colour", "--layout", "wide", "--transpose"]
    code, out, error = run("table", tmp_path / "run", *more)
    assert code == 0, error
    options = {"digits": {"": 3, "EN": 1}, "rank_column": True, "std": True, "marks": "colour"}
    assert out == read_table(tmp_path / "run").to_markdown(**options, layout="wide", transpose=True)
    code, out, _ = run(
        "table", tmp_path / "run", "--format", "latex", "--label", "tab:x", "--caption", "A & B", "--siunitx"
    )
    assert code == 0
    assert "\\caption{A \\& B}" in out
    assert "S[table-format=" in out
    code, out, _ = run("table", tmp_path / "run", "--format", "html", "--out", tmp_path / "t.html")
    assert (code, out) == (0, "")
    assert "<!doctype html>" in (tmp_path / "t.html").read_text()
    assert run("table", tmp_path / "run", "--format", "xlsx")[0] == 2
    assert run("table", "--published", "smfnet-table1", "--std")[0] == 2


def test_a_published_table_has_the_same_options(tmp_path: Path) -> None:
    code, out, _ = run("table", "--published", "smfnet-table1", "--digits", "1", "--rank-column", "--layout", "wide")
    assert code == 0
    assert "Mean rank ↓" in out
    assert "published values, nothing is measured" in out
    code, out, _ = run("table", "--published", "smfnet-table1", "--rank-column", "--format", "csv")
    ranks = [row for row in csv.DictReader(io.StringIO(out)) if row["metric"] == "Mean rank"]
    assert ranks
    assert all(row["value"] for row in ranks)


def test_reproduce_sets_published_rows_below(tmp_path: Path) -> None:
    """One pair named TNO: of other data than the paper's 25, so marked apart."""
    from test_protocols import make_tno

    root, out_folder = make_tno(tmp_path / "data", 1), tmp_path / "run"
    more = ["--data-root", root, "--datasets", "TNO", "--methods", "average,laplacian", "--out", out_folder]
    code, out, _ = run("reproduce", "smfnet-table1", *more, "--with-published")
    assert code == 0, out
    assert "CDDFuse (published)" in out
    text = (out_folder / "table.md").read_text()
    assert "| CDDFuse (published) |" in text
    assert "marked apart: measured on 1 pairs, the paper's table on 25" in text
    assert {c["method"] for c in json.loads((out_folder / "table.json").read_text())["cells"]} == {
        "average",
        "laplacian",
    }
    table = read_table(out_folder)
    assert "CDDFuse (published)" in table.to_latex(with_published=True)
    assert html.unescape(table.to_html(with_published=True)).count("CDDFuse (published)") >= 1


def test_detection_of_a_row_that_the_paper_lacks_is_of_other_data_too() -> None:
    from test_downstream_segmentation import quiet_settings

    from evalkit.downstream.detection.recipe import detection_recipe
    from evalkit.downstream.detection.run import DetectionResult
    from evalkit.downstream.detection.table import cells_of
    from evalkit.protocols.schema import protocol
    from evalkit.protocols.tasks import Job

    own = protocol("smfnet-table2")
    row = next(row for row in rows_of(own) if row.printed and row.class_ == "mean")
    job = Job(own, {}, ["Mine"], {}, None, False, quiet_settings())
    found = DetectionResult(seeds={0: {"mean": 0.5}})
    recipe = detection_recipe("paper", own.name)
    (cell_of_paper,) = cells_of(job, row.block, "Mine", found, {}, recipe, 3)
    (cell_elsewhere,) = cells_of(job, "Elsewhere", "Mine", found, {}, recipe, 3)
    assert (cell_of_paper.status, cell_elsewhere.status) == ("other data", "unpublished")


def test_a_benchmark_files_published_rows_stand_below_its_own(tmp_path: Path) -> None:
    """The same data: marked together, but for a column of another convention, which is a column of its own."""
    from test_protocols import make_tno

    root = make_tno(tmp_path / "data", 2)
    (tmp_path / "mine.csv").write_text(
        "dataset,method,metric,value\nTNO,Theirs,EN,1.25\nTNO,Theirs,SSIM,9.99\nTNO,Others,EN,99.5\n", encoding="utf-8"
    )
    (tmp_path / "bench.yaml").write_text(
        "title: Mine\nconvention: smfnet\nmetrics: [EN, 'SSIM[tang]']\ndatasets: {TNO: {}}\n"
        "methods: [average, maximum]\npublished: mine.csv\n",
        encoding="utf-8",
    )
    code, out, error = run(
        "reproduce", tmp_path / "bench.yaml", "--data-root", root, "--out", tmp_path / "run", "--with-published"
    )
    assert code in (0, 3), error
    table = read_table(tmp_path / "run")
    joined = with_published(table, rows_of(protocol_of_run(table.protocol, tmp_path / "run")))
    columns = {column.name: column for column in joined.columns}
    assert joined.marks("TNO", columns["EN"])["Others (published)"] == "best"
    assert joined.marks("TNO", columns["EN"]).get("Theirs (published)") is None
    assert "Theirs (published)" not in joined.marks("TNO", columns["SSIM[tang]"])
    assert "Theirs (published)" in out
    assert "Theirs (published)" in table.to_latex(with_published=True, rank_column=True)
