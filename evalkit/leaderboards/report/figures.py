"""The plots of a report: one small figure per data set, or per data set and metric, so that they fit any page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from matplotlib.patches import Patch

from evalkit.errors import EvalkitError
from evalkit.leaderboards.plots.bars import box
from evalkit.leaderboards.plots.critical import critical
from evalkit.leaderboards.plots.radar import radar
from evalkit.leaderboards.plots.style import Drawing
from evalkit.leaderboards.plots.values import place
from evalkit.leaderboards.run_values import ValueBlock

DRAW: dict[str, tuple[Callable[..., Drawing], str]] = {
    "critical": (critical, "Mean ranks over the images"),
    "radar": (radar, "Means, better outside"),
    "boxes": (box, "Values per image"),
}
Step = tuple[str, ValueBlock, str]  # kind, its block, and the metric, or "" for all


@dataclass
class Gallery:
    """The figures of one kind as (title, SVG); what is true of all of them; what is not drawn, with the reason."""

    figures: list[tuple[str, bytes]] = field(default_factory=list)
    caption: str = ""
    not_drawn: dict[str, str] = field(default_factory=dict)


def steps(blocks: Iterable[ValueBlock], kinds: Iterable[str]) -> list[Step]:
    """What is to be drawn, of the methods that have a value: a radar per block, the others per block and metric."""
    blocks = [replace(block, values=block.values.dropna(how="all")) for block in blocks]
    return [
        (kind, block, metric)
        for kind in kinds
        for block in blocks
        for metric in ([""] if kind == "radar" else map(str, block.values.columns))
        if not block.values.empty
    ]


def draw(items: Iterable[Step]) -> dict[str, Gallery]:
    """Kind -> its figures."""
    galleries: dict[str, Gallery] = {}
    for kind, block, metric in items:
        gallery = galleries.setdefault(kind, Gallery())
        function, title = DRAW[kind]
        part = replace(block, values=block.values[[metric]]) if metric else block
        where = ", ".join(filter(None, [place(block), metric]))
        try:
            drawing = function([part], width="column", caption=False)
        except EvalkitError as error:
            gallery.not_drawn[where] = str(error)
            continue
        for patch in drawing.figure.findobj(Patch):
            patch.set_hatch("")  # each stands beside its name, and as SVG a hatch is a megabyte
        gallery.figures.append((f"{title}: {where}", renumber_clips(drawing.data("svg"))))
        gallery.caption = gallery.caption or drawing.caption.split("\n")[0]
    return galleries


def renumber_clips(svg: bytes) -> bytes:
    """Clip paths named in their order: matplotlib hashes their bounds, whose last bits the layout does not fix."""
    numbers = {name: b"clip%d" % i for i, name in enumerate(dict.fromkeys(re.findall(rb'<clipPath id="(\w+)"', svg)))}

    def renamed(match: re.Match[bytes]) -> bytes:
        return match[1] + numbers[match[2]] + match[3] if match[2] in numbers else match[0]

    svg = re.sub(rb'(<clipPath id=")(\w+)(")', renamed, svg)
    return re.sub(rb"(url\(#)(\w+)(\))", renamed, svg)
