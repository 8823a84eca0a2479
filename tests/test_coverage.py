"""`evalkit coverage`: every printed number is counted once, in one state, with a reason where it is not compared."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from evalkit.cli import main
from evalkit.leaderboards.coverage import COMPARED, STATES, coverage, reasons_here, state_of, total
from evalkit.leaderboards.site.entries import shipped_entries
from evalkit.leaderboards.site.pages import PageCell, pages
from evalkit.protocols.schema import protocols, rows_of
from evalkit.protocols.table.cells import status_of


@pytest.mark.parametrize(
    ("value", "printed", "other", "state"),
    [
        (0.51349, "0.513", "", "equal"),
        (0.5155, "0.513", "", "within 0.5 %"),
        (0.5160, "0.513", "", "differs"),
        (-0.5155, "-0.513", "", "within 0.5 %"),
        (0.513, "0.513", "other pairs", "other data"),
        (None, "0.513", "", "not measured"),
    ],
)
def test_state(value: float | None, printed: str, other: str, state: str) -> None:
    assert state_of(PageCell(status_of(value, printed, other), value, printed)) == state


def test_every_printed_number_counts_once() -> None:
    parts = coverage(pages([]), {})
    assert total(parts).counts()["printed"] == sum(bool(r.printed) for p in protocols().values() for r in rows_of(p))
    assert total(parts).counts()["measured"] == 0
    twice = coverage(pages([*shipped_entries(), *shipped_entries()]), {})
    assert total(twice) == total(coverage(pages(shipped_entries()), {}))


def test_every_number_that_is_not_compared_has_a_reason() -> None:
    for part in coverage(pages(shipped_entries()), reasons_here()):
        counts = part.counts()
        assert sum(counts[state] for state in STATES) == counts["printed"]
        assert sum(counts[state] for state in COMPARED) == counts["compared"]
        assert part.reasons.total() == counts["printed"] - counts["compared"]


def test_docs_have_the_totals_of_the_command() -> None:
    result = CliRunner().invoke(main, ["coverage", "--json"])
    assert result.exit_code == 0, result.output
    counts = json.loads(result.output)["total"]
    counts.pop("reasons")
    text = (Path(__file__).parent.parent / "docs/leaderboards.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(counts)} |" in text
    assert f"| {' | '.join(map(str, counts.values()))} |" in text
