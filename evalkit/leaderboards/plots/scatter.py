"""Quality against cost: a point per method, each with its name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from evalkit.errors import DataError, EvalkitError
from evalkit.leaderboards.plots.common import COLOURS
from evalkit.leaderboards.plots.style import MARKERS, Drawing, Width, finish, panels, styled
from evalkit.leaderboards.plots.values import blocks as values_of
from evalkit.leaderboards.plots.values import label, place, said
from evalkit.leaderboards.run_values import ValueBlock
from evalkit.methods.registry import method_cards
from evalkit.protocols.table.blank import COST_UNITS

WIDE = 30  # a cost that spans more than this factor gets a logarithmic axis
AWAY = (5, 9, 14, 20, 27)  # points between a marker and its name, tried in this order
SIDES = [(math.cos(a), math.sin(a)) for a in np.deg2rad([0, 180, 90, 270, 45, 315, 135, 225])]


@dataclass(frozen=True)
class Cost:
    """What methods cost: method -> value, with the axis' name and where the values are from."""

    name: str
    source: str
    values: Mapping[str, float]


def read_cost(source: str, measure: str) -> Cost:
    """Costs from `cards` (trainable values on the methods' cards), a protocol's printed numbers, or a run's folder.

    Args:
        source: "cards", a protocol such as smfnet-table5, or the folder of a run of one.
        measure: Params, FLOPs or Time, as the source's column is called; without its unit.

    Raises:
        UnknownNameError: an unknown protocol or measure. DataError: a folder that is not a run.
    """
    if source == "cards":
        if measure.casefold() != "params":
            raise EvalkitError(f"the methods' cards hold Params, not {measure}. Name a protocol of costs or a run.")
        cards = method_cards().values()
        values = {card.name: card.parameters / 1e6 for card in cards if card.parameters}
        return Cost("Params (M)", "trainable values as on the methods' cards", values)
    measured = Path(source).is_dir()
    blocks = values_of([Path(source)], metrics=[measure]) if measured else values_of((), source, metrics=[measure])
    column = blocks[0].values.columns[0]
    unit = COST_UNITS.get(str(column), "")
    printed = {str(m): float(v) for m, v in blocks[0].values[column].items() if not math.isnan(v)}
    name = f"{column} ({unit})" if unit else str(column)
    return Cost(name, f"measured in {Path(source).name}" if measured else blocks[0].convention, printed)


@styled
def scatter(blocks: Sequence[ValueBlock], cost: Cost, width: Width = "column", caption: bool = True) -> Drawing:
    """A panel per data set and metric; a method without quality or without cost is named as missing.

    Args:
        blocks: a data set each; measured, or as a paper prints them.
        cost: what the methods cost, the horizontal axis.
        width: of the figure: "column" is 3.5, "page" 7.16 inches.
        caption: write it below the panels.

    Raises:
        DataError: no method has both.
    """
    shown = [(block, metric) for block in blocks for metric in block.values.columns]
    figure, axes = panels(len(shown), width, 2.5)
    costs = {name.casefold(): value for name, value in cost.values.items()}
    missing: dict[str, str] = {}
    points: list[tuple[Axes, dict[str, tuple[float, float]]]] = []
    for one, (block, metric) in zip(axes, shown, strict=True):
        places: dict[str, tuple[float, float]] = {}
        for method, value in block.values[metric].items():
            if math.isnan(value):
                why = block.reasons.get((str(method), metric), "no value")
                missing[f"{method} {metric}" + (f" on {block.dataset}" if len(blocks) > 1 else "")] = why
            elif str(method).casefold() not in costs:
                missing[str(method)] = f"no {cost.name} in: {cost.source}"
            else:
                places[str(method)] = costs[str(method).casefold()], float(value)
        points.append((one, places))
        one.set(xlabel=f"{cost.name} ↓", ylabel=label(block, metric))
        one.set_title(place(block))
        one.grid(True)
    if not any(places for _, places in points):
        raise DataError("nothing to draw: " + "; ".join(f"{name}: {why}" for name, why in missing.items()) + ".")
    methods = list(dict.fromkeys(str(method) for block in blocks for method in block.values.index))
    for one, places in points:
        _points(one, places, methods)
    text = f"Quality: {said(blocks)}. Cost: {cost.source}. The arrows say which way is better."
    drawing = finish(figure, text, missing, (), caption)
    for one, places in points:  # in the settled layout: names are placed by what they would cover
        _names(one, places)
    return drawing


def _points(axes: Axes, places: Mapping[str, tuple[float, float]], methods: list[str]) -> None:
    costs = [x for x, _ in places.values()]
    if costs and min(costs) > 0 and max(costs) > WIDE * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,g}")  # powers would need the mathematics that is off
        axes.xaxis.set_minor_formatter("")
    for method, (x, y) in places.items():
        i = methods.index(method)
        axes.plot(
            x, y, MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)], markersize=4.5, label=method, zorder=3
        )
    axes.margins(0.14)


def _names(axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Each name where it covers the least of points, other names and the frame; with a line where it lies far off."""
    pixels = axes.figure.dpi / 72
    frame = axes.get_window_extent()
    marks = {name: axes.transData.transform(point) for name, point in places.items()}
    taken = [Bbox.from_bounds(x - 3 * pixels, y - 3 * pixels, 6 * pixels, 6 * pixels) for x, y in marks.values()]
    for name, point in sorted(places.items(), key=lambda item: item[1]):
        best = None
        for away in AWAY:
            for dx, dy in SIDES:
                text = axes.annotate(
                    name, point, (away * dx, away * dy), textcoords="offset points", fontsize=5.5, zorder=4,
                    ha="center" if abs(dx) < 0.1 else "left" if dx > 0 else "right",
                    va="center" if abs(dy) < 0.1 else "bottom" if dy > 0 else "top",
                    arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.5", "shrinkA": 0, "shrinkB": 2}
                    if away > AWAY[0] else None,
                )  # fmt: skip
                area = text.get_window_extent()
                if text.arrow_patch is not None:
                    area = Text.get_window_extent(text)  # without the line
                covered = sum(_common(area, other) for other in taken)
                outside = area.width * area.height - _common(area, frame)
                cost = covered + 3 * outside
                if best is None or cost < best[0] - 1e-6:
                    if best is not None:
                        best[1].remove()
                    best = (cost, text, area)
                else:
                    text.remove()
            if best is not None and best[0] <= 1e-6:
                break
        assert best is not None
        taken.append(best[2])


def _common(a: Bbox, b: Bbox) -> float:
    shared = Bbox.intersection(a, b)
    return float(shared.width * shared.height) if shared is not None else 0.0
