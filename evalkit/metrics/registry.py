"""What each metric is: its card, its definition per convention, and names that parse both ways (`SSIM[smfnet]`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from evalkit.errors import EvalkitError, UnknownNameError
from evalkit.files.names import several
from evalkit.metrics.image import Pair

# fusion metrics come in many conventions, see conventions.py; of each of these tasks one is in use
TASK_CONVENTIONS = {
    "saliency": "pysodmetrics",  # maps stretched, masks > 128, 256 thresholds, as PySODMetrics 1.6.2
    "segmentation": "set",  # one confusion matrix over the test set, never a mean over images
    "detection": "coco",  # COCO's 101-point average precision
}

Better = Literal["higher", "lower"]
COST_BETTER: dict[str, Better] = {"FLOPs": "lower", "Params": "lower", "Time": "lower", "FPS": "higher"}  # no cards


@dataclass(frozen=True)
class MetricCard:
    """What a column name means, whatever the convention."""

    name: str
    title: str
    better: str  # "higher" or "lower"
    range: str
    unit: str
    definition: str
    source: str
    task: str = "fusion"  # or saliency, segmentation, detection: measured on maps, masks or boxes, not on fused images

    @property
    def convention(self) -> str:
        """The one convention of a measure that is not of fused images."""
        return TASK_CONVENTIONS.get(self.task, "")

    @property
    def arrow(self) -> str:
        return "↑" if self.better == "higher" else "↓"


@dataclass(frozen=True)
class Definition:
    """A metric in one convention: the function that computes it, and what the convention chose."""

    metric: str
    convention: str
    function: Callable[[Pair], float]
    choice: str

    @property
    def full_name(self) -> str:
        return f"{self.metric}[{self.convention}]"


@dataclass(frozen=True)
class Convention:
    """All choices behind the columns of a table."""

    name: str
    title: str
    used_by: str
    definitions: dict[str, Definition]


def card(name: str) -> MetricCard:
    """The card of a metric, whatever the case of its name. Raises UnknownNameError."""
    from evalkit.metrics.cards import CARDS

    return CARDS[_match("metric", name, CARDS)]


def column_card(column: str) -> MetricCard | None:
    """The card behind a paper's column: "F" and "E" are the adaptive ones. None for what has no card."""
    for name in (column, f"{column}_adaptive"):
        try:
            return card(name)
        except UnknownNameError:
            continue
    return None


def better_of(column: str) -> Better | None:
    """Which way is better in a paper's column; None where that is not known, or of a spread."""
    found = column_card(column)
    if found is not None:
        return "lower" if found.better == "lower" else "higher"
    return COST_BETTER.get(column)


def convention(name: str) -> Convention:
    """A convention by name. Raises UnknownNameError with the nearest ones."""
    from evalkit.metrics.conventions import CONVENTIONS

    return CONVENTIONS[_match("convention", name, CONVENTIONS)]


def definitions(metrics: Iterable[str] | str | None, default_convention: str) -> dict[str, Definition]:
    """Column name -> definition for names like `SSIM` (in the default convention) and `SSIM[tang]`.

    None stands for every metric of the default convention. Order is kept, repeated names are computed once.

    Raises:
        UnknownNameError: no such metric or convention, or the convention does not define the metric.
    """
    metrics = several(metrics)
    default = convention(default_convention)
    if metrics is None:
        return dict(default.definitions)
    found = {}
    for name in metrics:
        definition = parse(name, default)
        found[definition.metric if definition.convention == default.name else definition.full_name] = definition
    if not found:
        raise EvalkitError("no metric is named. Give e.g. metrics=['EN', 'SSIM'], or leave them out to compute all.")
    return found


def all_full_names() -> list[str]:
    """Every metric in every convention, e.g. SSIM[smfnet]."""
    from evalkit.metrics.conventions import CONVENTIONS

    return [definition.full_name for chosen in CONVENTIONS.values() for definition in chosen.definitions.values()]


def full_names_of(metrics: Iterable[str] | str | None) -> list[str]:
    """Full names of the metrics in every convention that defines them; of all metrics when None.

    Raises:
        UnknownNameError: no such metric.
    """
    metrics = several(metrics)
    wanted = None if metrics is None else {card(metric.partition("[")[0].strip()).name for metric in metrics}
    return [name for name in all_full_names() if wanted is None or name.partition("[")[0] in wanted]


def parse(name: str, default: Convention) -> Definition:
    """`SSIM` or `SSIM[tang]` -> definition. Raises UnknownNameError."""
    match = re.fullmatch(r"\s*([\w-]+)\s*(?:\[\s*([\w-]+)\s*\])?\s*", name)
    if not match:
        raise EvalkitError(f"{name!r} is not a metric name. Write METRIC or METRIC[convention], e.g. SSIM[smfnet].")
    chosen = convention(match[2]) if match[2] else default
    metric = card(match[1]).name
    if (task := card(metric).task) != "fusion":
        raise EvalkitError(f"{metric} is measured for {task}, not on fused images. See `evalkit --help`.")
    if metric not in chosen.definitions:
        raise EvalkitError(
            f"convention {chosen.name!r} has no {metric}. It has: {', '.join(chosen.definitions)}. "
            f"`evalkit show {metric}` lists the conventions that define it."
        )
    return chosen.definitions[metric]


def _match(kind: str, name: str, known: Iterable[str]) -> str:
    by_folded = {k.casefold(): k for k in known}
    try:
        return by_folded[name.casefold()]
    except KeyError:
        raise UnknownNameError(kind, name, by_folded.values()) from None
