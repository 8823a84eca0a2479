"""docs/baselines.md has the rows of the shipped records, and what it says of them is what they hold."""

import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
import baselines

from evalkit.leaderboards.site.entries import shipped_entries

# rows of the page's own tables that repeat what a record holds: (first cell, protocol, data set, method)
REPEATED = [
    ("LRRNet | 0.24", "tsjnet-table1", "RoadScene", "LRRNet"),
    ("ReCoNet | 0.32", "tsjnet-table1", "RoadScene", "ReCoNet"),
    ("TarDAL | 0.31", "tsjnet-table1", "RoadScene", "TarDAL"),
]


def test_the_rows_are_those_of_the_records() -> None:
    assert baselines.PAGE.text() == baselines.PAGE.made(), "python scripts/baselines.py --write"


@pytest.mark.parametrize(("start", "protocol", "dataset", "method"), REPEATED)
def test_a_typed_value_is_that_of_its_record(start: str, protocol: str, dataset: str, method: str) -> None:
    (entry,) = (
        e for e in shipped_entries() if (e.record.protocol["name"], e.dataset, e.method) == (protocol, dataset, method)
    )
    (line,) = (x for x in baselines.PAGE.text().splitlines() if x.startswith(f"| {start} |"))
    typed = re.search(r"\*\*([\d.]+)\*\*", line)
    assert typed is not None
    assert typed[1] == f"{entry.record.scores['VIF']:.4f}"
