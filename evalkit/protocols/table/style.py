"""How a table is to look: digits, marks, arrangement, caption; the same options for every format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args

from evalkit.errors import EvalkitError, spelled

Marks = Literal["bold", "colour"]
Layout = Literal["per-dataset", "wide"]
MARKED = {"bold": "best in bold, second underlined", "colour": "best in red, second in blue"}
MOST_DIGITS = 12
_LABEL = re.compile(r"[A-Za-z0-9:._/+-]+")  # what \label and \ref take without an escape
_DATA = {"with_published", "rank_column"}  # what tidy cells can show, without a look
_PAGE = _DATA | {"digits", "caption", "transpose", "marks", "layout", "std"}
SHOWN = {"csv": _DATA, "json": _DATA, "markdown": _PAGE, "html": _PAGE, "xlsx": _PAGE}  # format -> options that it has


@dataclass(frozen=True)
class TableStyle:
    """How a table is shown. What is not given is as evalkit shows it without a wish.

    Attributes:
        digits: decimals of all numbers, or of columns by name (their metric, in any case); a printed number is
            shortened to them, never lengthened.
        caption: in place of evalkit's own; it is text, so that LaTeX commands in it are escaped.
        label: of LaTeX's `\\label`; with a table per data set each gets its own, <label>-<data set>.
        transpose: methods as columns.
        rank_column: the mean rank of each row over the columns of its data set that all rows have.
        marks: "bold" for best in bold, second underlined; "colour" for best in red, second in blue.
        siunitx: LaTeX's numbers in `S` columns, aligned at the decimal point.
        layout: "per-dataset" for a table each, "wide" for one with data sets side by side; None for the arrangement
            of the paper in LaTeX, a table per data set elsewhere.
        std: the standard deviation over the images beside each mean.
        with_published: the printed rows that were not measured, below the measured ones.

    Raises:
        EvalkitError: a field is not one of these.
    """

    digits: int | Mapping[str, int] | None = None
    caption: str | None = None
    label: str | None = None
    transpose: bool = False
    rank_column: bool = False
    marks: Marks = "bold"
    siunitx: bool = False
    layout: Layout | None = None
    std: bool = False
    with_published: bool = False

    def __post_init__(self) -> None:
        given = self.digits.values() if isinstance(self.digits, Mapping) else [self.digits]
        for count in given:
            if count is not None and not (type(count) is int and 0 <= count <= MOST_DIGITS):
                raise EvalkitError(f"digits: {count!r} is not a number of decimals from 0 to {MOST_DIGITS}.")
        if self.marks not in get_args(Marks):
            raise EvalkitError(f"marks: {self.marks!r} is neither 'bold' nor 'colour'.")
        if self.layout is not None and self.layout not in get_args(Layout):
            raise EvalkitError(f"layout: {self.layout!r} is neither 'per-dataset' nor 'wide'.")
        if self.label is not None and not _LABEL.fullmatch(self.label):
            raise EvalkitError(f"label: {self.label!r} holds more than letters, digits and :._/+-, as LaTeX needs it.")

    def digits_of(self, column: str, metric: str) -> int | None:
        """Decimals that a column is to have, by its name, its metric, or for all; None where nothing is said.

        Args:
            column: the column's name, such as "Car IoU".
            metric: of the column, such as "IoU".
        """
        if not isinstance(self.digits, Mapping):
            return self.digits
        by_name = {name.casefold(): count for name, count in self.digits.items()}
        return next((by_name[name.casefold()] for name in (column, metric, "") if name.casefold() in by_name), None)

    def check(self, form: str, columns: Iterable[str]) -> None:
        """Raise EvalkitError for an option that a format cannot show, or digits of a column that is not there.

        Args:
            form: the format's name.
            columns: names of columns and metrics that digits may be given of.
        """
        plain = TableStyle()
        for option in fields(self):
            if getattr(self, option.name) != getattr(plain, option.name) and option.name not in SHOWN.get(
                form, option.name
            ):
                why = (
                    "holds every number with all its digits, and no style"
                    if SHOWN[form] is _DATA
                    else "does not have it"
                )
                raise EvalkitError(
                    f"{option.name} is not for {form}, which {why}: leave it out, or take another format."
                )
        if isinstance(self.digits, Mapping):
            known = list(columns)
            for name in filter(None, self.digits):
                spelled("column", name, known)


PLAIN = TableStyle()


def parse_digits(text: str) -> int | dict[str, int]:
    """`3`, `EN=2,VIF=4`, or `3,EN=2` for three decimals but in EN. Raises EvalkitError.

    Example:
        >>> parse_digits("3,EN=2")
        {'': 3, 'EN': 2}
    """
    digits: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, count = part.rpartition("=")
        if not re.fullmatch(r"[0-9]{1,3}", count.strip()) or name.strip() in digits:
            raise EvalkitError(f"digits: {text!r} is not understood. Write 3, or EN=2,VIF=4, or 3,EN=2.")
        digits[name.strip()] = int(count)
    if not digits:
        raise EvalkitError("digits: no number is given. Write 3, or EN=2,VIF=4.")
    return digits[""] if list(digits) == [""] else digits
