"""The plots of a page."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evalkit.leaderboards.site.drawings import box, cumulative, radar
from evalkit.leaderboards.site.pages import Page
from evalkit.leaderboards.site.plotted import Plotted, plotted_rows

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
        plotted = Plotted(block, plotted_rows(block))
        if len(plotted.rows) < 2 or not page.task.compared_by_image:
            continue
        for kind, (draw, title) in PLOTS.items():
            title = f"{block.name} · {title}"
            if (data := draw(plotted, title)) is not None:
                name = re.sub(r"[^A-Za-z0-9]+", "-", f"{page.protocol.name}-{block.name}-{block.convention}-{kind}")
                drawn.append(Figure(f"plots/{name.lower()}.svg", title, block.dataset, data))
    return drawn
