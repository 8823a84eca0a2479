"""Ranks over several data sets: the mean of a method's mean ranks, and how many tables stand behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evalkit.errors import DataError
from evalkit.files.frame import data_frame
from evalkit.leaderboards.rank import COLUMNS, Common, Ranking, by_reason, order_text, rank_text
from evalkit.leaderboards.shown import Shown, TextTable

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class OverallRanking(Shown):
    """Mean ranks over data sets, best first, methods without one at the end.

    Each data set counts once, whatever its number of images. Only a method that is ranked in all of `metrics` on every
    one of `datasets` has a mean rank: these met the same opponents everywhere.

    Attributes:
        convention: what the numbers are measured in, or "as published in ...".
        datasets: tables behind the mean ranks.
        metrics: that every one of them ranks.
        by_dataset: method -> data set -> mean rank over `metrics`; a data set without one is not there.
        mean_rank: method -> mean over the data sets; None where one of them is missing.
        missing: (method, data set) -> why it has no mean rank there.
        left_out: metric, data set or method -> why it does not count.
    """

    convention: str
    datasets: list[str]
    metrics: list[str]
    by_dataset: dict[str, dict[str, float]]
    mean_rank: dict[str, float | None]
    missing: dict[tuple[str, str], str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every method has a mean rank."""
        return not self.missing

    @property
    def frame(self) -> pd.DataFrame:
        """A row per method: its mean rank on every data set (NaN where it has none) and over them, and the tables."""
        heads = ["method", *self.datasets, "mean_rank", "tables"]
        return data_frame(
            (
                {"method": m, "mean_rank": mean, "tables": len(self.by_dataset[m]), **self.by_dataset[m]}
                for m, mean in self.mean_rank.items()
            ),
            heads,
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able; None for a missing value."""
        return {
            "convention": self.convention,
            "datasets": self.datasets,
            "metrics": self.metrics,
            "methods": {
                m: {"mean_rank": mean, "tables": len(self.by_dataset[m]), "datasets": self.by_dataset[m]}
                for m, mean in self.mean_rank.items()
            },
            "missing": [{"method": m, "dataset": d, "reason": why} for (m, d), why in self.missing.items()],
            "left_out": self.left_out,
        }

    def summary(self) -> str:
        """The methods by mean rank, in one line."""
        return f"{self.convention}, {len(self.datasets)} tables: {order_text(self.mean_rank)}"

    def texts(self) -> list[TextTable]:
        """A row per method, a column per data set, the mean rank and the tables behind it; what is missing."""
        rows = [
            [m, *(rank_text(ranks.get(d)) for d in self.datasets), rank_text(self.mean_rank[m]), str(len(ranks))]
            for m, ranks in self.by_dataset.items()
        ]
        title = f"mean rank over {len(self.datasets)} tables in {', '.join(self.metrics)}"
        methods: dict[tuple[str, str], list[str]] = {}
        for (method, dataset), why in self.missing.items():
            methods.setdefault((dataset, why), []).append(method)
        notes = by_reason("left out", self.left_out)
        notes += [f"no mean rank: {', '.join(names)}: {dataset}: {why}" for (dataset, why), names in methods.items()]
        return [
            TextTable(
                " · ".join(filter(None, ["overall", self.convention, title])),
                ["method", *self.datasets, "mean rank", "tables"],
                rows,
                notes,
            )
        ]


class Rankings(list[Ranking], Shown):
    """The rankings of several data sets, with the one over them in `overall`.

    Attributes:
        overall: None where there is one data set, or nothing that all of them rank; `no_overall` says which.
        no_overall: empty where there is one.
    """

    def __init__(self, rankings: Iterable[Ranking], common: Common | None = None) -> None:
        super().__init__(rankings)
        self.overall: OverallRanking | None = None
        self.no_overall = "one data set" if len(self) == 1 else ""
        if len(self) > 1:
            try:
                self.overall = rank_overall(self, common)
            except DataError as error:
                self.no_overall = str(error)

    @property
    def complete(self) -> bool:
        """Whether every method is ranked in every metric, and over the data sets."""
        return all(r.complete for r in self) and (self.overall is None or self.overall.complete)

    @property
    def frame(self) -> pd.DataFrame:
        """A row per data set, method and metric; the frame of `overall` has the ranks over the data sets."""
        return data_frame((row for ranking in self for row in ranking.records()), COLUMNS)

    def summary(self) -> str:
        """The overall ranking in one line, or those of the data sets."""
        return self.overall.summary() if self.overall else "; ".join(ranking.summary() for ranking in self)

    def texts(self) -> list[TextTable]:
        """The tables of every data set, and the one over them."""
        tables = [table for ranking in self for table in ranking.texts()]
        if self.overall is not None:
            return [*tables, *self.overall.texts()]
        return tables if len(self) < 2 else [*tables, TextTable("overall", [], [], [f"none: {self.no_overall}"])]

    __repr__ = Shown.__repr__


def rank_overall(rankings: Iterable[Ranking], common: Common | None = None) -> OverallRanking:
    """Rank methods over data sets, by the mean of their mean ranks.

    The mean ranks are over the metrics that every data set ranks; other metrics, and data sets that rank nothing, are
    left out and named.

    Args:
        rankings: one per data set, in one convention.
        common: "methods" leaves out the methods that a data set lacks; else these are named as missing.

    Raises:
        DataError: several conventions, fewer than two data sets with ranks, or no metric that all of them rank.
    """
    rankings = list(rankings)
    if len(conventions := dict.fromkeys(ranking.convention for ranking in rankings)) > 1:
        raise DataError(f"numbers of different conventions are never ranked together ({', '.join(conventions)}).")
    ranked = [ranking for ranking in rankings if ranking.ranked]
    left_out = {ranking.dataset: _first_reason(ranking) for ranking in rankings if not ranking.ranked}
    if len(ranked) < 2:
        raise DataError("ranks over data sets need two with ranks.")
    by_table = {r.dataset: [str(m) for m in r.ranks.columns if r.ranks[m].notna().any()] for r in ranked}
    every = list(dict.fromkeys(str(metric) for ranking in ranked for metric in ranking.ranks.columns))
    metrics = [m for m in every if all(m in table for table in by_table.values())]
    if not metrics:
        tables = "; ".join(f"{dataset}: {', '.join(names)}" for dataset, names in by_table.items())
        raise DataError(f"no metric is ranked on every data set ({tables}).")
    for metric in (m for m in every if m not in metrics):
        lacking = [dataset for dataset, names in by_table.items() if metric not in names]
        left_out[metric] = f"not ranked on {', '.join(lacking)}"
    by_method: dict[str, dict[str, float]] = {}
    missing: dict[tuple[str, str], str] = {}
    for method in dict.fromkeys(str(m) for ranking in ranked for m in ranking.ranks.index):
        by_method[method] = {}
        for ranking in ranked:
            mean, why = _mean_rank(ranking, method, metrics)
            if why:
                missing[method, ranking.dataset] = why
            else:
                by_method[method][ranking.dataset] = mean
    if common == "methods":
        for (method, dataset), why in missing.items():
            left_out.setdefault(method, f"on {dataset}: {why}")
        by_method = {method: ranks for method, ranks in by_method.items() if method not in left_out}
        missing = {}
    size = len(ranked)
    means = {m: math.fsum(r.values()) / size if len(r) == size else None for m, r in by_method.items()}
    order = sorted(means, key=lambda m: math.inf if (mean := means[m]) is None else mean)
    return OverallRanking(
        ranked[0].convention,
        [ranking.dataset for ranking in ranked],
        metrics,
        {m: by_method[m] for m in order},
        {m: means[m] for m in order},
        missing,
        left_out,
    )


def _first_reason(ranking: Ranking) -> str:
    reasons = [*ranking.left_out.values(), *ranking.missing.values(), "no values"]
    return f"nothing is ranked ({reasons[0]})"


def _mean_rank(ranking: Ranking, method: str, metrics: list[str]) -> tuple[float, str]:
    """The mean rank of a method in these metrics, or NaN and why there is none."""
    if method not in ranking.ranks.index:
        return math.nan, ranking.left_out.get(method, "no row there")
    ranks = {metric: float(rank) for metric, rank in ranking.ranks.loc[[method], metrics].iloc[0].items()}
    for metric in metrics:
        if math.isnan(ranks[metric]):
            return math.nan, f"{metric}: {ranking.missing.get((method, metric), 'no value')}"
    return math.fsum(ranks.values()) / len(metrics), ""
