"""A table as a page of HTML that stands on its own."""

from __future__ import annotations

import html
from itertools import groupby

from evalkit.protocols.table.cells import TableContent
from evalkit.protocols.table.grid import DIGITS, Grid, GridCell, Key, part_of
from evalkit.protocols.table.style import PLAIN, TableStyle
from evalkit.protocols.table.styled import styled
from evalkit.protocols.table.text import MISSING, convention_note, heading, missing, shown, wide_heading

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; border-block: 2px solid; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child { text-align: left; }
tbody th { font-weight: inherit; }
thead th { border-bottom: 1px solid; }
tbody tr:nth-child(even) { background: rgba(128, 128, 128, .09); }
.best { font-weight: 700; } .second { text-decoration: underline; }
.published { display: block; font-size: .78em; opacity: .75; }
.equal { color: #1a7f37; opacity: 1; } .differs { color: #b42318; opacity: 1; }
@media (prefers-color-scheme: dark) { .equal { color: #4ac26b; } .differs { color: #ff8b7e; } }
.note, ul { font-size: .85em; opacity: .85; max-width: 60rem; }
"""
_COLOUR = """
.best { font-weight: inherit; color: #d00000; } .second { text-decoration: none; color: #0033cc; }
@media (prefers-color-scheme: dark) { .best { color: #ff6b6b; } .second { color: #7aa2ff; } }
"""
_LEVELS = """
thead th[colspan] { text-align: center; border-bottom: 1px solid; }
"""


def to_html(table: TableContent, style: TableStyle = PLAIN) -> str:
    """A page that stands on its own.

    Args:
        table: of a run, or published.
        style: how it is to look.

    Raises:
        EvalkitError: what the style asks for cannot be shown.
    """
    ready = styled(table, style, "html")
    body = [f"<h1>{html.escape(style.caption or table.title)}</h1>"]
    if table.citation and not table.sample:
        body.append(f'<p class="note">{html.escape(table.citation)}</p>')
    body.append(f"<p>{html.escape(table.coverage())}.</p>")
    for dataset, grid in ready.grids():
        title = wide_heading(table) if dataset is None else heading(table, dataset)
        body.append(f"<h2>{html.escape(title)}</h2>")
        note = html.escape(convention_note(ready.table, style))
        body.append(f'{_box(grid, dataset or table.protocol)}<p class="note">{note}</p>')
        reasons = []
        for of in ready.table.datasets if dataset is None else [dataset]:
            where = f"{of}: " if dataset is None and of else ""
            reasons += [where + line for line in missing(ready.table, of)]
        if reasons:
            body.append("<ul>" + "".join(f"<li>{MISSING} {html.escape(line)}</li>" for line in reasons) + "</ul>")
    css = _STYLE + (_COLOUR if style.marks == "colour" else "") + (_LEVELS if style.layout == "wide" else "")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(table.protocol)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def block_html(table: TableContent, dataset: str) -> str:
    """The table of one block, in a box of its own: what is wider than the page scrolls there.

    Its values are of the classes best and second, what was published of published, equal, close, differs.

    Args:
        table: of a run, or published.
        dataset: or block, as the cells name it.
    """
    return _box(Grid(part_of(table, dataset), PLAIN, ["method"], ["column"], {}), dataset)


def _box(grid: Grid, name: str) -> str:
    rows = []
    for row in grid.row_keys:
        names = "".join(f'<th scope="row">{html.escape(label)}</th>' for label in _labels(grid, row))
        rows.append(f"<tr>{names}{''.join(_cell(grid, grid.entry(row, c, DIGITS)) for c in grid.column_keys)}</tr>")
    return (
        f'<div class="scroll" role="region" aria-label="{html.escape(name)}" tabindex="0"><table><thead>'
        f"{_header(grid)}</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _labels(grid: Grid, row: Key) -> list[str]:
    return [grid.label(axis, value) for axis, value in zip(grid.rows, row, strict=True)]


def _header(grid: Grid) -> str:
    """A line per level; a label of an outer level spans its columns."""
    lines = []
    for level, axis in enumerate(grid.header):
        last = level == len(grid.header) - 1
        cells = [f'<th scope="col">{html.escape(title)}</th>' if last else "<td></td>" for title in grid.titles()]
        for key, group in groupby(grid.column_keys, key=lambda key: key[: level + 1]):
            label = html.escape(grid.label(axis, key[-1]))
            scope = 'scope="col"' if last else f'scope="colgroup" colspan="{len(list(group))}"'
            cells.append(f"<th {scope}>{label}</th>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join(lines)


def _cell(grid: Grid, entry: GridCell | None) -> str:
    if entry is None:
        return f"<td>{MISSING}</td>"
    cell, column = entry.cell, grid.columns[entry.cell.metric]
    title = f"{cell.dataset}, {cell.method}, {column.name}[{column.convention}]: {cell.reason or cell.status}"
    text, published = shown(grid.table, entry)
    mark = entry.mark if text != MISSING else ""
    value = f'<span class="{mark}">{html.escape(text)}</span>'
    below = f'<span class="published {cell.status}">{html.escape(published)}</span>' if published else ""
    return f'<td title="{html.escape(title, quote=True)}">{value}{below}</td>'
