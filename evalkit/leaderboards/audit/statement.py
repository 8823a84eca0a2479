"""A statement of the text beside the cells it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.errors import DataError, UnknownNameError
from evalkit.leaderboards.audit.finding import SOURCES, SURE, Finding, Sure, names
from evalkit.protocols.table.published import PublishedRow

MANY = 3  # findings of one claim up to which each has a line of its own


@dataclass(frozen=True)
class Statement:
    """A claim beside the cells it is about. `own` is the paper's own method."""

    fields: Mapping[str, Any]
    rows: list[PublishedRow]
    own: str = ""

    def listed(self, key: str) -> list[str]:
        value = self.fields.get(key)
        return [] if value is None else [value] if isinstance(value, str) else [str(v) for v in value]

    def get(self, key: str) -> str:
        """A field that the kind needs. Raises DataError."""
        if self.fields.get(key) is None:
            raise DataError(f"the claim {self.fields.get('text')!r} ({self.fields['kind']}) has no {key!r}.")
        return str(self.fields[key])

    def picked(self, blocks: list[str] | None = None) -> list[PublishedRow]:
        """The printed cells of the claim's metrics, classes and blocks, or of other blocks (none: of all)."""
        blocks = self.listed("blocks") if blocks is None else blocks
        limits = {"metric": self.listed("metric"), "class_": self.listed("class"), "block": blocks}
        for key, allowed in limits.items():
            known = list(dict.fromkeys(getattr(row, key) for row in self.rows))
            for name in allowed:
                if name not in known:
                    raise UnknownNameError(f"{key.rstrip('_')} (claim {self.fields.get('text')!r})", name, known)
        return [
            row
            for row in self.rows
            if row.printed and all(not allowed or getattr(row, key) in allowed for key, allowed in limits.items())
        ]

    def methods(self, key: str) -> list[str]:
        """Methods that a field names; "others" are all but those of `of`, `than` and the sources."""
        known = list(dict.fromkeys(row.method for row in self.rows))
        if self.listed(key) == ["others"]:
            taken = {*self.listed("of"), *self.listed("than"), *SOURCES}
            return [method for method in known if method not in taken]
        for name in self.listed(key):
            if name not in known:
                raise UnknownNameError(f"method (claim {self.fields.get('text')!r})", name, known)
        return self.listed(key)

    def says(self, why: str) -> str:
        return f"the text says: {self.fields['text']}. {why}"

    def finding(
        self, sure: Sure, block: str, row: str, column: str, printed: str, recomputed: str, why: str
    ) -> Finding:
        """What does not hold; no surer than the claim's `at_most`, and with the `reading` under which it may hold.

        Args:
            sure: how sure that is.
            block, row, column: where; empty where it is of all of them.
            printed: what the text states, or the cell that it speaks of.
            recomputed: what the table has.
            why: what is wrong.
        """
        protocol = self.rows[0].protocol
        sure = SURE[max(SURE.index(sure), SURE.index(self.fields.get("at_most", "certain")))]
        why = self.says(". ".join(filter(None, [why, self.fields.get("reading")])))
        return Finding("claim", sure, protocol, block, row, column, printed, recomputed, why)

    def compares_nothing(self) -> DataError:
        """What a claim raises of which no two cells can be compared."""
        return DataError(
            f"the claim {self.fields.get('text')!r} ({self.fields['kind']}) compares nothing: no block has printed "
            "cells of both sides in one column. Correct its methods, metric, class or blocks, or say `lost: true`."
        )


def together(claim: Statement, findings: list[Finding]) -> Iterator[Finding]:
    """What one claim gives in many cells as one finding per degree of certainty."""
    for sure in SURE:
        same = [finding for finding in findings if finding.sure == sure]
        if len(same) <= MANY:
            yield from same
            continue
        values = [{getattr(finding, key) for finding in same} for key in ("block", "row", "column")]
        block, row, column = (next(iter(value)) if len(value) == 1 else "" for value in values)
        places = []
        for one in same:
            where = ("" if block else one.block, "" if row else one.row, "" if column else one.column)
            places.append(" ".join(filter(None, [*where, one.printed])) + f" ({one.recomputed})")
        printed, recomputed = (names((getattr(one, key) for one in same), 3) for key in ("printed", "recomputed"))
        equal = all("qual as printed" in finding.explanation for finding in same)
        why = f"Not so in {len(same)} cells{' (equal as printed)' if equal else ''}: {names(places, 12)}"
        yield claim.finding(sure, block, row, column, printed, recomputed, why)
