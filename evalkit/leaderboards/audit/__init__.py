"""What arithmetic can tell about a published table: `audit` runs every check on any table.

A check is a function over the rows of a table (`PublishedRow`); none knows a table's name. What is certain follows from
the printed digits alone, whatever was rounded or cut off.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from evalkit.errors import DataError
from evalkit.files.read import read_text
from evalkit.leaderboards.audit import across, claims, duplicates, marks, means, parameters, psnr, ranges, relations
from evalkit.leaderboards.audit.finding import SURE, Finding
from evalkit.leaderboards.audit.report import Report, TableReport
from evalkit.protocols.schema import Protocol, protocol, protocols, rows_of
from evalkit.protocols.table.published import PublishedRow
from evalkit.protocols.table.read import SUFFIXES, TableRead, read_table

CHECKS = (means.check, duplicates.check, psnr.check, ranges.check, relations.check, marks.check, parameters.check)


def audit_rows(rows: Iterable[PublishedRow]) -> list[Finding]:
    """Findings of the checks that need one table alone, most certain first."""
    rows = list(rows)
    if not any(row.printed for row in rows):
        return []
    return _sorted(finding for check in CHECKS for finding in check(rows))


def audit(source: str | os.PathLike[str] | Iterable[PublishedRow] | None = None) -> Report:
    """Audit a table.

    Args:
        source: the name or YAML file of a protocol; the path of a table (CSV, TSV, Markdown, LaTeX, see `read_table`),
            or of a run, whose measured values are its table; rows; or None for all protocols.

    Returns:
        The findings by table. A protocol and a reader's table are also compared with every table that evalkit ships.

    Raises:
        UnknownNameError: no such protocol.
        DataError: the file cannot be read.
    """
    known = dict(protocols())
    shipped = {name: rows_of(shipped) for name, shipped in known.items()}
    if source is None:
        audited = shipped
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        if is_table(path):
            audited = {path.name: read_table_rows(path)}
        else:
            own = protocol(str(source))
            known[own.name], audited = own, {own.name: rows_of(own)}
            if not any(row.printed for row in audited[own.name]):
                raise DataError(f"{own.name} has no published numbers. `evalkit show {source}` says what it is of.")
    else:
        rows = list(source)
        audited = {rows[0].protocol if rows else "": rows}
    return _report(audited, shipped, known)


def is_table(path: Path) -> bool:
    """Whether a path is that of a table, or of the folder of a run; a protocol's name or YAML file is not."""
    if path.suffix.casefold() in (".yaml", ".yml"):
        return False
    return path.suffix.casefold() in SUFFIXES or path.is_file() or (path.is_dir() and str(path) not in protocols())


def read_table_rows(path: Path) -> list[PublishedRow]:
    """The rows of a reader's table, in any form. Raises DataError."""
    return read_own_table(path).rows


def read_own_table(path: Path) -> TableRead:
    """A reader's table in any form, or what a run measured; with what was not understood. Raises DataError."""
    of_run = path / "table.csv" if path.is_dir() else path
    if path.is_dir() and not of_run.exists():
        raise DataError(
            f"{path} is a folder without a table.csv, so not that of a run. Name the --out of `evalkit reproduce` or "
            "`evaluate`, the file of a table, or a protocol (`evalkit list protocols`)."
        )
    read = read_table(read_text(of_run), path.name)
    if not any(row.printed for row in read.rows):
        raise DataError(f"{path} holds no numbers. Write one line per number: method,metric,printed.")
    return read


def _report(
    audited: dict[str, list[PublishedRow]], shipped: dict[str, list[PublishedRow]], known: dict[str, Protocol]
) -> Report:
    sources = {
        name: across.Source(p.paper, {d: use.pairs for d, use in p.datasets.items()}) for name, p in known.items()
    }
    between = [
        finding
        for finding in across.check({**shipped, **audited}, sources)
        if finding.protocol in audited or finding.other in audited
    ]
    tables = []
    for name, rows in audited.items():
        own = known.get(name)
        findings = audit_rows(rows)
        if own is not None:
            findings += claims.check(rows, [claim.model_dump() for claim in own.claims], own.paper, shipped)
        tables.append(_table(name, rows, own, _sorted(findings)))
    return Report(tables, _sorted(between))


def _table(name: str, rows: list[PublishedRow], protocol: Protocol | None, findings: list[Finding]) -> TableReport:
    title = protocol.title if protocol else name
    if protocol and protocol.paper:
        title = f"{protocol.paper}, {protocol.table}: {title}"
    tested = sum(not claim.model_dump().get("lost") for claim in protocol.claims) if protocol and rows else 0
    return TableReport(name, title, sum(bool(row.printed) for row in rows), tested, findings)


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: SURE.index(finding.sure))
