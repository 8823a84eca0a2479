"""A table as CSV and JSON; the formats there are, and what writes each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

from evalkit.files.names import to_cell
from evalkit.protocols.table.cells import COLUMNS, TableContent
from evalkit.protocols.table.latex import to_latex
from evalkit.protocols.table.markdown import to_markdown
from evalkit.protocols.table.page import block_html, to_html
from evalkit.protocols.table.published import is_number
from evalkit.protocols.table.style import PLAIN, TableStyle
from evalkit.protocols.table.styled import styled
from evalkit.protocols.table.text import MISSING, convention_note, heading, missing

# what other pages are made of
__all__ = [
    "FORMATS", "MISSING", "block_html", "convention_note", "heading", "missing", "to_csv", "to_html", "to_json",
    "to_latex", "to_markdown",
]  # fmt: skip


def to_csv(table: TableContent, style: TableStyle = PLAIN) -> str:
    """Tidy CSV; numbers with all digits, empty where there is none.

    Args:
        table: of a run, or published.
        style: which rows and columns are added.

    Raises:
        EvalkitError: what the style asks for cannot be shown.
    """
    table = styled(table, style, "csv").table
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


def to_json(table: TableContent, style: TableStyle = PLAIN) -> str:
    """Everything there is of a table.

    Args:
        table: of a run, or published.
        style: which rows and columns are added.

    Raises:
        EvalkitError: what the style asks for cannot be shown.
    """
    return json.dumps(styled(table, style, "json").table.to_dict(), indent=1, ensure_ascii=False) + "\n"


Exporter = Callable[..., str]  # of a table and a style
FORMATS: dict[str, tuple[str, Exporter]] = {
    "csv": ("csv", to_csv),
    "latex": ("tex", to_latex),
    "markdown": ("md", to_markdown),
    "html": ("html", to_html),
    "json": ("json", to_json),
}
