"""Audit notes of a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evalkit.leaderboards.audit import audit


@dataclass(frozen=True)
class Note:
    """One finding of the audit, as the site shows it."""

    where: str
    sure: str
    text: str
    printed: str
    recomputed: str


def audit_notes(names: Iterable[str]) -> dict[str, list[Note]]:
    """Protocol -> what the audit finds in its printed table, the most certain first."""
    report = audit()
    notes: dict[str, list[Note]] = {name: [] for name in names}
    for finding in report.findings:
        values = finding.sure, finding.explanation, finding.printed, finding.recomputed
        if finding.protocol in notes:
            where = f"{finding.where} · {finding.other}" if finding.other else finding.where
            notes[finding.protocol].append(Note(where, *values))
        if finding.other in notes:  # of a finding between two tables the second one bears it too
            notes[finding.other].append(Note(f"{finding.protocol} · {finding.where}", *values))
    return notes
