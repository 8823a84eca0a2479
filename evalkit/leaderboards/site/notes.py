"""Audit notes and plots of a page."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.leaderboards.run_values import Block as PlotBlock
    from evalkit.leaderboards.site.pages import Block, Page, Row

PLOTTED = 12  # methods in one plot: more cannot be told apart
PLOTS = {
    "radar": "Measured means, better outside",
    "box": "Measured values image by image",
    "cumulative": "Share of the images up to a value",
}


@dataclass(frozen=True)
class Note:
    """One finding of the audit, as the site shows it."""

    where: str
    sure: str
    text: str
    printed: str
    recomputed: str


@dataclass(frozen=True)
class Figure:
    """A plot: where it lies on the site, what it shows, its bytes."""

    path: str
    title: str
    dataset: str
    data: bytes


def audit_notes(names: Iterable[str]) -> dict[str, list[Note]]:
    """Protocol -> what the audit finds in its printed table, the most certain first."""
    from evalkit.leaderboards.audit import audit

    report = audit()
    found: dict[str, list[Note]] = {name: [] for name in names}
    for finding in report.findings:
        values = finding.sure, finding.explanation, finding.printed, finding.recomputed
        if finding.protocol in found:
            where = f"{finding.where} · {finding.other}" if finding.other else finding.where
            found[finding.protocol].append(Note(where, *values))
        if finding.other in found:  # of a finding between two tables the second one bears it too
            found[finding.other].append(Note(f"{finding.protocol} · {finding.where}", *values))
    return found


def figures(page: Page) -> list[Figure]:
    """The plots of what is measured on a page, as SVG; none without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    found = []
    for block in page.blocks:
        rows = plotted_rows(block)
        if len(rows) < 2 or not page.task.compared_by_image:
            continue
        for kind, title in PLOTS.items():
            try:
                data = _draw(kind, block, rows)
            except EvalkitError:  # too few values for this kind of plot
                continue
            name = re.sub(r"[^A-Za-z0-9]+", "-", f"{page.protocol.name}-{block.name}-{block.convention}-{kind}")
            found.append(Figure(f"plots/{name.lower()}.svg", f"{block.name} · {title}", block.dataset, data))
    return found


def plotted_rows(block: Block) -> list[Row]:
    """The rows that are drawn: of each method the first that is measured, those that the paper prints before others."""
    rows: dict[str, Row] = {}
    for row in block.rows:
        if row.entry and row.entry.csv is not None and row.entry.record.scores:
            rows.setdefault(row.method, row)
    printed = [row for row in rows.values() if any(cell.printed for cell in row.cells.values())]
    return (printed if len(printed) > 1 else list(rows.values()))[:PLOTTED]


def _draw(kind: str, block: Block, rows: Sequence[Row]) -> bytes:
    from importlib import import_module

    module = import_module(f"evalkit.leaderboards.plots.{'bars' if kind == 'box' else kind}")
    return renumber_clips(getattr(module, kind)([_plot_block(block, rows)], width="page").data("svg"))


def renumber_clips(svg: bytes) -> bytes:
    """Clip paths named in their order: matplotlib hashes their bounds, whose last bits the layout does not fix."""
    names = dict.fromkeys(re.findall(rb'<clipPath id="(\w+)"', svg))
    numbers = {name: b"clip%d" % i for i, name in enumerate(names)}

    def renamed(found: re.Match[bytes]) -> bytes:
        return found[1] + numbers[found[2]] + found[3] if found[2] in numbers else found[0]

    svg = re.sub(rb'(<clipPath id=")(\w+)(")', renamed, svg)
    return re.sub(rb"(url\(#)(\w+)(\))", renamed, svg)


def _plot_block(block: Block, rows: Sequence[Row]) -> PlotBlock:
    """The rows as what the plots draw, with the values per image from the records' own files."""
    import pandas as pd

    from evalkit.leaderboards.run_values import Block as PlotBlock
    from evalkit.records.per_image import parse_per_image

    class Measured(PlotBlock):
        def scores(self, methods: Sequence[str], metric: str) -> pd.DataFrame:
            return pd.DataFrame({m: pd.Series(images[m].column(metric), dtype=float) for m in methods})

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
    return Measured(block.name, block.convention, frame, better, reasons, {}, homes)  # type: ignore[arg-type]
