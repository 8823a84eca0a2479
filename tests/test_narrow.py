"""Every command at 80 and at 200 columns: no line is longer than the terminal, and no word is broken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import finished_run
from hypothesis import given
from hypothesis import strategies as st

from evalkit.cli import main
from evalkit.commands.console import print_rows
from evalkit.commands.wrap import display_width, wrapped
from evalkit.protocols.table.cells import Cell, Column
from evalkit.protocols.table.table import Table
from evalkit.protocols.table.text import missing_once

LONG = "outputs/" + "a" * 90  # a word that has no place to be put in lines


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on generated pairs: run/data, run/outputs, run/run."""
    return finished_run(tmp_path_factory.mktemp("run"))


COMMANDS = [
    *(f"list {kind}" for kind in ("protocols", "methods", "metrics", "datasets", "conventions", "recipes", "tasks")),
    "list segmenters", "list saliency", "list detectors", "list plugins",
    "show smfnet-table1", "show CDDFuse", "show SSIM", "show tang", "show MSRS", "show psfusion-table1",
    "audit smrnet-table3", "audit tsjnet-table1", "audit --all",
    "rank run", "rank tsjnet-table1 --published", "rank smfnet-table1 --published", "compare CDDFuse average --run run",
    "reproduce smfnet-table1 --plan", "reproduce tsjnet-table3 --plan",
    "reproduce smfnet-table1 --data-root data --plan",
    "reproduce smfnet-table1 --data-root data --outputs outputs --out run2 --workers 1 --datasets TNO",
    "reproduce smfnet-table1 --data-root data --outputs outputs --out run3 --workers 1 --methods CDDFuse,DeFusion,MURF",
    "data check --data-root data", "data sample scenes --count 1 --size 64x64",
    "leaderboard verify run", "leaderboard build site --no-plots",
    "evaluate outputs/CDDFuse/TNO --infrared data/TNO/ir --visible data/TNO/vi --convention all --metrics EN,SSIM,VIF",
    "evaluate outputs/CDDFuse/TNO --infrared data/TNO/ir --visible data/TNO/vi --convention smfnet",
    "fuse average --data-root data --dataset TNO --out fused",
    "table run --format markdown",
]  # fmt: skip
FILES = ("table",)  # what they print is a file's content, which no terminal puts in lines


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_longer_than_the_terminal(command, columns, run, monkeypatch) -> None:
    monkeypatch.chdir(run)
    done = {}
    for width in (columns, None):
        monkeypatch.setenv("COLUMNS", str(width)) if width else monkeypatch.delenv("COLUMNS")
        done[width] = CliRunner().invoke(main, command.split())
        assert done[width].exit_code in (0, 3), done[width].output
    wide, narrow = done[None].output, done[columns].output
    if command.split()[0] not in FILES:
        longer = [line for line in narrow.splitlines() if display_width(line) > columns]
        assert [line for line in longer if max(map(display_width, line.split())) < 0.6 * columns] == []
    words = set(re.split(r"\s+", wide))
    assert set(re.split(r"\s+", narrow)) <= words, "a word that is not in the wide output was broken off"


@pytest.mark.parametrize(
    "command", ["", "audit", "rank", "compare", "reproduce", "leaderboard build", "plot critical", "data check"]
)
def test_help_fits(command, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(main, [*command.split(), "--help"])
    assert [line for line in done.output.splitlines() if display_width(line) > 80] == []


@pytest.mark.parametrize(
    "command",
    ["reproduce smfnet-tabel1", "show nothing-that-is-there", "rank run --metrics XYZ",
     "reproduce smfnet-table1 --methods nosuch", "reproduce smfnet-table1 --data-root nowhere", "audit",
     "leaderboard build x --only-mine"],
)  # fmt: skip
def test_an_error_fits_and_names_three_at_most(command, run, monkeypatch) -> None:
    monkeypatch.chdir(run)
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(main, command.split())
    assert done.exit_code == 2
    assert [line for line in done.output.splitlines() if display_width(line) > 80] == []
    if match := re.search(r"(?:Did you mean|Nearest:) (.*?)[?.]", done.output.replace("\n", " ")):
        assert len(re.split(r" or |, ", match[1])) <= 3


@given(st.text(st.sampled_from("ab 方é\u0301\n"), max_size=200), st.integers(4, 40), st.integers(0, 3))
def test_wrapped_keeps_every_word_and_every_line_break(text: str, width: int, hang: int) -> None:
    lines = wrapped(text, width, hang)
    assert lines.split() == text.split()
    assert lines.count("\n") >= text.count("\n")
    assert all(display_width(line) <= width or len(line.split()) == 1 for line in lines.split("\n"))
    assert wrapped(text, None, hang) == text


def test_a_finding_is_a_list_entry_not_a_column(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    output = CliRunner().invoke(main, ["audit", "smrnet-table3"]).output
    assert output.splitlines()[1:6] == [
        "certain   claim · VT5000, BS, F",
        "          printed 20.1 → 19.53 .. 20 %",
        "          the text says: BS brings 20.1 % in F. No other reading gives it either",
        "          (relative to its own value, points, any other row)",
        "",
    ]


def shown(capsys, *arguments: object) -> list[str]:
    print_rows(*arguments)  # type: ignore[arg-type]
    return capsys.readouterr().out.splitlines()


def test_columns_that_do_not_fit_follow_below_with_the_first_one_again(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    heads = ["method", "EN", "SD", "VIF"]
    rows = [["CDDFuse", "7.12034567", "46.0026000", "0.7682"], ["方法", "6.9", "–", "0.6"]]
    assert shown(capsys, heads, rows) == [
        "method           EN",
        "CDDFuse  7.12034567",
        "方法            6.9",
        "",
        "method           SD     VIF",
        "CDDFuse  46.0026000  0.7682",
        "方法              –     0.6",
    ]
    monkeypatch.delenv("COLUMNS")
    assert len(shown(capsys, heads, rows)) == 3


def test_texts_are_put_in_lines_of_whole_words_and_a_long_word_stays_whole(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [["GFF", "Image fusion with guided filtering of two scales", "runs"], ["X", LONG, "runs"]]
    lines = shown(capsys, ["name", "title", "here"], rows)
    assert any(LONG in line for line in lines)
    assert "filtering" in " ".join(lines).split()


def test_a_reason_is_said_once_with_where_it_applies() -> None:
    table = Table("p", "", "", "c", "", [Column(m, "higher", "c") for m in ("EN", "SD")])
    put = "no code; put its images in OUTPUTS/{}/{}"
    for dataset in ("TNO", "MSRS"):
        for method in ("A", "B", "C"):
            for metric in ("EN", "SD"):
                gone = "no weights" if (method, metric, dataset) == ("C", "SD", "TNO") else ""
                reason = gone if method == "C" else put.format(method, dataset)
                table.cells.append(Cell(dataset, method, metric, None if reason else 1.0, None, 0, "missing", reason))
    assert missing_once(table) == [
        "A, B: no code; put its images in OUTPUTS/<method>/<dataset>",
        "C (SD) on TNO: no weights",
    ]
