"""The table of a protocol before anything is measured: its blocks, columns and arrangement, and the published cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Literal

from evalkit.errors import EvalkitError
from evalkit.metrics.registry import better_of, card, parse
from evalkit.metrics.registry import convention as convention_of
from evalkit.protocols.schema import Protocol, TableLayout, protocol, rows_of
from evalkit.protocols.table.cells import Cell, Column
from evalkit.protocols.table.published import PublishedRow, column_name
from evalkit.protocols.table.table import Table

COST_UNITS = {"FLOPs": "G multiply-adds", "Params": "K", "Time": "s"}


def blank_table(chosen: Protocol, sample: bool = False) -> Table:
    """A table without cells; a sample run has none of the paper's blocks."""
    rows = [] if sample else rows_of(chosen)
    table = Table(
        chosen.name,
        chosen.title,
        chosen.source,
        chosen.convention,
        chosen.citation,
        columns(chosen, rows),
        sample=sample,
    )
    table.layout = (TableLayout() if sample else chosen.layout).model_dump(mode="json")
    table.blocks = {row.block: [row.dataset, row.variant] for row in rows}
    return table


def published_table(name: str) -> Table:
    """The published table alone: every cell a missing value beside its printed number.

    Raises:
        UnknownNameError: no such protocol.
        EvalkitError: the protocol is of a table or figure that prints no numbers.
    """
    chosen = protocol(name)
    table = blank_table(chosen)
    table.cells = [missing_cell(row, "") for row in rows_of(chosen)]
    if not table.cells:
        what = chosen.source if chosen.paper != chosen.table else chosen.table
        raise EvalkitError(
            f"{chosen.name} has no published numbers here ({what}). `evalkit show {chosen.name}` says why."
        )
    named = {dataset for dataset, _ in table.blocks.values()}
    table.pairs = {dataset: use.pairs for dataset, use in chosen.datasets.items() if use.pairs and dataset in named}
    return table


def columns(chosen: Protocol, rows: Iterable[PublishedRow]) -> list[Column]:
    """The columns of the published rows and of the protocol's metrics, classes in the paper's order."""
    wanted = dict.fromkeys((row.class_, row.metric) for row in rows)
    missing = [metric for metric in chosen.metrics if metric not in {metric for _, metric in wanted}]
    wanted |= dict.fromkeys(product(chosen.classes or [""], missing))

    def place(column: tuple[str, str]) -> tuple[int, ...]:
        class_, metric = column
        measure = metric.removesuffix(" std")
        known = [chosen.classes.index(class_) if class_ in chosen.classes else len(chosen.classes)]
        known.append(chosen.metrics.index(measure) if measure in chosen.metrics else len(chosen.metrics))
        return (*known, metric != measure)

    return [_column(chosen, class_, metric) for class_, metric in sorted(wanted, key=place)]


def _column(chosen: Protocol, class_: str, metric: str) -> Column:
    measure = metric.removesuffix(" std")
    unit = chosen.units.get(measure, COST_UNITS.get(measure, ""))
    convention = chosen.convention
    try:
        definition = parse(measure, convention_of(convention))
        better, convention = card(definition.metric).better, definition.convention
    except EvalkitError:  # of a downstream task, of cost, or not defined in this convention: a column of missing values
        better = better_of(measure) or "higher"
    way: Literal["higher", "lower"] = "lower" if better == "lower" or metric != measure else "higher"
    return Column(column_name(class_, metric), way, convention, class_, unit)


def expected_rows(chosen: Protocol, datasets: Iterable[str], methods: Iterable[str]) -> Iterator[PublishedRow]:
    """What the table should hold on these data sets: its printed numbers, or, where it prints none, empty cells."""
    datasets, methods = [*datasets, ""], list(methods)
    rows = rows_of(chosen)
    for row in rows:
        if row.dataset in datasets and row.method in methods:
            yield row
    if not rows:
        axes = product(datasets[:-1] or [""], chosen.variants or [""], methods, chosen.classes or [""], chosen.metrics)
        for dataset, variant, method, class_, metric in axes:
            yield PublishedRow(chosen.name, dataset, variant, method, class_, metric, "")


def add_missing(table: Table, rows: Iterable[PublishedRow], reason: Callable[[PublishedRow], str]) -> None:
    """A named missing value for every expected cell that nothing filled."""
    have = {(cell.dataset, cell.method, cell.metric) for cell in table.cells}
    for row in rows:
        table.blocks.setdefault(row.block, [row.dataset, row.variant])
        if row.key not in have:
            table.cells.append(missing_cell(row, reason(row)))


def missing_cell(row: PublishedRow, reason: str) -> Cell:
    """A cell that is not measured, beside its printed number."""
    return Cell(*row.key, None, row.printed or None, 0, "missing", reason, row.mark)
