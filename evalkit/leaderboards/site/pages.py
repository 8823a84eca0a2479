"""What a page of the site says: per protocol its blocks (data set, variant, convention), rows and cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from evalkit.leaderboards.site.entries import Entry
from evalkit.methods.fuse import missing_for
from evalkit.methods.registry import method_cards
from evalkit.metrics.registry import better_of
from evalkit.protocols.same_data import other_data
from evalkit.protocols.schema import Protocol, protocol_of_run, protocols, rows_of
from evalkit.protocols.table.blank import columns as table_columns
from evalkit.protocols.table.cells import Status, status_of
from evalkit.protocols.table.published import PublishedRow
from evalkit.protocols.tasks import TASKS, Task

UNKNOWN_METHOD = "not run: this row is a variant or a method that evalkit has no card for"


@dataclass(frozen=True)
class PageColumn:
    """A column: which way is better ("" where neither is, as for a spread), its unit, a convention of its own."""

    name: str
    better: str
    unit: str = ""
    convention: str = ""

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓"}.get(self.better, "")


@dataclass(frozen=True)
class PageCell:
    """Measured and published value of one cell, and how they stand to each other."""

    status: Status | str
    value: float | None = None
    printed: str = ""
    mark: str = ""
    note: str = ""
    reason: str = ""

    @property
    def difference(self) -> float | None:
        if self.value is None or not self.printed or self.status == "other data":
            return None
        return self.value - float(self.printed)


@dataclass
class PageRow:
    """One method, once per record; without a record, `reason` says why nothing was measured."""

    method: str
    entry: Entry | None
    reason: str
    other_data: str = ""  # why its values are of other images, so neither compared nor ranked
    cells: dict[str, PageCell] = field(default_factory=dict)

    @property
    def submitted(self) -> bool:
        return self.entry is not None and self.entry.submission is not None

    @property
    def ranked(self) -> bool:
        """Whether its values may be marked as the best: not those that somebody submitted and nobody measured again."""
        return not self.submitted or (self.entry is not None and self.entry.proof is not None)


@dataclass
class PageBlock:
    """A table of its own: nothing in it is of another data set or convention."""

    name: str
    dataset: str
    convention: str
    columns: list[PageColumn]
    rows: list[PageRow]

    @property
    def cells(self) -> list[PageCell]:
        return [cell for row in self.rows for cell in row.cells.values()]


@dataclass
class Page:
    """A protocol with everything that is known of its table."""

    protocol: Protocol
    blocks: list[PageBlock]

    @property
    def task(self) -> Task:
        return TASKS[self.protocol.task]

    @property
    def entries(self) -> list[Entry]:
        return [row.entry for block in self.blocks for row in block.rows if row.entry]

    def counts(self) -> dict[str, int]:
        """Cells that are printed, measured, and how the measured ones agree.

        A printed cell counts once, and what others submitted not at all.
        """
        counts = dict.fromkeys(("printed", "measured", "compared", "equal", "close", "differs", "other data"), 0)
        for block in self.blocks:
            for row in block.rows:
                if row.submitted:
                    continue
                for cell in row.cells.values():
                    counts["measured"] += cell.value is not None
                    counts["compared"] += cell.difference is not None
                    if cell.status in counts:
                        counts[cell.status] += 1
            counts["printed"] += len({(r.method, c) for r in block.rows for c, cell in r.cells.items() if cell.printed})
        return counts


def pages(entries: Iterable[Entry], only_mine: bool = False) -> list[Page]:
    """A page for every protocol that has printed numbers or records, in the order of their names.

    Args:
        entries: the records; shipped ones say which image files values are compared on.
        only_mine: show the reader's own records alone, on the pages that have one.
    """
    by_protocol: dict[str, list[Entry]] = {}
    for entry in entries:
        by_protocol.setdefault(entry.record.protocol["name"], []).append(entry)
    written = []
    known = dict(protocols())
    for name, of_protocol in by_protocol.items():
        if name not in known:
            known[name] = protocol_of_run(name, of_protocol[0].run)
    for name, protocol in sorted(known.items()):
        rows, of_protocol = rows_of(protocol), by_protocol.get(name, [])
        shown = [entry for entry in of_protocol if entry.own or not only_mine]
        if shown or (rows and not only_mine):
            written.append(Page(protocol, blocks(protocol, rows, shown, [e for e in of_protocol if not e.own])))
    return written


def blocks(
    protocol: Protocol, rows: list[PublishedRow], entries: list[Entry], shipped: Sequence[Entry] = ()
) -> list[PageBlock]:
    """The tables of a protocol, in the order in which the paper prints them.

    Args:
        protocol: what the page is of.
        rows: the printed numbers.
        entries: the records that are shown; those of blocks that are not printed follow.
        shipped: records whose image files are those that values are compared on.
    """

    def key_of(entry: Entry) -> tuple[str, str, str]:
        return entry.block, entry.dataset, entry.record.convention

    keys = [(row.block, row.dataset, protocol.convention) for row in rows]
    keys += map(key_of, entries)
    return [
        _block(
            protocol,
            key,
            [row for row in rows if (row.block, row.dataset, protocol.convention) == key],
            [entry for entry in entries if key_of(entry) == key],
            {entry.record.dataset.get("content_hash") for entry in shipped if key_of(entry) == key},
        )
        for key in dict.fromkeys(keys)
    ]


def _block(
    protocol: Protocol,
    key: tuple[str, str, str],
    rows: list[PublishedRow],
    entries: list[Entry],
    shipped: set[str | None],
) -> PageBlock:
    name, dataset, convention = key
    found_columns = {column.name: column for column in table_columns(protocol, rows)} if rows else {}
    own: dict[str, str] = {}
    for entry in entries:
        for column_name, full_name in zip(entry.record.columns, entry.record.metrics, strict=True):
            own[column_name] = full_name.partition("[")[2].rstrip("]") or convention
    extra = {c.name: c for c in table_columns(protocol, [])}
    columns = []
    for c in dict.fromkeys([*found_columns, *own]):
        known = found_columns.get(c) or extra.get(c)
        better = "" if c.endswith(" std") else known.better if known else better_of(c.rpartition(" ")[2]) or ""
        other = own.get(c, convention)
        named = other == convention or "[" in c
        columns.append(PageColumn(c, better, known.unit if known else "", "" if named else other))
    published = {(row.method, row.column): row for row in rows}
    methods = dict.fromkeys(
        [row.method for row in rows] + sorted({entry.method for entry in entries}, key=str.casefold)
    )
    page_rows = []
    for method in methods:
        measured = sorted((e for e in entries if e.method == method), key=lambda e: (e.own, e.variant, e.text))
        candidates: list[Entry | None] = [*measured] or [None]
        for candidate in candidates:
            row = PageRow(method, candidate, "" if candidate else why_not(protocol, method))
            row.other_data = why_apart(candidate, protocol, shipped) if candidate else ""
            for column in columns:
                row.cells[column.name] = _cell(row, column.name, published.get((method, column.name)), protocol)
            page_rows.append(row)
    return PageBlock(name, dataset, convention, columns, page_rows)


def _cell(row: PageRow, column: str, published: PublishedRow | None, protocol: Protocol) -> PageCell:
    printed, mark, note = (published.printed, published.mark, published.note) if published else ("", "", "")
    if row.entry is None:
        return PageCell("published" if printed else "empty", None, printed, mark, note, row.reason)
    record = row.entry.record
    value, reason = record.scores.get(column), record.missing.get(column, "")
    if value is None:
        timed = column in TASKS[protocol.task].not_timed
        own = "a time depends on the machine: records have none" if timed else "the run did not measure this column"
        reason = reason or own
    else:
        reason = row.other_data or reason
    return PageCell(status_of(value, printed, row.other_data), value, printed, mark, note, reason)


def why_apart(entry: Entry, protocol: Protocol, shipped: set[str | None]) -> str:
    """Why a record is of other images than the paper's or the shipped records (by content hash); empty where not."""
    if reason := other_data(entry.record, protocol):
        return reason
    if shipped and entry.record.dataset.get("content_hash") not in shipped:
        return "measured on other image files than the records that evalkit ships (their content hash differs)"
    return ""


def why_not(protocol: Protocol, method: str) -> str:
    """Why there is no measured value for a row."""
    card = method_cards().get(protocol.method_of(method))
    if card is None:
        return UNKNOWN_METHOD
    return f"not measured: {missing_for(card, None) or 'no run of it is among the records'}"
