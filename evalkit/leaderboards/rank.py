"""Ranks of methods per metric, mean rank and Borda count, and Friedman's test over the images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evalkit.errors import DataError, spelled
from evalkit.files.frame import data_frame
from evalkit.leaderboards.shown import Shown, TextTable
from evalkit.leaderboards.significance import CriticalDifference, p_text
from evalkit.metrics.card import Better

if TYPE_CHECKING:
    import pandas as pd

Common = Literal["methods", "metrics"]
NAMED = 3  # methods that one line names
COLUMNS = ["dataset", "method", "metric", "rank", "mean_rank", "borda", "reason"]


@dataclass(frozen=True, repr=False)
class Ranking(Shown):
    """The ranks of one data set, best mean rank first, methods without one at the end.

    Attributes:
        dataset: data set, or the block of a published table.
        convention: what the numbers are measured in, or "as published in ...".
        ranks: a row per method, a column per metric; 1 is best, ties share their average rank, NaN for a missing value.
        mean_rank: over all metrics; None for a method that is not ranked in one of them.
        borda: methods beaten, summed over the metrics, a tie counting half; None as for the mean rank.
        missing: (method, metric) -> why it is not ranked.
        left_out: method or metric -> why it is not in `ranks`.
        friedman: metric -> Friedman's test over the images, of the methods ranked in it.
        no_friedman: metric -> why there is no such test.
    """

    dataset: str
    convention: str
    ranks: pd.DataFrame
    mean_rank: dict[str, float | None]
    borda: dict[str, float | None]
    missing: dict[tuple[str, str], str]
    left_out: dict[str, str] = field(default_factory=dict)
    friedman: dict[str, CriticalDifference] = field(default_factory=dict)
    no_friedman: dict[str, str] = field(default_factory=dict)

    @property
    def ranked(self) -> bool:
        """Whether any method has a rank in anything."""
        return bool(self.ranks.notna().to_numpy().any())

    @property
    def complete(self) -> bool:
        """Whether every method is ranked in every metric."""
        return not self.missing

    @property
    def frame(self) -> pd.DataFrame:
        """A row per method and metric; `reason` says why there is no rank."""
        return data_frame(self.records(), COLUMNS)

    def records(self) -> Iterator[dict[str, Any]]:
        """The rows of `frame`."""
        for method, ranks in zip(map(str, self.ranks.index), self.ranks.to_numpy(dtype=float), strict=True):
            of_method = {"mean_rank": self.mean_rank[method], "borda": self.borda[method]}
            for metric, rank in zip(map(str, self.ranks.columns), ranks, strict=True):
                row = {"dataset": self.dataset, "method": method, "metric": metric, "rank": float(rank)}
                yield row | of_method | {"reason": self.missing.get((method, metric), "")}

    def summary(self) -> str:
        """The methods by mean rank, in one line."""
        return f"{' · '.join(filter(None, [self.dataset, self.convention]))}: {order_text(self.mean_rank)}"

    def texts(self) -> list[TextTable]:
        """The ranks with what is missing, and Friedman's test."""
        rows = []
        for method, row in self.ranks.iterrows():
            if row.notna().any():
                borda = self.borda[str(method)]
                over_all = [rank_text(self.mean_rank[str(method)]), "–" if borda is None else f"{borda:g}"]
                rows.append([str(method), *("–" if r != r else f"{r:g}" for r in row), *over_all])
        title = " · ".join(filter(None, [self.dataset, self.convention, "ranks, 1 is best, ties share"]))
        heads = ["method", *map(str, self.ranks.columns), "mean rank", "Borda"]
        return [TextTable(title, heads, rows, _reasons(self)), *_friedman(self)]

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able; None for a missing value."""
        methods = {
            str(method): {
                "mean_rank": self.mean_rank[str(method)],
                "borda": self.borda[str(method)],
                "ranks": {str(m): None if math.isnan(r) else float(r) for m, r in row.items()},
            }
            for method, row in self.ranks.iterrows()
        }
        return {
            "dataset": self.dataset,
            "convention": self.convention,
            "methods": methods,
            "missing": [{"method": m, "metric": c, "reason": why} for (m, c), why in self.missing.items()],
            "left_out": self.left_out,
            "friedman": {metric: vars(result) for metric, result in self.friedman.items()},
            "no_friedman": self.no_friedman,
        }


def rank_values(
    values: pd.DataFrame,
    better: Mapping[str, Better],
    reasons: Mapping[tuple[str, str], str] | None = None,
    common: Common | None = None,
    dataset: str = "",
    convention: str = "",
) -> Ranking:
    """Rank methods in each metric among those that have a value in it.

    A method without a value in a metric is not ranked there and has neither mean rank nor Borda count: its other ranks
    say nothing about what is missing. The complete methods meet the same opponents, so theirs can be compared.

    Args:
        values: a row per method, a column per metric, NaN for a missing value.
        better: which way is better, per metric.
        reasons: (method, metric) -> why there is no value.
        common: leave out the "methods" with a missing value, or the "metrics" with a missing value, and name them.
        dataset, convention: what the values are of, for the ranking to say.
    """
    values, reasons = values.astype(float), reasons or {}
    values = values.where(np.isfinite(values))
    left_out: dict[str, str] = {}
    if common is not None:
        values, left_out = _common(values, reasons, common)
    ranks = values.copy()
    missing: dict[tuple[str, str], str] = {}
    for metric in values.columns:
        ranks[metric] = values[metric].rank(ascending=better[metric] == "lower", method="average")
        for method in values.index[values[metric].isna()]:
            missing[str(method), str(metric)] = reasons.get((str(method), str(metric)), "no value")
        if values[metric].count() == 1:
            alone = values[metric].first_valid_index()
            missing[str(alone), str(metric)] = "no other method has a value"
            ranks.loc[alone, metric] = math.nan
    beaten = ranks.count() - ranks  # a tie counts half, for tied methods share their average rank
    whole = ranks.notna().all(axis=1)
    mean_rank = {str(m): float(ranks.loc[m].mean(skipna=False)) if whole[m] else None for m in ranks.index}
    borda = {str(m): float(beaten.loc[m].sum(skipna=False)) if whole[m] else None for m in ranks.index}
    order = sorted(ranks.index, key=lambda m: math.inf if (r := mean_rank[str(m)]) is None else r)
    mean_rank, borda = ({str(m): by_method[str(m)] for m in order} for by_method in (mean_rank, borda))
    return Ranking(dataset, convention, ranks.loc[order], mean_rank, borda, missing, left_out)


def _common(
    values: pd.DataFrame, reasons: Mapping[tuple[str, str], str], common: Common
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The values without the methods, or metrics, that have a missing value; and why these are left out."""
    left_out = {}
    rows = values if common == "methods" else values.T
    for name, row in rows.iterrows():
        at = [str(other) for other in row.index[row.isna()]]
        if at:
            key = (str(name), at[0]) if common == "methods" else (at[0], str(name))
            where = f"{'in' if common == 'methods' else 'of'} {', '.join(at)}"
            left_out[str(name)] = f"no value {where}: {reasons.get(key, 'no value')}"
    rows = rows.drop(index=list(left_out))
    return (rows if common == "methods" else rows.T), left_out


