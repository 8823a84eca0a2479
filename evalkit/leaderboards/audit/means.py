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
NEARLY_ALL = Fraction(9, 10)
SLIPPED = 3  # rows from which on numbers that fit the row before or after are not chance
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
    done: set[tuple[str, str]] = set()  # block, method of the rows that a slip explains
    for metric in dict.fromkeys(metric for _, metric in aggregates):
        for finding, places in _row_slips(rows, metric, aggregates, classes):
            done |= places
            yield finding
    for (block, metric), aggregate in aggregates.items():
        parts = classes.get((block, metric), [])
        lines = {
            m: cells for m, cells in tables.get(block, {}).items() if aggregate in cells and (block, m) not in done
        }
        if len(parts) >= 2 and lines:
            yield from _block(rows[0].protocol, block, aggregate, parts, lines)


def _row_slips(
    rows: list[PublishedRow],
    metric: str,
    aggregates: dict[tuple[str, str], str],
    classes: dict[tuple[str, str], list[str]],
) -> Iterator[tuple[Finding, set[tuple[str, str]]]]:
    """Columns that are a row too low or too high: means that follow with the classes of the next or previous line.

    Lines are in the table's order, whatever network (block) they are of.
    """
    tables = grid(rows)
    order = dict.fromkeys((row.block, row.method) for row in rows if (row.block, metric) in aggregates)
    layouts: dict[tuple[str, tuple[str, ...]], list[tuple[str, str]]] = {}
    for block, method in order:
        aggregate, parts = aggregates[block, metric], classes.get((block, metric), [])
        cells = tables.get(block, {}).get(method, {})
        if len(parts) > 1 and aggregate in cells and all(part in cells for part in parts):
            layouts.setdefault((aggregate, tuple(parts)), []).append((block, method))
    for (aggregate, columns), places in layouts.items():
        parts = list(columns)
        lines = [tables[block][method] for block, method in places]
        scale = _scale(aggregate, parts, dict(zip(map(str, range(len(lines))), lines, strict=True)))
        wrong = [i for i, cells in enumerate(lines) if not _follows(cells, aggregate, parts, scale, cut)]
        best: tuple[list[int], int, list[str]] = ([], 0, [])
        for step in (1, -1):
            for size in range(1, len(parts) + 1):
                for moved in (parts[:size], parts[len(parts) - size :]):
                    fits = [i for i in wrong if _fits(lines, i, step, moved, aggregate, parts, scale)]
                    if len(fits) > len(best[0]):
                        best = fits, step, moved
        fits, step, moved = best
        if len(fits) < SLIPPED or len(fits) <= len(wrong) * HELD:
            continue
        first, last = min(wrong), max(wrong)
        where = "below" if step == 1 else "above"
        names_of = [places[i][1] for i in fits]
        text = (
            f"from {places[first][1]} to {places[last][1]} the columns {moved[0]} .. {moved[-1]} are a line too "
            f"{'high' if step == -1 else 'low'}, or the rest of the line too {'high' if step == 1 else 'low'}: with "
            f"those of the line {where}, the printed means of {names(names_of, 8)} follow"
        )
        rest = [places[i][1] for i in wrong if i not in fits]
        if rest:
            text += f"; the numbers of {names(rest)} are lost"
        explained = {places[i] for i in wrong if i in fits or first <= i <= last}
        yield Finding(
            "mean", "certain", rows[0].protocol, "", "", aggregate,
            f"{len(wrong)} of {len(lines)} rows", "a slip of the row", text,
        ), explained  # fmt: skip


def _fits(
    lines: list[Cells], i: int, step: int, moved: list[str], aggregate: str, parts: list[str], scale: Fraction
) -> bool:
    """Whether a line's mean follows with the `moved` classes of the line `step` below."""
    if not 0 <= i + step < len(lines):
        return False
    taken = [rounded((lines[i + step] if part in moved else lines[i])[part]) for part in parts]
    return _mean(taken).meets(rounded(lines[i][aggregate]) * scale)


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
    slipped = {m: part for m, cells in full.items() if (part := _unit_slip(cells, aggregate, parts, scale))}
    for method, part in slipped.items():
        row = full.pop(method)[part]
        factor = 100 if Fraction(row.printed) <= 1 else Fraction(1, 100)
        yield Finding(
            "units", "certain", protocol, block, method, part, row.printed, str(rounded(row) * factor),
            "a fraction among percents (or the other way round): with a factor of 100 the printed mean "
            f"{lines[method][aggregate].printed} follows, without it does not",
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
        missing = [part for part in parts if part not in cells]
        if len(missing) == 1 and len(wrong) <= len(full) * (1 - HELD):
            yield _missing_cell(protocol, block, method, aggregate, parts, cells, missing[0], scale)


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


def _unit_slip(cells: Cells, aggregate: str, parts: list[str], scale: Fraction) -> str:
    """The one class that is in another unit than the rest of its row, where that is why the mean does not follow."""
    if _follows(cells, aggregate, parts, scale, cut):
        return ""
    for part in parts:
        others = [Fraction(cells[other].printed) for other in parts if other != part]
        value = Fraction(cells[part].printed)
        if 0 < value <= 1 < min(others):
            factor = Fraction(100)
        elif max(others) <= 1 < value:
            factor = Fraction(1, 100)
        else:
            continue
        fixed = [cut(cells[other]) * (factor if other == part else 1) for other in parts]
        if _mean(fixed).meets(cut(cells[aggregate]) * scale):
            return part
    return ""


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
    """Method -> value of one class that is not printed, where all rows but a tenth need one, and it explains most.

    A row that is the mean of its printed classes speaks against a class that is not printed.
    """
    if len(wrong) < len(full) * NEARLY_ALL or len(wrong) < 2:
        return None
    limit = _limit(parts, full.values())
    solved = {method: _solved(full[method], aggregate, parts, scale) for method in wrong}
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
    one = (
        f"; one misprint could be it ({names(able, 3)}, or the mean)"
        if able
        else "; no class alone could make up for that"
    )
    return f"the classes lack {gap} in sum{one}"


def _missing_cell(
    protocol: str,
    block: str,
    method: str,
    aggregate: str,
    parts: list[str],
    cells: Cells,
    missing_cell: str,
    scale: Fraction,
) -> Finding:
    value = _solved(cells, aggregate, parts, scale)
    limit = Interval(Fraction(0), Fraction(_limit(parts, [cells])))
    inside = value.meets(limit)
    return Finding(
        "missing cell", "likely" if inside else "certain", protocol, block, method, missing_cell, "", str(value),
        f"the cell is empty; the printed mean {cells[aggregate].printed} follows from it with this value"
        if inside
        else f"the cell is empty, and no value of it gives the printed mean {cells[aggregate].printed}",
    )  # fmt: skip
