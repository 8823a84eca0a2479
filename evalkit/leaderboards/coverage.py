"""How much of the printed numbers is measured, how much of that agrees, and what would unlock the rest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evalkit.data.pairs import DataRoot
from evalkit.leaderboards.needs import Need, needs_of_rows
from evalkit.leaderboards.site.pages import Page, PageBlock, PageCell, PageRow
from evalkit.protocols.report import plan_report
from evalkit.protocols.schema import protocols
from evalkit.protocols.tasks import TASKS

# "close" is a table's word for 0.1 %; the share below is another rule and has another name
NEAR = 5e-3  # relative difference up to which a measured number is "within 0.5 %" of the printed one
STATES = ("equal", "within 0.5 %", "differs", "other data", "not measured")  # the best comes first
COMPARED = STATES[:3]
Needs = Mapping[tuple[str, str, str], tuple[Need, ...]]  # (protocol, data set, row) -> what it lacks, the hardest first


@dataclass
class Reason:
    """Why printed numbers are not compared: what they lack first, what else some of them lack, and where they stand."""

    need: Need
    count: int = 0
    also: Counter[str] = field(default_factory=Counter)  # kinds of further needs
    where: Counter[str] = field(default_factory=Counter)  # protocols

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"count": self.count, **self.need._asdict(), "also": dict(self.also), "where": dict(self.where)}


@dataclass
class Coverage:
    """The printed numbers of one block of a table: how many are in which state, and why the rest is not compared."""

    protocol: str
    block: str
    states: Counter[str] = field(default_factory=Counter)
    lacking: Counter[tuple[Need, ...]] = field(default_factory=Counter)  # of numbers that are not compared

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


def coverage(pages: Iterable[Page], needs: Needs) -> list[Coverage]:
    """The coverage of every block with printed numbers, in the order of the pages.

    A printed number counts once: of several records the one that comes nearest to it.

    Args:
        pages: of the protocols, with the records that count.
        needs: of rows without a record, see `needs_here`.
    """
    return [_of_block(page, block, needs) for page in pages for block in page.blocks if _printed(block)]


def needs_here(
    data_root: DataRoot | None = None,
    outputs: str | os.PathLike[str] | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
) -> Needs:
    """What the rows of all protocols lack to be measured and compared. Where no data root or no folder of weights is
    named, nothing is taken to be at hand, and they are among the needs.

    Args:
        data_root, outputs, checkpoints: as `evalkit reproduce` takes them.

    Raises:
        DataError: a folder that is named does not exist.
    """
    needs: dict[tuple[str, str, str], tuple[Need, ...]] = {}
    for name, protocol in protocols().items():
        plan = plan_report(name, data_root, outputs=outputs, checkpoints=checkpoints)
        needs |= {(name, *row): of_row for row, of_row in needs_of_rows(protocol, plan).items()}
    return needs


def total(parts: Iterable[Coverage]) -> Coverage:
    """The sum of several blocks."""
    whole = Coverage("total", "")
    for part in parts:
        whole.states += part.states
        whole.lacking += part.lacking
    return whole


def reasons(parts: Iterable[Coverage]) -> list[Reason]:
    """Why printed numbers are not compared, each number under what it lacks first; the most frequent reason first."""
    by_need: dict[Need, Reason] = {}
    for part in parts:
        for (first, *further), count in part.lacking.items():
            reason = by_need.setdefault(first, Reason(first))
            reason.count += count
            reason.where[part.protocol] += count
            for kind in {need.kind for need in further} - {first.kind}:
                reason.also[kind] += count
    return sorted(by_need.values(), key=lambda reason: (-reason.count, reason.need.kind, reason.need.text))


def _printed(block: PageBlock) -> bool:
    return any(cell.printed for cell in block.cells)


def _of_block(page: Page, block: PageBlock, needs: Needs) -> Coverage:
    name = page.protocol.name
    states: dict[tuple[str, str], tuple[int, tuple[Need, ...]]] = {}
    for row in block.rows:
        of_row = needs.get((name, block.dataset, row.method), ())
        for column, cell in row.cells.items():
            if cell.printed:
                state = STATES.index(state_of(cell)), _needs_of_cell(page, block, row, column, of_row)
                key = (row.method, column)
                states[key] = min(state, states.get(key, state), key=lambda s: s[0])
    part = Coverage(name, block.name)
    for index, lacking in states.values():
        part.states[STATES[index]] += 1
        if STATES[index] not in COMPARED:
            part.lacking[lacking] += 1
    return part


def _needs_of_cell(
    page: Page, block: PageBlock, row: PageRow, column: str, of_row: tuple[Need, ...]
) -> tuple[Need, ...]:
    """What a printed number lacks, as its record, its column or its row tells; never nothing."""
    if column in TASKS[page.protocol.task].not_timed:
        return (Need("depends on the machine", f"{column} is of the paper's machine", "nothing: it is never compared"),)
    if column.endswith(" std"):
        return (Need("not defined", "the paper does not say over what it takes this spread", "its authors' word"),)
    if row.other_data:
        known = tuple(need for need in of_row if need.kind in ("pairs unknown", "no data"))
        return known or (Need("other data", row.other_data, "a run on the paper's own pairs"),)
    if row.entry is not None:
        reason = row.cells[column].reason
        return (Need("not measured yet", reason, "a run that measures this column"),)
    if of_row:
        return of_row
    if not block.dataset:
        unsaid = "the paper does not say on which data set this was measured"
        return (Need("pairs unknown", unsaid, "its authors' word"),)
    command = f"`evalkit reproduce {page.protocol.name}`"
    return (Need("not measured yet", "everything is at hand", f"{command} measures it"),)
