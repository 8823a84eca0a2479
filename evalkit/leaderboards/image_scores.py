"""Scores per image, read back: what `evaluate --out` and `reproduce` write, every column under its full name."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from evalkit.errors import DataError, EvalkitError, UnknownNameError
from evalkit.files.names import file_name, from_cell
from evalkit.files.read import parse_json, read_text
from evalkit.leaderboards.fits import check_run
from evalkit.metrics.registry import card, convention
from evalkit.protocols.table.cells import Column
from evalkit.protocols.table.table import Table, read_table
from evalkit.records.per_image import DIGEST, FIRST, LAST

REASONS = [name for names in LAST for name in names]  # columns with what has no value, and why
NOT_MEASURED = "no value in the file"


def read_scores(path: str | os.PathLike[str], default_convention: str | None = None) -> pd.DataFrame:
    """A row per image, a column per metric under its full name, such as SSIM[tang]; NaN where there is no value.

    `.attrs["missing"]` maps (image, full name) to the reason. A column without a convention is in that of the
    run whose folder the file lies in, else in `default_convention`.

    Raises:
        DataError: not readable, not such a file, an image twice, or a convention that nobody states.
        UnknownNameError: an unknown metric or convention.
    """
    path = Path(path)
    try:
        lines = list(csv.reader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if not lines or lines[0][:1] != ["image"]:
        raise DataError(f"{path} holds no scores per image: expected the columns image, EN, ... of `evaluate --out`.")
    header = lines[0]
    stated = _columns_of_run(path)
    names = {
        i: stated.get(column) or full_name(column, default_convention, path)
        for i, column in enumerate(header)
        if column not in (*FIRST, *REASONS, DIGEST)
    }
    if twice := next((name for name in names.values() if list(names.values()).count(name) > 1), None):
        raise DataError(f"{path} has two columns of {twice}.")
    of_reasons = [column for column in REASONS if column in header][:1]
    rows: dict[str, dict[str, float]] = {}
    missing: dict[tuple[str, str], str] = {}
    for number, line in enumerate(lines[1:], 2):
        where = f"{path}, line {number}"
        if len(line) != len(header):
            raise DataError(f"{where}: {len(line)} cells, expected {len(header)}.")
        image = from_cell(line[0])
        if image in rows:
            raise DataError(f"{where}: the image {image!r} is there twice.")
        rows[image] = {name: _value(line[i], where) for i, name in names.items()}
        reasons = _reasons(line[header.index(of_reasons[0])], where) if of_reasons else {}
        for i, name in names.items():
            if math.isnan(rows[image][name]):
                missing[image, name] = reasons.get(header[i], NOT_MEASURED)
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(names.values()), dtype=float)
    frame.index.name = "image"
    frame.attrs["missing"] = missing
    return frame


def _value(text: str, where: str) -> float:
    try:
        value = float(text) if text.strip() else math.nan
    except ValueError:
        raise DataError(f"{where}: {text!r} is not a number. Leave the cell empty where there is no value.") from None
    return value if math.isfinite(value) else math.nan


def _reasons(text: str, where: str) -> dict[str, str]:
    reasons = parse_json(text, f"{where}: the column `missing`") if text else {}
    if not isinstance(reasons, dict):
        raise DataError(f"{where}: the column `missing` is damaged. Measure again with --existing replace.")
    return {metric: str(reason) for metric, reason in reasons.items()}


def full_name(column: str, default_convention: str | None, where: object = "") -> str:
    """`SSIM` or `SSIM[tang]` -> the full name.

    Args:
        column: heading of the column.
        default_convention: of a metric that does not name its own.
        where: file that the column stands in, for the error.

    Raises:
        UnknownNameError: an unknown metric or convention.
        DataError: no convention is stated.
    """
    metric, bracket, named = column.strip().partition("[")
    known = card(metric.strip())
    stated = named.rstrip("] ") if bracket else known.convention or default_convention
    if not stated:
        raise DataError(
            f"{where} does not say in which convention {known.name} was measured. Say it, e.g. --convention smfnet; "
            "numbers of different conventions are never compared."
        )
    return f"{known.name}[{stated if known.convention else convention(stated).name}]"


def full_name_of(column: Column) -> str:
    """The full name that a column of a table has in the scores per image."""
    return column.name if "[" in column.name else f"{column.name}[{column.convention}]"


def _columns_of_run(path: Path) -> dict[str, str]:
    """Column -> full name, for a file OUT/scores/<dataset>/<method>.csv of a run; empty for other files.

    The run's table says it: columns of maps, such as F, are of measures that have no card of that name.
    """
    out = path.absolute().parents[2] if len(path.absolute().parents) > 2 else path.parent
    if path.absolute().parent.parent.name != "scores" or not (out / "table.json").is_file():
        return {}
    return {column.name: full_name_of(column) for column in read_table(out).columns}


class RunScores:
    """The scores per image of a finished run.

    Args:
        out: the folder that `reproduce` wrote. Raises DataError when it is none, or its records, scores and table do
            not fit together.
    """

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self.out = Path(out)
        self.table: Table = read_table(out)
        check_run(self.out)

    def methods(self, dataset: str) -> list[str]:
        """Methods with scores on a data set, in the table's order."""
        return [method for method in self.table.methods(dataset) if self.file(dataset, method).is_file()]

    def file(self, dataset: str, method: str) -> Path:
        return self.out / "scores" / file_name(dataset) / f"{file_name(method)}.csv"

    def read(self, dataset: str, method: str) -> pd.DataFrame:
        """The scores of a method. Raises DataError where there are none, or the run was stopped before its end."""
        path = self.file(dataset, method)
        if path.with_name(path.name + ".partial").is_file():
            raise DataError(f"{path} is not finished: the run was stopped. Finish it with `evalkit reproduce`.")
        if not path.is_file():
            reason = self._reason(dataset, method)
            raise DataError(f"{method} has no scores per image on {dataset} in {self.out}{reason}.")
        return read_scores(path)

    def _reason(self, dataset: str, method: str) -> str:
        cells = [cell for cell in self.table.cells if (cell.dataset, cell.method) == (dataset, method)]
        reasons = [cell.reason for cell in cells if cell.reason]
        return f" ({reasons[0]})" if reasons else ""


def chosen_columns(columns: list[str], names: list[str] | None) -> list[str]:
    """The full names behind `names` (EN or EN[smfnet], in any case); all when None. Raises UnknownNameError."""
    if names is None:
        return columns
    by_name: Mapping[str, str] = {short_name(c).casefold(): c for c in columns} | {c.casefold(): c for c in columns}
    if not names:
        raise EvalkitError("no metric is named. Give e.g. --metrics EN,SSIM, or leave it out for all.")
    for name in names:
        if name.casefold() not in by_name:
            raise UnknownNameError("metric", name, [short_name(c) for c in columns], "Only measured ones can be used.")
    return list(dict.fromkeys(by_name[name.casefold()] for name in names))


def short_name(full: str) -> str:
    """`SSIM[tang]` -> `SSIM`."""
    return full.partition("[")[0]
