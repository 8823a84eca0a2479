"""Values outside their metric's range, values of another magnitude, and numbers with other digits than their column."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from statistics import median

from evalkit.leaderboards.audit.finding import Cells, Finding, Sure, columns, grid, names, rounded
from evalkit.metrics.registry import column_card
from evalkit.protocols.table.published import PublishedRow

FACTOR = 100  # a value so many times below or above the median of its column is of another magnitude
_PAIR = re.compile(r"(-?[\d.]+) \.\. (-?[\d.]+)")
_LEAST = re.compile(r">= (-?[\d.]+)")
Bounds = tuple[Fraction | None, Fraction | None]


def check(rows: list[PublishedRow]) -> Iterator[Finding]:
    """Everything that one column alone tells."""
    for block, lines in grid(rows).items():
        for column, cells in columns(lines).items():
            yield from _range(block, column, cells)
            yield from _magnitude(block, column, cells)
            yield from _mixture(block, column, cells)
            yield from _point(block, column, lines)
    yield from _digits(rows)


def bounds(metric: str, highest: Fraction = Fraction(0), least: Fraction = Fraction(0)) -> Bounds:
    """Least and greatest possible value; of a sum over two sources the sum's range (SSIM: -2 .. 2).

    Args:
        metric: its name, or one with " std" behind it.
        highest: middle of the printed column: a fraction is taken to be in percent where it is above 2 and, of a
            metric that is printed as a fraction, `least` too.
        least: smallest number of the column.

    Returns:
        The two bounds; None where the metric's card states none.
    """
    if metric.endswith(" std"):
        return Fraction(0), None
    card = column_card(metric)
    if card is None:
        return (Fraction(0) if metric in ("FLOPs", "Params", "Time") else None), None
    pairs = [(Fraction(low), Fraction(high)) for low, high in _PAIR.findall(card.range)]
    if pairs and card.range.startswith(str(_PAIR.search(card.range)[0])):  # type: ignore[index]
        low, high = min(p[0] for p in pairs), max(p[1] for p in pairs)
        percent = highest > 2 and (card.task in ("segmentation", "detection") or (high <= 1 and least > 2))
        return (low * 100, high * 100) if percent else (low, high)
    from_ = _LEAST.fullmatch(card.range)
    return (Fraction(from_[1]) if from_ else None), None


def _range(block: str, column: str, cells: dict[str, PublishedRow]) -> Iterator[Finding]:
    first = next(iter(cells.values()))
    highest = median(Fraction(row.printed) for row in cells.values())
    low, high = bounds(first.metric, highest, min(Fraction(row.printed) for row in cells.values()))
    for method, row in cells.items():
        value = rounded(row)
        if (low is not None and value.high < low) or (high is not None and value.low > high):
            text = f"{first.metric} is in {low if low is not None else '-inf'} .. {high if high is not None else 'inf'}"
            yield Finding(
                "range", "certain", first.protocol, block, method, column, row.printed, text.rpartition(" in ")[2],
                f"{text}: a decimal point, another unit, or another metric",
            )  # fmt: skip


def _point(block: str, column: str, lines: dict[str, Cells]) -> Iterator[Finding]:
    """A value of a fused image's metric that lies far outside its column and inside with the decimal point moved."""
    cells = columns(lines)[column]
    card = column_card(next(iter(cells.values())).metric)
    if card is None or card.task != "fusion" or len(cells) < 4 or card.name == "MSE":
        return
    for method, row in cells.items():
        others = [Fraction(other.printed) for name, other in cells.items() if name != method]
        value, low, high = Fraction(row.printed), min(others), max(others)
        if low <= 0 or high > 3 * low or low / 3 <= value <= 3 * high:
            continue
        for factor in (Fraction(1, 10), Fraction(10), Fraction(1, 100), Fraction(100)):
            if low * Fraction(9, 10) <= value * factor <= high * Fraction(11, 10):
                outside = [name for name in _outside(lines, method) if name != column]
                text = f"all others lie in {float(low):.4g} .. {float(high):.4g}: "
                text += (
                    f"the same row is far out in {names(outside)}, too, which speaks for other images"
                    if outside
                    else "a decimal point, or another unit"
                )
                yield Finding(
                    "magnitude", "possible" if outside else "likely", row.protocol, block, method, column, row.printed,
                    f"{float(value * factor):.4g} with the decimal point moved", text,
                )  # fmt: skip


