"""How file names are made of stems: {stem}_fused, IR{stem}, {stem:05}; and which such patterns would pair folders."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

SEPARATORS = "-_. "
LOOKED_AT = 5  # names of a folder that patterns are guessed from; they are then counted on all of them
_TOKENS = re.compile(r"[^\W\d_]+|\d+|[\W_]")


@dataclass(frozen=True)
class Pattern:
    """The names (without .png etc.) of a folder's images: prefix, stem, suffix.

    Attributes:
        digits: where not 0, the stem is a number and the name has it with zeros in front, so many digits at least:
            {stem:05} is 00001 for the stem 1.
    """

    prefix: str = ""
    suffix: str = ""
    digits: int = 0

    def __str__(self) -> str:
        return f"{self.prefix}{{stem{f':0{self.digits}' if self.digits else ''}}}{self.suffix}"

    def stem(self, name: str) -> str | None:
        """The stem of a name; None for a name that the pattern does not give."""
        inner = name[len(self.prefix) : len(name) - len(self.suffix)]
        if not (inner and name == f"{self.prefix}{inner}{self.suffix}"):
            return None
        if not self.digits:
            return inner
        padded = inner.isascii() and inner.isdecimal() and inner == inner.lstrip("0").zfill(self.digits)
        return (inner.lstrip("0") or "0") if padded else None


PLAIN = Pattern()


def by_stem(names: Collection[str], pattern: Pattern) -> dict[str, str]:
    """Stem -> name, of the names that the pattern gives."""
    return {stem: name for name in names if (stem := pattern.stem(name)) is not None}


def suggest(folders: Sequence[Collection[str]]) -> tuple[tuple[Pattern, ...], int] | None:
    """The simplest patterns, one a folder, that pair more of the first folder's names with all the others' than the
    names as they are; and how many they pair. None where there are none.

    Args:
        folders: names without .png etc. of each folder, the fused images' first.
    """
    candidates = [[(pattern, set(by_stem(names, pattern))) for pattern in _guesses(names)] for names in folders]
    best: tuple[tuple[Pattern, ...], int] | None = None
    least = len(set.intersection(*map(set, folders)))
    for pattern, stems in candidates[0]:
        patterns, paired = [pattern], stems
        for others in candidates[1:]:
            # of equals the first, which is the simplest
            other, theirs = max(others, key=lambda one: len(one[1] & paired), default=(PLAIN, set()))
            patterns.append(other)
            paired = paired & theirs
        if len(paired) > least:
            least, best = len(paired), (tuple(patterns), len(paired))
    return best


def hint(folders: Mapping[str, Collection[str]], options: Mapping[str, str], paired: int = 0) -> str:
    """What to do where names do not pair: the options that would pair more of them; empty where nothing would.

    Args:
        folders: role -> names, as of `suggest`.
        options: role -> the option that takes its pattern, such as --name.
        paired: how many pair by the patterns that were given.
    """
    suggestion = suggest(list(folders.values()))
    if suggestion is None or suggestion[1] <= paired:
        return ""
    patterns = {role: pattern for role, pattern in zip(folders, suggestion[0], strict=True) if pattern != PLAIN}
    looks = [
        f"{len(by_stem(folders[role], pattern))} of {len(folders[role])} files look like {pattern} ({role})"
        for role, pattern in patterns.items()
    ]
    cure = [f"{options[role]} {shlex.quote(str(pattern))}" for role, pattern in patterns.items()]
    return f"{', '.join(looks)}: to pair {suggestion[1]} of them, give {' '.join(cure)}"


def pairing(one: Collection[str], other: Collection[str]) -> tuple[Pattern, Pattern, set[str]] | None:
    """The simplest patterns by which most names of two folders pair, whatever their case, and the stems of the pairs in
    lower case; None where less than half of the smaller folder pairs.

    Args:
        one, other: names without .png etc.
    """
    sides = []
    for names in (one, other):
        given = {pattern: {stem.casefold() for stem in by_stem(names, pattern)} for pattern in _common(names)}
        sides.append([(pattern, stems) for pattern, stems in given.items() if 2 * len(stems) >= len(names)])
    best: tuple[Pattern, Pattern, set[str]] | None = None
    for (first, stems), (second, others) in product(*sides):
        paired = stems & others
        if len(paired) > (len(best[2]) if best else 0):  # of equals the first, which is the simplest
            best = first, second, paired
    return best if best and 2 * len(best[2]) >= min(len(one), len(other)) else None


def two_kinds(names: Collection[str]) -> tuple[Pattern, Pattern] | None:
    """The simplest patterns by which nearly all names of one folder are pairs: 1_a and 1_b; None where they are not."""
    ordered = sorted(names)
    shown = {*ordered[:LOOKED_AT], *ordered[:: max(1, len(ordered) // LOOKED_AT)]}
    patterns = {pattern for name in shown for pattern in _patterns(name) if not pattern.digits}
    given = {
        pattern: stems
        for pattern in sorted(patterns, key=_simple)
        if len(by_stem(shown, pattern)) > 1 and 3 * len(stems := by_stem(names, pattern)) >= len(names)
    }
    best: tuple[Pattern, Pattern] | None = None
    most = max(1, 2 * len(names) // 5)
    for first, second in combinations(given, 2):
        paired = given[first].keys() & given[second].keys()
        if len(paired) > most and not set(given[first].values()) & set(given[second].values()):
            most, best = len(paired), (first, second)
    return best


def _common(names: Collection[str]) -> list[Pattern]:
    """Those of `_guesses` that give most of the names they are guessed from."""
    shown = sorted(names)[:: max(1, len(names) // LOOKED_AT)]
    return [pattern for pattern in _guesses(names) if 2 * len(by_stem(shown, pattern)) >= len(shown)]


def _guesses(names: Collection[str]) -> list[Pattern]:
    """Patterns whose affixes end where letters, digits and separators meet, the simplest first."""
    shown = sorted(names)[:: max(1, len(names) // LOOKED_AT)]
    guesses = {PLAIN, *(pattern for name in shown for pattern in _patterns(name))}
    return sorted(guesses, key=_simple)


def _simple(pattern: Pattern) -> tuple[bool, int, str]:
    return pattern.digits > 0, len(pattern.prefix) + len(pattern.suffix), str(pattern)


def _patterns(name: str) -> Iterator[Pattern]:
    tokens = _TOKENS.findall(name)
    starts = [sum(map(len, tokens[:i])) for i in range(len(tokens) + 1)]
    for start, end in product(starts, starts):
        inner = name[start:end]
        if inner and inner.strip(SEPARATORS) == inner:
            yield Pattern(name[:start], name[end:])
            if inner.isascii() and inner.isdecimal() and inner.startswith("0") and 1 < len(inner) < 10:
                yield Pattern(name[:start], name[end:], len(inner))
