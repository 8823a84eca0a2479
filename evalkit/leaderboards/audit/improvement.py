"""By how much one row exceeds another, and which reading of "x % better" gives a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import product

from evalkit.errors import UnknownNameError
from evalkit.leaderboards.audit.finding import SOURCES, Interval, Sure, rounded, total, ulp
from evalkit.metrics.registry import better_of
from evalkit.protocols.table.published import PublishedRow, decimals_of

Cells = Mapping[str, PublishedRow]  # method -> cell of one column


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
    reference = _reference(cells, ours, over)
    value = _gain(cells[ours], reference, unit, "theirs")
    readings = list(_readings(cells, ours, over, unit))
    if value.meets(stated):
        # unrounded values can give it; say so where the printed ones give it in another reading and not in this one
        nominal = [text for text, gain in readings if _nearest(gain, stated)]
        if _nearest(value, stated) or not nominal:
            return None
        return _signed(value, unit), f"Possible before rounding; the printed numbers give it {nominal[0]}", "possible"
    signed = _signed(value, unit)
    others = [text for text, gain in readings if gain.meets(stated)]
    if not others:
        return signed, "No other reading gives it either (relative to its own value, points, any other row)", "certain"
    more = f"; or {len(others) - 2} more" if len(others) > 2 else ""
    return signed, f"It comes out {'; or '.join(others[:2])}{more}", "likely"


def _signed(value: Interval, unit: str) -> str:
    return f"{value} {'%' if unit == 'percent' else 'points'}"


def _nearest(value: Interval, stated: Interval) -> bool:
    """Whether the printed numbers themselves, the middle of the interval, round to the claim or are cut off to it."""
    return stated.low < (value.low + value.high) / 2 < stated.high


def _stated(printed: str) -> Interval:
    unit = Fraction(1, 10 ** decimals_of(printed))
    return Interval(Fraction(printed) - unit, Fraction(printed) + unit)


def _others(cells: Cells, ours: str) -> list[str]:
    return [method for method in cells if method != ours and method not in SOURCES]


def _reference(cells: Cells, ours: str, over: str) -> Interval:
    others = _others(cells, ours)
    if over in cells:
        return rounded(cells[over])
    if over == "mean":
        return total(rounded(cells[m]) for m in others) * Fraction(1, len(others))
    if over == "best":
        return rounded(cells[_best(cells, others)])
    raise UnknownNameError("row that a claim compares with", over, [*cells, "mean", "best"])


def _best(cells: Cells, others: list[str]) -> str:
    sign = -1 if better_of(cells[others[0]].metric) == "lower" else 1
    return max(others, key=lambda method: sign * Fraction(cells[method].printed))


def _gain(mine: PublishedRow, theirs: Interval, unit: str, divisor: str) -> Interval:
    """Percent of the other value (or of the method's own), or points; positive is better. All corners count."""
    own = rounded(mine)
    sign = -1 if better_of(mine.metric) == "lower" else 1
    points = 100 if abs(own.high) <= 1 + ulp(mine) else 1
    ends = []
    for x, y in product((own.low, own.high), (theirs.low, theirs.high)):
        under = y if divisor == "theirs" else x
        if unit == "points":
            ends.append(sign * (x - y) * points)
        elif under:
            ends.append(sign * (x - y) / abs(under) * 100)
    return Interval(min(ends), max(ends))


def _readings(cells: Cells, ours: str, over: str, unit: str) -> Iterator[tuple[str, Interval]]:
    """Other readings of the claim: relative to the method's own value, in points, against another row."""
    reference = _reference(cells, ours, over)
    other_unit = "points" if unit == "percent" else "percent"
    word = {"percent": "in percent", "points": "in points"}
    yield f"relative to {ours}'s own value", _gain(cells[ours], reference, "percent", "ours")
    yield word[other_unit], _gain(cells[ours], reference, other_unit, "theirs")
    for label in ("mean", "best"):
        if label != over:
            yield (
                f"against the {label} of the others",
                _gain(cells[ours], _reference(cells, ours, label), unit, "theirs"),
            )
    for method in _others(cells, ours):
        if method != over:
            yield f"against {method}", _gain(cells[ours], rounded(cells[method]), unit, "theirs")
    for method in [m for m in cells if m != ours]:
        yield (
            f"against {method}, relative to {ours}'s own value",
            _gain(cells[ours], rounded(cells[method]), "percent", "ours"),
        )
