"""A column with the mean rank of every row of a data set, over the columns that all rows have, per convention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from evalkit.protocols.table.cells import Cell, Column, TableContent, best_and_second
from evalkit.protocols.table.published import SPREAD

NAME = "Mean rank"
DIGITS = 2

Content = TypeVar("Content", bound=TableContent)


def with_mean_rank(table: Content) -> Content:
    """The table with a column of mean ranks per convention; a row without a number has none, and the reason.

    Ranked are rows that have a number of that convention, in the columns in which all of them have one; the note names
    those left out. Ties share their average rank. Measured and published rows are ranked together where all columns
    allow it (`TableContent.together`), else apart. Where a data set has means over classes, classes are not ranked.
    """
    several = len({column.convention for column in table.columns}) > 1
    cells, columns, notes = list(table.cells), list(table.columns), dict[str, list[str]]()
    for convention in dict.fromkeys(column.convention for column in table.columns):
        name = f"{NAME}[{convention}]" if several else NAME
        for dataset in table.datasets:
            ranked = _columns(table, dataset, convention)
            if ranked:
                ranks, note = _block(table, dataset, ranked, name)
                cells += ranks
                notes.setdefault(note, []).append(dataset)
        if any(cell.metric == name for cell in cells):
            columns.append(Column(name, "lower", convention))
    said = []
    for note, sets in notes.items():
        where = ", ".join(filter(None, sets)) if len(notes) > 1 else ""
        said.append(f"{note} (on {where})" if where else note)
    note = "; ".join(filter(None, [table.note.rstrip("."), *said])) + "."
    return replace(table, cells=_in_order(cells), columns=columns, note=note)


def _in_order(cells: list[Cell]) -> list[Cell]:
    """Rows in their order: the ranks came last, but belong to rows that are there."""
    order = {key: i for i, key in enumerate(dict.fromkeys((c.dataset, c.method) for c in cells))}
    return sorted(cells, key=lambda cell: order[cell.dataset, cell.method])


def _columns(table: TableContent, dataset: str, convention: str) -> list[Column]:
    """The columns of a data set that count once in a rank: no spreads, no classes beside their mean."""
    columns = [c for c in table.columns_of(dataset) if c.convention == convention and not c.name.endswith(SPREAD)]
    means = {column.metric for column in columns if column.class_ == "mean"}
    return [column for column in columns if column.class_ in ("", "mean") or column.metric not in means]


def _block(table: TableContent, dataset: str, columns: list[Column], name: str) -> tuple[list[Cell], str]:
    """The cells of mean ranks of a data set, and the sentence on what they are over."""
    values = {column.name: table.numbers(dataset, column.name) for column in columns}
    methods = table.methods(dataset)
    published = {c.method for c in table.cells if c.dataset == dataset and c.status == "published"}
    together = all(table.together(dataset, column.name) for column in columns)
    groups = [methods] if together else [[m for m in methods if (m in published) == is_] for is_ in (False, True)]
    cells, notes = [], []
    for group in filter(None, groups):
        rows = [m for m in group if any(m in values[column.name] for column in columns)]
        whole = [column for column in columns if rows and all(m in values[column.name] for m in rows)]
        ranks = dict.fromkeys(rows, 0.0) if whole and len(rows) > 1 else {}
        for column in whole:
            for m, rank in average_ranks({m: values[column.name][m] for m in rows}, column.better).items():
                ranks[m] = ranks.get(m, 0.0) + rank / len(whole)
        ranks = {m: rank for m, rank in ranks.items() if len(rows) > 1}
        marks = best_and_second(ranks, "lower")
        for m in group:
            reason = "" if m in ranks else _reason(m, rows, whole)
            cells.append(Cell(dataset, m, name, ranks.get(m), None, 0, "derived", reason, marks.get(m, "")))
        if ranks:
            notes.append(_over(name, columns, whole))
    text = "; ".join(dict.fromkeys(notes)) or f"{name}: none"
    return cells, text if together or len(notes) < 2 else f"{text}, measured and published rows apart"


def _reason(method: str, rows: list[str], whole: list[Column]) -> str:
    if method not in rows:
        return "no rank: the row has no number"
    return "no rank: no column is of all rows" if len(rows) > 1 else "no rank: no other row has a number"


def _over(name: str, columns: list[Column], whole: list[Column]) -> str:
    out = [column.name for column in columns if column not in whole]
    over = f"{name}: over {', '.join(column.name for column in whole)}"
    return f"{over}, not {', '.join(out)}, which not all rows have" if out else over


def average_ranks(values: Mapping[str, float], better: str) -> dict[str, float]:
    """Rank 1 for the best; equal values share the average of their ranks.

    Args:
        values: name -> value.
        better: "higher" or "lower".

    Example:
        >>> average_ranks({"a": 2.0, "b": 1.0, "c": 2.0}, "higher")
        {'a': 1.5, 'b': 3.0, 'c': 1.5}
    """
    sign = -1.0 if better == "higher" else 1.0
    signed = {name: sign * value for name, value in values.items()}
    return {
        name: 1 + sum(other < value for other in signed.values()) + (sum(o == value for o in signed.values()) - 1) / 2
        for name, value in signed.items()
    }
