"""A table as a grid: which axes stand in rows and header, and what stands in each cell, before any format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property

from evalkit.protocols.table import mean_rank
from evalkit.protocols.table.cells import AXES, Cell, Column, TableContent
from evalkit.protocols.table.published import SPREAD, decimals_of
from evalkit.protocols.table.spread import Key as CellKey
from evalkit.protocols.table.style import TableStyle

Key = tuple[str, ...]
PAPER = {"rows": ["method"], "header": ["dataset", "metric"]}  # where the protocol states no arrangement
TITLES = {"dataset": "Data set", "block": "Data set", "method": "Method", "class": "Class"}
TITLES |= {"metric": "Metric", "column": "Metric", "variant": ""}
DIGITS = 4  # decimals of a measured value where the paper prints fewer


@dataclass(frozen=True)
class GridCell:
    """What stands in a cell of the grid: a number as text, its spread, its mark; the cell it is of."""

    cell: Cell
    text: str  # empty for a missing value
    spread: str  # of the value over the images, or as the paper prints it beside its mean
    mark: str  # best, second or nothing
    printed: bool  # the number is the paper's


class Grid:
    """The cells of a table by row key and column key, both in the table's order.

    Args:
        table: whose cells they are.
        style: digits, and whether rows and header change places.
        rows: axes of the rows.
        header: axes of the header, the outer level first.
        spreads: data set, method, metric -> standard deviation over the images.
        joined: whether a printed spread ("EN std") stands in the cell of its mean.

    Axes are those of `cells.AXES`, "block" (data set and variant in one) and "column" (metric and class in one).
    """

    def __init__(
        self,
        table: TableContent,
        style: TableStyle,
        rows: list[str],
        header: list[str],
        spreads: dict[CellKey, float],
        joined: bool = False,
    ) -> None:
        self.table, self.style, self.spreads = table, style, spreads
        self.columns = {column.name: column for column in table.columns}
        self.rows, self.header = (header, rows) if style.transpose else (rows, header)
        self._by_name = {(cell.dataset, cell.method, cell.metric): cell for cell in table.cells}
        self._joined = joined
        shown = [cell for cell in table.cells if not (joined and self._is_spread(cell))]
        order = self._order()
        self.cells = {(self.key(cell, self.rows), self.key(cell, self.header)): cell for cell in shown}
        self.row_keys = _sorted((row for row, _ in self.cells), self.rows, order)
        self.column_keys = _sorted((column for _, column in self.cells), self.header, order)

    def _order(self) -> dict[str, dict[str, int]]:
        """Axis -> value -> its place."""
        order: dict[str, dict[str, int]] = {axis: {} for axis in (*AXES, "block", "column")}

        def place(axis: str, value: str) -> None:
            order[axis].setdefault(value, len(order[axis]))

        for block, (dataset, variant) in self.table.blocks.items():
            for axis, value in (("dataset", dataset), ("variant", variant), ("block", block)):
                place(axis, value)
        for column in self.table.columns:
            for axis, value in (("class", column.class_), ("metric", column.metric), ("column", column.name)):
                place(axis, value)
        for cell in self.table.cells:
            for axis in order:
                place(axis, value_on(self.table, self.columns, cell, axis))
        return order

    def _is_spread(self, cell: Cell) -> bool:
        return cell.metric.endswith(SPREAD) and cell.metric.removesuffix(SPREAD) in self.columns

    def key(self, cell: Cell, axes: list[str]) -> Key:
        return tuple(value_on(self.table, self.columns, cell, axis) for axis in axes)

    @cached_property
    def _marks(self) -> dict[CellKey, str]:
        return {
            (dataset, method, column.name): mark
            for dataset in self.table.datasets
            for column in self.table.columns_of(dataset)
            for method, mark in self.table.marks(dataset, column).items()
        }

    def column_of(self, axis: str, value: str) -> Column | None:
        """The column that a value on the axis of metrics stands for; a metric of several classes by its first."""
        if axis == "column":
            return self.columns.get(value)
        return next((c for c in self.table.columns if c.metric == value), None) if axis == "metric" and value else None

    def label(self, axis: str, value: str) -> str:
        """A name on an axis as plain text; a metric with its unit and arrow."""
        column = self.column_of(axis, value)
        return value if column is None else replace(column, name=value).head

    def titles(self) -> list[str]:
        """What stands above each level of the rows: "Method"."""
        return [TITLES[axis] for axis in self.rows]

    def entry(self, row: Key, column: Key, at_least: int = 0) -> GridCell | None:
        """What stands in a cell; None where the table has none there.

        Args:
            row: one of `row_keys`.
            column: one of `column_keys`.
            at_least: decimals that a measured value has whatever the paper prints, unless the style says otherwise;
                with 0 it has as many as the paper prints in the whole column.
        """
        cell = self.cells.get((row, column))
        if cell is None:
            return None
        key = cell.dataset, cell.method, cell.metric
        mark = self._marks.get(key, "")
        if cell.value is not None:
            digits = self.digits(cell, at_least)
            spread = self.spreads.get(key)
            return GridCell(
                cell, f"{cell.value:.{digits}f}", "" if spread is None else f"{spread:.{digits}f}", mark, False
            )
        beside = self._by_name.get((cell.dataset, cell.method, cell.metric + SPREAD)) if self._joined else None
        spread_text = self.shortened(beside.published, cell) if beside and beside.published else ""
        text = self.shortened(cell.published, cell) if cell.published else ""
        if self.table.measured and cell.status != "published":
            mark = cell.mark  # the paper's, of its own number
        return GridCell(cell, text, spread_text, mark, True)

    def digits(self, cell: Cell, at_least: int = 0) -> int:
        """Decimals of the measured value of a cell.

        Args:
            cell: of the table.
            at_least: as of `entry`.
        """
        column = self.columns[cell.metric]
        stated = self._stated(cell)
        if stated is not None:
            return stated
        if cell.status == "derived":
            return mean_rank.DIGITS
        if at_least:
            return max(at_least, decimals_of(cell.published or ""))
        printed = [c.published for c in self.table.cells if (c.metric, c.dataset) == (column.name, cell.dataset)]
        return max((decimals_of(text) for text in printed if text), default=DIGITS)

    def _stated(self, cell: Cell) -> int | None:
        """Decimals that the style names for a cell's column; what is said of all columns is not of ranks."""
        column = self.columns[cell.metric]
        if cell.status == "derived":
            named = self.style.digits if isinstance(self.style.digits, Mapping) else {}
            return next((count for name, count in named.items() if name.casefold() == column.name.casefold()), None)
        return self.style.digits_of(column.name, column.metric)

    def shortened(self, printed: str, cell: Cell) -> str:
        """A printed number, with no more decimals than the style asks for.

        Args:
            printed: the number as printed.
            cell: whose column the digits are of.
        """
        digits = self._stated(cell)
        if digits is None or decimals_of(printed) <= digits:
            return printed
        return f"{Decimal(printed).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}"


