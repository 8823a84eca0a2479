"""A table as CSV, Markdown, HTML and JSON; LaTeX is in `layout`."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable

from evalkit.files.names import to_cell
from evalkit.protocols.table.cells import COLUMNS, Cell, Column, TableContent
from evalkit.protocols.table.latex import to_latex
from evalkit.protocols.table.published import decimals_of, is_number

MISSING = "–"


def number(cell: Cell) -> str:
    """The measured value with as many decimals as the paper prints (four at least), or a dash."""
    return MISSING if cell.value is None else f"{cell.value:.{_decimals(cell)}f}"


def _decimals(cell: Cell) -> int:
    return max(4, decimals_of(cell.published or ""))


def beside(cell: Cell) -> str:
    """The published value and the difference to it: `7.1203 (+0.0001)`, or `7.1203 (=)`; empty without one."""
    if cell.published is None:
        return ""
    if cell.difference is None:
        return cell.published
    if cell.status == "equal":
        return f"{cell.published} (=)"
    return f"{cell.published} ({cell.difference:+.{_decimals(cell)}f})"


def shown(table: TableContent, cell: Cell) -> tuple[str, str]:
    """What stands in a cell and below it: measured and published; in a published table the printed number alone."""
    return (number(cell) + cell.sign, beside(cell)) if table.measured else (cell.published or MISSING, "")


def missing(table: TableContent, dataset: str) -> list[str]:
    """`methods: reason` for what is missing of a data set; metrics and methods with one reason are put together."""
    metrics: dict[tuple[str, str], list[str]] = {}
    for cell in table.cells:
        if cell.dataset == dataset and cell.reason:
            metrics.setdefault((cell.reason, cell.method), []).append(cell.metric)
    methods: dict[str, list[str]] = {}
    for (reason, method), which in metrics.items():
        which_metrics = "" if len(which) == len(table.columns_of(dataset)) else f" ({', '.join(which)})"
        methods.setdefault(reason, []).append(method + which_metrics)
    return [f"{', '.join(who)}: {reason}" for reason, who in methods.items()]


def heading(table: TableContent, dataset: str) -> str:
    """What the numbers of one block are."""
    name, variant, *_ = [*table.blocks.get(dataset, [dataset]), ""]
    count = table.pairs.get(dataset, table.pairs.get(name))
    pairs = "" if count is None else f"{count} pairs"
    if table.sample:
        subject = f"{table.protocol} on generated sample scenes (not a data set of the paper)"
        return " · ".join(filter(None, [subject, variant, pairs]))
    return " · ".join(filter(None, [table.protocol, table.source, dataset, pairs]))


def convention_note(table: TableContent) -> str:
    """The sentence on convention and marks that stands below every table."""
    other = [f"{c.name}" for c in table.columns if c.convention != table.convention]
    text = f"Convention: {table.convention}"
    if other:
        text += f" ({', '.join(other)} as named)"
    if not table.measured and any(cell.published for cell in table.cells):
        return (
            f"{text}; published values, nothing is measured; best in bold, second underlined, as the paper marks them."
        )
    if any(cell.published for cell in table.cells):
        text += "; below each measured value: the published one and (measured - published), (=) where the digits agree"
    return " ".join(filter(None, [text + "; best in bold, second underlined.", table.note]))


def to_csv(table: TableContent) -> str:
    """Tidy CSV; numbers with all digits, empty where there is none."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, "convention"])
    conventions = {c.name: c.convention for c in table.columns}
    for cell in table.cells:
        fields = [getattr(cell, name) for name in COLUMNS]
        fields = [repr(f) if isinstance(f, float) else "" if f is None else _cell(f) for f in fields]
        writer.writerow([*fields, conventions[cell.metric]])
    return buffer.getvalue()


def _cell(field: object) -> object:
    """A text that a spreadsheet would run as a formula gets a leading apostrophe; -3.999 is a number."""
    return to_cell(field) if isinstance(field, str) and not is_number(field) else field


def to_json(table: TableContent) -> str:
    return json.dumps(table.to_dict(), indent=1, ensure_ascii=False) + "\n"