def checked(rankings: list[Ranking]) -> list[Ranking]:
    """The same. Raises DataError where not one method is ranked in them."""
    if any(ranking.ranked for ranking in rankings):
        return rankings
    reasons = [why for ranking in rankings for why in [*ranking.left_out.values(), *ranking.missing.values()]]
    because = f" ({'; '.join(list(dict.fromkeys(reasons))[:3])})" if reasons else ""
    raise DataError(f"nothing to rank{because}. Two methods with a value in the same metric are needed.")


def chosen_names(kind: str, names: Iterable[str] | None, known: Iterable[str]) -> list[str]:
    """The known names behind `names`, whatever their case.

    Args:
        kind: what is named, for the error.
        names: as a user writes them; all known ones when None.
        known: as they are spelled.

    Raises:
        UnknownNameError: a name that is not among the known ones.
    """
    known = list(known)
    if names is None:
        return known
    return [spelled(kind, name, known) for name in dict.fromkeys(names)]


def rank_text(rank: float | None) -> str:
    """Three decimals, or a dash for a missing value."""
    return "–" if rank is None or math.isnan(rank) else f"{rank:.3f}"


def order_text(mean_rank: Mapping[str, float | None]) -> str:
    """The best methods with their mean ranks, best first, and how many have none."""
    ranked = [f"{method} {rank:.3f}" for method, rank in mean_rank.items() if rank is not None]
    more = [f"and {len(ranked) - NAMED} more"] if len(ranked) > NAMED else []
    without = [f"{len(mean_rank) - len(ranked)} without a mean rank"] if len(ranked) < len(mean_rank) else []
    return ", ".join([*ranked[:NAMED], *more, *without])


def _reasons(ranking: Ranking) -> list[str]:
    """A line per reason: what is left out, and which methods are not ranked in which metrics."""
    missing: dict[tuple[str, str], list[str]] = {}
    for (method, metric), reason in ranking.missing.items():
        missing.setdefault((reason, method), []).append(metric)
    methods: dict[str, str] = {}
    for (reason, method), metrics in missing.items():
        which_metrics = "" if len(metrics) == ranking.ranks.shape[1] else f" ({', '.join(metrics)})"
        methods[method + which_metrics] = reason
    return by_reason("left out", ranking.left_out) + by_reason("not ranked", methods)


def by_reason(text: str, reasons: Mapping[str, str]) -> list[str]:
    """A line per reason, with the names that it is of.

    Args:
        text: what happened to them.
        reasons: name -> reason.
    """
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return [f"{text}: {', '.join(of_reason)}: {reason}" for reason, of_reason in names.items()]


def _friedman(ranking: Ranking) -> list[TextTable]:
    """Friedman's test per metric, and why there is none."""
    rows = []
    for metric, test in ranking.friedman.items():
        groups = "; ".join(", ".join(group) for group in test.groups) or "none"
        rows.append([metric, str(test.n), f"{test.statistic:.3f}", p_text(test.p), f"{test.cd:.3f}", groups])
    heads = ["metric", "images", "chi-square", "p", "CD", "not significantly different (best first)"]
    title = "Friedman's test over the images, Nemenyi's critical difference of the mean ranks"
    notes = by_reason("no Friedman test", ranking.no_friedman)
    return [TextTable(title, heads, rows, notes)] if rows or notes else []
