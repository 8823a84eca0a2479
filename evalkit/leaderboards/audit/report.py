"""The audit as text: a terminal's rows, Markdown, a page that stands on its own, JSON."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from evalkit.files.frame import data_frame
from evalkit.leaderboards.audit.finding import SURE, Finding
from evalkit.leaderboards.shown import Shown, TextTable

if TYPE_CHECKING:
    import pandas as pd

HEADS = ["sure", "check", "where", "printed", "recomputed", "explanation"]

CHECKS = {  # every finding is of one of these
    "mean": "aggregates that are not the mean of their classes, and the class that a mean lacks",
    "units": "percent and fractions in one block",
    "missing cell": "an empty cell, from the printed mean",
    "repeated row": "rows that equal another, whole or in part, and how often chance does that",
    "repeated column": "the same of columns",
    "repeated cell": "a number of another block that does not suit its method's other columns",
    "psnr peak": "the peak that explains PSNR and MSE",
    "psnr row": "a mean PSNR that no images with that mean MSE have",
    "range": "values that the metric cannot have",
    "magnitude": "values far from the rest of their column",
    "convention": "sums and means over the two sources",
    "digits": "other decimals than the rest of the column",
    "relation": "bounds between metrics: IoU and Acc, AP50 and AP50:95, RMSE and MSE, AG and SF, MI and EN",
    "mark": "best and second-best marks on other values, and better values without a mark",
    "mark tie": "equal values of which one is marked",
    "parameters": "counts of evalkit's own networks",
    "claim": "statements of the text",
    "two tables": "the same quantity in another table",
}


@dataclass(frozen=True)
class TableReport:
    """The findings in one table. `cells` are printed numbers, `claims` the statements of the text that were tested."""

    name: str
    title: str
    cells: int
    claims: int
    findings: list[Finding]


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """Tables with their findings, and findings between two tables."""

    tables: list[TableReport]
    between: list[Finding]

    @property
    def findings(self) -> list[Finding]:
        return [finding for table in self.tables for finding in table.findings] + self.between

    @property
    def certain(self) -> int:
        return sum(finding.sure == "certain" for finding in self.findings)

    @property
    def frame(self) -> pd.DataFrame:
        """A row per finding."""
        return data_frame(map(asdict, self.findings), [column.name for column in fields(Finding)])

    def texts(self) -> list[TextTable]:
        """A table per audited one, and one of findings between two."""
        tables = [
            TextTable(heading, HEADS, [cells(f) for f in findings], [] if findings else ["Nothing found."])
            for heading, findings in self.sections()
        ]
        return [*tables, TextTable(f"{self.summary()}.", [], [], [])]

    def at_least(self, sure: str) -> Report:
        """Without the findings that are less sure."""
        kept = SURE[: SURE.index(sure) + 1]

        def of(findings: list[Finding]) -> list[Finding]:
            return [finding for finding in findings if finding.sure in kept]

        return Report([replace(table, findings=of(table.findings)) for table in self.tables], of(self.between))

    def summary(self) -> str:
        """One line: how much was looked at, and how many findings there are."""
        cells, claims = (sum(getattr(table, key) for table in self.tables) for key in ("cells", "claims"))
        counts = Counter(finding.sure for finding in self.findings)
        held = sum(table.cells > 0 for table in self.tables)
        text = f"{cells} printed numbers and {claims} statements in {held} table{'s' if held != 1 else ''}: "
        return text + f"{len(self.findings)} findings, " + ", ".join(f"{counts[sure]} {sure}" for sure in SURE)

    def sections(self) -> list[tuple[str, list[Finding]]]:
        """Heading and findings; tables without numbers are left out."""
        parts = [(" · ".join(dict.fromkeys([t.name, t.title])), t.findings) for t in self.tables if t.cells]
        return [*parts, ("Between tables", self.between)] if self.between else parts

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {"summary": self.summary(), **asdict(self)}


def cells(finding: Finding) -> list[str]:
    """A finding as a row under HEADS; one between two tables names them."""
    where = f"{finding.protocol}: {finding.where}" if finding.other else finding.where
    return [finding.sure, finding.check, where, finding.printed, finding.recomputed, finding.explanation]


def to_markdown(report: Report, title: str = "Audit of published tables", intro: str = "") -> str:
    """A heading per table, its findings as a Markdown table.

    Args:
        report: the findings.
        title: first heading.
        intro: paragraph below it.
    """
    lines = [f"# {title}", "", *([intro, ""] if intro else []), f"{report.summary()}.", "", *_counts(report), ""]
    for heading, findings in report.sections():
        lines += [f"## {_escaped(heading)}", ""]
        if not findings:
            lines += ["Nothing found.", ""]
            continue
        lines += [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
        lines += [f"| {' | '.join(_escaped(text) for text in cells(finding))} |" for finding in findings]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _counts(report: Report) -> list[str]:
    counts = Counter((finding.check, finding.sure) for finding in report.findings)
    rows = [
        f"| {check} | {looks_at} | " + " | ".join(str(counts[check, sure] or "") for sure in SURE) + " |"
        for check, looks_at in CHECKS.items()
    ]
    return [f"| check | what it looks at | {' | '.join(SURE)} |", "|---" * (len(SURE) + 2) + "|", *rows]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("\n", " ")


_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; border-block: 2px solid; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top; }
td:nth-child(4), td:nth-child(5) { font-variant-numeric: tabular-nums; min-width: 7rem; }
td:last-child { min-width: 20rem; }
thead th { border-bottom: 1px solid; }
tbody tr:nth-child(even) { background: rgba(128, 128, 128, .09); }
.certain { color: #b42318; font-weight: 700; } .likely { font-weight: 700; }
@media (prefers-color-scheme: dark) { .certain { color: #ff8b7e; } }
"""


def to_html(report: Report, title: str = "Audit of published tables") -> str:
    """A page that stands on its own."""
    body = [f"<h1>{html.escape(title)}</h1><p>{html.escape(report.summary())}.</p>"]
    for heading, findings in report.sections():
        body.append(f"<h2>{html.escape(heading)}</h2>")
        if not findings:
            body.append("<p>Nothing found.</p>")
            continue
        head = "".join(f'<th scope="col">{name}</th>' for name in HEADS)
        rows = "".join(
            f'<tr><td class="{f.sure}">{f.sure}</td>'
            + "".join(f"<td>{html.escape(text)}</td>" for text in cells(f)[1:])
            + "</tr>"
            for f in findings
        )
        body.append(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>')
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )
