"""Published parameter counts against the counts of evalkit's own networks."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import log

from evalkit.leaderboards.audit.finding import Finding, Interval, Sure, cut, grid
from evalkit.methods.registry import method_cards
from evalkit.protocols.table.published import PublishedRow

NEAR, SMALL = 0.005, 0.1  # relative differences: of rounding, of a network's parts other than its layers
UNITS = {"": 1, "K": 1000, "M": 1_000_000}


def check(rows: list[PublishedRow]) -> Iterator[Finding]:
    """Parameter columns that are not the trainable values of the method's network, each counted once."""
    known = {name: card.parameters for name, card in method_cards().items() if card.parameters}
    for block, lines in grid(rows).items():
        cells = {m: cells["Params"] for m, cells in lines.items() if "Params" in cells and m in known}
        if not cells:
            continue
        unit = _unit(cells, known)
        for method, row in cells.items():
            count = Fraction(known[method], UNITS[unit])
            if not cut(row).meets(Interval(count, count)):
                yield _finding(block, method, row, known[method], unit)


def _unit(cells: dict[str, PublishedRow], known: dict[str, int]) -> str:
    """The unit in which the printed counts are nearest to the known ones."""

    def distance(unit: str) -> float:
        return sum(abs(log(max(float(row.printed), 1e-9) * UNITS[unit] / known[m])) for m, row in cells.items())

    return min(UNITS, key=distance)


def _finding(block: str, method: str, row: PublishedRow, count: int, unit: str) -> Finding:
    ratio = float(row.printed) * UNITS[unit] / count
    sure: Sure = "likely"
    if 1 + NEAR < ratio <= 2 + NEAR:
        sure = "likely" if ratio > 1 + SMALL else "possible"  # a small part may be one that the other count leaves out
        extra = float(row.printed) * UNITS[unit] - count
        why = f"{extra:,.0f} more: a part of that size that runs once per modality (an encoder) and is counted at "
        why += "every call, as a widespread profiler does, explains a factor between 1 and 2"
    elif 1 - SMALL <= ratio <= 1 + NEAR:
        sure = "possible"
        why = "norms, temperatures and tables that a network's own modules hold are not seen by a widespread profiler"
    else:
        why = "no part counted twice and no small part left out explains it: another version, or another unit"
    return Finding(
        "parameters", sure, row.protocol, block, method, row.column, f"{row.printed} {unit}".strip(),
        f"{count / UNITS[unit]:.6g} {unit}".strip() + f" (a factor of {ratio:.3f})", why,
    )  # fmt: skip
