"""The rows of a block that its plots show, with their values per image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evalkit.leaderboards.plots.common import gather, missing_lines
from evalkit.leaderboards.site.pages import PageBlock, PageColumn, PageRow
from evalkit.records.per_image import PerImage, parse_per_image

PLOTTED = 12  # methods in one plot: more cannot be told apart


@dataclass(frozen=True)
class Plotted:
    """The rows of a block that are drawn, and their values."""

    block: PageBlock
    rows: list[PageRow]

    @cached_property
    def columns(self) -> list[PageColumn]:
        return [column for column in self.block.columns if column.better]

    @cached_property
    def methods(self) -> list[str]:
        return [row.method for row in self.rows]

    @cached_property
    def images(self) -> dict[str, PerImage]:
        """Method -> its values per image."""
        entries = {row.method: row.entry for row in self.rows}
        return {method: parse_per_image(e.csv, e.stem) for method, e in entries.items() if e and e.csv is not None}

    @cached_property
    def panels(self) -> list[tuple[PageColumn, dict[str, NDArray[np.float64]]]]:
        """Columns that a method has a value of for every image, with these methods' values."""
        panels = [(column, self._values(column)[0]) for column in self.columns]
        return [(column, values) for column, values in panels if values]

    def missing(self) -> list[str]:
        """What is not drawn, with the reason: as lines below the plot."""
        where = [(self.block.dataset, column.name) for column in self.columns]
        reasons = {
            (method, panel): why
            for column, panel in zip(self.columns, where, strict=True)
            for method, why in self._values(column)[1].items()
        }
        return missing_lines(gather(reasons, where))

    def _values(self, column: PageColumn) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
        values: dict[str, NDArray[np.float64]] = {}
        missing: dict[str, str] = {}
        first: tuple[str, set[str]] | None = None
        for row in self.rows:
            cell, images = row.cells[column.name], self.images[row.method]
            if cell.value is None or column.name not in images.metrics:
                missing[row.method] = cell.reason or "no value"
                continue
            scores = images.column(column.name)
            if none := sum(score is None for score in scores.values()):
                missing[row.method] = f"no value for {none} of {len(scores)} images"
            elif first and set(scores) != first[1]:
                missing[row.method] = f"measured on other images than {first[0]}"
            else:
                first = first or (row.method, set(scores))
                values[row.method] = np.array(list(scores.values()), dtype=float)
        return values, missing


def plotted_rows(block: PageBlock) -> list[PageRow]:
    """The rows that are drawn: of each method the first that is measured, those that the paper prints before others."""
    rows: dict[str, PageRow] = {}
    for row in block.rows:
        if row.entry and row.entry.csv is not None and row.entry.record.scores:
            rows.setdefault(row.method, row)
    printed = [row for row in rows.values() if any(cell.printed for cell in row.cells.values())]
    return (printed if len(printed) > 1 else list(rows.values()))[:PLOTTED]