def value_on(table: TableContent, columns: dict[str, Column], cell: Cell, axis: str) -> str:
    """Where a cell stands on an axis.

    Args:
        table: whose blocks say which data set and variant a cell is of.
        columns: of the table, by name.
        cell: of the table.
        axis: see `Grid`.
    """
    dataset, variant = table.blocks.get(cell.dataset, [cell.dataset, ""])
    column = columns[cell.metric]
    values = {"dataset": dataset, "variant": variant, "class": column.class_, "metric": column.metric}
    values |= {"method": cell.method, "block": cell.dataset, "column": cell.metric}
    return values[axis]


def _sorted(keys: Iterable[Key], axes: list[str], order: dict[str, dict[str, int]]) -> list[Key]:
    return sorted(set(keys), key=lambda key: [order[axis][value] for axis, value in zip(axes, key, strict=True)])


def paper_axes(table: TableContent) -> tuple[list[str], list[str]]:
    """The paper's axes that have a name to show; one that it leaves out comes on top where cells need it."""
    layout = table.layout or PAPER
    columns = {column.name: column for column in table.columns}
    values = {axis: {value_on(table, columns, cell, axis) for cell in table.cells} for axis in AXES}
    rows, header = ([axis for axis in layout[part] if values[axis] != {""}] for part in ("rows", "header"))
    for axis in AXES:
        keys = {tuple(value_on(table, columns, cell, a) for a in rows + header) for cell in table.cells}
        if len(keys) < len(table.cells) and axis not in rows + header and len(values[axis]) > 1:
            header.insert(0, axis)
    return rows, header


def wide_axes(table: TableContent) -> tuple[list[str], list[str]]:
    """Methods in rows; data sets side by side, where they have names, each with its columns."""
    return ["method"], ["block", "column"] if any(table.datasets) else ["column"]


def part_of(table: TableContent, dataset: str) -> TableContent:
    """The table of one data set alone."""
    return replace(table, cells=[cell for cell in table.cells if cell.dataset == dataset])
