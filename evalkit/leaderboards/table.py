"""A regenerated table: measured values beside the published ones, tidy, one cell per data set, method and metric."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evalkit.errors import DataError
from evalkit.files import write_text
from evalkit.leaderboards.per_image import Agreement

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["equal", "close", "differs", "unpublished", "other data", "hole"]
CLOSE = 1e-3  # relative difference up to which a value counts as close to the printed one
COLUMNS = ["dataset", "method", "metric", "value", "published", "difference", "images", "status", "reason"]


@dataclass(frozen=True)
class Cell:
    """One number of the table, or the reason why it is a hole."""

    dataset: str
    method: str
    metric: str
    value: float | None
    published: str | None  # as printed
    images: int
    status: Status
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Measured minus published; None where the two cannot be compared."""
        if self.value is None or self.published is None or self.status == "other data":
            return None
        return self.value - float(self.published)


def agreement(value: float, printed: str) -> Status:
    """How a value agrees with a printed number: equal when it rounds to it, close within 0.1 %."""
    decimals = len(printed.partition(".")[2])
    difference = abs(value - float(printed))
    if difference <= 0.5 * 10**-decimals * (1 + 1e-9):
        return "equal"
    return "close" if difference <= CLOSE * abs(float(printed)) else "differs"


@dataclass(frozen=True)
class Column:
    """A metric of the table: which way is better, and in which convention it was measured."""

    name: str
    better: Literal["higher", "lower"]
    convention: str

    @property
    def arrow(self) -> str:
        return "↑" if self.better == "higher" else "↓"


@dataclass
class Table:
    """The cells of a protocol's table, and what is needed to print them."""

    protocol: str
    title: str
    source: str
    convention: str
    citation: str
    columns: list[Column]
    sample: bool = False
    pairs: dict[str, int] = field(default_factory=dict)  # per data set, as found
    cells: list[Cell] = field(default_factory=list)
    agreement: list[Agreement] = field(default_factory=list)  # with values that were published per image

    @property
    def complete(self) -> bool:
        """Whether no cell is a hole."""
        return all(cell.status != "hole" for cell in self.cells)

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(cell.dataset for cell in self.cells))

    def methods(self, dataset: str) -> list[str]:
        return list(dict.fromkeys(cell.method for cell in self.cells if cell.dataset == dataset))

    def cell(self, dataset: str, method: str, metric: str) -> Cell:
        """The cell of that name. Raises StopIteration where the table has none."""
        return next(c for c in self.cells if (c.dataset, c.method, c.metric) == (dataset, method, metric))

    def marks(self, dataset: str, column: Column) -> dict[str, str]:
        """Method -> "best" or "second" among the measured values; equal values share a mark."""
        values = {
            c.method: c.value
            for c in self.cells
            if c.dataset == dataset and c.metric == column.name and c.value is not None
        }
        ranked = sorted(set(values.values()), reverse=column.better == "higher")
        if len(values) < 2 or len(ranked) < 2:
            return {}
        names = {ranked[0]: "best", ranked[1]: "second"}
        return {method: names[value] for method, value in values.items() if value in names}

    @property
    def frame(self) -> pd.DataFrame:
        """Tidy data frame with the columns of `table.csv`."""
        import pandas as pd

        rows = [asdict(cell) | {"difference": cell.difference} for cell in self.cells]
        return pd.DataFrame(rows, columns=COLUMNS)

    def coverage(self) -> str:
        """One line on how much is measured and how much of it agrees."""
        measured = [c for c in self.cells if c.value is not None]
        text = f"{len(measured)} of {len(self.cells)} cells measured"
        compared = [c for c in measured if c.difference is not None]
        if compared:
            counts = {s: sum(c.status == s for c in compared) for s in ("equal", "close", "differs")}
            text += f"; of {len(compared)} with a published value " + ", ".join(f"{n} {s}" for s, n in counts.items())
        return text

    def to_dict(self) -> dict:
        """Everything, JSON-able."""
        fields = asdict(self)
        fields["cells"] = [asdict(cell) | {"difference": cell.difference} for cell in self.cells]
        return fields

    def write(self, out: str | os.PathLike[str]) -> None:
        """Write table.csv, .json, .tex, .md and .html. Raises OutputError."""
        from evalkit.leaderboards.export import FORMATS

        for suffix, export in FORMATS.values():
            write_text(Path(out) / f"table.{suffix}", export(self))


def read_table(out: str | os.PathLike[str]) -> Table:
    """The table that `reproduce` wrote into a folder. Raises DataError."""
    path = Path(out) / "table.json"
    if not path.is_file():
        raise DataError(f"{out} holds no table.json. Name the --out folder of an `evalkit reproduce` run.")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        agreement = [Agreement(**row) for row in fields.pop("agreement")]
        cells = [Cell(**{k: v for k, v in cell.items() if k != "difference"}) for cell in fields.pop("cells")]
        columns = [Column(**column) for column in fields.pop("columns")]
        return Table(**fields, columns=columns, cells=cells, agreement=agreement)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}). Run `evalkit reproduce` into that folder again.") from None


def columns_of(definitions: Iterable[tuple[str, object]]) -> list[Column]:
    """Columns from column name -> Definition."""
    from evalkit.metrics.registry import Definition, card

    return [
        Column(name, card(d.metric).better, d.convention)  # type: ignore[arg-type]
        for name, d in definitions
        if isinstance(d, Definition)
    ]
