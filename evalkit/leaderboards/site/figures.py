"""The plots of a page. Everything here needs matplotlib and pandas, so it is imported only where plots are drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from evalkit.errors import EvalkitError
from evalkit.leaderboards.plots.bars import box
from evalkit.leaderboards.plots.cumulative import cumulative
from evalkit.leaderboards.plots.radar import radar
from evalkit.leaderboards.run_values import ValueBlock
from evalkit.leaderboards.site.pages import Page, PageBlock, PageRow
from evalkit.records.per_image import PerImage, parse_per_image

PLOTTED = 12  # methods in one plot: more cannot be told apart
PLOTS = {
    "radar": (radar, "Measured means, better outside"),
    "box": (box, "Measured values image by image"),
    "cumulative": (cumulative, "Share of the images up to a value"),
}


@dataclass(frozen=True)
class Figure:
    """A plot: where it lies on the site, what it shows, its bytes."""

    path: str
    title: str
    dataset: str
    data: bytes


def figures(page: Page) -> list[Figure]:
    """The plots of what is measured on a page, as SVG."""
    drawn = []
    for block in page.blocks:
        rows = plotted_rows(block)
        if len(rows) < 2 or not page.task.compared_by_image:
            continue
        for kind, (draw, title) in PLOTS.items():
            try:
                drawing = draw([_plot_block(block, rows)], width="page")
                data = renumber_clips(drawing.data("svg"))
            except EvalkitError:  # too few values for this kind of plot
                continue
            name = re.sub(r"[^A-Za-z0-9]+", "-", f"{page.protocol.name}-{block.name}-{block.convention}-{kind}")
            drawn.append(Figure(f"plots/{name.lower()}.svg", f"{block.name} · {title}", block.dataset, data))
    return drawn


def plotted_rows(block: PageBlock) -> list[PageRow]:
    """The rows that are drawn: of each method the first that is measured, those that the paper prints before others."""
    rows: dict[str, PageRow] = {}
    for row in block.rows:
        if row.entry and row.entry.csv is not None and row.entry.record.scores:
            rows.setdefault(row.method, row)
    printed = [row for row in rows.values() if any(cell.printed for cell in row.cells.values())]
    return (printed if len(printed) > 1 else list(rows.values()))[:PLOTTED]


def renumber_clips(svg: bytes) -> bytes:
    """Clip paths named in their order: matplotlib hashes their bounds, whose last bits the layout does not fix."""
    names = dict.fromkeys(re.findall(rb'<clipPath id="(\w+)"', svg))
    numbers = {name: b"clip%d" % i for i, name in enumerate(names)}

    def renamed(match: re.Match[bytes]) -> bytes:
        return match[1] + numbers[match[2]] + match[3] if match[2] in numbers else match[0]

    svg = re.sub(rb'(<clipPath id=")(\w+)(")', renamed, svg)
    return re.sub(rb"(url\(#)(\w+)(\))", renamed, svg)


@dataclass
class RecordBlock(ValueBlock):
    """Values whose images stand in the records' own files."""

    images: dict[str, PerImage] = field(default_factory=dict)  # row -> its values

    def scores(self, methods: Sequence[str], metric: str) -> pd.DataFrame:
        return pd.DataFrame({m: pd.Series(self.images[m].column(metric), dtype=float) for m in methods})


def _plot_block(block: PageBlock, rows: Sequence[PageRow]) -> ValueBlock:
    """The rows as what the plots draw, with the values per image from the records' own files."""
    images = {row.method: parse_per_image(row.entry.csv, row.entry.stem) for row in rows if row.entry and row.entry.csv}
    columns = [column for column in block.columns if column.better]
    values = {
        row.method: {c.name: math.nan if (v := row.cells[c.name].value) is None else v for c in columns} for row in rows
    }
    reasons = {
        (row.method, c.name): row.cells[c.name].reason or "no value"
        for row in rows
        for c in columns
        if row.cells[c.name].value is None
    }
    frame = pd.DataFrame.from_dict(values, orient="index", columns=[c.name for c in columns])
    better = {c.name: c.better for c in columns}
    homes = dict.fromkeys(values, None)
    return RecordBlock(block.name, block.convention, frame, better, reasons, {}, homes, images)  # type: ignore[arg-type]
