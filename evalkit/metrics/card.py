"""What a metric is: its card, which stands beside its formula, and its definition in each convention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

from evalkit.data.gray import ROUNDED
from evalkit.errors import EvalkitError
from evalkit.metrics.image import Pair
from evalkit.registry import Registry

Better = Literal["higher", "lower"]
Function = TypeVar("Function", bound=Callable)

# fusion metrics come in many conventions, see conventions.py; of each of these tasks one is in use
TASK_CONVENTIONS = {
    "saliency": "pysodmetrics",  # maps stretched, masks > 128, 256 thresholds, as PySODMetrics 1.6.2
    "segmentation": "set",  # one confusion matrix over the test set, never a mean over images
    "detection": "coco",  # COCO's 101-point average precision
}


@dataclass(frozen=True)
class MetricCard:
    """What a column name means, whatever the convention."""

    name: str
    title: str
    better: Better
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
    code: str = ""  # revision of the plug-in that holds the function: scores of other code are measured again

    @property
    def full_name(self) -> str:
        return f"{self.metric}[{self.convention}]"

    @property
    def parameters(self) -> str:
        """What its values depend on besides the images and the code: files of the user's; empty for a formula."""
        return str(getattr(self.function, "parameters", ""))

    @property
    def gray(self) -> str:
        """How its convention turns colour to gray."""
        convention = CONVENTIONS.get(self.convention)  # a program's own is not known to its workers
        return convention.gray if convention is not None else ROUNDED


@dataclass(frozen=True)
class Convention:
    """All choices behind the columns of a table."""

    name: str
    title: str
    used_by: str
    gray: str = ROUNDED  # how it turns colour to gray, see `evalkit.data.gray`

    @property
    def definitions(self) -> dict[str, Definition]:
        """Metric -> how this convention defines it."""
        return {d.metric: d for d in DEFINITIONS.values() if d.convention == self.name}


_HOME = "evalkit.metrics.conventions"
METRICS: Registry[MetricCard] = Registry("metric", _HOME)
DEFINITIONS: Registry[Definition] = Registry("metric", _HOME)
CONVENTIONS: Registry[Convention] = Registry("convention", _HOME)


def add_card(card: MetricCard) -> None:
    """Register a card. Raises EvalkitError where the name is taken."""
    METRICS.add(card.name, card)


def describes(
    name: str, title: str, *, better: Better, range: str, unit: str, definition: str, source: str
) -> Callable[[Function], Function]:
    """Write the card of a metric beside the formula that computes it; `card_of` gives it.

    Args:
        name: of the metric, as columns have it.
        title: in words.
        better: which way is better.
        range: of the values, e.g. "0 .. 1".
        unit: e.g. "bit"; "1" where there is none.
        definition: one sentence.
        source: the publication, with its DOI where it has one.
    """

    def describe(function: Function) -> Function:
        _CARDS[function] = MetricCard(name, title, better, range, unit, definition, source)
        return function

    return describe


def card_of(function: object) -> MetricCard:
    """The card that stands beside a formula."""
    return _CARDS[function]


_CARDS: dict[object, MetricCard] = {}


def checked_better(better: str, name: str) -> Better:
    """The direction of a metric. Raises EvalkitError."""
    if better not in ("higher", "lower"):
        raise EvalkitError(f"better of the metric {name} is {better!r}, expected 'higher' or 'lower'.")
    return cast(Better, better)
