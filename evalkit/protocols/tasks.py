"""Which code fills the table of which task: the one place where a runner is plugged in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from evalkit.protocols.plan import Settings
from evalkit.protocols.schema import DatasetUse, Protocol, Published
from evalkit.protocols.table.table import Table

# task -> module with a function `fill(job, table)`, imported when a protocol of the task is run
RUNNERS = {
    "fusion": "evalkit.protocols.fusion",
    "complexity": "evalkit.protocols.cost",
    "detection": "evalkit.downstream.detection.table",
    "segmentation": "evalkit.downstream.segmentation.table",
    "saliency": "evalkit.downstream.saliency.table",
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


def parts(chosen: Protocol) -> list[str]:
    """The tasks whose runners fill the table: its own, and detection where AP50 stands beside other columns."""
    own = chosen.kind
    return [own, "detection"] if "AP50" in chosen.metrics and own != "detection" else [own]


def runners_of(chosen: Protocol) -> list[Callable[[Job, Table], None]]:
    """The functions that fill the protocol's table."""
    return [import_module(RUNNERS[part]).fill for part in parts(chosen)]
