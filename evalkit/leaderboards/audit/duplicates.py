"""Rows and columns that repeat another: how many digits agree, and how improbable that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from statistics import quantiles

from evalkit.leaderboards.audit.finding import SOURCES, Finding, Sure, by_chance, columns, grid, names, ulp
from evalkit.metrics.registry import better_of
from evalkit.protocols.table.published import PublishedRow

PLACES = 3  # by so many a cell must rank its method otherwise than all other columns of the block do
SELDOM = 0.05  # chance that two values of a column agree, below which a repeated cell is worth a look
RARE = 1e-3  # as many such pairs would be expected by chance in one table: below it a repetition is not an accident


def check(rows: list[PublishedRow]) -> Iterator[Finding]:
    """Rows that repeat another row of their block or a row of another block, columns likewise, and single cells."""
    tables = grid(rows)
    for block, lines in tables.items():
        chance = {column: _chance(list(cells.values())) for column, cells in columns(lines).items()}
        yield from _pairs("repeated row", rows[0].protocol, block, lines, chance)
        by_column = columns(lines)
        same_method = {method: _chance(list(cells.values())) for method, cells in lines.items()}
        yield from _pairs("repeated column", rows[0].protocol, block, by_column, same_method)
    yield from _across_blocks(rows)
    yield from _cells(rows)


def _chance(cells: list[PublishedRow]) -> float:
    """How probable two cells of a column agree by chance: a unit of the last digit over the spread of the column.

    The spread is the range between the quartiles, so that one outlier does not make agreement look rare.
    """
    if len(cells) < 3:
        return 1.0
    low, _, high = quantiles([float(cell.printed) for cell in cells], n=4)
    unit = max(float(ulp(cell)) for cell in cells)
    return min(1.0, unit / (high - low)) if high > low else 1.0


def _pairs(
    kind: str, protocol: str, block: str, lines: dict[str, dict[str, PublishedRow]], chance: dict[str, float]
) -> Iterator[Finding]:
    pairs = list(combinations(lines, 2))
    for first, second in pairs:
        shared = [key for key in lines[first] if key in lines[second]]
        equal = [key for key in shared if lines[first][key].value == lines[second][key].value]
        if len(equal) < 2:
            continue
        expected = len(pairs) * at_least(len(equal), [chance[key] for key in shared])
        if expected < RARE:
            yield _finding(kind, protocol, block, first, second, equal, shared, lines, expected)


def at_least(count: int, chances: list[float]) -> float:
    """Probability that at least `count` of independent events happen, each with its own chance (Poisson binomial)."""
    exactly = [1.0]
    for chance in chances:
        moved = [0.0, *(p * chance for p in exactly)]
        exactly = [p * (1 - chance) + q for p, q in zip([*exactly, 0.0], moved, strict=True)]
    return sum(exactly[count:])


def _finding(
    kind: str,
    protocol: str,
    block: str,
    first: str,
    second: str,
    equal: list[str],
    shared: list[str],
    lines: dict[str, dict[str, PublishedRow]],
    expected: float,
) -> Finding:
    whole = len(equal) == len(shared)
    sure: Sure = "certain" if whole and len(equal) >= 3 else "likely"
    rest = "" if whole else f"; different in {names([key for key in shared if key not in equal], 4)}"
    digits = sum(len(lines[second][key].printed.replace(".", "").lstrip("-0")) for key in equal)
    line = second if kind == "repeated row" else ""
    column = second if kind == "repeated column" else ""
    return Finding(
        kind, sure, protocol, block, line, column, names((lines[second][key].printed for key in equal), 8),
        f"{len(equal)} of {len(shared)} cells equal to {first}",
        f"{digits} digits agree ({names(equal, 8)}{rest}), {by_chance(expected)}: copied, or the same images measured",
    )  # fmt: skip


def _across_blocks(rows: list[PublishedRow]) -> Iterator[Finding]:
    """A method's row in one block that stands in another block too."""
    tables = grid(rows)
    chance = {
        b: {c: _chance(list(cells.values())) for c, cells in columns(lines).items()} for b, lines in tables.items()
    }
    holders: dict[tuple[str, float | None], list[tuple[str, str]]] = {}  # column, value -> block, method
    for row in rows:
        if row.printed:
            holders.setdefault((row.column, row.value), []).append((row.block, row.method))
    equal_cells = Counter(pair for places in holders.values() for pair in combinations(places, 2))
    pairs = sum(len(tables[a]) * len(tables[b]) for a, b in combinations(tables, 2))
    for ((a, first), (b, second)), count in equal_cells.items():
        if count < 3 or a == b:
            continue
        here, there = tables[a][first], tables[b][second]
        shared = [key for key in here if key in there]
        equal = [key for key in shared if here[key].value == there[key].value]
        odds = [max(chance[a].get(key, 1.0), chance[b].get(key, 1.0)) for key in shared]
        expected = pairs * at_least(len(equal), odds)
        if expected < RARE:
            yield Finding(
                "repeated row", "certain" if len(equal) == len(shared) else "likely", rows[0].protocol, b, second, "",
                names((there[key].printed for key in equal), 8),
                f"{len(equal)} of {len(shared)} cells equal to {a}, {first}",
                f"equal: {names(equal, 8)}; {by_chance(expected)}: a row of one block copied into another",
            )  # fmt: skip


def _cells(rows: list[PublishedRow]) -> Iterator[Finding]:
    """A number that its method has in another block too, and that does not suit the method's other columns here."""
    tables = grid(rows)
    for block, lines in tables.items():
        by_column = columns(lines)
        spans = {column: span for column, cells in by_column.items() if (span := _ranks(cells))}
        for column, span in spans.items():
            for method, (first, last) in span.items():
                row = lines[method][column]
                twins = [b for b, other in tables.items() if b != block and column in other.get(method, {})]
                twins = [b for b in twins if tables[b][method][column].printed == row.printed]
                rest = [other[method] for name, other in spans.items() if name != column and method in other]
                better = min((low for low, _ in rest), default=0) - last
                worse = first - max((high for _, high in rest), default=0)
                if (
                    twins
                    and len(rest) > 1
                    and max(better, worse) >= PLACES
                    and _chance([*by_column[column].values()]) < SELDOM
                ):
                    places = names(str(low + 1) for low, _ in rest)
                    yield Finding(
                        "repeated cell", "possible", row.protocol, block, method, column, row.printed,
                        f"the same number in {names(twins)}",
                        f"it ranks the method {first + 1} of {len(span)} here, its other columns {places}: copied from "
                        f"{names(twins)}?",
                    )  # fmt: skip


def _ranks(cells: dict[str, PublishedRow]) -> dict[str, tuple[int, int]]:
    """Method -> how many are better, and how many are at least as good; empty where better has no direction."""
    way = better_of(next(iter(cells.values())).metric)
    if way is None:
        return {}
    values = {m: (row.value or 0.0) * (1 if way == "higher" else -1) for m, row in cells.items() if m not in SOURCES}
    return {
        m: (sum(o > v for o in values.values()), sum(o >= v for o in values.values()) - 1) for m, v in values.items()
    }
