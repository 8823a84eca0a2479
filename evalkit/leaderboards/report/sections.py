"""Tables, ranks and plots of a report as HTML. Every text from a run is escaped."""

from __future__ import annotations

from dataclasses import replace

from evalkit.leaderboards.marks import Marks, with_marks
from evalkit.leaderboards.overall import Rankings
from evalkit.leaderboards.rank import by_reason
from evalkit.leaderboards.report.figures import Gallery
from evalkit.leaderboards.report.pictures import uri
from evalkit.leaderboards.shown import TextTable
from evalkit.leaderboards.site.markup import e, scroll_table
from evalkit.protocols.table.export import block_html, convention_note, heading, missing
from evalkit.protocols.table.table import Table


def tables(table: Table, marks: Marks | None) -> str:
    """The table of every block, and once what is missing and why."""
    signed = with_marks(table, marks) if marks else table
    parts = [
        f"<article><h3>{e(heading(table, block))}</h3>{block_html(signed, block)}</article>" for block in table.datasets
    ]
    parts.append(f'<p class="lead">{e(convention_note(signed))}</p>')
    lines: dict[str, list[str]] = {}
    for block in table.datasets:
        for line in missing(table, block):
            lines.setdefault(line, []).append(block)
    shown = ""
    for line, blocks in lines.items():
        where = f"<b>{e(', '.join(blocks))}</b> · " if len(table.datasets) > 1 else ""
        shown += f"<li>{where}{e(line)}</li>"
    if shown:
        parts.append(f'<div class="missing"><h3>Missing values and why</h3><ul>{shown}</ul></div>')
    return "".join(parts)


def ranks(rankings: Rankings) -> str:
    """Ranks per block with Friedman's test, and over the data sets; why a value is missing is said of the tables."""
    parts = [
        '<p class="lead">1 is best, ties share their mean rank; – stands where a method has no value. The mean rank is '
        "over the metrics, for methods that are ranked in all of them; Borda counts the methods that are beaten.</p>"
    ]
    for ranking in rankings:
        own, *tests = ranking.texts()
        parts.append(_texts(replace(own, notes=by_reason("left out", ranking.left_out))))
        for test in tests:  # its last column, which methods do not differ, is what the diagrams show
            rows = [row[:-1] for row in test.rows]
            title = f"{ranking.dataset} · {test.title}"
            parts.append(_texts(replace(test, title=title, heads=test.heads[:-1], rows=rows)))
    if rankings.overall is not None:
        (overall,) = rankings.overall.texts()
        parts.append(_texts(replace(overall, notes=by_reason("left out", rankings.overall.left_out))))
    elif len(rankings) > 1:
        parts.append(sentence(f"No ranks over the data sets: {rankings.no_overall}"))
    parts.append(sentence("The tests take the images as independent, which frames of one video are not."))
    return "".join(parts)


def _texts(table: TextTable) -> str:
    texts = [head for i, head in enumerate(table.heads) if not table.numeric(i)]
    rows = []
    for name, *cells in table.rows:
        shown = zip(table.heads[1:], cells, strict=True)
        row = "".join(f"<td{' class=text' if head in texts else ''}>{e(cell)}</td>" for head, cell in shown)
        rows.append(f'<tr><th scope="row">{e(name)}</th>{row}</tr>')
    notes = f"<ul>{''.join(f'<li>{e(note)}</li>' for note in table.notes)}</ul>" if table.notes else ""
    body = scroll_table(table.heads, rows, table.title, texts[1:]) if rows else ""
    return f"<article><h3>{e(table.title)}</h3>{body}{notes}</article>"


def gallery(drawn: Gallery) -> str:
    """Figures side by side where there is room."""
    figures = "".join(
        f'<figure><img src="{uri(svg, "image/svg+xml")}" alt="{e(title)}"><figcaption>{e(title)}</figcaption></figure>'
        for title, svg in drawn.figures
    )
    reasons: dict[str, list[str]] = {}
    for where, why in drawn.not_drawn.items():
        reasons.setdefault(why, []).append(where)
    parts = [f"<p>{e(drawn.caption)} Methods without any value are left out.</p>"] if figures else []
    parts.append(f'<div class="gallery">{figures}</div>' if figures else "")
    parts += [f"<p>Not drawn, {e('; '.join(which))}: {e(why)}</p>" for why, which in reasons.items()]
    return "".join(parts)


def sentence(text: str) -> str:
    """A paragraph."""
    return f"<p>{e(text)}</p>"