def to_markdown(table: TableContent) -> str:
    """A section per data set; published value and difference below the measured value."""
    blocks = [f"# {_md(table.title)}\n"]
    for dataset in table.datasets:
        lines = [f"## {_md(heading(table, dataset))}\n"]
        columns = table.columns_of(dataset)
        lines.append("| method | " + " | ".join(_md(c.head) for c in columns) + " |")
        lines.append("|:--|" + "--:|" * len(columns))
        marks = {c.name: table.marks(dataset, c) for c in columns}
        for method in table.methods(dataset):
            row = []
            for column in columns:
                value, below = shown(table, table.cell(dataset, method, column.name))
                mark = marks[column.name].get(method)
                text = {"best": "**{}**", "second": "<u>{}</u>"}.get(mark or "", "{}").format(value)
                row.append("<br>".join(filter(None, [text, below])))
            lines.append(f"| {_md(method)} | " + " | ".join(row) + " |")
        lines.append(f"\n{convention_note(table)}\n")
        lines += [f"- {MISSING} {_md(line)}" for line in missing(table, dataset)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _md(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", " ".join(text.split()))


_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; border-block: 2px solid; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child { text-align: left; }
tbody th { font-weight: inherit; }
thead th { border-bottom: 1px solid; }
tbody tr:nth-child(even) { background: rgba(128, 128, 128, .09); }
.best { font-weight: 700; } .second { text-decoration: underline; }
.published { display: block; font-size: .78em; opacity: .75; }
.equal { color: #1a7f37; opacity: 1; } .differs { color: #b42318; opacity: 1; }
@media (prefers-color-scheme: dark) { .equal { color: #4ac26b; } .differs { color: #ff8b7e; } }
.note, ul { font-size: .85em; opacity: .85; max-width: 60rem; }
"""


def to_html(table: TableContent) -> str:
    """A page that stands on its own."""
    body = [f"<h1>{html.escape(table.title)}</h1>"]
    if table.citation and not table.sample:
        body.append(f'<p class="note">{html.escape(table.citation)}</p>')
    body.append(f"<p>{html.escape(table.coverage())}.</p>")
    for dataset in table.datasets:
        body.append(f"<h2>{html.escape(heading(table, dataset))}</h2>")
        body.append(f'{block_html(table, dataset)}<p class="note">{html.escape(convention_note(table))}</p>')
        reasons = missing(table, dataset)
        if reasons:
            body.append("<ul>" + "".join(f"<li>{MISSING} {html.escape(line)}</li>" for line in reasons) + "</ul>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(table.protocol)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def block_html(table: TableContent, dataset: str) -> str:
    """The table of one block, in a box of its own: what is wider than the page scrolls there.

    Its values are of the classes best and second, what was published of published, equal, close, differs.
    """
    columns = table.columns_of(dataset)
    marks = {column.name: table.marks(dataset, column) for column in columns}
    head = "".join(f'<th scope="col">{html.escape(column.head)}</th>' for column in columns)
    rows = []
    for method in table.methods(dataset):
        cells = "".join(_html_cell(table, table.cell(dataset, method, c.name), marks[c.name], c) for c in columns)
        rows.append(f'<tr><th scope="row">{html.escape(method)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" aria-label="{html.escape(dataset)}" tabindex="0"><table><thead><tr>'
        f'<th scope="col">Method</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _html_cell(table: TableContent, cell: Cell, marks: dict[str, str], column: Column) -> str:
    title = f"{cell.dataset}, {cell.method}, {column.name}[{column.convention}]: {cell.reason or cell.status}"
    text, published = shown(table, cell)
    value = f'<span class="{marks.get(cell.method, "")}">{html.escape(text)}</span>'
    below = f'<span class="published {cell.status}">{html.escape(published)}</span>' if published else ""
    return f'<td title="{html.escape(title, quote=True)}">{value}{below}</td>'


Exporter = Callable[[TableContent], str]
FORMATS: dict[str, tuple[str, Exporter]] = {
    "csv": ("csv", to_csv),
    "latex": ("tex", to_latex),
    "markdown": ("md", to_markdown),
    "html": ("html", to_html),
    "json": ("json", to_json),
}
