"""Bars of the means, and box plots of the values per image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from evalkit.errors import DataError
from evalkit.leaderboards.plots.common import Panel, gather, number
from evalkit.leaderboards.plots.style import HATCHES, Drawing, Width, colour, finish, panels, styled, wrapped
from evalkit.leaderboards.plots.values import image_values, label, means, place, said
from evalkit.leaderboards.run_values import ValueBlock
from evalkit.leaderboards.significance import NoTestError, bootstrap_interval

LONG = 16  # characters, from which on names are put in lines of ROOM inches
ROOM = 1.0
THICK = 0.7  # of the room a method has


@styled
def bar(blocks: Sequence[ValueBlock], width: Width = "column", caption: bool = True) -> Drawing:
    """A panel per data set and metric, a bar per method from zero to the mean; a missing value is named in its place.

    Measured bars carry the 95 % bootstrap interval of the mean over the images.

    Args:
        blocks: a data set each; measured, or as a paper prints them.
        width: of the figure: "column" is 3.5, "page" 7.16 inches.
        caption: write it below the panels.
    """
    figure, axes, shown = _panels(blocks, width)
    missing: dict[tuple[str, Panel], str] = {}
    intervals = False
    for one, (block, metric) in zip(axes, shown, strict=True):
        column = block.values[metric]
        names = [str(name) for name in column.index]
        drawn = [i for i, value in enumerate(column) if not np.isnan(value)]
        _methods(one, names, drawn)
        ends = dict(zip(drawn, column.iloc[drawn], strict=True))
        if block.homes and drawn:
            try:
                scores = image_values(block, metric)[0]
            except DataError:  # a measure of the whole set, such as mIoU: there is no interval
                scores = pd.DataFrame()
            for i in (i for i in drawn if names[i] in scores):
                try:
                    low, high = bootstrap_interval(scores[names[i]])
                except NoTestError:
                    continue
                one.plot([low, high], [i, i], color="black", linewidth=0.8, marker="|", markersize=3, zorder=4)
                ends[i] = max(ends[i], high)
                intervals = True
        one.barh(
            drawn, column.iloc[drawn], THICK, color=[colour(i) for i in drawn], edgecolor="white", zorder=2,
            hatch=[HATCHES[i % len(HATCHES)] for i in drawn], linewidth=0,
        )  # fmt: skip
        for i, end in ends.items():
            one.annotate(
                number(column.iloc[i]), (max(end, 0), i), (3, 0), textcoords="offset points", va="center", fontsize=5.5
            )
        one.axvline(0, color="black", linewidth=0.6)
        one.set_xlim(right=1.25 * max([*ends.values(), 0]) or None)
        _finish_panel(one, block, metric, names, drawn, missing, len(blocks) == 1)
    text = f"{means(blocks)}; the arrow says which way is better."
    if intervals:
        text += " Lines: 95 % bootstrap (BCa) interval of the mean."
    return finish(figure, text, gather(missing, [(b.dataset, m) for b, m in shown]), (), caption)


@styled
def box(blocks: Sequence[ValueBlock], width: Width = "column", caption: bool = True) -> Drawing:
    """A panel per data set and metric, a box per method of its values per image; a missing value is named in its place.

    Args:
        blocks: a measured data set each.
        width: of the figure: "column" is 3.5, "page" 7.16 inches.
        caption: write it below the panels.

    Raises:
        DataError: published numbers, or no method has a value for every image.
    """
    figure, axes, shown = _panels(blocks, width)
    missing: dict[tuple[str, Panel], str] = {}
    for one, (block, metric) in zip(axes, shown, strict=True):
        scores, reasons = image_values(block, metric)
        names = [str(name) for name in block.values.index]
        drawn = [i for i, name in enumerate(names) if name in scores]
        _methods(one, names, drawn)
        parts = one.boxplot(
            [scores[names[i]].to_numpy() for i in drawn], positions=drawn, widths=THICK, orientation="horizontal",
            patch_artist=True, manage_ticks=False, showmeans=True,
            medianprops={"color": "black", "linewidth": 1.2}, whiskerprops={"linewidth": 0.6},
            capprops={"linewidth": 0.6}, boxprops={"linewidth": 0.6},
            meanprops={"marker": "D", "markersize": 2.5, "markerfacecolor": "white", "markeredgecolor": "black",
                       "markeredgewidth": 0.5},
            flierprops={"marker": ".", "markersize": 2, "markerfacecolor": "black", "markeredgecolor": "none"},
        )  # fmt: skip
        for i, patch in zip(drawn, parts["boxes"], strict=True):
            patch.set(facecolor=colour(i), hatch=HATCHES[i % len(HATCHES)], alpha=0.75)
        _finish_panel(one, block, metric, names, drawn, missing, len(blocks) == 1)
        for method, why in reasons.items():
            missing[method, (block.dataset, metric)] = why
    text = (
        f"Values per image, {said(blocks)}; the arrow says which way is better. Box: quartiles and median; "
        "diamond: mean; whiskers: the farthest values within 1.5 quartile distances; dots: values beyond."
    )
    return finish(figure, text, gather(missing, [(b.dataset, m) for b, m in shown]), (), caption)


def _panels(blocks: Sequence[ValueBlock], width: Width) -> tuple:
    shown = [(block, metric) for block in blocks for metric in block.values.columns]
    tallest = max(len(block.values) for block in blocks)
    columns = (1 if len(shown) == 1 else 2) if width == "column" else min(len(shown), 4)
    figure, _ = panels(1, width, 1)
    lines = max(
        wrapped(figure, str(name), ROOM, 5.5).count("\n") + 1 for block in blocks for name in block.values.index
    )
    figure, axes = panels(len(shown), width, 0.72 + max(0.145, 0.1 * lines) * tallest, columns)
    if len(blocks) == 1:
        figure.suptitle(place(blocks[0]), fontsize=7)
    if all(list(block.values.index) == list(blocks[0].values.index) for block in blocks):
        for i, one in enumerate(axes):
            one.tick_params(axis="y", labelleft=i % columns == 0)  # the names stand at the left panel of each row
    return figure, axes, shown


def _methods(axes: Axes, names: list[str], drawn: list[int]) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    long = max(map(len, names)) > LONG
    axes.set_yticks(range(len(names)), [wrapped(figure, name, ROOM, 5.5) for name in names] if long else names)
    axes.tick_params(axis="y", labelsize=5.5 if long else 6)
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first method on top, as in the table
    axes.tick_params(axis="y", length=0)
    for i in range(len(names)):
        if i not in drawn:
            axes.text(0.02, i, "missing", transform=axes.get_yaxis_transform(), va="center", fontsize=5.5, color="0.4")


def _finish_panel(
    axes: Axes,
    block: ValueBlock,
    metric: str,
    names: list[str],
    drawn: list[int],
    missing: dict[tuple[str, Panel], str],
    alone: bool,
) -> None:
    axes.set_title(label(block, metric) if alone else f"{label(block, metric)} · {place(block)}")
    axes.grid(True, axis="x")
    axes.locator_params(axis="x", nbins=4)
    for i, name in enumerate(names):
        if i not in drawn:
            missing[name, (block.dataset, metric)] = block.reasons.get((name, metric), "no value")
