"""Which code fills the table of which task: the one place where a runner is plugged in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from evalkit.leaderboards.table import Table
from evalkit.protocols.plan import Settings
from evalkit.protocols.schema import DatasetUse, Protocol, Published

# task -> module with a function `fill(job, table)`, imported when a protocol of the task is run
RUNNERS = {
    "fusion": "evalkit.protocols.fusion",
    "complexity": "evalkit.protocols.cost",
    "detection": "evalkit.downstream.detection_table",
    "segmentation": "evalkit.downstream.segmentation_table",
}
BRING = {
    "detection": "a detector of your own, trained on the fused images, and hold its boxes against the truth with "
    "evalkit.metrics.detection.detection_scores",
    "segmentation": "the masks of a network of your own, trained on the fused images, and measure them with "
    "`evalkit evaluate-segmentation`",
    "saliency": "each method's saliency maps and measure them with `evalkit evaluate-saliency`",
    "curves": "each method's saliency maps and measure them with `evalkit evaluate-saliency --curves`",
}


@dataclass(frozen=True)
class Job:
    """What a runner is to fill: the protocol's data sets and rows as chosen, and what was published of them."""

    chosen: Protocol
    uses: dict[str, DatasetUse]
    methods: list[str]
    published: Published  # empty in a sample run
    root: Path | None  # the data root; none in a sample run and where the task needs no images
    sample: bool
    settings: Settings


def kind(chosen: Protocol) -> str:
    """The task, where a figure of fusion metrics per image or per table is a fusion table drawn."""
    return "fusion" if chosen.task == "curves" and chosen.draws in ("cumulative", "radar") else chosen.task


def parts(chosen: Protocol) -> list[str]:
    """The tasks whose runners fill the table: its own, and detection where AP50 stands beside other columns."""
    own = kind(chosen)
    return [own, "detection"] if "AP50" in chosen.metrics and own != "detection" else [own]


def runners_of(chosen: Protocol) -> list[Callable[[Job, Table], None]]:
    """The functions that fill the protocol's table; none where this version has no code for its task."""
    return [import_module(RUNNERS[part]).fill for part in parts(chosen) if part in RUNNERS]


def needs_images(chosen: Protocol) -> bool:
    """Whether a run reads a data root."""
    return any(part in RUNNERS for part in parts(chosen)) and chosen.task != "complexity"


def not_available(chosen: Protocol) -> str:
    """Why no row of the protocol can be filled, and what to do; empty where they can."""
    if kind(chosen) in RUNNERS:
        return ""
    networks = f" ({', '.join(chosen.variants)})" if chosen.variants else ""
    return f"downstream training{networks} is not available in this version: bring {BRING[chosen.task]}"