def _outside(lines: dict[str, Cells], method: str) -> list[str]:
    """Columns in which a method is below half of all others, or above twice of them."""
    outside = []
    for column, cells in columns(lines).items():
        others = [Fraction(row.printed) for name, row in cells.items() if name != method]
        if method in cells and others and min(others) > 0:
            value = Fraction(cells[method].printed)
            if value * 2 < min(others) or value > 2 * max(others):
                outside.append(column)
    return outside


def _magnitude(block: str, column: str, cells: dict[str, PublishedRow]) -> Iterator[Finding]:
    values = {method: float(row.printed) for method, row in cells.items() if float(row.printed) > 0}
    if len(values) < 5:
        return
    middle = median(values.values())
    # parameters and times of networks do differ by so much; a cost that is less than any pixel's work does not
    for method, value in values.items():
        ratio = max(value / middle, middle / value)
        if ratio > FACTOR**2 or (ratio > FACTOR and column_card(cells[method].metric) is not None):
            yield Finding(
                "magnitude", "likely" if ratio > FACTOR**2 else "possible", cells[method].protocol, block, method,
                column, cells[method].printed, f"median of the column {middle:.4g}",
                f"{ratio:.0f} times {'below' if value < middle else 'above'} the median: another unit, or not measured "
                "in the same way",
            )  # fmt: skip


def _mixture(block: str, column: str, cells: dict[str, PublishedRow]) -> Iterator[Finding]:
    """A column of which some values are sums over the two sources and others cannot be."""
    first = next(iter(cells.values()))
    card = column_card(first.metric)
    if card is None or "a sum:" not in card.range:
        return
    values = sorted((Fraction(row.printed), method) for method, row in cells.items() if Fraction(row.printed) <= 2)
    above = [method for value, method in values if value > 1]
    if not above:
        return
    least_above = values[len(values) - len(above)][0]
    split = len(above) < len(values) and least_above >= 2 * values[len(values) - len(above) - 1][0]
    below = [method for value, method in values if value <= 1]
    sure: Sure = "likely" if split else "possible"
    text = f"{len(above)} of {len(values)} values are above 1: the sum over both sources, not their mean"
    if split:
        text += f"; {names(below)} lie far below: two conventions in one column, not to be ranked together"
    yield Finding(
        "convention", sure, first.protocol, block, "", column, f"{cells[values[0][1]].printed} .. "
        f"{cells[values[-1][1]].printed}", "1 at most for a mean over the two sources", text,
    )  # fmt: skip


def _digits(rows: list[PublishedRow]) -> Iterator[Finding]:
    """Numbers with fewer or more decimals than the rest of their column, put together by table."""
    shorter: list[PublishedRow] = []
    longer: list[PublishedRow] = []
    zeros = 0
    for _, lines in grid(rows).items():
        for cells in columns(lines).values():
            usual, count = Counter(row.decimals for row in cells.values()).most_common(1)[0]
            if count * 2 <= len(cells) or len(cells) < 4:
                continue
            shorter += [row for row in cells.values() if row.decimals < usual]
            longer += [row for row in cells.values() if row.decimals > usual]
            zeros += sum(row.decimals == usual > 0 and row.printed.endswith("0") for row in cells.values())
    for which, word in ((shorter, "fewer"), (longer, "more")):
        if not which:
            continue
        reason = "digits lost"
        if zeros < len(which):
            kept = (
                f"zeros at the end are kept in {zeros} cells only" if zeros else "no cell of the table ends in a zero"
            )
            reason = f"zeros left out: {kept}"
        yield Finding(
            "digits", "possible", rows[0].protocol, "", "", "", names(row.printed for row in which),
            f"decimals of its column ({len(which)} with {word})",
            f"{names(f'{row.block} {row.method} {row.column}'.strip() for row in which)}: "
            + (reason if word == "fewer" else "copied from elsewhere, or another rounding"),
        )  # fmt: skip
