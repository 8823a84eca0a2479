"""Statements of the text about its table, tested on the printed numbers.

A protocol lists them under `claims:`, each a mapping with `text` (what the paper says), `kind`, and by kind:

best, second    method; metric, class, blocks: in every such column the method is best (second best) of the methods.
                With `over: all` (an "overall" of the text): best over all blocks together, which is false where
                neither the mean nor the mean rank over the blocks has it best.
greater         of, than: methods (names, a list, or others); metric, class, blocks: every cell of the one is greater.
                Without methods: column `metric` is greater than column `than` in every row.
decreasing, increasing   methods, in order; metric.
range           metric; low and high, or one of them.
value           method, metric, class, printed: the cell holds this number.
improvement     of, over (a method, "mean" or "best" of the others); metric, class, blocks; printed; unit: percent (of
                the other's value) or points. Positive is better, whichever way the metric goes.
count           what: methods (with `of: others`: without the paper's own), metrics, classes, datasets, or best (columns
                in which `method` is best, aggregates apart); printed.
parameters      method, over, printed (percent fewer): against evalkit's own networks.
mean            metric, class: an aggregate is the mean of its classes; the check of means tests it.

metric, class and blocks are a name, a list, or left out for all. Source images (Visible, Infrared) are not methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

from evalkit.errors import UnknownNameError
from evalkit.leaderboards.audit import improvement
from evalkit.leaderboards.audit.finding import (
    AGGREGATE,
    SOURCES,
    Finding,
    Grid,
    Interval,
    Sure,
    columns,
    cut,
    grid,
    names,
)
from evalkit.leaderboards.audit.statement import Statement, together
from evalkit.methods.registry import method_card
from evalkit.metrics.registry import better_of
from evalkit.protocols.table.published import PublishedRow


def check(rows: list[PublishedRow], claims: list[Mapping[str, Any]], own: str = "") -> Iterator[Finding]:
    """Claims that the printed numbers do not bear out.

    Args:
        rows: the printed numbers of one table.
        claims: of each statement of the text its fields, as the module's docstring lists them.
        own: the paper's own method.

    Raises:
        DataError: a claim of unknown kind, without a field that its kind needs, or about a row that is not there.
    """
    for fields in claims:
        kind = str(fields.get("kind"))
        if kind not in KINDS:
            raise UnknownNameError("kind of claim", kind, KINDS)
        if rows:
            statement = Statement(fields, rows, own)
            yield from together(statement, list(KINDS[kind](statement)))


def _best(claim: Statement, allowed: int = 0) -> Iterator[Finding]:
    method = claim.get("method")
    claim.methods("method")
    if claim.fields.get("over") == "all":
        yield from _best_overall(claim, method)
        return
    word = "second" if allowed else "best"
    for block, lines in grid(claim.picked()).items():
        for column, cells in columns(lines).items():
            if method not in cells or (way := better_of(cells[method].metric)) is None:
                continue
            sign = 1 if way == "higher" else -1
            mine = Fraction(cells[method].printed) * sign
            rivals = {m: Fraction(r.printed) * sign for m, r in cells.items() if m != method and m not in SOURCES}
            above = [m for m, value in rivals.items() if value > mine]
            equal = [m for m, value in rivals.items() if value == mine]
            if len({rivals[m] for m in above}) > allowed:
                text = names(f"{m} {cells[m].printed}" for m in above)
                yield claim.finding(
                    "certain", block, method, column, cells[method].printed, text, f"Better as printed: {names(above)}"
                )
            elif not above and allowed and rivals:
                why = "No other value is better as printed"
                yield claim.finding("certain", block, method, column, cells[method].printed, "best", why)
            elif equal and not allowed:
                why = f"Equal as printed: {names(equal)}; not {word} alone"
                yield claim.finding(
                    "possible", block, method, column, cells[method].printed, cells[equal[0]].printed, why
                )


def _best_overall(claim: Statement, method: str) -> Iterator[Finding]:
    blocks = grid(claim.picked())
    for column in dict.fromkeys(column for lines in blocks.values() for cells in lines.values() for column in cells):
        tables = [{m: cells[column] for m, cells in lines.items() if column in cells} for lines in blocks.values()]
        shared = [m for m in tables[0] if m not in SOURCES and all(m in cells for cells in tables)]
        if method not in shared or (way := better_of(tables[0][method].metric)) is None:
            continue
        sign = 1 if way == "higher" else -1
        values = [{m: sign * Fraction(cells[m].printed) for m in shared} for cells in tables]
        mean = {m: sum((v[m] for v in values), Fraction(0)) / len(values) for m in shared}
        rank = {m: -Fraction(sum(1 + sum(o > v[m] for o in v.values()) for v in values), len(values)) for m in shared}
        by_mean, by_rank = ([m for m in shared if score[m] > score[method]] for score in (mean, rank))
        if not by_mean and not by_rank:
            continue
        first = max(shared, key=(mean if by_mean else rank).__getitem__)
        unsure = [f"by the mean over the {len(tables)} blocks"] * (not by_mean) + ["by the mean rank"] * (not by_rank)
        why = f"Better in the mean: {names(by_mean) or 'none'}; by mean rank: {names(by_rank) or 'none'}"
        if unsure:
            why += f". It holds {' and '.join(unsure)}"
        yield claim.finding(
            "possible" if unsure else "certain", "", method, column,
            f"mean {float(abs(mean[method])):.4g}, mean rank {float(-rank[method]):.3g}",
            f"{first} mean {float(abs(mean[first])):.4g}, mean rank {float(-rank[first]):.3g}", why,
        )  # fmt: skip


def _second(claim: Statement) -> Iterator[Finding]:
    yield from _best(claim, 1)


def _greater(claim: Statement) -> Iterator[Finding]:
    if not claim.listed("of"):
        yield from _greater_column(claim)
        return
    for block, lines in grid(claim.picked()).items():
        for upper in claim.methods("of"):
            for lower in claim.methods("than"):
                ours, theirs = lines.get(upper, {}), lines.get(lower, {})
                for column in [c for c in ours if c in theirs]:
                    if (sure := _not_greater(ours[column], theirs[column])) is not None:
                        yield claim.finding(
                            sure, block, upper, column, ours[column].printed, f"{lower} {theirs[column].printed}",
                            "It is " + ("not greater" if sure == "certain" else "equal as printed"),
                        )  # fmt: skip


def _greater_column(claim: Statement) -> Iterator[Finding]:
    upper, lower = claim.get("metric"), claim.get("than")
    for block, lines in grid(claim.rows).items():
        for method, cells in lines.items():
            if upper in cells and lower in cells and (sure := _not_greater(cells[upper], cells[lower])) is not None:
                other = f"{lower} {cells[lower].printed}"
                yield claim.finding(sure, block, method, upper, cells[upper].printed, other, "It is not greater")


def _not_greater(upper: PublishedRow, lower: PublishedRow) -> Sure | None:
    difference = Fraction(upper.printed) - Fraction(lower.printed)
    return None if difference > 0 else "certain" if difference < 0 else "possible"


def _ordered(claim: Statement) -> Iterator[Finding]:
    falls = claim.fields["kind"] == "decreasing"
    order = claim.methods("methods")
    for block, lines in grid(claim.picked()).items():
        for column, cells in columns(lines).items():
            for first, second in pairwise(order):
                if first in cells and second in cells:
                    pair = (cells[first], cells[second]) if falls else (cells[second], cells[first])
                    if (sure := _not_greater(*pair)) is not None:
                        other = f"{first} {cells[first].printed}"
                        why = f"It does not {'fall' if falls else 'rise'} from {first} to {second}"
                        yield claim.finding(sure, block, second, column, cells[second].printed, other, why)


def _range(claim: Statement) -> Iterator[Finding]:
    low, high = (None if claim.fields.get(k) is None else Fraction(str(claim.fields[k])) for k in ("low", "high"))
    for row in claim.picked():
        value = cut(row)
        if (low is not None and value.high < low) or (high is not None and value.low > high):
            bounds = f"{'-inf' if low is None else low} .. {'inf' if high is None else high}"
            yield claim.finding("certain", row.block, row.method, row.column, row.printed, bounds, "It lies outside")


def _value(claim: Statement) -> Iterator[Finding]:
    stated = Fraction(claim.get("printed"))
    claim.methods("method")
    cells = claim.picked()
    for row in cells:
        if row.method == claim.get("method") and not cut(row).meets(Interval(stated, stated)):
            holders = [r.method for r in cells if r.column == row.column and Fraction(r.printed) == stated]
            why = f"{names(holders)} has this number in the table" if holders else "The table has another number"
            yield claim.finding(
                "certain", row.block, row.method, row.column, claim.get("printed"), f"{row.printed} in the table", why
            )


def _count(claim: Statement) -> Iterator[Finding]:
    noun, stated = claim.get("what"), int(claim.get("printed"))
    counted = COUNTS.get(noun)
    if counted is None:
        raise UnknownNameError("count of a claim", noun, COUNTS)
    items = counted(claim)
    if len(items) != stated:
        why = f"The table has {len(items)} {noun if noun != 'best' else 'columns where it is best'}: {names(items, 12)}"
        yield claim.finding("certain", "", claim.fields.get("method", ""), "", str(stated), str(len(items)), why)


def _methods(claim: Statement) -> list[str]:
    methods = [method for method in dict.fromkeys(row.method for row in claim.rows) if method not in SOURCES]
    return [m for m in methods if m != claim.own] if claim.fields.get("of") == "others" else methods


def _best_columns(claim: Statement) -> list[str]:
    method, best = claim.get("method"), []
    for lines in grid(row for row in claim.picked() if row.class_ != AGGREGATE).values():
        for column, cells in columns(lines).items():
            way = better_of(next(iter(cells.values())).metric)
            values = {m: Fraction(r.printed) * (-1 if way == "lower" else 1) for m, r in cells.items()}
            if method in values and values[method] == max(values.values()):
                best.append(column)
    return best


COUNTS: dict[str, Callable[[Statement], list[str]]] = {
    "methods": _methods,
    "metrics": lambda claim: list(dict.fromkeys(row.metric for row in claim.rows)),
    "classes": lambda claim: list(dict.fromkeys(r.class_ for r in claim.rows if r.class_ not in ("", AGGREGATE))),
    "datasets": lambda claim: list(dict.fromkeys(row.dataset for row in claim.rows)),
    "best": _best_columns,
}


def _improvement(claim: Statement) -> Iterator[Finding]:
    ours, over, unit = claim.get("of"), claim.get("over"), claim.fields.get("unit", "percent")
    claim.methods("of")
    blocks: Grid = grid(claim.picked())
    for block, lines in blocks.items():
        for column, cells in columns(lines).items():
            if ours in cells:
                difference = improvement.contradiction(cells, ours, over, claim.get("printed"), str(unit))
                if difference is not None:
                    recomputed, why, sure = difference
                    yield claim.finding(sure, block, ours, column, claim.get("printed"), recomputed, why)


def _parameters(claim: Statement) -> Iterator[Finding]:
    mine, other = (method_card(claim.get(key)) for key in ("method", "over"))
    if mine.parameters and other.parameters:
        fewer = 100 * (1 - mine.parameters / other.parameters)
        if abs(fewer - float(claim.get("printed"))) > 1:
            yield claim.finding(
                "possible", "", mine.name, "Params", f"{claim.get('printed')} % fewer", f"{fewer:.1f} % fewer",
                f"evalkit's networks have {mine.parameters:,} and {other.parameters:,} parameters ({other.name}); the "
                "paper may count parts that are not in them",
            )  # fmt: skip


KINDS: dict[str, Callable[[Statement], Iterator[Finding]]] = {
    "best": _best,
    "second": _second,
    "greater": _greater,
    "decreasing": _ordered,
    "increasing": _ordered,
    "range": _range,
    "value": _value,
    "count": _count,
    "improvement": _improvement,
    "parameters": _parameters,
    "mean": lambda claim: iter(()),
}
