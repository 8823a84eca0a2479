"""Statements of the text about its table, tested on the printed numbers.

A protocol lists them under `claims:`, each a mapping with `text` (what the paper says), `kind`, and by kind:

best, second    method (several: together ahead of the others); metric, class, blocks: in every such column the
                method is best (second best). `over: all` (an "overall" of the text): best over the blocks together;
                `over: open` (the text names no data set): on every block, or over them together.
greater         of, than: methods (names, a list, or others); metric, class, blocks: every cell of the one is greater.
                `than_blocks` (a list, or all): compared with the others' cells in these blocks, instead of their own.
                Without methods: column `metric` is greater than column `than` in every row.
decreasing, increasing   methods, in order; metric.
range           metric; low and high, or one of them.
value           method, metric, class, printed: the cell holds this number.
improvement     of, over (a method, "mean" or "best" of the others); metric, class, blocks; printed; unit: percent (of
                the other's value) or points. Positive is better, whichever way the metric goes.
count           what: methods (with `of: others`: without the paper's own), metrics, classes, datasets, or best, second
                (columns in which `method` is that, aggregates apart); printed, for columns also "most".
mean            metric, class: an aggregate is the mean of its classes; the check of means tests it.

metric, class and blocks are a name, a list, or left out for all. Source images (Visible, Infrared) are not methods.
Every kind takes `tables` (protocols whose cells the statement is about as well), `at_most` (likely or possible: the
statement is vaguer than its kind, and no finding is surer) with `reading` (how else it can be read), and `lost: true`
(the cells did not survive; it is not tested).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

from evalkit.errors import UnknownNameError
from evalkit.leaderboards.audit import improvement, ranked
from evalkit.leaderboards.audit.finding import (
    AGGREGATE,
    SOURCES,
    Finding,
    Interval,
    Sure,
    columns,
    cut,
    grid,
    names,
    order,
)
from evalkit.leaderboards.audit.statement import Statement, together
from evalkit.protocols.table.published import PublishedRow


def check(
    rows: list[PublishedRow],
    claims: list[Mapping[str, Any]],
    own: str = "",
    tables: Mapping[str, list[PublishedRow]] | None = None,
) -> Iterator[Finding]:
    """Claims that the printed numbers do not bear out.

    Args:
        rows: the printed numbers of one table.
        claims: of each statement of the text its fields, as the module's docstring lists them.
        own: the paper's own method.
        tables: the printed numbers of other tables, by protocol.

    Raises:
        DataError: a claim of unknown kind, without a field that its kind needs, about a row that is not there, or that
            compares nothing.
    """
    for fields in claims:
        kind = str(fields.get("kind"))
        if kind not in KINDS:
            raise UnknownNameError("kind of claim", kind, KINDS)
        if rows and not fields.get("lost"):
            statement = Statement(fields, [*rows, *_others_rows(fields, tables or {})], own)
            yield from together(statement, list(KINDS[kind](statement)))


def _others_rows(fields: Mapping[str, Any], tables: Mapping[str, list[PublishedRow]]) -> Iterator[PublishedRow]:
    for name in fields.get("tables", ()):
        if name not in tables:
            raise UnknownNameError(f"table (claim {fields.get('text')!r})", name, tables)
        yield from tables[name]


def _greater(claim: Statement) -> Iterator[Finding]:
    if not claim.listed("of"):
        yield from _greater_column(claim)
        return
    pairs = list(_pairs(claim))
    if not pairs:
        raise claim.compares_nothing()
    for upper, lower in pairs:
        if (sure := _not_greater(upper, lower)) is not None:
            other = f"{lower.method} {lower.printed}" + (f" ({lower.variant})" if lower.block != upper.block else "")
            why = "It is " + ("not greater" if sure == "certain" else "equal as printed")
            yield claim.finding(sure, upper.block, upper.method, upper.column, upper.printed, other, why)


def _pairs(claim: Statement) -> Iterator[tuple[PublishedRow, PublishedRow]]:
    """Cells that a statement compares, of one block, or of others where `than_blocks` names them."""
    named = claim.listed("than_blocks")
    blocks = grid(claim.picked())
    others = grid(claim.picked(named if named != ["all"] else [])) if named else blocks
    for block, lines in blocks.items():
        for upper in claim.methods("of"):
            for lower in claim.methods("than"):
                for cells in [others[b].get(lower, {}) for b in (others if named else [block])]:
                    ours = lines.get(upper, {})
                    yield from ((ours[column], cells[column]) for column in ours if column in cells)


def _greater_column(claim: Statement) -> Iterator[Finding]:
    upper, lower = claim.get("metric"), claim.get("than")
    for block, lines in grid(claim.rows).items():
        for method, cells in lines.items():
            if upper in cells and lower in cells and (sure := _not_greater(cells[upper], cells[lower])) is not None:
                other = f"{lower} {cells[lower].printed}"
                yield claim.finding(sure, block, method, upper, cells[upper].printed, other, "It is not greater")


def _not_greater(upper: PublishedRow, lower: PublishedRow) -> Sure | None:
    way = order(upper, lower)
    return None if way > 0 else "certain" if way < 0 else "possible"


def _ordered(claim: Statement) -> Iterator[Finding]:
    falls = claim.fields["kind"] == "decreasing"
    methods = claim.methods("methods")
    for block, lines in grid(claim.picked()).items():
        for column, cells in columns(lines).items():
            for first, second in pairwise(methods):
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
    if all(row.method != claim.get("method") for row in cells):
        raise claim.compares_nothing()
    for row in cells:
        if row.method == claim.get("method") and not cut(row).meets(Interval(stated, stated)):
            holders = [r.method for r in cells if r.column == row.column and Fraction(r.printed) == stated]
            why = f"{names(holders)} has this number in the table" if holders else "The table has another number"
            yield claim.finding(
                "certain", row.block, row.method, row.column, claim.get("printed"), f"{row.printed} in the table", why
            )


def _count(claim: Statement) -> Iterator[Finding]:
    noun = claim.get("what")
    if noun in RANKS:
        yield from ranked.count(claim, RANKS[noun])
        return
    stated, counted = int(claim.get("printed")), COUNTS.get(noun)
    if counted is None:
        raise UnknownNameError("count of a claim", noun, [*COUNTS, *RANKS])
    items = counted(claim)
    if len(items) != stated:
        # what is announced may not have been printed; what is printed is there
        sure: Sure = "certain" if len(items) > stated else "likely"
        why = f"The table has {len(items)} {noun}: {names(items, 12)}"
        why += "" if sure == "certain" else "; others may not have been printed"
        yield claim.finding(sure, "", "", "", str(stated), str(len(items)), why)


def _methods(claim: Statement) -> list[str]:
    methods = [method for method in dict.fromkeys(row.method for row in claim.rows) if method not in SOURCES]
    return [m for m in methods if m != claim.own] if claim.fields.get("of") == "others" else methods


COUNTS: dict[str, Callable[[Statement], list[str]]] = {
    "methods": _methods,
    "metrics": lambda claim: list(dict.fromkeys(row.metric for row in claim.rows)),
    "classes": lambda claim: list(dict.fromkeys(r.class_ for r in claim.rows if r.class_ not in ("", AGGREGATE))),
    "datasets": lambda claim: list(dict.fromkeys(row.dataset for row in claim.rows)),
}
RANKS = {"best": 0, "second": 1}


def _improvement(claim: Statement) -> Iterator[Finding]:
    ours, over, unit = claim.get("of"), claim.get("over"), claim.fields.get("unit", "percent")
    claim.methods("of")
    compared = False
    for block, lines in grid(claim.picked()).items():
        for column, cells in columns(lines).items():
            if ours in cells and len(cells) > 1:
                compared = True
                difference = improvement.contradiction(cells, ours, over, claim.get("printed"), str(unit))
                if difference is not None:
                    recomputed, why, sure = difference
                    yield claim.finding(sure, block, ours, column, claim.get("printed"), recomputed, why)
    if not compared:
        raise claim.compares_nothing()


KINDS: dict[str, Callable[[Statement], Iterator[Finding]]] = {
    "best": ranked.best,
    "second": ranked.second,
    "greater": _greater,
    "decreasing": _ordered,
    "increasing": _ordered,
    "range": _range,
    "value": _value,
    "count": _count,
    "improvement": _improvement,
    "mean": lambda claim: iter(()),
}
