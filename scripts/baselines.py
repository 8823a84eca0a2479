"""Measured rows beside the printed ones: the tables of docs/baselines.md, from the records that evalkit ships.

python scripts/baselines.py            print them
python scripts/baselines.py --write    put them into docs/baselines.md
"""

from __future__ import annotations

from generated_page import GeneratedPage

from evalkit.leaderboards.site.entries import shipped_entries
from evalkit.leaderboards.site.pages import Page, PageBlock, PageRow, pages

PLACES = 4  # of a measured number, as most of the papers print theirs


def tables() -> str:
    """A Markdown table for every block of a paper with fusion methods that records measure beside printed rows."""
    parts = [
        part
        for page in pages(shipped_entries())
        if page.protocol.paper and page.protocol.task == "fusion"
        for block in page.blocks
        if (part := _table(page, block))
    ]
    return "\n\n".join(parts)


def _table(page: Page, block: PageBlock) -> str:
    """The block's heading and rows; empty where no record stands beside a printed row."""
    rows = [row for row in block.rows if row.entry and any(cell.printed for cell in row.cells.values())]
    if not rows:
        return ""
    columns = [column.name for column in block.columns]
    heading = f"### {page.protocol.paper} {page.protocol.table}, {block.dataset} ({page.protocol.name})"
    lines = [heading, "", f"| method | | {' | '.join(columns)} | |", "|---" * (len(columns) + 3) + "|"]
    for row in rows:
        lines += _row(row, columns)
    return "\n".join(lines)


def _row(row: PageRow, columns: list[str]) -> list[str]:
    assert row.entry is not None
    cells = [row.cells[column] for column in columns]
    variant = f"measured, {row.entry.variant}" if row.entry.variant else "measured"
    measured = [row.method, variant, *("–" if c.value is None else f"{c.value:.{PLACES}f}" for c in cells), ""]
    compared = [cell for cell in cells if cell.difference is not None]
    equal = sum(cell.status == "equal" for cell in compared)
    end = "other data" if row.other_data else f"{equal} of {len(compared)} equal"
    printed = ["", "printed", *(cell.printed or "–" for cell in cells), end]
    lines = [f"| {' | '.join(measured)} |", f"| {' | '.join(printed)} |"]
    if compared:
        differences = (
            "=" if c.status == "equal" else "" if c.difference is None else f"{c.difference:+.{PLACES}f}" for c in cells
        )
        lines.append(f"| {' | '.join(['', 'difference', *differences, ''])} |")
    return lines


PAGE = GeneratedPage("baselines.md", "<!-- from the records, by scripts/baselines.py -->", tables)

if __name__ == "__main__":
    PAGE.main()
