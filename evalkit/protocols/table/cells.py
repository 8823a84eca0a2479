"""A regenerated table: measured values beside the published ones, tidy, one cell per data set, method and metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from evalkit.files.frame import data_frame
from evalkit.protocols.table.per_image import Agreement
from evalkit.protocols.table.published import decimals_of, is_number

if TYPE_CHECKING:
    import pandas as pd

# how a value stands to a printed one; or a printed row of its own, or computed from the table's other numbers
Status = Literal["equal", "close", "differs", "unpublished", "other data", "missing", "published", "derived"]
ADDED: tuple[Status, ...] = ("published", "derived")
AGREEMENT: tuple[Status, ...] = ("equal", "close", "differs")
CLOSE = 1e-3  # relative difference up to which a value counts as close to the printed one
AXES = ("dataset", "variant", "method", "class", "metric")  # that a paper arranges its table by
COLUMNS = ["dataset", "method", "metric", "value", "published", "difference", "images", "status", "reason"]


@dataclass(frozen=True)
class Cell:
    """One number of the table, or the reason why it is a missing value."""

    dataset: str
    method: str
    metric: str
    value: float | None
    published: str | None  # as printed
    images: int
    status: Status
    reason: str = ""
    mark: str = ""  # best or second, where the paper marks its own number so
    sign: str = ""  # of significance, explained in the table's note

    @property
    def difference(self) -> float | None:
        """Measured minus published; None where the two cannot be compared."""
        if self.value is None or self.published is None or self.status == "other data":
            return None
        return self.value - float(self.published)


def agreement(value: float, printed: str) -> Status:
    """How a value agrees with a printed number: equal when it rounds to it, close within 0.1 %.

    Example:
        >>> agreement(0.51349, "0.513"), agreement(0.51351, "0.513"), agreement(0.52, "0.513")
        ('equal', 'close', 'differs')
    """
    difference = abs(value - float(printed))
    if difference <= 0.5 * 10.0 ** -decimals_of(printed) * (1 + 1e-9):
        return "equal"
    return "close" if difference <= CLOSE * abs(float(printed)) else "differs"


def status_of(value: float | None, printed: str | None, not_comparable: str = "") -> Status:
    """How a measured value stands to a printed one.

    Args:
        value: None for a missing value.
        printed: the number as printed; None or empty where there is none.
        not_comparable: why the two cannot be compared; empty where they can.
    """
    if value is None:
        return "missing"
    if not_comparable:
        return "other data"
    return agreement(value, printed) if printed else "unpublished"


def best_and_second(values: Mapping[str, float], better: str) -> dict[str, str]:
    """Name -> "best" or "second"; equal values share a mark, and one value alone has none.

    Args:
        values: name -> value.
        better: "higher" or "lower".
    """
    ranked = sorted(set(values.values()), reverse=better == "higher")
    if len(ranked) < 2:
        return {}
    marks = {ranked[0]: "best", ranked[1]: "second"}
    return {name: marks[value] for name, value in values.items() if value in marks}


@dataclass(frozen=True)
class Column:
    """A metric of the table: which way is better, and in which convention it was measured."""

    name: str  # "EN", or "Car IoU" with a class
    better: Literal["higher", "lower"]
    convention: str
    class_: str = ""
    unit: str = ""  # of the printed numbers, where it is not the metric's own

    @property
    def metric(self) -> str:
        return self.name.removeprefix(f"{self.class_} ") if self.class_ else self.name

    @property
    def arrow(self) -> str:
        return "↑" if self.better == "higher" else "↓"

    @property
    def head(self) -> str:
        """What stands above the column: name, unit, which way is better."""
        return " ".join(filter(None, [self.name, self.unit and f"({self.unit})", self.arrow]))


@dataclass
class TableContent:
    """The cells of a protocol's table, and what is needed to print them."""

    protocol: str
    title: str
    source: str
    convention: str
    citation: str
    columns: list[Column]
    sample: bool = False
    pairs: dict[str, int] = field(default_factory=dict)  # per data set, or block where its networks differ, as found
    blocks: dict[str, list[str]] = field(default_factory=dict)  # "MSRS · BANet" -> [data set, variant]
    layout: dict[str, list[str]] = field(default_factory=dict)  # the paper's arrangement: axes of rows and header
    note: str = ""  # what the signs in the cells mean
    cells: list[Cell] = field(default_factory=list)
    agreement: list[Agreement] = field(default_factory=list)  # with values that were published per image
    out: Path | None = field(default=None, repr=False, compare=False)  # the run's folder, which holds its scores

    @property
    def complete(self) -> bool:
        """Whether no cell is a missing value."""
        return all(cell.status != "missing" for cell in self.cells)

    @property
    def measured(self) -> bool:
        """Whether there is anything else than published values."""
        return any(cell.value is not None and cell.status != "derived" for cell in self.cells)

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(cell.dataset for cell in self.cells))

    def methods(self, dataset: str) -> list[str]:
        return list(dict.fromkeys(cell.method for cell in self.cells if cell.dataset == dataset))

    def columns_of(self, dataset: str) -> list[Column]:
        """The columns that a block has cells in."""
        names = {cell.metric for cell in self.cells if cell.dataset == dataset}
        return [column for column in self.columns if column.name in names]

    def cell(self, dataset: str, method: str, metric: str) -> Cell:
        """The cell of that name; an empty one where the table has none.

        Args:
            dataset: or block, as the cell names it.
            method: the row.
            metric: the column.
        """
        key = (dataset, method, metric)
        cells = (c for c in self.cells if (c.dataset, c.method, c.metric) == key)
        return next(cells, None) or Cell(*key, None, None, 0, "missing")

    def together(self, dataset: str, metric: str) -> bool:
        """Whether the measured values of a column may stand beside printed ones: none is of other data.

        Args:
            dataset: or block, as the cells name it.
            metric: the column.
        """
        return all(c.status != "other data" for c in self.cells if (c.dataset, c.metric) == (dataset, metric))

    def numbers(self, dataset: str, metric: str) -> dict[str, float]:
        """Method -> its number in a column: measured, or of a published row (of every row, where nothing is measured).

        Where measured and printed numbers stand together, the measured ones are rounded as the column is printed.

        Args:
            dataset: or block, as the cells name it.
            metric: the column.
        """
        cells = [c for c in self.cells if (c.dataset, c.metric) == (dataset, metric)]
        printed = {
            c.method: c.published for c in cells if c.published and (c.status == "published" or not self.measured)
        }
        values = {c.method: c.value for c in cells if c.value is not None}
        if printed and self.together(dataset, metric):
            digits = max(map(decimals_of, printed.values()))
            values = {method: round(value, digits) for method, value in values.items()}
        return values | {method: float(text) for method, text in printed.items()}

    def marks(self, dataset: str, column: Column) -> dict[str, str]:
        """Method -> "best" or "second" among the values; equal values share a mark.

        Measured and published rows have their marks together where they may stand together, else apart. Where nothing
        is measured the marks are those of the paper.
        """
        cells = [c for c in self.cells if (c.dataset, c.metric) == (dataset, column.name)]
        if not self.measured or any(c.status == "derived" for c in cells):
            return {c.method: c.mark for c in cells if c.mark}
        numbers = self.numbers(dataset, column.name)
        if self.together(dataset, column.name):
            return best_and_second(numbers, column.better)
        published = {c.method for c in cells if c.status == "published"}
        groups = [{m: v for m, v in numbers.items() if (m in published) == is_} for is_ in (False, True)]
        return {m: mark for group in groups for m, mark in best_and_second(group, column.better).items()}

    @property
    def frame(self) -> pd.DataFrame:
        """Tidy data frame with the columns of `table.csv`."""
        return data_frame((asdict(cell) | {"difference": cell.difference} for cell in self.cells), COLUMNS)

    def check(self) -> None:
        """Raise ValueError unless every cell has a column and a printed number that is one."""
        names = {column.name for column in self.columns}
        for cell in self.cells:
            if cell.metric not in names:
                raise ValueError(f"a cell of {cell.metric!r}, which is not a column")
            if cell.published is not None and not is_number(cell.published):
                raise ValueError(f"the published {cell.published!r} is not a number")
        if any(len(block) != 2 for block in self.blocks.values()):
            raise ValueError("a block is not a pair of data set and variant")
        if self.layout and {*self.layout} != {"rows", "header"}:
            raise ValueError("the layout is not of rows and header")
        axes = [axis for part in self.layout.values() for axis in part]
        if not set(axes) <= set(AXES) or len(set(axes)) < len(axes):
            raise ValueError(f"the layout has other axes than {', '.join(AXES)}, or one of them twice")

    def counts(self) -> dict[str, int]:
        """Cells, those that are measured, and how many of each status; of rows and columns that were added, if any."""
        statuses = {status: sum(cell.status == status for cell in self.cells) for status in get_args(Status)}
        statuses = {status: count for status, count in statuses.items() if count or status not in ADDED}
        own = [cell for cell in self.cells if cell.status != "derived"]
        return {"cells": len(own), "measured": sum(cell.value is not None for cell in own), **statuses}

    def coverage(self) -> str:
        """One line: how much is measured, how much of it agrees, and how much cannot be compared ("other data")."""
        counts = self.counts()
        text = f"{counts['measured']} of {counts['cells']} cells measured"
        if compared := sum(counts[status] for status in AGREEMENT):
            text += f"; of {compared} with a published value "
            text += ", ".join(f"{counts[status]} {status}" for status in AGREEMENT)
        if counts["other data"]:
            text += f"; {counts['other data']} cannot be compared (other data)"
        return text

    def to_dict(self) -> dict:
        """Everything, JSON-able."""
        fields = asdict(self) | {"counts": self.counts()}
        del fields["out"]  # where it lies is not what it says
        fields["cells"] = [asdict(cell) | {"difference": cell.difference} for cell in self.cells]
        return fields
