"""The table that `reproduce` gives: measured values beside the published ones, in every format."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from evalkit.errors import DataError
from evalkit.files.mistakes import mistakes
from evalkit.files.read import parse_json, read_text
from evalkit.files.write import write_bytes, write_text
from evalkit.protocols.table.cells import TableContent
from evalkit.protocols.table.excel import to_xlsx
from evalkit.protocols.table.export import FORMATS
from evalkit.protocols.table.latex import to_latex
from evalkit.protocols.table.markdown import to_markdown
from evalkit.protocols.table.page import to_html
from evalkit.protocols.table.style import PLAIN, TableStyle


@dataclass
class Table(TableContent):
    """A regenerated table. The options of its exports are the fields of `TableStyle`, such as digits=2."""

    def write(self, out: str | os.PathLike[str], style: TableStyle = PLAIN) -> None:
        """Write table.csv, .json, .tex, .md and .html.

        Args:
            out: the run's folder.
            style: of .tex, .md and .html; .csv and .json hold what was measured, whatever the style.

        Raises:
            OutputError: a file cannot be written.
            EvalkitError: what the style asks for cannot be shown.
        """
        self.out = Path(out)
        for form, (suffix, export) in FORMATS.items():
            write_text(Path(out) / f"table.{suffix}", export(self, PLAIN if form in ("csv", "json") else style))

    def to_latex(self, **options: Any) -> str:
        """The table as LaTeX (booktabs), arranged as in the paper. Raises EvalkitError for what cannot be shown."""
        return to_latex(self, TableStyle(**options))

    def to_markdown(self, **options: Any) -> str:
        """The table as Markdown. Raises EvalkitError for what cannot be shown."""
        return to_markdown(self, TableStyle(**options))

    def to_html(self, **options: Any) -> str:
        """The table as a page of HTML. Raises EvalkitError for what cannot be shown."""
        return to_html(self, TableStyle(**options))

    def to_xlsx(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the table as an Excel file.

        Raises:
            EvalkitError: what the options ask for cannot be shown, or the extra `xlsx` is not installed.
            OutputError: the file cannot be written.
        """
        write_bytes(path, to_xlsx(self, TableStyle(**options)))

    def _repr_html_(self) -> str:
        """The table as a notebook shows it."""
        return to_html(self)


@functools.cache
def _adapter() -> TypeAdapter[Table]:
    return TypeAdapter(Table)


def read_table(out: str | os.PathLike[str]) -> Table:
    """The table that `reproduce` wrote into a folder. Raises DataError."""
    path = Path(out) / "table.json"
    if not path.is_file():
        raise DataError(f"{out} holds no table.json. Name the --out folder of an `evalkit reproduce` run.")
    try:
        table = _adapter().validate_python(_of_this_version(parse_json(read_text(path), path)))
        table.check()
        table.out = Path(out)
        return table
    except (ValueError, DataError) as error:
        reason = mistakes(error)[0] if isinstance(error, ValidationError) else str(error)
        reason = reason.removeprefix(f"{path} is ").removesuffix(".")
        raise DataError(f"{path} cannot be read ({reason}). Run `evalkit reproduce` into that folder again.") from None


def _of_this_version(fields: Any) -> Any:
    """The first version called a missing value a hole."""
    if isinstance(fields, dict) and isinstance(fields.get("cells"), list):
        for cell in fields["cells"]:
            if isinstance(cell, dict) and cell.get("status") == "hole":
                cell["status"] = "missing"
    return fields
