"""The scenes that a report shows of a data set, chosen by the scores per image, and why each is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from evalkit.data.pairs import natural_key
from evalkit.leaderboards.rank import Better
from evalkit.leaderboards.report.choice import Scores, most_different, spreads, standings, worst_images
from evalkit.records.per_image import PerImage

DIFFERENT = 2  # images that are shown because the methods differ most
EVERY_METHOD = 8  # up to so many, the worst image of one is shown of all of them; else of it and of the best one there


@dataclass(frozen=True)
class Choice:
    """An image name with the methods to show of it, why it is shown, and what is said of a method."""

    stem: str
    methods: Sequence[str]
    why: str
    notes: Mapping[str, str]


@dataclass(frozen=True)
class Choices:
    """What is shown of a data set.

    Attributes:
        different: where the methods differ most.
        worst: where each method is worst, but those that are among the different ones.
        largest: metric -> the image with the largest spread, and the spread.
        above: method -> its worst image, where that is among the different ones.
    """

    different: list[Choice]
    worst: list[Choice]
    largest: dict[str, tuple[str, float]]
    above: dict[str, str]


def frames(images: Mapping[str, PerImage], metrics: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Metric -> its values, a row per image in natural order and a column per method."""
    stems = sorted({stem for one in images.values() for stem in one.rows}, key=natural_key)
    return {
        metric: pd.DataFrame(
            {m: pd.Series(one.column(metric), dtype=float) for m, one in images.items() if metric in one.metrics},
            index=stems,
            columns=list(images),
        )
        for metric in metrics
        if any(metric in one.metrics for one in images.values())
    }


def choose(scores: Scores, better: Mapping[str, Better]) -> Choices:
    """The scenes of one data set.

    Args:
        scores: metric -> a row per image, a column per method.
        better: which way is better, per metric.
    """
    stands, by_spread, difference = standings(scores, better), spreads(scores), most_different(scores)
    methods = [str(m) for m in stands.columns if stands[m].notna().any()]
    lowest = worst_images(stands)
    at: dict[str, list[str]] = {}
    for method, stem in lowest.items():
        at.setdefault(stem, []).append(method)
    first = {str(stem): float(value) for stem, value in difference.iloc[:DIFFERENT].items()}
    here = {stem: dict.fromkeys(at.get(stem, []), "worst here") for stem in first}
    different = [Choice(stem, methods, f"D = {value:.2f}", here[stem]) for stem, value in first.items()]
    worst = []
    for stem in sorted(at.keys() - first.keys(), key=natural_key):
        own = at[stem]
        there = stands.loc[stem].dropna()
        why = "worst of " + ", ".join(f"{m} (S = {there[m]:.2f})".replace("= -", "= −") for m in own)
        notes = dict.fromkeys(own, "worst here")
        best = str(there.round(9).idxmax())
        if best not in own and len(there) > 1:
            notes[best] = "best here"
        shown = methods if len(methods) <= EVERY_METHOD else [m for m in methods if m in notes]
        worst.append(Choice(stem, shown, why, notes))
    largest = {
        str(metric): (str(column.idxmax()), float(column.max()))
        for metric, column in by_spread.round(9).items()
        if column.notna().any()
    }
    return Choices(different, worst, largest, {m: stem for m, stem in lowest.items() if stem in first})
