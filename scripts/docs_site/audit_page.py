"""reference/audit-checks.md: what the audit looks for, and how often it finds it in the tables that ship."""

from __future__ import annotations

from as_markdown import code, table, text

from evalkit.leaderboards.audit.finding import SURE
from evalkit.leaderboards.audit.report import CHECKS

HEAD = """\
# Checks of the audit

`evalkit audit` puts each of these to a table: one that ships (`evalkit audit smfnet-table1`), a run, a benchmark
file, or a table of your own (`evalkit audit --table my.csv`). What they find in the published tables stands in [Audit
of published tables](../audit.md), with what *certain*, *likely* and *possible* mean.
"""


def page() -> str:
    """The page as Markdown."""
    rows = [[code(check), text(looks_at)] for check, looks_at in CHECKS.items()]
    sure = ", ".join(SURE)
    return f"{HEAD}\n{table(['check', 'what it looks at'], rows)}\n\nEvery finding is one of: {sure}.\n"
