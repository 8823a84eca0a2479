"""By how much one row exceeds another, and which reading of "x % better" gives a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import product

from evalkit.errors import UnknownNameError
from evalkit.leaderboards.audit.finding import SOURCES, Interval, Sure, cut, total
from evalkit.metrics.registry import better_of
from evalkit.protocols.table.published import PublishedRow

Cells = Mapping[str, PublishedRow]  # method -> cell of one column
Meaning = Callable[[PublishedRow], Interval]  # what a printed number stands for


def _exact(row: PublishedRow) -> Interval:
    return Interval(Fraction(row.printed), Fraction(row.printed))


def contradiction(cells: Cells, ours: str, over: str, printed: str, unit: str) -> tuple[str, str, Sure] | None:
    """None where the numbers bear the claim out, else what they give, which other reading gives the claim, how sure.

    Args:
        cells: method -> cell, of one column.
        ours: the method that is said to be better.
        over: whom it is compared with: a method, "mean" or "best" of the others.
        printed: the improvement as the text has it.
        unit: "percent" (of the other's value) or "points".

    Raises:
        UnknownNameError: `over` is not in the table.
    """
    stated = _stated(printed)
    value = _gain(cells[ours], _reference(cells, ours, over, cut), unit, "theirs", cut)
    if value is None:
        return None
    signed = _signed(value, unit)
    as_printed = [text for text, gain in _readings(cells, ours, over, unit, _exact) if gain and gain.meets(stated)]
    if value.meets(stated):
        # unrounded values can give it; say so where the printed ones give it in another reading and not in this one
        own = _gain(cells[ours], _reference(cells, ours, over, _exact), unit, "theirs", _exact)
        if own is None or own.meets(stated) or not as_printed:
            return None
        return signed, f"Possible before rounding; the printed numbers give it {as_printed[0]}", "possible"
    others = [text for text, gain in _readings(cells, ours, over, unit, cut) if gain and gain.meets(stated)]
    if not others:
        return signed, "No other reading gives it either (relative to its own value, points, any other row)", "certain"
    others = [*as_printed, *(text for text in others if text not in as_printed)]
    more = f"; or {len(others) - 2} more" if len(others) > 2 else ""
    return signed, f"It comes out {'; or '.join(others[:2])}{more}", "likely"


def _signed(value: Interval, unit: str) -> str:
    return f"{value} {'%' if unit == 'percent' else 'points'}"


def _stated(printed: str) -> Interval:
    return cut(PublishedRow("", "", "", "", "", "", printed))


def _others(cells: Cells, ours: str) -> list[str]:
    return [method for method in cells if method != ours and method not in SOURCES]


def _reference(cells: Cells, ours: str, over: str, meaning: Meaning) -> Interval:
    others = _others(cells, ours)
    if over in cells:
        return meaning(cells[over])
    if over == "mean":
        return total(meaning(cells[m]) for m in others) * Fraction(1, len(others))
    if over == "best":
        return meaning(cells[_best(cells, others)])
    raise UnknownNameError("row that a claim compares with", over, [*cells, "mean", "best"])


def _best(cells: Cells, others: list[str]) -> str:
    sign = -1 if better_of(cells[others[0]].metric) == "lower" else 1
    return max(others, key=lambda method: sign * Fraction(cells[method].printed))


def _gain(mine: PublishedRow, theirs: Interval, unit: str, divisor: str, meaning: Meaning) -> Interval | None:
    """Percent of the other value (or of the method's own), or points; positive is better. All corners count.

    None where it would be percent of what may be zero.
    """
    own = meaning(mine)
    sign = -1 if better_of(mine.metric) == "lower" else 1
    points = 100 if abs(Fraction(mine.printed)) <= 1 else 1
    ends = []
    if unit == "percent" and (theirs if divisor == "theirs" else own).meets(Interval(Fraction(0), Fraction(0))):
        return None
    for x, y in product((own.low, own.high), (theirs.low, theirs.high)):
        under = y if divisor == "theirs" else x
        if unit == "points":
            ends.append(sign * (x - y) * points)
        else:
            ends.append(sign * (x - y) / abs(under) * 100)
    return Interval(min(ends), max(ends))


def _readings(cells: Cells, ours: str, over: str, unit: str, meaning: Meaning) -> Iterator[tuple[str, Interval | None]]:
    """Other readings of the claim: relative to the method's own value, in points, against another row."""
    mine, reference = cells[ours], _reference(cells, ours, over, meaning)
    other_unit = "points" if unit == "percent" else "percent"
    word = {"percent": "in percent", "points": "in points"}
    yield f"relative to {ours}'s own value", _gain(mine, reference, "percent", "ours", meaning)
    yield word[other_unit], _gain(mine, reference, other_unit, "theirs", meaning)
    for label in ("mean", "best"):
        if label != over:
            theirs = _reference(cells, ours, label, meaning)
            yield f"against the {label} of the others", _gain(mine, theirs, unit, "theirs", meaning)
    for method in _others(cells, ours):
        if method != over:
            yield f"against {method}", _gain(mine, meaning(cells[method]), unit, "theirs", meaning)
    for method in [m for m in cells if m != ours]:
        theirs = meaning(cells[method])
        yield f"against {method}, relative to {ours}'s own value", _gain(mine, theirs, "percent", "ours", meaning)
