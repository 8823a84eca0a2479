"""The tables of a page: plain HTML that reads without scripts."""

from __future__ import annotations

from typing import Any

from evalkit.leaderboards.site.markup import STATUS, badges, e, number, plural
from evalkit.leaderboards.site.pages import PageBlock, PageCell, PageColumn, PageRow


def block_table(block: PageBlock, index: int, details: dict[str, Any]) -> str:
    """A block as a table.

    Args:
        block: rows and columns.
        index: of the block on its page.
        details: gets an entry per row, which the page's panel shows.
    """
    name = block.name or "Table"
    caption = f"{name}, convention {block.convention}" if block.convention else name
    heads = "".join(_head(column) for column in block.columns)
    marks = {column.name: _marks(block, column) for column in block.columns}
    rows = []
    for number_of_row, row in enumerate(block.rows):
        identity = f"r{index}-{number_of_row}"
        details[identity] = _detail(block, row)
        rows.append(_row(block, row, identity, number_of_row, marks))
    convention = f'<code class="convention">{e(block.convention)}</code>' if block.convention else ""
    return (
        f'<section class="block" data-dataset="{e(block.dataset)}"><h2>{e(name)} {convention}</h2>'
        f'<div class="scroll" role="region" aria-label="{e(caption)}" tabindex="0"><table>'
        f'<caption class="sr">{e(caption)}</caption><thead><tr><th scope="col" aria-sort="none">'
        f'<button type="button" data-column="0">Method</button></th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody>'
        f"</table></div>{_missing_values(block)}</section>"
    )


def _head(column: PageColumn) -> str:
    says = {"higher": "higher is better", "lower": "lower is better"}.get(column.better, "")
    own = f' <code class="convention">{e(column.convention)}</code>' if column.convention else ""
    unit = f'<span class="unit">{e(column.unit)}</span>' if column.unit else ""
    arrow = (
        f'<span class="arrow" aria-hidden="true">{column.arrow}</span><span class="sr">, {says}</span>' if says else ""
    )
    return (
        f'<th scope="col" aria-sort="none" data-better="{column.better}"><button type="button" data-column="">'
        f"{e(column.name)}{arrow}</button>{unit}{own}</th>"
    )


def _marks(block: PageBlock, column: PageColumn) -> tuple[dict[float, str], dict[float, str]]:
    """Value -> best or second, of measured values (on the paper's pairs) and of printed ones."""
    cells = [row.cells[column.name] for row in block.rows]
    ranked = [row.cells[column.name] for row in block.rows if row.ranked]
    measured = {cell.value for cell in ranked if cell.value is not None and cell.status != "other data"}
    printed = {float(cell.printed) for cell in cells if cell.printed}
    return _best_two(measured, column), _best_two(printed, column)


def _best_two(values: set[float], column: PageColumn) -> dict[float, str]:
    if not column.better or len(values) < 2:
        return {}
    best, second = sorted(values, reverse=column.better == "higher")[:2]
    return {best: "best", second: "second"}


def _row(block: PageBlock, row: PageRow, identity: str, place: int, marks: dict) -> str:
    badge = badges(row.entry) if row.entry else ""
    if row.entry is None:
        badge += ' <span class="badge dim">printed only</span>'
    first = all(other.method != row.method for other in block.rows[:place])
    cells = "".join(_cell(row.cells[c.name], *(marks[c.name] if row.ranked else ({}, {}))) for c in block.columns)
    button = f'<button type="button" class="open" data-row="{identity}" aria-haspopup="dialog">{e(row.method)}</button>'
    return (
        f'<tr data-method="{e(row.method.casefold())}" data-place="{place}" '
        f'data-measured="{int(row.entry is not None)}" data-first="{int(first)}">'
        f'<th scope="row">{button}{badge}</th>{cells}</tr>'
    )


def _cell(cell: PageCell, measured: dict[float, str], printed: dict[float, str]) -> str:
    glyph, says = STATUS.get(cell.status, ("", ""))
    parts = []
    if cell.value is not None:
        mark = measured.get(cell.value, "") if cell.status != "other data" else ""
        parts.append(f'<span class="m {mark}">{number(cell.value, cell.printed)}</span>')
    elif cell.status == "missing":
        parts.append('<span class="m missing value" aria-hidden="true">–</span><span class="sr">missing value</span>')
    if cell.printed:
        status = (
            f' <span class="mark {cell.status.replace(" ", "-")}" aria-hidden="true">{glyph}</span>'
            f'<span class="sr">{cell.status}</span>'
            if glyph and cell.status != "missing"
            else ""
        )
        mark = printed.get(float(cell.printed), "")
        text = f'<span class="{mark}">{e(cell.printed)}</span>'
        parts.append(f'<span class="p"><span class="sr">printed </span>{text}{status}</span>')
    if not parts:
        parts.append('<span class="p"><span aria-hidden="true">·</span><span class="sr">no value</span></span>')
    title = cell.reason or (says if cell.printed else "")
    values = "" if cell.value is None else f' data-m="{cell.value!r}"'
    values += f' data-p="{e(cell.printed)}"' if cell.printed else ""
    values += f' title="{e(title)}"' if title else ""
    return f"<td{values}>{''.join(parts)}</td>"


def _detail(block: PageBlock, row: PageRow) -> dict[str, Any]:
    """What the panel says of a row."""
    cells = []
    for column in block.columns:
        cell = row.cells[column.name]
        if cell.value is None and not cell.printed and not cell.reason:
            continue
        cells.append(
            {
                "column": column.name,
                "value": cell.value,
                "printed": cell.printed,
                "difference": cell.difference,
                "status": cell.status,
                "mark": cell.mark,
                "note": "; ".join(filter(None, [cell.note, cell.reason if row.entry else ""])),
            }
        )
    where = " · ".join(filter(None, [block.name, block.convention]))
    return {
        "method": row.method,
        "where": where,
        "reason": row.reason,
        "record": row.entry.stem if row.entry else None,
        "cells": cells,
    }


def _missing_values(block: PageBlock) -> str:
    """Rows without a value and why, those with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for row in block.rows:
        if row.entry is None:
            reasons.setdefault(row.reason, []).append(row.method)
            continue
        by_reason: dict[str, list[str]] = {}
        for column, cell in row.cells.items():
            if cell.status in ("missing", "other data"):
                by_reason.setdefault(cell.reason, []).append(column)
        for reason, columns in by_reason.items():
            which = "" if len(columns) == len(row.cells) else f" ({', '.join(columns)})"
            reasons.setdefault(reason, []).append(row.method + which)
    if not reasons:
        return ""
    lines = "".join(f"<li><b>{e(', '.join(dict.fromkeys(who)))}</b>: {e(why)}</li>" for why, who in reasons.items())
    count = sum(len(dict.fromkeys(who)) for who in reasons.values())
    summary = f"<summary>Missing values and why ({plural(count, 'row')})</summary>"
    return f'<details class="missing">{summary}<ul>{lines}</ul></details>'
