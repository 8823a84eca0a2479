"""Radar plots: methods over metrics, outside is better on every axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from evalkit.errors import DataError
from evalkit.leaderboards.plots.common import INNER, corners, gather, number, radii
from evalkit.leaderboards.plots.style import Drawing, Width, finish, handle, line_style, missing_handle, panels, styled
from evalkit.leaderboards.plots.values import label, means, place
from evalkit.leaderboards.run_values import ValueBlock

TITLE = 18  # points above the ring: the label of the first axis stands between


@styled
def radar(blocks: Sequence[ValueBlock], width: Width = "column", caption: bool = True) -> Drawing:
    """A panel per data set with three metrics that have values. A metric without any value has no axis; a missing value
    opens the method's polygon.

    Args:
        blocks: a data set each; measured, or as a paper prints them.
        width: of the figure: "column" is 3.5, "page" 7.16 inches.
        caption: write it below the panels.

    Raises:
        DataError: no data set has three metrics with values.
    """
    shown = [block for block in map(_without_empty, blocks) if block.values.shape[1] >= 3]
    if not shown:
        sizes = ", ".join(f"{block.dataset} has {_without_empty(block).values.shape[1]}" for block in blocks)
        raise DataError(f"a radar needs three metrics with values, {sizes}. Draw bars: `evalkit plot bar`.")
    methods = list(dict.fromkeys(method for block in blocks for method in block.values.index))
    drawn = {method for block in shown for method in block.values.index}
    beside = 1 if width == "column" else 2 if len(shown) in (2, 4) else 3
    figure, axes = panels(len(shown), width, (3.0, 2.6, 2.1)[beside - 1], beside)
    for one, block in zip(axes, shown, strict=True):
        _draw(one, block, methods, width)
    missing_values = {
        (method, (block.dataset, metric)): block.reasons[method, metric]
        for block in blocks
        for method in block.values.index
        for metric in block.values.columns
        if (method, metric) in block.reasons
    }
    missing = gather(missing_values, [(block.dataset, metric) for block in blocks for metric in block.values.columns])
    text = (
        f"{means(blocks)}. Each axis is linear from the worst of the methods shown (inner ring) "
        "to the best (outer ring), whose values stand at its end; outside is better."
    )
    handles = [handle(i, m) if m in drawn else missing_handle(m) for i, m in enumerate(methods)]
    return finish(figure, text, missing, handles, caption)


def _without_empty(block: ValueBlock) -> ValueBlock:
    values = block.values.dropna(axis=1, how="all").dropna(axis=0, how="all")
    return replace(block, values=values)


def _draw(axes: Axes, block: ValueBlock, methods: list[str], width: Width) -> None:
    size, digits = (6.0, 4) if width == "column" else (5.5, 3)  # three panels on a page have little room
    values = block.values
    count = values.shape[1]
    for ring in np.linspace(INNER, 1, 4):
        axes.plot(*corners(np.full(count, ring)), color="0.8", linewidth=0.7 if ring in (INNER, 1) else 0.4, zorder=1)
    for i, metric in enumerate(values.columns):
        angle = 2 * math.pi * i / count
        x, y = math.sin(angle), math.cos(angle)
        axes.plot([INNER * x, x], [INNER * y, y], color="0.8", linewidth=0.4, zorder=1)
        low, high = values[metric].min(), values[metric].max()
        worst, best = (low, high) if block.better[metric] == "higher" else (high, low)
        ends = f"{number(worst, digits)}–{number(best, digits)}"
        axes.text(
            1.08 * x,
            (1.08 if abs(x) < 0.05 else 1.02) * y,
            f"{label(block, metric)}\n{ends}",
            ha="center" if abs(x) < 0.05 else "left" if x > 0 else "right",
            va="center" if abs(y) < 0.1 else "bottom" if y > 0 else "top",
            fontsize=size,
            linespacing=1.15,
        )
    radius_of = radii(values.to_numpy(dtype=float), [block.better[metric] == "higher" for metric in values.columns])
    for method, radius in zip(values.index, radius_of, strict=True):
        line = axes.plot(*corners(radius), **line_style(methods.index(method)), label=method, zorder=2)
        line[0].set_gid(str(method))
    axes.set(aspect="equal", xlim=(-1.08, 1.08), ylim=(-1.08, 1.08))
    axes.set_axis_off()
    axes.set_title(place(block), pad=TITLE)
