"""Critical-difference diagrams: mean ranks over the images, and which methods do not differ significantly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from evalkit.errors import DataError
from evalkit.leaderboards.plots.common import Panel, gather
from evalkit.leaderboards.plots.style import Drawing, Width, colour, finish, panels, styled, wrapped
from evalkit.leaderboards.plots.values import image_values, label, place, said
from evalkit.leaderboards.run_values import ValueBlock
from evalkit.leaderboards.significance import CriticalDifference, NoTestError, critical_difference

ROW = 0.14  # inches between two names, and between two lines of one
ROOM = 0.85  # inches of a name; longer ones are put in lines
TICKS = 8  # numbers on the rank axis, about
BAR = 0.075  # inches between two bars of groups


@styled
def critical(
    blocks: Sequence[ValueBlock], width: Width = "column", caption: bool = True, alpha: float = 0.05
) -> Drawing:
    """A diagram per data set and metric, from Friedman's test and Nemenyi's critical difference over the images.

    Source: Demsar 2006, Journal of Machine Learning Research 7, 1-30, section 3.2.

    Args:
        blocks: a measured data set each.
        width: of the figure: "column" is 3.5, "page" 7.16 inches.
        caption: write it below the panels.
        alpha: level of significance, 0 .. 1.

    Raises:
        DataError: published numbers, or no metric allows the test.
    """
    tests: list[tuple[str, CriticalDifference]] = []
    missing_values: dict[tuple[str, Panel], str] = {}
    untested: dict[str, str] = {}
    shown = [(block, metric) for block in blocks for metric in block.values.columns]
    for block, metric in shown:
        where = f"{metric} on {block.dataset}"
        scores, reasons = image_values(block, metric)
        missing_values |= {(method, (block.dataset, metric)): why for method, why in reasons.items()}
        try:
            test = critical_difference(scores, block.better[metric], alpha)
        except NoTestError as error:
            untested[where] = f"no test: {error}"
            continue
        title = f"{label(block, metric)} · {place(block)}\n{test.n} images · p = {test.p:.2g}"
        tests.append((title, test))
    missing = gather(missing_values, [(b.dataset, m) for b, m in shown]) | untested
    if not tests:
        wheres: dict[str, list[str]] = {}
        for where, why in missing.items():
            wheres.setdefault(why, []).append(where)
        lines = [f"{', '.join(names)}: {why}" for why, names in wheres.items()]
        raise DataError(f"nothing to draw: {'; '.join(lines)}.")
    columns = 1 if width == "column" or len(tests) == 1 else 2
    figure, _ = panels(1, width, 1)
    names = {method: wrapped(figure, method, ROOM, 6) for _, test in tests for method in test.ranks}
    height = max(_height(test, names) for _, test in tests)
    figure, axes = panels(len(tests), width, height + 0.4, columns)
    for one, (title, test) in zip(axes, tests, strict=True):
        _draw(one, title, test, height, names)
    text = (
        f"Mean ranks over the images, 1 is best, {said(blocks)}. Methods joined by a bar do not differ significantly "
        f"(Friedman's test, then Nemenyi's critical difference CD, level {alpha:g})."
    )
    return finish(figure, text, missing, (), caption)


def _height(test: CriticalDifference, names: dict[str, str]) -> float:
    """Inches, from the bar of the critical difference to the last name of the longer side."""
    lines = [names[method].count("\n") + 1 for method in test.ranks]
    better = math.ceil(len(lines) / 2)
    return 0.45 + BAR * (len(test.groups) + 1) + ROW * (max(sum(lines[:better]), sum(lines[better:])) + 0.2)


def _draw(axes: Axes, title: str, test: CriticalDifference, height: float, names: dict[str, str]) -> None:
    """y in inches below the rank axis, so that distances between lines do not depend on their number."""
    ranks = list(test.ranks.items())
    count = len(ranks)
    axes.set(xlim=(0.9, count + 0.1), ylim=(height - 0.45, -0.45))
    axes.set_axis_off()
    axes.set_title(title)
    axes.plot([1, count], [0, 0], color="black", linewidth=0.8)
    every = math.ceil(count / TICKS)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, -0.05 if tick % every == 1 % every else -0.03], color="black", linewidth=0.8)
        if tick % every == 1 % every:
            axes.text(tick, -0.07, str(tick), ha="center", va="bottom", fontsize=6)
    length = min(test.cd, count - 1)
    above = -0.30
    axes.plot([1, 1 + length], [above, above], color="black", linewidth=0.8, marker="|", markersize=4)
    more = "" if test.cd <= count - 1 else " (more than the axis)"
    axes.text(1 + length + 0.015 * count, above, f"CD = {test.cd:.2f}{more}", ha="left", va="center", fontsize=6)
    for i, group in enumerate(test.groups):
        ends = np.array([test.ranks[group[0]], test.ranks[group[-1]]]) + np.array([-0.008, 0.008]) * count
        axes.plot(ends, [BAR * (i + 1)] * 2, color="black", linewidth=2.2, solid_capstyle="butt")
    better = math.ceil(count / 2)
    for left, side in ((True, ranks[:better]), (False, ranks[: better - 1 : -1])):
        y = BAR * (len(test.groups) + 1) + 0.06
        for method, rank in side:
            lines = names[method].count("\n")
            y += ROW * lines / 2
            end = 0.95 if left else count + 0.05
            axes.plot(
                [rank, rank, end], [0, y, y], color=colour(list(test.ranks).index(method)), linewidth=0.7, zorder=1
            )
            text = f"{names[method]} {rank:.2f} " if left else f" {rank:.2f} {names[method]}"
            axes.text(end, y, text, ha="right" if left else "left", va="center", fontsize=6, linespacing=1.1)
            y += ROW * (lines / 2 + 1)
