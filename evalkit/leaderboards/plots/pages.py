"""Many panels as pages of a size that can be read, printed and set in a paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from evalkit.errors import DataError
from evalkit.leaderboards.plots.style import TALLEST, Drawing, Width
from evalkit.leaderboards.run_values import ValueBlock

FEW = 6  # panels that may fit into a column
MANY = 12  # panels of a page

Panel = tuple[int, list[str]]  # number of the block, metrics
Draw = Callable[[Sequence[ValueBlock], Width], Drawing]


def pages(
    draw: Draw, blocks: Sequence[ValueBlock], width: Width | None = None, by_dataset: bool = False
) -> list[Drawing]:
    """All panels, on as many pages as it takes: none is taller than a journal's page, but for a panel that is alone.

    Args:
        draw: draws some blocks in a width.
        blocks: a data set each.
        width: "column" or "page"; when None, a column where one column holds everything, else pages.
        by_dataset: there is a panel per data set, else one per data set and metric.

    Raises:
        DataError: nothing can be drawn. What cannot be drawn beside others is among the last page's missing.
    """
    columns = [list(map(str, block.values.columns)) for block in blocks]
    panels = [
        (i, part) for i, names in enumerate(columns) for part in ([names] if by_dataset else [[n] for n in names])
    ]
    if width != "page" and len(panels) <= FEW:
        drawing = draw(blocks, "column")
        if _fits(drawing):
            return [drawing]
    size = min(len(panels), MANY)
    while True:
        count = math.ceil(len(panels) / size)  # of pages, as equal as can be
        ends = [round(len(panels) * i / count) for i in range(count + 1)]
        parts = [panels[start:end] for start, end in pairwise(ends)]
        drawings, too_tall = _draw_until(draw, blocks, parts, width or "page")
        if not too_tall:
            return drawings
        size = max(1, min(size - 1, int(max(map(len, parts)) * TALLEST / too_tall)))


def _draw_until(
    draw: Draw, blocks: Sequence[ValueBlock], parts: list[list[Panel]], width: Width
) -> tuple[list[Drawing], float]:
    """A drawing per part, and 0; or, at the first one of several panels that is taller than a page, its height."""
    drawings: list[Drawing] = []
    errors: dict[str, DataError] = {}
    for part in parts:
        try:
            drawings.append(draw(_part(blocks, part), width))
        except DataError as error:
            errors[", ".join(f"{', '.join(names)} on {blocks[i].dataset}" for i, names in part)] = error
            continue
        if len(part) > 1 and not _fits(drawings[-1]):
            return drawings, float(drawings[-1].figure.get_size_inches()[1])
    if not drawings:
        raise next(iter(errors.values()))
    drawings[-1].missing.update({panels: str(error).rstrip(".") for panels, error in errors.items()})
    return drawings, 0.0


def _part(blocks: Sequence[ValueBlock], panels: Sequence[Panel]) -> list[ValueBlock]:
    metrics: dict[int, list[str]] = {}
    for i, names in panels:
        metrics.setdefault(i, []).extend(names)
    return [replace(blocks[i], values=blocks[i].values[names]) for i, names in metrics.items()]


def _fits(drawing: Drawing) -> bool:
    return bool(drawing.figure.get_size_inches()[1] <= TALLEST)
