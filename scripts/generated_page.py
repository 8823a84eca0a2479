"""A page of docs/ that ends in tables which a script makes; what stands above its mark is written by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evalkit.files.write import write_text

DOCS = Path(__file__).resolve().parents[1] / "docs"


@dataclass(frozen=True)
class GeneratedPage:
    """`mark` is the line below which the tables stand."""

    name: str
    mark: str
    tables: Callable[[], str]

    def text(self) -> str:
        """The page as the file has it."""
        return (DOCS / self.name).read_text(encoding="utf-8")

    def made(self) -> str:
        """The page with its tables made now."""
        return f"{self.text().partition(self.mark)[0]}{self.mark}\n\n{self.tables()}\n"

    def main(self) -> None:
        """Print the tables, or with --write put them into the page."""
        if "--write" in sys.argv[1:]:
            write_text(DOCS / self.name, self.made())
        else:
            print(self.tables())
