"""A finding, and what every check needs: a table as a grid, and printed numbers as intervals.

A printed number stands for all numbers that round to it. The checks calculate with these intervals, in fractions: what
no unrounded values can give is a contradiction, and a mean of rounded numbers that is a digit off is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from evalkit.protocols.table.published import PublishedRow

Sure = Literal["certain", "likely", "possible"]
SURE: tuple[Sure, ...] = ("certain", "likely", "possible")
SOURCES = ("Visible", "Infrared")  # rows that are not methods
AGGREGATE = "mean"  # the class of a column over classes

Cells = dict[str, PublishedRow]  # column -> printed cell
Grid = dict[str, dict[str, Cells]]  # block -> method -> cells


@dataclass(frozen=True)
class Finding:
    """What a check says of a place in a table.

    Attributes:
        check: which check says so.
        sure: certain (no unrounded values give what is printed), likely, or possible.
        protocol, block, row, column: where; empty where it is of the whole table, block, ...
        printed: as the table has it.
        recomputed: what it would have to be, or what was computed.
        explanation: what is wrong, and the likely reason.
        other: the second table, of a finding between two.
    """

    check: str
    sure: Sure
    protocol: str
    block: str
    row: str
    column: str
    printed: str
    recomputed: str
    explanation: str
    other: str = ""

    @property
    def where(self) -> str:
        return ", ".join(filter(None, [self.block, self.row, self.column])) or "the whole table"


@dataclass(frozen=True)
class Interval:
    """All numbers between two bounds."""

    low: Fraction
    high: Fraction

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)

    def __mul__(self, factor: Fraction | int) -> Interval:
        ends = sorted((self.low * factor, self.high * factor))
        return Interval(ends[0], ends[1])

    def meets(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        low, high = f"{float(self.low):.4g}", f"{float(self.high):.4g}"
        if float(self.high) != float(self.low) and low == high:
            low, high = f"{float(self.low):.6g}", f"{float(self.high):.6g}"
        return low if low == high else f"{low} .. {high}"


def ulp(row: PublishedRow) -> Fraction:
    """One unit of the last printed digit."""
    return Fraction(1, 10**row.decimals)


def rounded(row: PublishedRow) -> Interval:
    """The numbers that round to a printed one."""
    value, half = Fraction(row.printed), ulp(row) / 2
    return Interval(value - half, value + half)


def cut(row: PublishedRow) -> Interval:
    """The numbers that give a printed one whether they are rounded or cut off, towards zero."""
    value, unit = Fraction(row.printed), ulp(row)
    return Interval(value - unit / 2, value + unit) if value >= 0 else Interval(value - unit, value + unit / 2)


def order(first: PublishedRow, second: PublishedRow) -> int:
    """1 where the first number is the greater one, -1 where it is the lesser one, 0 where the digits leave it open.

    Rounding keeps the order, and so does cutting off: of two numbers with as many decimals the one that is printed
    greater is greater. With other decimals all that either may stand for must lie above.
    """
    one, other = Fraction(first.printed), Fraction(second.printed)
    if one == other or (first.decimals != second.decimals and cut(first).meets(cut(second))):
        return 0
    return 1 if one > other else -1


def total(intervals: Iterable[Interval]) -> Interval:
    result = Interval(Fraction(0), Fraction(0))
    for interval in intervals:
        result = result + interval
    return result


def grid(rows: Iterable[PublishedRow]) -> Grid:
    """Printed cells by block, method and column; empty ones are not in it. Order is the table's."""
    cells: Grid = {}
    for row in rows:
        if row.printed:
            cells.setdefault(row.block, {}).setdefault(row.method, {})[row.column] = row
    return cells


def columns(block: dict[str, Cells]) -> dict[str, dict[str, PublishedRow]]:
    """The same block by column and method."""
    by_column: dict[str, dict[str, PublishedRow]] = {}
    for method, cells in block.items():
        for column, row in cells.items():
            by_column.setdefault(column, {})[method] = row
    return by_column


def by_chance(expected: float) -> str:
    """An expected number of coincidences as words."""
    return f"expected by chance {expected:.0e} times"


def names(items: Iterable[str], most: int = 6) -> str:
    items = list(items)
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
