"""A table as an Excel file: numbers as numbers, missing values as empty cells with a comment that says why."""

from __future__ import annotations

import io
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evalkit.errors import EvalkitError
from evalkit.files.names import printable
from evalkit.protocols.table.cells import TableContent
from evalkit.protocols.table.grid import DIGITS, Grid, GridCell
from evalkit.protocols.table.published import decimals_of
from evalkit.protocols.table.style import PLAIN, TableStyle
from evalkit.protocols.table.styled import Styled, styled
from evalkit.protocols.table.text import convention_note, heading, wide_heading

if TYPE_CHECKING:
    from xlsxwriter.workbook import Workbook
    from xlsxwriter.worksheet import Worksheet

LONGEST_NAME, LONGEST_COMMENT = 31, 1000  # characters: of a sheet's name, by Excel; of a comment, to be read
_MARKS: dict[str, dict[str, dict[str, Any]]] = {
    "bold": {"best": {"bold": True}, "second": {"underline": 1}},
    "colour": {"best": {"font_color": "#D00000"}, "second": {"font_color": "#0033CC"}},
}


def to_xlsx(table: TableContent, style: TableStyle = PLAIN) -> bytes:
    """The bytes of an Excel file: a sheet per data set, or one wide sheet. The same table gives the same bytes.

    Texts are texts: none is run as a formula or made a link.

    Args:
        table: of a run, or published.
        style: how it is to look.

    Raises:
        EvalkitError: what the style asks for cannot be shown, or the extra `xlsx` is not installed.
    """
    try:
        import xlsxwriter  # an extra, and most tables do without
    except ModuleNotFoundError:
        raise EvalkitError("Excel files need XlsxWriter: pip install 'evalkit[xlsx]'") from None
    ready = styled(table, style, "xlsx")
    buffer = io.BytesIO()
    texts = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    book = xlsxwriter.Workbook(buffer, {"in_memory": True, "nan_inf_to_errors": False, **texts})
    book.set_properties({"created": datetime(2000, 1, 1), "title": _text(style.caption or table.title)[:255]})
    names: set[str] = set()
    for dataset, grid in ready.grids():
        sheet = book.add_worksheet(_sheet_name(dataset or table.protocol, names))
        _fill(book, sheet, ready, grid, dataset)
    book.close()
    return buffer.getvalue()


def _sheet_name(name: str, taken: set[str]) -> str:
    """A name that Excel takes: no []:*?/\\, at most 31 characters, none twice in any case."""
    plain = re.sub(r"[\[\]:*?/\\\n\t]", "-", _text(name)).strip("' ")
    plain = _cut("" if plain.casefold() == "history" else plain, LONGEST_NAME).strip("' ") or "table"
    unique, count = plain, 1
    while unique.casefold() in taken:
        count += 1
        unique = f"{_cut(plain, LONGEST_NAME - len(str(count)) - 1)}-{count}"
    taken.add(unique.casefold())
    return unique


def _cut(text: str, length: int) -> str:
    """A text of at most so many UTF-16 units, as Excel counts."""
    return text.encode("utf-16-le")[: 2 * length].decode("utf-16-le", errors="ignore")


def _text(text: str) -> str:
    """A text that XML can hold."""
    return re.sub("[\ufffe\uffff]", "?", printable(text))


def _fill(book: Workbook, sheet: Worksheet, ready: Styled, grid: Grid, dataset: str | None) -> None:
    table, style = ready.table, ready.style
    bold = book.add_format({"bold": True})
    head = book.add_format({"bold": True, "align": "right", "bottom": 1})
    title = wide_heading(table) if dataset is None else heading(table, dataset)
    sheet.write_string(0, 0, _text(style.caption or table.title), bold)
    sheet.write_string(1, 0, _text(title))
    top, stub = 3, len(grid.rows)
    columns = _places(grid, stub)
    for level, axis in enumerate(grid.header):
        at = top + level
        last = level == len(grid.header) - 1
        for i, text in enumerate(grid.titles() if last else []):
            sheet.write_string(at, i, text, bold)
        for key, place in columns.items():
            label = _text(grid.label(axis, key[level]))
            sheet.write_string(at, place, label, head)
            if last and _spread_beside(grid, key):
                sheet.write_string(at, place + 1, f"{label} std", head)
    first = top + len(grid.header)
    for number, row in enumerate(grid.row_keys, first):
        for i, (axis, value) in enumerate(zip(grid.rows, row, strict=True)):
            sheet.write_string(number, i, _text(grid.label(axis, value)))
        for key, place in columns.items():
            _write(book, sheet, grid, grid.entry(row, key, DIGITS), (number, place))
    sheet.write_string(first + len(grid.row_keys) + 1, 0, _text(convention_note(table, style, below=False)))
    sheet.freeze_panes(first, stub)
    sheet.set_column(0, stub - 1, 18)


def _places(grid: Grid, first: int) -> dict[tuple[str, ...], int]:
    """Column key -> its column in the sheet; one with spreads takes two."""
    places = {}
    for key in grid.column_keys:
        places[key] = first
        first += 2 if _spread_beside(grid, key) else 1
    return places


def _spread_beside(grid: Grid, key: tuple[str, ...]) -> bool:
    entries = (grid.entry(row, key) for row in grid.row_keys)
    return any(entry is not None and entry.spread != "" for entry in entries)


def _write(book: Workbook, sheet: Worksheet, grid: Grid, entry: GridCell | None, at: tuple[int, int]) -> None:
    """A number with its mark, and a comment where there is something to say of it."""
    if entry is None:
        return
    cell = entry.cell
    own = cell.value if cell.value is not None else None
    if own is None and entry.text and (cell.status == "published" or not grid.table.measured):
        own = float(entry.text)
    if own is not None:
        look = {"num_format": _format(decimals_of(entry.text))} | _MARKS[grid.style.marks].get(entry.mark, {})
        if cell.status == "published":
            look |= {"italic": True}
        sheet.write_number(*at, own, book.add_format(look))
    if own is not None and entry.spread:
        key = cell.dataset, cell.method, cell.metric
        spread = grid.spreads.get(key, float(entry.spread))
        sheet.write_number(
            at[0], at[1] + 1, spread, book.add_format({"num_format": _format(decimals_of(entry.spread))})
        )
    said = [cell.reason or ("" if own is not None else "no value")]
    if own is None and cell.published:
        said.append(f"published: {cell.published}")
    if comment := "; ".join(filter(None, said)):
        sheet.write_comment(*at, _text(comment)[:LONGEST_COMMENT], {"author": "evalkit"})


def _format(decimals: int) -> str:
    return f"0.{'0' * decimals}" if decimals else "0"
