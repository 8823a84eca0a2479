"""The three kinds of plots of the site, each from the rows of one block."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evalkit.leaderboards.plots.common import INNER, corners, distribution, gather, missing_lines, number, radii
from evalkit.leaderboards.site.plotted import Plotted
from evalkit.leaderboards.site.svg import (
    GRAY,
    PALE,
    WIDTH,
    Scale,
    colour,
    drawing,
    legend_entry,
    line,
    markers,
    method_line,
    paragraph,
    scale,
    text,
    text_width,
)

MARKS = 7  # markers along a curve
POINTS = 400  # of a curve: more than its panel is wide


def radar(plotted: Plotted, title: str) -> bytes | None:
    """Means on an axis per metric, from the worst of the methods (inner ring) to the best; None below three metrics."""
    means = {c.name: [math.nan if (v := row.cells[c.name].value) is None else v for row in plotted.rows]
             for c in plotted.columns}  # fmt: skip
    columns = [c for c in plotted.columns if not np.isnan(means[c.name]).all()]
    if len(columns) < 3:
        return None
    values = np.array([means[c.name] for c in columns]).T
    x, y, ring = WIDTH / 2, 156, 105

    def points(radius: NDArray[np.float64]) -> list[tuple[float, float]]:
        across, up = corners(radius)
        return [(x + ring * a, y - ring * b) for a, b in zip(across, up, strict=True)]

    parts = [text(x, 14, plotted.block.name, 10, "middle")]
    parts += [line(points(np.full(len(columns), radius)), PALE) for radius in np.linspace(INNER, 1, 4)]
    for i, column in enumerate(columns):
        angle = 2 * math.pi * i / len(columns)
        across, up = math.sin(angle), math.cos(angle)
        parts.append(
            line([(x + INNER * ring * across, y - INNER * ring * up), (x + ring * across, y - ring * up)], PALE)
        )
        ends = sorted(v for v in means[column.name] if v == v)
        worst, best = (ends[0], ends[-1]) if column.better == "higher" else (ends[-1], ends[0])
        anchor = "middle" if abs(across) < 0.05 else "start" if across > 0 else "end"
        left, low = x + (ring + 7) * across, y - (ring + (9 if abs(across) < 0.05 else 7)) * up
        low += -11 if up > 0.1 else 2 if abs(up) <= 0.1 else 8
        parts.append(text(left, low, f"{column.name} {column.arrow}", 8.5, anchor))
        parts.append(text(left, low + 10, f"{number(worst, 3)}–{number(best, 3)}", 8.5, anchor))
    for i, radius in enumerate(radii(values, [c.better == "higher" for c in columns])):
        parts += [method_line(i, points(radius)), markers(i, points(radius)[:-1])]
    wide = min(max(text_width(method, 8) for method in plotted.methods) + 42, WIDTH - 12)
    per_line = min(max(int((WIDTH - 12) // wide), 1), 6, len(plotted.methods))
    top, left = y + ring + 42, x - per_line * wide / 2
    for i, method in enumerate(plotted.methods):
        place = left + i % per_line * wide, top + 13 * (i // per_line)
        parts.append(legend_entry(i, *place, method, wide - 32, not np.isnan(values[i]).all()))
    gaps = {
        (row.method, (plotted.block.dataset, c.name)): row.cells[c.name].reason or "no value"
        for row in plotted.rows
        for c in plotted.columns
        if row.cells[c.name].value is None
    }
    caption = (
        f"Means over the images, convention {plotted.block.convention}. Each axis is linear from the worst of the "
        "methods shown (inner ring) to the best (outer ring), whose values stand at its end; outside is better."
    )
    where = [(plotted.block.dataset, c.name) for c in plotted.columns]
    lines, end = paragraph(
        top + 13 * math.ceil(len(plotted.methods) / per_line),
        "\n".join([caption, *missing_lines(gather(gaps, where))]),
    )
    return drawing(end, title, parts + lines)


def box(plotted: Plotted, title: str) -> bytes | None:
    """A panel per metric, a box per method of its values per image; None where no metric has any for every image."""
    if not plotted.panels:
        return None
    methods = plotted.methods
    room = min(max(text_width(method, 8.5) for method in methods), 120)
    per_line = min(4, len(plotted.panels))
    wide, row, head = (WIDTH - room - 18) / per_line, 16, 24
    high = head + row * len(methods) + 26
    parts = [text(WIDTH / 2, 14, plotted.block.name, 10, "middle")]
    for i, (column, values) in enumerate(plotted.panels):
        left, top = room + 12 + i % per_line * wide, 18 + high * (i // per_line)
        across = scale((v for scores in values.values() for v in scores), left, left + wide - 16)
        bottom = top + head + row * len(methods)
        parts.append(text((across.start + across.end) / 2, top + 15, f"{column.name} {column.arrow}", 9, "middle"))
        parts += _bottom_axis(across, top + head, bottom)
        for j, method in enumerate(methods):
            middle = top + head + row * (j + 0.5)
            if i % per_line == 0:
                parts.append(text(left - 5, middle + 3, method, 8.5, "end", room))
            if method in values:
                parts.append(_box(values[method], across, middle, colour(j)))
            else:
                parts.append(text(left + 3, middle + 3, "missing", 8, fill=GRAY))
    caption = (
        f"Values per image, convention {plotted.block.convention}; the arrow says which way is better. Box: quartiles "
        "and median; diamond: mean; whiskers: the farthest values within 1.5 quartile distances; dots: values beyond."
    )
    lines, end = paragraph(
        18 + high * math.ceil(len(plotted.panels) / per_line), "\n".join([caption, *plotted.missing()])
    )
    return drawing(end, title, parts + lines)


def cumulative(plotted: Plotted, title: str) -> bytes | None:
    """A panel per metric: share of the images up to a value, means in the legend; None where no metric can be drawn."""
    if not plotted.panels:
        return None
    methods = plotted.methods
    per_line = min(3, len(plotted.panels))
    wide, plot = WIDTH / per_line, 120
    entries = max(1, int((wide - 8) // (max(text_width(f"{method}: 00.0000", 8) for method in methods) + 24)))
    room = (wide - 8) / entries
    high = plot + 56 + 12 * math.ceil(len(methods) / entries)
    parts = []
    for i, (column, values) in enumerate(plotted.panels):
        left, top = i % per_line * wide, high * (i // per_line)
        across = Scale(0, 1, left + 44, left + wide - 12)
        up = scale((v for scores in values.values() for v in scores), top + 24 + plot, top + 24)
        heading = f"{column.name} {column.arrow} · {plotted.block.name} · {len(next(iter(values.values())))} pairs"
        parts.append(text((across.start + across.end) / 2, top + 15, heading, 9, "middle", wide - 20))
        parts += _bottom_axis(across, up.end, up.start)
        parts += _left_axis(up, across)
        parts.append(text((across.start + across.end) / 2, up.start + 22, "share of the image pairs", 8, "middle"))
        for j, method in enumerate(methods):
            place = left + 4 + room * (j % entries), up.start + 33 + 12 * (j // entries)
            if method not in values:
                parts.append(legend_entry(j, *place, f"{method} (missing)", room - 24, False))
                continue
            x, y = distribution(values[method])
            shown = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).round().astype(int))
            parts.append(method_line(j, [(across(x[k]), up(y[k])) for k in shown]))
            step = max(1, len(x) // MARKS)
            marked = range(j * step // len(methods), len(x), step)
            parts.append(markers(j, [(across(x[k]), up(y[k])) for k in marked]))
            words = f"{method}: {values[method].mean():.4f}"
            parts.append(legend_entry(j, *place, words, room - 24, True))
    caption = (
        f"Cumulative distribution, convention {plotted.block.convention}: a point (x, y) means that 100x % of the "
        "image pairs have values not above y. The mean over all pairs stands behind each name."
    )
    lines, end = paragraph(high * math.ceil(len(plotted.panels) / per_line), "\n".join([caption, *plotted.missing()]))
    return drawing(end, title, parts + lines)


def _bottom_axis(across: Scale, top: float, bottom: float) -> list[str]:
    parts = [line([(across.start, bottom), (across.end, bottom)], "#000", 0.8)]
    for tick in across.ticks():
        parts.append(line([(across(tick), top), (across(tick), bottom)], PALE, 0.6))
        parts.append(text(across(tick), bottom + 11, f"{tick:.6g}", 8, "middle"))
    return parts


def _left_axis(up: Scale, across: Scale) -> list[str]:
    parts = [line([(across.start, up.start), (across.start, up.end)], "#000", 0.8)]
    for tick in up.ticks():
        parts.append(line([(across.start, up(tick)), (across.end, up(tick))], PALE, 0.6))
        parts.append(text(across.start - 4, up(tick) + 3, f"{tick:.6g}", 8, "end", 38))
    return parts


def quartiles(values: NDArray[np.float64]) -> tuple[float, float, float, float, float]:
    """Lower whisker, quartile, median, quartile, upper whisker: whiskers end at the farthest values within 1.5
    quartile distances of the box.

    Source: Tukey 1977, Exploratory Data Analysis.
    """
    low, middle, high = np.percentile(values, [25, 50, 75])
    reach = 1.5 * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    return min(inside.min(), low), low, middle, high, max(inside.max(), high)


def _box(values: NDArray[np.float64], across: Scale, middle: float, fill: str) -> str:
    least, low, median, high, most = (across(value) for value in quartiles(values))
    mean, half = across(values.mean()), 5.5
    parts = [
        line([(least, middle), (low, middle)], width=0.8) + line([(high, middle), (most, middle)], width=0.8),
        *(line([(end, middle - 2.5), (end, middle + 2.5)], width=0.8) for end in (least, most)),
        f'<rect x="{low:.2f}" y="{middle - half:.2f}" width="{high - low:.2f}" height="{2 * half:g}" fill="{fill}" '
        'fill-opacity=".75" stroke="#000" stroke-width=".7"/>',
        line([(median, middle - half), (median, middle + half)], width=1.6),
        f'<path d="M{mean - 3:.2f} {middle:.2f}l3-3 3 3-3 3z" fill="#fff" stroke="#000" stroke-width=".7"/>',
    ]
    beyond = sorted({round(x, 1) for value in values if not least <= (x := across(value)) <= most})
    parts += [f'<circle cx="{x:g}" cy="{middle:.2f}" r="1"/>' for x in beyond]
    return "".join(parts)
