"""Aggregates against their classes: a printed mean (mIoU, mAP) must follow from the printed classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

from evalkit.leaderboards.audit.finding import (
    AGGREGATE,
    Cells,
    Finding,
    Interval,
    Sure,
    cut,
    grid,
    names,
    rounded,
    total,
)
from evalkit.protocols.table.published import PublishedRow

Meaning = Callable[[PublishedRow], Interval]  # of a printed number
FAR = 30  # classes and their mean are apart by so much only where one of them is in percent
HELD = Fraction(1, 2)  # a rule that this share of a block's rows follows is the table's rule


def check(rows: list[PublishedRow]) -> Iterator[Finding]:
    """Aggregate columns that are not the mean of their classes."""
    classes: dict[tuple[str, str], list[str]] = {}
    aggregates: dict[tuple[str, str], str] = {}
    for row in rows:
        if row.class_ == AGGREGATE:
            aggregates[row.block, row.metric] = row.column
        elif row.class_:
            columns = classes.setdefault((row.block, row.metric), [])
            columns += [row.column] if row.column not in columns else []
    tables = grid(rows)
    for (block, metric), aggregate in aggregates.items():
        parts = classes.get((block, metric), [])
        lines = {m: cells for m, cells in tables.get(block, {}).items() if aggregate in cells}
        if len(parts) >= 2 and lines:
            yield from _block(rows[0].protocol, block, aggregate, parts, lines)


def _block(protocol: str, block: str, aggregate: str, parts: list[str], lines: dict[str, Cells]) -> Iterator[Finding]:
    full = {m: cells for m, cells in lines.items() if all(part in cells for part in parts)}
    scale = _scale(aggregate, parts, lines)
    if scale != 1:
        example = next(iter(lines.values()))[aggregate].printed
        units = "classes in percent, their mean as a fraction" if scale > 1 else "classes as fractions, the mean in %"
        yield Finding(
            "units", "certain", protocol, block, "", aggregate, example, str(float(Fraction(example) * scale)),
            f"two units in one block: {units} (a factor of 100)",
        )  # fmt: skip
    wrong = [m for m, cells in full.items() if not _follows(cells, aggregate, parts, scale, cut)]
    hidden = _hidden_class(wrong, full, aggregate, parts, scale)
    if hidden is not None:
        yield from _with_hidden(protocol, block, aggregate, parts, full, wrong, scale, hidden)
        return
    for method, cells in full.items():
        if _follows(cells, aggregate, parts, scale, rounded):
            continue
        sure: Sure = "certain" if method in wrong else "possible"
        mean = _mean([rounded(cells[part]) for part in parts])
        reason = (
            _reason(method, full, aggregate, parts, scale) if method in wrong else "a digit cut off instead of rounded"
        )
        yield Finding(
            "mean", sure, protocol, block, method, aggregate, cells[aggregate].printed,
            str(mean * (1 / scale)),
            f"the mean of the {len(parts)} printed classes is another number: {reason}",
        )  # fmt: skip
    for method, cells in lines.items():
        holes = [part for part in parts if part not in cells]
        if len(holes) == 1 and len(wrong) <= len(full) * (1 - HELD):
            yield _hole(protocol, block, method, aggregate, parts, cells, holes[0], scale)


def _scale(aggregate: str, parts: list[str], lines: dict[str, Cells]) -> Fraction:
    """100 for classes in percent below a mean as fraction, 1/100 the other way round, else 1."""
    full = [cells for cells in lines.values() if all(part in cells for part in parts)]
    classes = sum((Fraction(cells[part].printed) for cells in full for part in parts), Fraction(0)) / len(parts)
    means = sum((Fraction(cells[aggregate].printed) for cells in full), Fraction(0))
    if classes <= 0 or means <= 0:
        return Fraction(1)
    if classes / means > FAR:
        return Fraction(100)
    return Fraction(1, 100) if means / classes > FAR else Fraction(1)


def _mean(intervals: list[Interval]) -> Interval:
    return total(intervals) * Fraction(1, len(intervals))


def _follows(cells: Cells, aggregate: str, parts: list[str], scale: Fraction, interval: Meaning) -> bool:
    return _mean([interval(cells[part]) for part in parts]).meets(interval(cells[aggregate]) * scale)


def _solved(cells: Cells, aggregate: str, parts: list[str], scale: Fraction) -> Interval:
    """What one more class would have to be so that the mean comes out."""
    others = [part for part in parts if part in cells]
    return rounded(cells[aggregate]) * scale * (len(others) + 1) - total(rounded(cells[part]) for part in others)


def _limit(parts: list[str], full: Iterable[Cells]) -> int:
    """The greatest value a class can have: 1, or 100 where the table prints percent."""
    return 100 if any(Fraction(cells[part].printed) > 1 for cells in full for part in parts if part in cells) else 1


def _hidden_class(
    wrong: list[str], full: dict[str, Cells], aggregate: str, parts: list[str], scale: Fraction
) -> dict[str, Interval] | None:
    """Method -> value of one class that is not printed, where most rows need one and one explains most of them."""
    if len(wrong) <= len(full) * HELD or len(wrong) < 2:
        return None
    limit = _limit(parts, full.values())
    solved = {method: _solved(cells, aggregate, parts, scale) for method, cells in full.items()}
    possible = [method for method, value in solved.items() if value.meets(Interval(Fraction(0), Fraction(limit)))]
    return solved if len(possible) > len(full) * HELD else None


def _with_hidden(
    protocol: str,
    block: str,
    aggregate: str,
    parts: list[str],
    full: dict[str, Cells],
    wrong: list[str],
    scale: Fraction,
    hidden: dict[str, Interval],
) -> Iterator[Finding]:
    limit = Interval(Fraction(0), Fraction(_limit(parts, full.values())))
    possible = {method: value for method, value in hidden.items() if value.meets(limit)}
    low = min(value.low for value in possible.values())
    high = max(value.high for value in possible.values())
    yield Finding(
        "mean", "certain", protocol, block, "", aggregate, f"{len(wrong)} of {len(full)} rows",
        f"one more class of {Interval(max(low, limit.low), min(high, limit.high))}",
        f"the printed means are not those of the {len(parts)} printed classes. A mean over {len(parts) + 1} classes, "
        f"one of them not printed, explains {len(possible)} of {len(full)} rows: "
        + names((f"{m} needs {v} there" for m, v in possible.items()), 12),
    )  # fmt: skip
    for method, value in hidden.items():
        if method not in possible:
            mean = _mean([rounded(full[method][part]) for part in parts]) * (1 / scale)
            yield Finding(
                "mean", "certain", protocol, block, method, aggregate, full[method][aggregate].printed, str(mean),
                f"not the mean of the {len(parts)} printed classes, and not with the class that explains the other "
                f"rows: here it would have to be {value}",
            )  # fmt: skip


def _reason(method: str, full: dict[str, Cells], aggregate: str, parts: list[str], scale: Fraction) -> str:
    cells = full[method]
    for other, theirs in full.items():
        if other != method and _mean([rounded(theirs[p]) for p in parts]).meets(rounded(cells[aggregate]) * scale):
            return f"it is the mean of the row {other}: a slip of the row?"
    gap = rounded(cells[aggregate]) * scale * len(parts) - total(rounded(cells[part]) for part in parts)
    limit = Interval(Fraction(0), Fraction(_limit(parts, full.values())))
    able = [part for part in parts if (rounded(cells[part]) + gap).meets(limit)]
    one = f"; one class alone could be it ({names(able, 3)})" if able else "; no class alone could make up for that"
    return f"the classes lack {gap} in sum{one}"


def _hole(
    protocol: str, block: str, method: str, aggregate: str, parts: list[str], cells: Cells, hole: str, scale: Fraction
) -> Finding:
    value = _solved(cells, aggregate, parts, scale)
    limit = Interval(Fraction(0), Fraction(_limit(parts, [cells])))
    inside = value.meets(limit)
    return Finding(
        "missing cell", "likely" if inside else "certain", protocol, block, method, hole, "", str(value),
        f"the cell is empty; the printed mean {cells[aggregate].printed} follows from it with this value"
        if inside
        else f"the cell is empty, and no value of it gives the printed mean {cells[aggregate].printed}",
    )  # fmt: skip
