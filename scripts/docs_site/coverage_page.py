"""coverage.md: which printed numbers the shipped records measure, as `evalkit coverage` counts them."""

from __future__ import annotations

from as_markdown import table, text

from evalkit.leaderboards.coverage import coverage, needs_here, reasons, total
from evalkit.leaderboards.site.entries import shipped_entries
from evalkit.leaderboards.site.pages import pages

HEAD = """\
# Coverage

Of the numbers that the papers print: how many the records that evalkit ships measure, how these agree, and what keeps
the others from being measured. Counted by `evalkit coverage` when this page was made; what is at hand on a machine is
left out of it. [Baselines](baselines.md) has the numbers themselves.
"""


def page() -> str:
    """The page as Markdown."""
    parts = coverage(pages(shipped_entries()), needs_here(None, None, None))
    whole = total(parts)
    counts = [[text(p.protocol), text(p.block), *map(str, p.counts().values())] for p in (*parts, whole)]
    why = [[str(r.count), text(r.need.kind), text(r.need.text), text(r.need.unlock)] for r in reasons(parts)]
    return "\n\n".join([
        HEAD,
        table(["protocol", "block", *whole.counts()], counts),
        "## What the others lack",
        table(["numbers", "lack", "", "unlocked by"], why),
    ]) + "\n"  # fmt: skip
