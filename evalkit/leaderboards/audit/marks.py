"""Best and second-best marks that the numbers do not bear out."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from evalkit.leaderboards.audit.finding import SOURCES, Finding, columns, grid, names, order
from evalkit.metrics.registry import better_of
from evalkit.protocols.table.published import PublishedRow


def check(rows: list[PublishedRow]) -> Iterator[Finding]:
    """Marks on values that are not the best or second best, and better or equal values without one."""
    for block, lines in grid(rows).items():
        for column, cells in columns(lines).items():
            if any(row.mark for row in cells.values()):
                yield from _column(block, column, cells)


def _column(block: str, column: str, cells: dict[str, PublishedRow]) -> Iterator[Finding]:
    metric = next(iter(cells.values())).metric
    way = better_of(metric)
    if way is None:
        return
    # source images stand beside the methods; they compete only where the paper marks one of them
    rivals = {m: r for m, r in cells.items() if m not in SOURCES or any(cells[s].mark for s in SOURCES if s in cells)}
    sign = 1 if way == "higher" else -1
    values = {method: Fraction(row.printed) * sign for method, row in rivals.items()}
    above = {m: [o for o in rivals if sign * order(rivals[o], rivals[m]) > 0] for m in rivals}
    marked = [method for method, row in rivals.items() if row.mark]
    known = any(row.mark == "best" for row in rivals.values())  # of some tables only the second best are marked
    unmarked = [m for m in rivals if known and m not in marked and all(m in above[other] for other in marked)]
    for method in unmarked:
        text = names(f"{other} {cells[other].printed} ({cells[other].mark})" for other in marked)
        yield Finding(
            "mark", "certain", cells[method].protocol, block, method, column, cells[method].printed, text,
            "not marked, but better as printed than every value that is: a wrong mark, or a wrong number",
        )  # fmt: skip
    best = [method for method, value in values.items() if value == max(values.values())]
    for method in marked:
        row = rivals[method]
        better = [other for other in above[method] if other not in unmarked]
        allowed = 0 if row.mark == "best" else 1
        if len(better) > allowed and not (row.mark == "second" and set(better) <= set(best)):
            yield Finding(
                "mark", "certain", row.protocol, block, method, column, f"{row.printed} ({row.mark})",
                names(f"{other} {cells[other].printed}" for other in better),
                f"marked {row.mark}, but {len(better)} {'is' if len(better) == 1 else 'are'} better as printed",
            )  # fmt: skip
        elif row.mark == "second" and all(method in above[other] for other in rivals if other != method):
            yield Finding(
                "mark", "certain", row.protocol, block, method, column, f"{row.printed} (second)", "best",
                "marked second, but no other value is better as printed",
            )  # fmt: skip
    yield from _ties(block, column, rivals, values)


def _ties(block: str, column: str, cells: dict[str, PublishedRow], values: dict[str, Fraction]) -> Iterator[Finding]:
    for mark in ("best", "second"):
        marked = [method for method, row in cells.items() if row.mark == mark]
        for method in [m for m, row in cells.items() if not row.mark]:
            equal = [other for other in marked if values[other] == values[method]]
            if equal:
                yield Finding(
                    "mark tie", "possible", cells[method].protocol, block, method, column, cells[method].printed,
                    f"{equal[0]} {cells[equal[0]].printed} ({mark})",
                    f"equal as printed, but only one of them is marked {mark}; the digits left out may decide",
                )  # fmt: skip
