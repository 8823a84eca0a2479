"""The frame of a report: head, contents, sections, foot. No script, and nothing that is fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources

from evalkit.leaderboards.site.markup import e
from evalkit.protocols.table.table import Table
from evalkit.provenance import version
from evalkit.records.record import Record

SECTIONS = {
    "tables": "Tables",
    "ranks": "Ranks and significance",
    "radar": "Radar",
    "boxes": "Values per image",
    "images": "Images",
    "setup": "Set-up",
    "versions": "Versions",
}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
STYLES = (("evalkit.leaderboards.site", "style.css"), ("evalkit.leaderboards.report", "report.css"))


def page(table: Table, records: Sequence[Record], body: Mapping[str, str]) -> str:
    """The whole file.

    Args:
        table: of the run.
        records: of the run, for the dates.
        body: section (`SECTIONS`) -> HTML, in the order in which they stand.
    """
    title = table.title or table.protocol
    styles = "".join(resources.files(package).joinpath(name).read_text(encoding="utf-8") for package, name in STYLES)
    subject = "generated sample scenes, not a data set of the paper" if table.sample else ", ".join(table.datasets)
    days = sorted({str(record.finished)[:10] for record in records})
    measured = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""
    lines = [table.protocol, "" if table.sample else table.source, subject, measured and f"measured {measured}"]
    sections = "".join(
        f'<section id="{name}"><h2>{SECTIONS[name]}</h2>{text}</section>\n' for name, text in body.items()
    )
    links = "".join(f'<a href="#{name}">{SECTIONS[name]}</a>' for name in body)
    citation = f'<p class="lead">{e(table.citation)}</p>' if table.citation and not table.sample else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{e(title)} · evalkit report</title>\n<style>\n{styles}</style>\n</head>\n<body>\n"
        f'<main class="wrap report">\n<header><p class="eyebrow">{e(" · ".join(filter(None, lines)))}</p>'
        f'<h1>{e(title)}</h1>{citation}<p class="numbers">{e(table.coverage())}.</p>'
        f'<nav aria-label="Contents">{links}</nav></header>\n{sections}</main>\n'
        f'<footer class="wrap"><p>Written by evalkit {e(version())}. Numbers of different conventions are never ranked '
        "together; what could not be computed is a missing value with its reason, never a number.</p></footer>\n"
        "</body>\n</html>\n"
    )
