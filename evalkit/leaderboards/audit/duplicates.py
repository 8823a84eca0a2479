"""Rows and columns that repeat another: how many digits agree, and how improbable that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from statistics import quantiles

from evalkit.leaderboards.audit.finding import Finding, Sure, by_chance, columns, grid, names, ulp
from evalkit.protocols.table.published import PublishedRow

RARE = 1e-3  # as many such pairs would be expected by chance in one table: below it a repetition is not an accident


def check(rows: list[PublishedRow]) -> Iterator[Finding]:
    """Rows that repeat another row of their block, rows that repeat themselves in another block, columns likewise."""
    tables = grid(rows)
    for block, lines in tables.items():
        chance = {column: _chance(list(cells.values())) for column, cells in columns(lines).items()}
        yield from _pairs("repeated row", rows[0].protocol, block, lines, chance)
        by_column = columns(lines)
        same_method = {method: _chance(list(cells.values())) for method, cells in lines.items()}
        yield from _pairs("repeated column", rows[0].protocol, block, by_column, same_method)
    yield from _across_blocks(rows)


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
