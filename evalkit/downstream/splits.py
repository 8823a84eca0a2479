"""Training, validation and test parts that depend on the stems alone, so that everyone draws the same lists.

A part is drawn by the SHA-256 of seed and stem: no random generator, no order of files, no version of a library has a
say in it. Three kinds:

- `random`: every pair by itself, as the papers presumably did. Neighbouring frames of a video end up in different
  parts, which flatters the test.
- `sequence`: runs of BLOCK neighbouring stems stay together; only frames at the border of two runs have a neighbour in
  another part.
- within strata (day, night, ...), so that every part holds every condition in the same share.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evalkit.data.pairs import natural_key
from evalkit.errors import EvalkitError
from evalkit.files.write import write_text

Kind = Literal["random", "sequence"]
PARTS = ("train", "val", "test")
BLOCK = 20  # frames that stay together


@dataclass(frozen=True)
class Division:
    """Stems of the three parts, each in natural order."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def counts(self) -> str:
        """E.g. "2940/420/840"."""
        return "/".join(str(len(getattr(self, part))) for part in PARTS)

    @property
    def text(self) -> str:
        """One line `part,stem` per pair: what is published, and hashed."""
        return "part,stem\n" + "".join(f"{part},{stem}\n" for part in PARTS for stem in getattr(self, part))

    @property
    def hash(self) -> str:
        """SHA-256 of the lists, 16 digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def part_of(self) -> dict[str, str]:
        """Stem -> part."""
        return {stem: part for part in PARTS for stem in getattr(self, part)}

    def write(self, path: Path) -> None:
        """The lists as a CSV file. Raises OutputError."""
        write_text(path, self.text)


def divide(
    stems: Iterable[str],
    ratio: str,
    kind: Kind = "random",
    seed: int = 0,
    strata: Mapping[str, str] | None = None,
    block: int = BLOCK,
) -> Division:
    """Fixed lists for training, validation and test.

    Args:
        stems: names of the pairs; their order does not matter.
        ratio: "8:1:1" or "7:1:2" or any other three whole numbers.
        kind: each pair by itself, or runs of `block` neighbours (in natural order of the stems) together.
        seed: another seed gives other lists.
        strata: stem -> condition; each condition is divided in the ratio by itself.
        block: length of a run, in pairs.

    Returns:
        The parts. Their sizes follow the ratio to one pair, for sequences to one block, per stratum.

    Raises:
        EvalkitError: not a ratio of three whole numbers, a stem that occurs twice, or a part that stays empty.
    """
    shares = _shares(ratio)
    ordered = sorted(stems, key=natural_key)
    if len(set(ordered)) != len(ordered):
        raise EvalkitError("a stem occurs twice: no lists can be drawn.")
    by_stratum: dict[str, list[str]] = defaultdict(list)
    for stem in ordered:
        by_stratum[(strata or {}).get(stem, "")].append(stem)
    size = block if kind == "sequence" else 1
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in sorted(by_stratum):
        members = by_stratum[name]
        groups = [members[i : i + size] for i in range(0, len(members), size)]
        for part, group in _deal(groups, len(members), shares, seed):
            parts[part] += group
    empty = [part for part in PARTS if not parts[part]]
    if empty:
        raise EvalkitError(
            f"{len(ordered)} pairs divided {ratio} ({kind}) leave nothing for {' and '.join(empty)}: more are needed."
        )
    return Division(*(tuple(sorted(parts[part], key=natural_key)) for part in PARTS))


def _shares(ratio: str) -> tuple[int, ...]:
    numbers = ratio.split(":")
    if len(numbers) != len(PARTS) or not all(n.isdecimal() and int(n) > 0 for n in numbers):
        raise EvalkitError(f"the split is {ratio!r}, expected training:validation:test such as 8:1:1.")
    return tuple(map(int, numbers))


def _deal(
    groups: Sequence[list[str]], count: int, shares: tuple[int, ...], seed: int
) -> Iterable[tuple[str, list[str]]]:
    """Each group goes to the part that lacks most; long groups first, equal ones in the order of their hash."""
    lacking = [count * share / sum(shares) for share in shares]

    def order(group: list[str]) -> tuple[int, str]:
        return -len(group), hashlib.sha256(f"{seed}/{group[0]}".encode()).hexdigest()

    for group in sorted(groups, key=order):
        place = max(range(len(PARTS)), key=lambda i: (lacking[i], i))
        lacking[place] -= len(group)
        yield PARTS[place], group
