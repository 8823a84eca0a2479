"""The same quantity (data set, network, class, metric, method) printed in two tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import log, log10, prod
from statistics import median

from evalkit.leaderboards.audit.finding import Finding, Interval, Sure, cut, names
from evalkit.protocols.table.published import PublishedRow

Place = tuple[str, str, str, str]  # data set, variant, class, metric
Columns = dict[Place, dict[str, PublishedRow]]
FACTORS = {
    2.0: "a sum over both sources beside a mean",
    0.5: "a mean over both sources beside a sum",
    100.0: "percent beside a fraction",
    0.01: "a fraction beside percent",
    255.0: "gray levels in 0 .. 255 beside 0 .. 1",
    1 / 255: "gray levels in 0 .. 1 beside 0 .. 255",
    65025.0: "squares of gray levels in 0 .. 255 beside 0 .. 1",
    1 / 65025: "squares of gray levels in 0 .. 1 beside 0 .. 255",
    log(2): "nat beside bit",
    1 / log(2): "bit beside nat",
}
UNNAMED = ("none", "baseline")  # rows of ablations that lack something else in each table
PEAK = ", near 48.13 dB: the peak of gray levels 0 .. 255 with the MSE of images in 0 .. 1"
PEAK_NEAR = 3  # dB; other test images
SAME_IMAGES = 2  # so many other columns of one paper's row agree only where the images are the same
FAR = 1.5  # a median ratio beyond it is no matter of which test images


@dataclass(frozen=True)
class Source:
    """Which paper a table is of, and how many pairs it says it measured; empty where that is not known."""

    paper: str = ""
    pairs: Mapping[str, int | None] | None = None

    def count(self, dataset: str) -> int | None:
        return (self.pairs or {}).get(dataset)


def check(tables: Mapping[str, list[PublishedRow]], sources: Mapping[str, Source]) -> Iterator[Finding]:
    """Columns that two tables share and print differently. Tables by protocol, with what is known of each."""
    all_columns = {name: _columns(rows) for name, rows in tables.items()}
    for first, second in combinations(tables, 2):
        a, b = all_columns[first], all_columns[second]
        known = (sources.get(first, Source()), sources.get(second, Source()))
        for place in [place for place in a if place in b]:
            common = [method for method in a[place] if method in b[place]]
            unequal = [m for m in common if not cut(a[place][m]).meets(cut(b[place][m]))]
            if unequal:
                yield _finding((first, second), place, a, b, common, unequal, known)


def _columns(rows: list[PublishedRow]) -> Columns:
    columns: Columns = {}
    for row in rows:
        if row.printed and row.dataset and row.method not in UNNAMED:
            columns.setdefault((row.dataset, row.variant, row.class_, row.metric), {})[row.method] = row
    return columns


def _finding(
    tables: tuple[str, str],
    place: Place,
    a: Columns,
    b: Columns,
    common: list[str],
    unequal: list[str],
    known: tuple[Source, Source],
) -> Finding:
    mine, theirs = a[place], b[place]
    row = mine[unequal[0]]
    same_paper = bool(known[0].paper) and known[0].paper == known[1].paper
    counts = [source.count(place[0]) for source in known]
    ratio = median(float(theirs[m].printed) / float(mine[m].printed) for m in unequal if float(mine[m].printed))
    reasons = [_factor([(mine[m], theirs[m]) for m in common], ratio)]
    sure: Sure = "possible"
    if same_paper:
        agree = [p[-1] for p in a if p in b and p[:3] == place[:3] and p != place and _agree(a[p], b[p], unequal)]
        sure = "certain" if len(agree) >= SAME_IMAGES else "likely"
        reasons.append(f"of the same row, {names(agree)} agree" if agree else "one paper, two numbers")
        reasons += ["two conventions in one paper, or a wrong number"] if sure == "certain" else []
    elif None not in counts and counts[0] != counts[1]:
        reasons.append(f"other test images ({counts[0]} and {counts[1]} pairs)")
    elif None not in counts:
        sure = "likely"
        reasons.append(f"both state {counts[0]} pairs")
    else:
        reasons.append("the number of pairs is not stated in both")
    if not same_paper and len(common) > 1 and not 1 / FAR <= ratio <= FAR:
        sure = "likely"
        reasons.append("too far apart for other images alone: another convention")
    if turned := _turned(mine, theirs, common):
        pairs = len(common) * (len(common) - 1) // 2
        reasons.append(f"the order of {len(turned)} of {pairs} pairs of methods is reversed ({names(turned, 3)})")
    return Finding(
        "two tables", sure, tables[0], row.block, unequal[0] if len(unequal) == 1 else "", row.column,
        names((f"{m} {mine[m].printed}" for m in unequal), 3),
        f"{tables[1]}: " + names((f"{m} {theirs[m].printed}" for m in unequal), 3),
        f"{len(unequal)} of {len(common)} rows in both tables differ; " + "; ".join(filter(None, reasons)),
        tables[1],
    )  # fmt: skip


def _agree(mine: dict[str, PublishedRow], theirs: dict[str, PublishedRow], methods: list[str]) -> bool:
    return all(m in mine and m in theirs and cut(mine[m]).meets(cut(theirs[m])) for m in methods)


def _factor(pairs: list[tuple[PublishedRow, PublishedRow]], ratio: float) -> str:
    """One factor between all rows of two columns: named where a convention has it."""
    if pairs[0][0].metric == "PSNR":
        difference = median(float(second.printed) - float(first.printed) for first, second in pairs)
        text = f"the difference is {difference:+.1f} dB" + ("" if len(pairs) == 1 else " in the median")
        return text + (PEAK if abs(abs(difference) - 20 * log10(255)) < PEAK_NEAR else "")
    # near in proportion to the factor's own size: 2 within 4 %, 65025 within a factor of 1.7
    near = [
        text for factor, text in FACTORS.items() if ratio > 0 and abs(log(ratio / factor)) < 0.05 * abs(log(factor))
    ]
    spans = [_ratio(first, second) for first, second in pairs]
    if len(pairs) >= 2 and all(span is not None for span in spans):
        low = max(span.low for span in spans if span)
        high = min(span.high for span in spans if span)
        if low <= high:
            return f"one factor, {Interval(low, high)}, explains all rows" + (f": {near[0]}" if near else "")
    text = f"the ratio is {ratio:.3g}" + ("" if len(pairs) == 1 else " in the median")
    return text + (f", near that of {near[0]}" if near and len(pairs) > 1 else "")


def _ratio(first: PublishedRow, second: PublishedRow) -> Interval | None:
    below, above = cut(first), cut(second)
    if below.low <= 0 or above.low <= 0:
        return None
    return Interval(above.low / below.high, above.high / below.low)


def _turned(mine: dict[str, PublishedRow], theirs: dict[str, PublishedRow], common: list[str]) -> list[str]:
    values = [{m: Fraction(cells[m].printed) for m in common} for cells in (mine, theirs)]
    return [f"{m} / {n}" for m, n in combinations(common, 2) if prod(v[m] - v[n] for v in values) < 0]
