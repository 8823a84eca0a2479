"""The printed rows that were not measured, set below the measured ones as rows of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from evalkit.errors import EvalkitError
from evalkit.protocols.table.cells import Cell, TableContent
from evalkit.protocols.table.published import PublishedRow

LABEL = "(published)"
REASONS = 3  # that the note gives

Content = TypeVar("Content", bound=TableContent)


def with_published(table: Content, rows: Iterable[PublishedRow]) -> Content:
    """The table with every printed row of its data sets that has no measured value, below the measured rows.

    Best and second are marked over both where `TableContent.together` says that they may stand together, else apart;
    the note says which.

    Args:
        table: of a run.
        rows: the protocol's printed numbers.

    Raises:
        EvalkitError: nothing is printed of the table's data sets, or of a column that the table lacks.
    """
    rows, blocks = list(rows), table.datasets
    measured = {(cell.dataset, cell.method) for cell in table.cells if cell.value is not None}
    printed = [row for row in rows if row.block in blocks]
    if not any(row.printed for row in printed):
        of = ", ".join(dict.fromkeys(row.block for row in rows if row.printed))
        raise EvalkitError(
            f"with_published: {table.protocol} has printed numbers of {of or 'nothing'}, and this run is of "
            f"{', '.join(blocks) or 'nothing'}. Leave it out."
        )
    names = {column.name for column in table.columns}
    if odd := next((row.column for row in printed if row.column not in names), None):
        raise EvalkitError(f"{table.protocol} prints {odd}, which this table lacks: run `evalkit reproduce` again.")
    below = [row for row in printed if (row.block, row.method) not in measured]
    reasons = {(cell.dataset, cell.method, cell.metric): cell.reason for cell in table.cells}
    places = {(row.block, row.method) for row in below}
    cells = [cell for cell in table.cells if (cell.dataset, cell.method) not in places]
    labels = _labels({row.method for row in below}, {cell.method for cell in cells})
    cells += [
        Cell(
            row.block, labels[row.method], row.column, None, row.printed or None, 0, "published",
            reasons.get(row.key, ""), row.mark,
        )
        for row in below
    ]  # fmt: skip
    joined = replace(table, cells=cells)
    note = _note(joined) if below else "Every printed row was measured"
    return replace(joined, note="; ".join(filter(None, [table.note.rstrip("."), note])))


def _labels(methods: set[str], taken: set[str]) -> dict[str, str]:
    """Method -> the name of its printed row, which no other row has."""
    labels = {}
    for method in methods:
        labels[method] = f"{method} {LABEL}"
        while labels[method] in taken:
            labels[method] += "'"
    return labels


def _note(table: TableContent) -> str:
    """What the published rows are, and where they are marked together with the measured ones."""
    apart: dict[str, dict[str, list[str]]] = {}  # why -> data set -> columns
    both = False
    for dataset in table.datasets:
        for column in table.columns_of(dataset):
            cells = [cell for cell in table.cells if (cell.dataset, cell.metric) == (dataset, column.name)]
            if not any(cell.value is not None for cell in cells) or not any(c.status == "published" for c in cells):
                continue
            if table.together(dataset, column.name):
                both = True
                continue
            reasons = list(dict.fromkeys(c.reason for c in cells if c.status == "other data" and c.reason))
            why = "; ".join(reasons[:REASONS]) or "measured on other data"
            apart.setdefault(why, {}).setdefault(dataset, []).append(column.name)
    parts = [f"Rows {LABEL}: as printed, not measured here"]
    if both:
        where = "where convention, data and count of pairs agree, " if apart else ""
        parts.append(f"best and second are {where}over measured and published rows together, at the printed digits")
    for why, columns in apart.items():
        where = "; ".join(
            dataset if len(names) == len(table.columns_of(dataset)) else f"{dataset} ({', '.join(names)})".lstrip()
            for dataset, names in columns.items()
        )
        parts.append(
            f"on {where} measured and published rows are marked apart: {why}" if where else f"marked apart: {why}"
        )
    return "; ".join(parts) + "."
