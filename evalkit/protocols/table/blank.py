"""The table of a protocol before anything is measured: its blocks, columns and arrangement, and the published cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Literal

from evalkit.errors import EvalkitError
from evalkit.metrics.registry import better_of, card, parse
from evalkit.metrics.registry import convention as convention_of
from evalkit.protocols.schema import Protocol, TableLayout, rows_of
from evalkit.protocols.schema import protocol as load_protocol
from evalkit.protocols.table.cells import Cell, Column
from evalkit.protocols.table.published import PublishedRow, column_name
from evalkit.protocols.table.table import Table

COST_UNITS = {"FLOPs": "G multiply-adds", "Params": "K", "Time": "s"}


def blank_table(protocol: Protocol, sample: bool = False) -> Table:
    """A table without cells; a sample run has none of the paper's blocks."""
    rows = [] if sample else rows_of(protocol)
    table = Table(
        protocol.name,
        protocol.title,
        protocol.source,
        protocol.convention,
        protocol.citation,
        columns(protocol, rows),
        sample=sample,
    )
    table.layout = (TableLayout() if sample else protocol.layout).model_dump(mode="json")
    table.blocks = {row.block: [row.dataset, row.variant] for row in rows}
    return table


def published_table(name: str) -> Table:
    """The published table alone: every cell a missing value beside its printed number.

    Raises:
        UnknownNameError: no such protocol.
        EvalkitError: the protocol is of a table or figure that prints no numbers.
    """
    protocol = load_protocol(name)
    table = blank_table(protocol)
    table.cells = [missing_cell(row, "") for row in rows_of(protocol)]
    if not table.cells:
        table_name = protocol.source if protocol.paper != protocol.table else protocol.table
        raise EvalkitError(
            f"{protocol.name} has no published numbers here ({table_name}). `evalkit show {protocol.name}` says why."
        )
    named = {dataset for dataset, _ in table.blocks.values()}
    table.pairs = {dataset: use.pairs for dataset, use in protocol.datasets.items() if use.pairs and dataset in named}
    return table


def columns(protocol: Protocol, rows: Iterable[PublishedRow]) -> list[Column]:
    """The columns of the published rows and of the protocol's metrics, classes in the paper's order."""
    keys = dict.fromkeys((row.class_, row.metric) for row in rows)
    missing = [metric for metric in protocol.metrics if metric not in {metric for _, metric in keys}]
    keys |= dict.fromkeys(product(protocol.classes or [""], missing))

    def place(column: tuple[str, str]) -> tuple[int, ...]:
        class_, metric = column
        measure = metric.removesuffix(" std")
        known = [protocol.classes.index(class_) if class_ in protocol.classes else len(protocol.classes)]
        known.append(protocol.metrics.index(measure) if measure in protocol.metrics else len(protocol.metrics))
        return (*known, metric != measure)

    return [_column(protocol, class_, metric) for class_, metric in sorted(keys, key=place)]


def _column(protocol: Protocol, class_: str, metric: str) -> Column:
    measure = metric.removesuffix(" std")
    unit = protocol.units.get(measure, COST_UNITS.get(measure, ""))
    convention = protocol.convention
    try:
        definition = parse(measure, convention_of(convention))
        better, convention = card(definition.metric).better, definition.convention
    except EvalkitError:  # of a downstream task, of cost, or not defined in this convention: a column of missing values
        better = better_of(measure) or "higher"
    way: Literal["higher", "lower"] = "lower" if better == "lower" or metric != measure else "higher"
    return Column(column_name(class_, metric), way, convention, class_, unit)


def expected_rows(protocol: Protocol, datasets: Iterable[str], methods: Iterable[str]) -> Iterator[PublishedRow]:
    """What the table should hold on these data sets: its printed numbers, or, where it prints none, empty cells.

    Args:
        protocol: of the table.
        datasets: those asked for; printed rows without a data set count always.
        methods: the rows asked for.
    """
    datasets, methods = [*datasets, ""], list(methods)
    rows = rows_of(protocol)
    for row in rows:
        if row.dataset in datasets and row.method in methods:
            yield row
    if not rows:
        axes = product(
            datasets[:-1] or [""], protocol.variants or [""], methods, protocol.classes or [""], protocol.metrics
        )
        for dataset, variant, method, class_, metric in axes:
            yield PublishedRow(protocol.name, dataset, variant, method, class_, metric, "")


def add_missing(table: Table, rows: Iterable[PublishedRow], reason: Callable[[PublishedRow], str]) -> None:
    """A named missing value for every expected cell that nothing filled.

    Args:
        table: changed in place: its cells, and blocks that it lacks.
        rows: the cells that are expected.
        reason: why the cell of a row is missing.
    """
    have = {(cell.dataset, cell.method, cell.metric) for cell in table.cells}
    for row in rows:
        table.blocks.setdefault(row.block, [row.dataset, row.variant])
        if row.key not in have:
            table.cells.append(missing_cell(row, reason(row)))


def missing_cell(row: PublishedRow, reason: str) -> Cell:
    """A cell that is not measured, beside its printed number."""
    return Cell(*row.key, None, row.printed or None, 0, "missing", reason, row.mark)
