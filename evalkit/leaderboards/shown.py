"""Results as tables of texts: what a terminal prints, a notebook shows and LaTeX sets has the same cells."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from evalkit.files.names import printable
from evalkit.protocols.table.latex import FIT
from evalkit.protocols.table.tex import tex

NUMBER = re.compile(r"–|<?[-+]?[\d.]+(e[-+]?\d+)?( \.\. [-+]?[\d.]+)?")  # or an interval, or a missing value
LONG = 28  # characters of a cell from which its column is text that wraps
LINES = 50  # of a page: a longer table goes on in another float
CHARACTERS = 110  # in a line of wrapped columns together


@dataclass(frozen=True)
class TextTable:
    """Rows of texts under heads, with a title above and a line per note below; without rows it is text alone."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    notes: list[str]

    @property
    def widths(self) -> list[int]:
        """Characters of the longest cell of every column."""
        return [max(map(len, cells)) for cells in zip(self.heads, *self.rows, strict=True)]

    def numeric(self, i: int) -> bool:
        """Whether a column holds numbers alone."""
        return i > 0 and bool(self.rows) and all(NUMBER.fullmatch(row[i]) for row in self.rows)


class Shown:
    """A result that a notebook shows as tables, and a terminal as one line."""

    def summary(self) -> str:
        """One line."""
        raise NotImplementedError

    def texts(self) -> list[TextTable]:
        """Everything, as tables of texts."""
        raise NotImplementedError

    def to_latex(self) -> str:
        """The tables as LaTeX (booktabs); the packages they need are named in the first line."""
        return "\n".join(_latex(table) for table in self.texts())

    def _repr_html_(self) -> str:
        return to_html(self.texts())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {printable(' '.join(self.summary().split()))}>"


_STYLE = (
    ".evalkit-result table { border-collapse: collapse; border-block: 2px solid; margin: .3rem 0; }"
    ".evalkit-result th, .evalkit-result td { padding: .25rem .6rem; text-align: left; vertical-align: top; }"
    ".evalkit-result .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }"
    ".evalkit-result thead th { border-bottom: 1px solid; }"
    ".evalkit-result .long { min-width: 11rem; } .evalkit-result tr > :first-child { white-space: nowrap; }"
    ".evalkit-result p { font-weight: 700; margin: .8rem 0 .2rem; } .evalkit-result ul { margin: .2rem 0 1rem; }"
)


def to_html(tables: Iterable[TextTable]) -> str:
    """A fragment for a notebook: it styles nothing but itself, and what it shows is only text."""
    parts = [f'<div class="evalkit-result"><style>{_STYLE}</style>']
    for table in tables:
        parts.append(f"<p>{_html(table.title)}</p>")
        classes = [
            ' class="number"' if table.numeric(i) else ' class="long"' if width > LONG else ""
            for i, width in enumerate(table.widths)
        ]
        head = "".join(f'<th scope="col"{c}>{_html(h)}</th>' for c, h in zip(classes, table.heads, strict=True))
        rows = "".join(
            "<tr>" + "".join(f"<td{c}>{_html(cell)}</td>" for c, cell in zip(classes, row, strict=True)) + "</tr>"
            for row in table.rows
        )
        if table.rows:
            body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
            parts.append(f'<div style="overflow-x: auto"><table>{body}</table></div>')
        if table.notes:
            parts.append(f"<ul>{''.join(f'<li>{_html(note)}</li>' for note in table.notes)}</ul>")
    return "".join([*parts, "</div>"])


def _html(text: str) -> str:
    return html.escape(printable(text)).replace("\n", "<br>")


def _latex(table: TextTable) -> str:
    """A float per page of rows; columns of long texts wrap."""
    notes = r"\\ ".join(f"-- {tex(note)}" for note in table.notes)
    if not table.rows:
        return f"\\par\\smallskip\\noindent {tex(table.title)}\n" + (f"\\par {notes}\n" if notes else "")
    long = {i: width**0.5 for i, width in enumerate(table.widths) if width > LONG}
    share = {i: 0.68 * weight / sum(long.values()) for i, weight in long.items()}
    columns = "".join(
        rf">{{\raggedright\arraybackslash}}p{{{share[i]:.2f}\linewidth}}" if i in long else "lr"[table.numeric(i)]
        for i in range(len(table.heads))
    )
    pages = list(_pages(table.rows, {i: max(1, int(CHARACTERS * part)) for i, part in share.items()}))
    lines = [r"% needs \usepackage{array,booktabs,graphicx} and \usepackage[T1]{fontenc}"]
    for number, page in enumerate(pages):
        caption = tex(table.title + (" (continued)" if number else ""))
        body = [" & ".join(map(_tex_cell, row)) + r" \\" for row in [table.heads, *page]]
        lines += [
            r"\begin{table*}[t]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{caption}}}",
            *(FIT, rf"\begin{{tabular}}{{{columns}}}"),
            *(r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}}"),
        ]
        if notes and page is pages[-1]:
            lines.append(rf"\par\smallskip\raggedright\scriptsize {notes}")
        lines.append(r"\end{table*}")
    return "\n".join(lines) + "\n"


def _pages(rows: list[list[str]], room: dict[int, int]) -> Iterator[list[list[str]]]:
    """The rows, as many together as a page has room for; `room` has the characters in a line of a wrapped column."""
    page: list[list[str]] = []
    filled = 0
    for row in rows:
        height = max([1, *(-(-len(row[i]) // characters) for i, characters in room.items())])
        if page and filled + height > LINES:
            yield page
            page, filled = [], 0
        page.append(row)
        filled += height
    yield page


def _tex_cell(text: str) -> str:
    """A cell: after \\\\ a bracket or a star would be an option of it."""
    return ("{}" if text.startswith(("[", "*")) else "") + tex(text)
