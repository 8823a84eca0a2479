"""Statements that a method is best or second best: in each column, over several blocks, or in how many columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from evalkit.leaderboards.audit.finding import AGGREGATE, SOURCES, Cells, Finding, Sure, columns, grid, names, order
from evalkit.leaderboards.audit.statement import Statement
from evalkit.metrics.registry import better_of
from evalkit.protocols.table.published import PublishedRow


def best(claim: Statement) -> Iterator[Finding]:
    """Cells in which a method is not best, or readings in which it is not best over the blocks."""
    claim.get("method")
    methods, over = claim.methods("method"), claim.fields.get("over")
    if over in ("all", "open"):
        yield from _over_blocks(claim, methods[0], over == "open")
        return
    for block, column, method, above, equal in _places(claim, methods):
        cells, printed = column.cells, column.cells[method].printed
        if above:
            text = names(f"{m} {cells[m].printed}" for m in above)
            yield claim.finding(
                "certain", block, method, column.name, printed, text, f"Better as printed: {names(above)}"
            )
        elif equal:
            why = f"Equal as printed: {names(equal)}; not best alone"
            yield claim.finding("possible", block, method, column.name, printed, cells[equal[0]].printed, why)


@dataclass(frozen=True)
class _Column:
    name: str
    cells: dict[str, PublishedRow]  # of methods
    sign: int  # 1 where more is better

    def better(self, method: str, other: str) -> int:
        """1 where the first is better, -1 where it is worse, 0 where the printed digits leave it open."""
        return self.sign * order(self.cells[method], self.cells[other])

    def value(self, method: str) -> Fraction:
        return self.sign * Fraction(self.cells[method].printed)


def _columns(lines: dict[str, Cells]) -> Iterator[_Column]:
    for name, cells in columns(lines).items():
        way = better_of(next(iter(cells.values())).metric)
        if way is not None:
            yield _Column(name, {m: c for m, c in cells.items() if m not in SOURCES}, 1 if way == "higher" else -1)


def _places(claim: Statement, methods: list[str]) -> Iterator[tuple[str, _Column, str, list[str], list[str]]]:
    """Block, column, method, rivals that are better there, rivals that are as good as printed."""
    compared = False
    for block, lines in grid(claim.picked()).items():
        for column in _columns(lines):
            rivals = [m for m in column.cells if m not in methods]
            for method in [m for m in methods if m in column.cells]:
                compared = compared or bool(rivals)
                above = [m for m in rivals if column.better(m, method) > 0]
                equal = [m for m in rivals if column.better(m, method) == 0]
                yield block, column, method, above, equal
    if not compared:
        raise claim.compares_nothing()


def _over_blocks(claim: Statement, method: str, open_: bool) -> Iterator[Finding]:
    """A statement over several blocks, by each of its readings.

    It is certainly false where one rival is better in every block: whatever the blocks are put together by, the rival
    is ahead. Else mean and mean rank over the blocks are looked at, and, where the text names no data set, each block.
    """
    blocks = {block: {c.name: c for c in _columns(lines)} for block, lines in grid(claim.picked()).items()}
    compared = False
    for name in dict.fromkeys(name for by_name in blocks.values() for name in by_name):
        tables = {block: by_name[name] for block, by_name in blocks.items() if name in by_name}
        shared = [m for m in next(iter(tables.values())).cells if all(m in t.cells for t in tables.values())]
        if method not in shared or len(shared) < 2:
            continue
        compared = True
        rivals = [m for m in shared if m != method]
        above = {block: [m for m in rivals if t.better(m, method) > 0] for block, t in tables.items()}
        mean = {m: sum((t.value(m) for t in tables.values()), Fraction(0)) / len(tables) for m in shared}
        rank = {
            m: -Fraction(sum(1 + sum(t.value(o) > t.value(m) for o in shared) for t in tables.values()), len(tables))
            for m in shared
        }
        readings = {  # reading -> rivals that are ahead in it
            f"by the mean over the {len(tables)} blocks": [m for m in rivals if mean[m] > mean[method]],
            "by the mean rank": [m for m in rivals if rank[m] > rank[method]],
        }
        if all(readings.values()) and any(all(m in ahead for ahead in above.values()) for m in rivals):
            sure: Sure = "certain"
        else:
            sure = "likely" if all(readings.values()) else "possible"
        if open_:
            readings = {"on every block": list(dict.fromkeys(m for a in above.values() for m in a)), **readings}
        if not any(readings.values()) or (open_ and not readings["on every block"]):
            continue
        best_in = [block for block, ahead in above.items() if not ahead]
        fails = [f"{reading} ({names(ahead, 3)})" for reading, ahead in readings.items() if ahead]
        holds = [reading for reading, ahead in readings.items() if not ahead]
        holds += [f"on {names(best_in)} alone"] if open_ and best_in else []
        first = max((m for ahead in readings.values() for m in ahead), key=lambda m: (rank[m], mean[m]))
        yield claim.finding(
            sure, "", method, name, _standing(tables, method, rank), f"{first} {_standing(tables, first, rank)}",
            f"False if it means best {', '.join(fails)}; true "
            + (f"if it means best {', '.join(holds)}" if holds else "in no reading that was tried")
            + (f". Better in every block: {names(m for m in rivals if all(m in a for a in above.values()))}"
               if sure == "certain" else ""),
        )  # fmt: skip
    if not compared:
        raise claim.compares_nothing()


def _standing(tables: Mapping[str, _Column], method: str, rank: Mapping[str, Fraction]) -> str:
    """Its numbers block by block, their mean and its mean rank."""
    printed = [t.cells[method].printed for t in tables.values()]
    mean = sum(map(Fraction, printed), Fraction(0)) / len(printed)
    return f"{', '.join(printed)}: mean {float(mean):.4g}, mean rank {float(-rank[method]):.3g}"


def second(claim: Statement) -> Iterator[Finding]:
    """Cells in which a method is not second best, alone."""
    method = claim.get("method")
    for block, column, _, above, equal in _places(claim, claim.methods("method")):
        cells, printed = column.cells, column.cells[method].printed
        text = names(f"{m} {cells[m].printed}" for m in above)
        if any(column.better(m, n) for m, n in combinations(above, 2)):
            yield claim.finding(
                "certain", block, method, column.name, printed, text, f"Better as printed: {names(above)}"
            )
        elif len(above) > 1:
            why = f"{names(above)} are equal as printed and better: second by value, third by count"
            yield claim.finding("possible", block, method, column.name, printed, text, why)
        elif not above and not equal and len(cells) > 1:
            why = "No other value is better as printed"
            yield claim.finding("certain", block, method, column.name, printed, "best", why)
        elif equal:
            text = names(f"{m} {cells[m].printed}" for m in equal)
            why = f"Equal as printed: {names(equal)}; not {'second alone' if above else 'behind a best one'}"
            yield claim.finding("possible", block, method, column.name, printed, text, why)


def count(claim: Statement, place: int) -> Iterator[Finding]:
    """In how many columns a method is best (place 0) or second (1); equal values count for it and against it."""
    method, least, most, total = claim.get("method"), 0, 0, 0
    for _, column, _, above, equal in _places(claim, claim.methods("method")):
        if column.cells[method].class_ == AGGREGATE:
            continue
        total += 1
        least += len(above) == place and not equal
        most += len(above) <= place <= len(above) + len(equal)
    stated = claim.get("printed")
    if most * 2 <= total if stated == "most" else not least <= int(stated) <= most:
        text = str(least) if least == most else f"{least} to {most}, as equal values count"
        why = f"In {text} of {total} columns it is {claim.get('what')}"
        yield claim.finding("certain", "", method, "", stated, f"{text} of {total}", why)
