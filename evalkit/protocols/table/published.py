"""Published numbers, one row per number that a table prints: `published/<protocol>.csv`, or a reader's own file."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from evalkit.errors import DataError, nearest

HEADER = ("dataset", "variant", "method", "class", "metric", "printed", "mark", "note")
MARKS = ("best", "second", "")
SPREAD = " std"  # the metric "EN std" is the spread of the mean EN: 6.71 ± 0.42
LONGEST = 40  # characters of a printed number
# what a table can print: 46.001, 1e-3, -0.2, +3.1; no unit, no percent sign, no thousands separator, no NaN
_NUMBER = re.compile(r"(?a)[+-]?\d+(?:\.(\d+))?(?:[eE]([+-]?\d{1,3}))?|[+-]?\.(\d+)")


@dataclass(frozen=True)
class PublishedRow:
    """One printed number; `printed` is empty for a cell that the table leaves empty."""

    protocol: str
    dataset: str
    variant: str
    method: str
    class_: str
    metric: str
    printed: str
    mark: str = ""
    note: str = ""

    @property
    def value(self) -> float | None:
        return float(self.printed) if self.printed else None

    @property
    def decimals(self) -> int:
        return decimals_of(self.printed)

    @property
    def block(self) -> str:
        """The data set, the variant, or "MSRS · SegNeXt-B"."""
        return block_name(self.dataset, self.variant)

    @property
    def column(self) -> str:
        """The metric, with its class in front: "Car IoU"."""
        return column_name(self.class_, self.metric)

    @property
    def key(self) -> tuple[str, str, str]:
        """(block, method, column): the cell's place in a `leaderboards.table.Table`."""
        return self.block, self.method, self.column


def block_name(dataset: str, variant: str = "") -> str:
    return " · ".join(filter(None, [dataset, variant]))


def column_name(class_: str, metric: str) -> str:
    return " ".join(filter(None, [class_, metric]))


def is_number(text: str) -> bool:
    """Whether a text is a number as a table prints it."""
    return len(text) <= LONGEST and bool(_NUMBER.fullmatch(text)) and math.isfinite(float(text))


def decimals_of(printed: str) -> int:
    """Digits behind the decimal point; 0 for an empty cell.

    Example:
        >>> [decimals_of(printed) for printed in ("0.5130", "1e-3", "46", "")]
        [4, 3, 0, 0]
    """
    match = _NUMBER.fullmatch(printed)
    if not match:
        return 0
    return max(0, len(match[1] or match[3] or "") - int(match[2] or 0))


def published_rows(name: str) -> list[PublishedRow]:
    """The printed numbers of a protocol that ships, in file order.

    Raises:
        DataError: there is no file of that name, or it is damaged.
    """
    return list(_published_rows(name))


@cache
def _published_rows(stem: str) -> tuple[PublishedRow, ...]:
    file = resources.files("evalkit.protocols").joinpath("published", f"{stem}.csv")
    if not file.is_file():
        raise DataError(f"there are no published numbers of {stem!r}. `evalkit list protocols` shows all tables.")
    text = file.read_text(encoding="utf-8")
    header = next(csv.reader([text.partition("\n")[0]]), [])
    if tuple(header) != HEADER:
        raise DataError(f"{file.name}, line 1: the header is {','.join(header)}, expected {','.join(HEADER)}.")
    return tuple(read_rows(text, file.name))


def read_rows(text: str, name: str) -> list[PublishedRow]:
    """Rows from CSV text, in file order. `name` is the file's, for the rows and the messages.

    Only the columns method, metric and printed (or value) are required; dataset, variant, class, mark and note default
    to nothing.

    Raises:
        DataError: a column is missing, unknown or twice there, a line has too many or too few cells, a number is
            none, a mark is none of best and second, or two lines are of the same cell. File and line are named.
    """
    lines = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    try:
        header = [field.strip() for field in next(lines, [])]
        _check_header(header, name)
        rows: list[PublishedRow] = []
        seen: dict[tuple[str, str, str], int] = {}
        for fields in lines:
            if not any(field.strip() for field in fields):
                continue
            row = _row(header, fields, name, f"{name}, line {lines.line_num}")
            if row.key in seen:
                key = ", ".join(filter(None, row.key))
                raise DataError(f"{name}, line {lines.line_num}: {key} is already on line {seen[row.key]}.")
            seen[row.key] = lines.line_num
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{name}, line {lines.line_num}: this is no CSV ({error}).") from None
    return rows


def rows_to_csv(rows: Iterable[PublishedRow]) -> str:
    """Rows as the text of a file that `read_rows` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for row in rows:
        fields = row.dataset, row.variant, row.method, row.class_, row.metric, row.printed, row.mark, row.note
        writer.writerow(fields)
    return text.getvalue()


def _check_header(header: list[str], name: str) -> None:
    known = (*HEADER, "value")
    for column in header:
        if column not in known:
            near = nearest(column, known, 1)
            cure = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise DataError(f"{name}, line 1: unknown column {column!r}. {cure}")
    if twice := {column for column in header if header.count(column) > 1}:
        raise DataError(f"{name}, line 1: the column {twice.pop()!r} is there more than once.")
    missing = [column for column in ("method", "metric") if column not in header]
    if ("printed" in header) == ("value" in header):
        missing.append("printed (or value, not both)")
    if missing:
        raise DataError(f"{name}, line 1: no column {', '.join(missing)}. Found: {','.join(header) or 'nothing'}.")


def _row(header: list[str], fields: list[str], name: str, where: str) -> PublishedRow:
    if len(fields) != len(header):
        cure = "A comma inside a cell needs quotes around the cell."
        raise DataError(f"{where}: {len(fields)} cells, expected {len(header)} ({','.join(header)}). {cure}")
    cells = {column: field.strip() for column, field in zip(header, fields, strict=True)}
    printed = cells["printed"] if "printed" in cells else cells["value"]
    if not cells["method"] or not cells["metric"]:
        raise DataError(f"{where}: the {'metric' if cells['method'] else 'method'} is empty.")
    if printed and not is_number(printed):
        cure = "Write it with a decimal point, without unit or percent sign; leave the cell empty where there is none."
        raise DataError(f"{where}: {printed!r} is not a number. {cure}")
    mark = cells.get("mark", "")
    if mark not in MARKS:
        raise DataError(f"{where}: the mark is {mark!r}, expected best, second or nothing.")
    return PublishedRow(
        name.removesuffix(".csv"),
        cells.get("dataset", ""),
        cells.get("variant", ""),
        cells["method"],
        cells.get("class", ""),
        cells["metric"],
        printed,
        mark,
        cells.get("note", ""),
    )


def cells_by_key(rows: Iterable[PublishedRow]) -> dict[tuple[str, str, str], PublishedRow]:
    """(block, method, column) -> row; cells that the table leaves empty are missing."""
    return {row.key: row for row in rows if row.printed}
