"""A table as Markdown: a section per data set, or one wide table whose header holds the data sets, too."""

from __future__ import annotations

import re

from evalkit.protocols.table.cells import TableContent
from evalkit.protocols.table.grid import DIGITS, Grid, GridCell
from evalkit.protocols.table.style import PLAIN, TableStyle
from evalkit.protocols.table.styled import styled
from evalkit.protocols.table.text import MISSING, convention_note, heading, missing, shown, wide_heading

_MARKS = {
    "bold": {"best": "**{}**", "second": "<u>{}</u>"},
    # where colours are taken out, as on GitHub, bold and underline stay
    "colour": {
        "best": '**<span style="color:red">{}</span>**',
        "second": '<u><span style="color:blue">{}</span></u>',
    },
}


def to_markdown(table: TableContent, style: TableStyle = PLAIN) -> str:
    """A section per data set; published value and difference below the measured value.

    Args:
        table: of a run, or published.
        style: how it is to look.

    Raises:
        EvalkitError: what the style asks for cannot be shown.
    """
    ready = styled(table, style, "markdown")
    blocks = [f"# {_md(style.caption or table.title)}\n"]
    for dataset, grid in ready.grids():
        title = wide_heading(table) if dataset is None else heading(table, dataset)
        lines = [f"## {_md(title)}\n", *_lines(grid, style), f"\n{_md(convention_note(ready.table, style))}\n"]
        for of in ready.table.datasets if dataset is None else [dataset]:
            where = f"{of}: " if dataset is None and of else ""
            lines += [f"- {MISSING} {_md(where + line)}" for line in missing(ready.table, of)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _lines(grid: Grid, style: TableStyle) -> list[str]:
    """Header and rows; the levels of a header stand in one line, below each other."""
    titles = [_md(title.lower()) for title in grid.titles()]
    heads = ["<br>".join(_labels(grid, grid.header, key)) for key in grid.column_keys]
    lines = [f"| {' | '.join([*titles, *heads])} |", f"|{':--|' * len(titles)}{'--:|' * len(heads)}"]
    for row in grid.row_keys:
        cells = [_cell(grid, grid.entry(row, column, DIGITS), style) for column in grid.column_keys]
        lines.append(f"| {' | '.join([*_labels(grid, grid.rows, row), *cells])} |")
    return lines


def _labels(grid: Grid, axes: list[str], key: tuple[str, ...]) -> list[str]:
    return [_md(grid.label(axis, value)) for axis, value in zip(axes, key, strict=True)]


def _cell(grid: Grid, entry: GridCell | None, style: TableStyle) -> str:
    value, below = shown(grid.table, entry)
    mark = entry.mark if entry and value != MISSING else ""
    return "<br>".join(filter(None, [_MARKS[style.marks].get(mark, "{}").format(value), below]))


def _md(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|~])", r"\\\1", " ".join(text.split()))
