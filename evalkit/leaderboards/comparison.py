"""The outcome of a comparison of two methods, and how a reader sees it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from evalkit.files.frame import data_frame
from evalkit.leaderboards.image_scores import short_name
from evalkit.leaderboards.shown import Shown, TextTable
from evalkit.leaderboards.significance import Test, p_text

if TYPE_CHECKING:
    import pandas as pd

NAMED = 10  # images that a line names; --json names all


@dataclass(frozen=True)
class Paired:
    """A and B in one metric on one data set; None for what could not be computed, with the reason in `missing`.

    Attributes:
        metric: full name, e.g. SSIM[tang].
        n: images that both have a value for; all numbers are of these.
        difference: mean of A - B.
        low, high: bootstrap interval of `difference`.
        p, p_holm: two-sided; Holm's correction is over all tests of the comparison.
        rank_biserial, d_z: effect sizes, > 0 where A's values are larger.
        winner: "a" or "b" where the corrected p is below `alpha` and mean and effect agree on it, else "".
        left_out: image -> why it is not among the n.
    """

    dataset: str
    metric: str
    better: str
    n: int
    mean_a: float | None = None
    mean_b: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    rank_biserial: float | None = None
    d_z: float | None = None
    winner: str = ""
    left_out: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """The outcome of `compare`."""

    a: str
    b: str
    test: Test
    confidence: float
    alpha: float
    results: list[Paired]
    notes: list[str]  # data sets and metrics that only one of both has

    @property
    def complete(self) -> bool:
        """Whether every image was paired and every test made."""
        return not self.notes and not any(result.left_out or result.missing for result in self.results)

    @property
    def frame(self) -> pd.DataFrame:
        """A row per data set and metric."""
        return data_frame(map(asdict, self.results), [column.name for column in fields(Paired)])

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return asdict(self)

    def summary(self) -> str:
        """How often which is better, in one line."""
        wins = [sum(result.winner == who for result in self.results) for who in "ab"]
        return (
            f"{self.a} better in {wins[0]}, {self.b} in {wins[1]} of {len(self.results)}"
            f" ({self.test}, Holm p < {self.alpha:g})"
        )

    def texts(self) -> list[TextTable]:
        """A row per metric, a table per data set; what was left out; how to read it."""
        tables = []
        percent = f"{100 * self.confidence:g} %"
        heads = ["metric", "A", "B", "A - B", percent, "p", "Holm p", "rank-biserial", "d_z", "n", "better"]
        for dataset in dict.fromkeys(result.dataset for result in self.results):
            results = [result for result in self.results if result.dataset == dataset]
            conventions = list(dict.fromkeys(result.metric.partition("[")[2].rstrip("]") for result in results))
            one = len(conventions) == 1
            rows = [_row(result, short_name(result.metric) if one else result.metric, self) for result in results]
            title = " · ".join(filter(None, [dataset, f"A = {self.a}", f"B = {self.b}", self.test]))
            title += f" · convention {conventions[0]}" if one else ""
            tables.append(TextTable(title, heads, rows, _left_out(results) + _missing_values(results)))
        tests = sum(result.p is not None for result in self.results)
        reading = (
            "Means over the n paired images; BCa bootstrap interval of the mean difference; "
            f"Holm's correction over {tests} tests; better: Holm p < {self.alpha:g}."
        )
        return [*tables, TextTable(reading, [], [], self.notes)]


def _row(result: Paired, name: str, comparison: Comparison) -> list[str]:
    interval = "–" if result.low is None else f"{result.low:+.4f} .. {result.high:+.4f}"
    effects = ["–" if v is None else f"{v:+.2f}" for v in (result.rank_biserial, result.d_z)]
    return [
        f"{name} {'↑' if result.better == 'higher' else '↓'}",
        *("–" if v is None else f"{v:.4f}" for v in (result.mean_a, result.mean_b)),
        "–" if result.difference is None else f"{result.difference:+.4f}",
        interval,
        *("–" if v is None else p_text(v) for v in (result.p, result.p_holm)),
        *effects,
        str(result.n),
        {"a": comparison.a, "b": comparison.b}.get(result.winner, ""),
    ]


def _left_out(results: list[Paired]) -> list[str]:
    """A line per reason: metrics and images that were left out of the pairing."""
    by_reason: dict[str, dict[str, list[str]]] = {}
    for result in results:
        for image, reason in result.left_out.items():
            by_reason.setdefault(reason, {}).setdefault(image, []).append(result.metric)
    lines = []
    for reason, images in by_reason.items():
        metrics = list(dict.fromkeys(metric for which in images.values() for metric in which))
        where = "all metrics" if len(metrics) == len(results) else ", ".join(metrics)
        named = ", ".join(list(images)[:NAMED]) + (f" and {len(images) - NAMED} more" if len(images) > NAMED else "")
        lines.append(f"left out of {where}: {named}: {reason}")
    return lines


def _missing_values(results: list[Paired]) -> list[str]:
    """A line per metric and reason: what could not be computed."""
    lines = []
    for result in results:
        by_reason: dict[str, list[str]] = {}
        for name, reason in result.missing.items():
            by_reason.setdefault(reason, []).append(name)
        lines += [f"{result.metric}, no {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    return lines
