"""How much of the printed numbers is measured, how much of that agrees, and why the rest is not measured."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evalkit.data.pairs import DataRoot
from evalkit.leaderboards.site.pages import Page, PageBlock, PageCell
from evalkit.protocols.report import plan_report
from evalkit.protocols.schema import protocols

# "close" is a table's word for 0.1 %; the share below is another rule and has another name
NEAR = 5e-3  # relative difference up to which a measured number is "within 0.5 %" of the printed one
STATES = ("equal", "within 0.5 %", "differs", "other data", "not measured")  # the best comes first
COMPARED = STATES[:3]


@dataclass
class Coverage:
    """The printed numbers of one block of a table: how many are in which state, and why the rest is not measured."""

    protocol: str
    block: str
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  # of numbers that are not measured, or of other data

    def counts(self) -> dict[str, int]:
        """Printed, measured and compared numbers, and how many are in each state."""
        compared = sum(self.states[state] for state in COMPARED)
        printed = self.states.total()
        measured = printed - self.states["not measured"]
        return {"printed": printed, "measured": measured, "compared": compared, **{s: self.states[s] for s in STATES}}


def state_of(cell: PageCell) -> str:
    """The state of a printed number beside the measured one: equal to its digits, within 0.5 % of it, or neither."""
    if cell.value is None:
        return "not measured"
    if cell.difference is None:
        return "other data"
    if cell.status == "equal":
        return "equal"
    return "within 0.5 %" if abs(cell.difference) <= NEAR * abs(float(cell.printed)) else "differs"


Reasons = Mapping[tuple[str, str, str], str]  # (protocol, data set, row) -> why it is not measured


def coverage(pages: Iterable[Page], reasons: Reasons) -> list[Coverage]:
    """The coverage of every block with printed numbers, in the order of the pages.

    A printed number counts once: of several records the one that comes nearest to it.

    Args:
        pages: of the protocols, with the records that count.
        reasons: of rows without a record, see `reasons_here`.
    """
    return [_of_block(page.protocol.name, block, reasons) for page in pages for block in page.blocks if _printed(block)]


def reasons_here(
    data_root: DataRoot | None = None,
    outputs: str | os.PathLike[str] | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
) -> Reasons:
    """Why the rows of all protocols are not measured, as far as the data, images and weights at hand decide it.

    Args:
        data_root, outputs, checkpoints: as `evalkit reproduce` takes them.

    Raises:
        DataError: a folder that is named does not exist.
    """
    reasons = {}
    for name in protocols():
        plan = plan_report(name, data_root, outputs=outputs, checkpoints=checkpoints)
        sets = {one["name"]: one for one in plan["datasets"]}
        for row in plan["rows"]:
            reasons[name, row["dataset"], row["method"]] = _reason(sets.get(row["dataset"], {}), row)
    return reasons


def _reason(dataset: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Why a row of a plan is not measured, and what would change that."""
    name, pairs, expected = row["dataset"], dataset.get("found"), dataset.get("expected")
    if dataset.get("missing") or pairs is None:
        return f"no data: {name} is not at hand"
    if expected and pairs < expected:
        return f"no data: {pairs} of the {expected} pairs of {name} are at hand"
    if row["from"] and row["missing"]:
        return f"an extra is missing: {row['missing']}"
    if row["from"]:
        return "nothing is missing: `evalkit reproduce` measures it here"
    if row["train"]:
        return "training needed: neither weights nor images are at hand, `evalkit train` makes weights"
    return "no weights or images of the method are at hand"


def total(parts: Iterable[Coverage]) -> Coverage:
    """The sum of several blocks."""
    whole = Coverage("total", "")
    for part in parts:
        whole.states += part.states
        whole.reasons += part.reasons
    return whole


def _printed(block: PageBlock) -> bool:
    return any(cell.printed for cell in block.cells)


def _of_block(protocol: str, block: PageBlock, reasons: Reasons) -> Coverage:
    states: dict[tuple[str, str], tuple[int, str]] = {}
    for row in block.rows:
        why = "" if row.entry else reasons.get((protocol, block.dataset, row.method), row.reason)
        for column, cell in row.cells.items():
            if cell.printed:
                reason = why or cell.reason or row.other_data or "no record has this metric"
                state = (STATES.index(state_of(cell)), reason)
                key = (row.method, column)
                states[key] = min(state, states.get(key, state), key=lambda s: s[0])
    part = Coverage(protocol, block.name)
    for index, reason in states.values():
        part.states[STATES[index]] += 1
        if STATES[index] not in COMPARED:
            part.reasons[reason if STATES[index] == "not measured" else f"other data: {reason}"] += 1
    return part
