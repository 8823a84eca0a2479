"""The table that `reproduce` gives: measured values beside the published ones, in every format."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from evalkit.errors import DataError
from evalkit.files.read import parse_json, read_text
from evalkit.files.write import write_text
from evalkit.protocols.table.cells import TableContent
from evalkit.protocols.table.export import FORMATS, to_html, to_markdown
from evalkit.protocols.table.latex import to_latex


@dataclass
class Table(TableContent):
    """A regenerated table."""

    def write(self, out: str | os.PathLike[str]) -> None:
        """Write table.csv, .json, .tex, .md and .html. Raises OutputError."""
        for suffix, export in FORMATS.values():
            write_text(Path(out) / f"table.{suffix}", export(self))

    def to_latex(self) -> str:
        """The table as LaTeX (booktabs), arranged as in the paper."""
        return to_latex(self)

    def to_markdown(self) -> str:
        """The table as Markdown."""
        return to_markdown(self)

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
        return table
    except ValueError as error:
        first = " ".join(str(error).splitlines()[:3])
        raise DataError(f"{path} cannot be read ({first}). Run `evalkit reproduce` into that folder again.") from None


def _of_this_version(fields: Any) -> Any:
    """The first version called a missing value a hole."""
    if isinstance(fields, dict) and isinstance(fields.get("cells"), list):
        for cell in fields["cells"]:
            if isinstance(cell, dict) and cell.get("status") == "hole":
                cell["status"] = "missing"
    return fields
