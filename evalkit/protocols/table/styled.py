"""A table made ready for a format: with the rows, columns and spreads of its style; one grid, or one per data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from evalkit.protocols.schema import protocol_of_run, rows_of
from evalkit.protocols.table.cells import TableContent
from evalkit.protocols.table.grid import Grid, paper_axes, part_of, wide_axes
from evalkit.protocols.table.mean_rank import with_mean_rank
from evalkit.protocols.table.published_rows import with_published
from evalkit.protocols.table.spread import NOTE, Key, spreads_of
from evalkit.protocols.table.style import TableStyle


@dataclass(frozen=True)
class Styled:
    """A table with what its style adds to it."""

    table: TableContent
    style: TableStyle
    spreads: dict[Key, float]

    def grids(self, paper: bool = False) -> Iterator[tuple[str | None, Grid]]:
        """The grids to print, each with its data set, or None for a grid of all.

        Args:
            paper: whether the arrangement of the paper is the one where the style names none; else a grid per data set.
        """
        layout = self.style.layout or ("paper" if paper else "per-dataset")
        if layout == "per-dataset":
            for dataset in self.table.datasets:
                yield dataset, self._grid(part_of(self.table, dataset), (["method"], ["column"]), paper)
        else:
            axes = paper_axes(self.table) if layout == "paper" else wide_axes(self.table)
            yield None, self._grid(self.table, axes, paper)

    def _grid(self, table: TableContent, axes: tuple[list[str], list[str]], joined: bool) -> Grid:
        return Grid(table, self.style, *axes, self.spreads, joined)


def styled(table: TableContent, style: TableStyle, form: str) -> Styled:
    """The table with the rows and columns that a style asks for.

    Args:
        table: of a run, or published.
        style: how it is to look.
        form: the format, which may not have all that a style can ask for.

    Raises:
        EvalkitError: the format does not have an option, a column is not there, nothing is printed, or no scores are.
        DataError: a score file, or the protocol's printed numbers, are damaged.
    """
    names = [name for column in table.columns for name in (column.name, column.metric)]
    style.check(form, [*names, *(["Mean rank"] if style.rank_column else [])])
    if style.with_published:
        protocol = protocol_of_run(table.protocol, table.out or Path())
        table = with_published(table, rows_of(protocol))
    spreads = spreads_of(table) if style.std else {}
    if spreads:
        table = replace(table, note=" ".join(filter(None, [table.note, f"{NOTE}."])))
    if style.rank_column:
        table = with_mean_rank(table)
    return Styled(table, style, spreads)
