"""What a report reads of a run: its table, records, and the scores per image, each file once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pandas as pd

from evalkit.errors import DataError
from evalkit.leaderboards.fits import check_names, record_files, scores_of
from evalkit.leaderboards.report.images import Measured
from evalkit.leaderboards.run_values import ValueBlock, join_runs
from evalkit.protocols.table.published import SPREAD
from evalkit.protocols.table.table import Table, read_table
from evalkit.records.per_image import PerImage, read_per_image
from evalkit.records.record import Record, load


@dataclass
class RecordBlock(ValueBlock):
    """Values with the scores per image that were read already."""

    images: dict[str, PerImage] = field(default_factory=dict)  # method -> its scores

    def scores(self, methods: Sequence[str], metric: str) -> pd.DataFrame:
        """A row per image, a column per method. Raises DataError where a method has no scores per image."""
        if lacking := [m for m in methods if m not in self.images or metric not in self.images[m].metrics]:
            raise DataError(f"{lacking[0]} has no scores per image in {metric}.")
        return pd.DataFrame({m: pd.Series(self.images[m].column(metric), dtype=float) for m in methods})


@dataclass(frozen=True)
class RunContent:
    """What is read of a run, once."""

    folder: Path
    table: Table
    records: list[Record]
    blocks: list[RecordBlock]
    measured: dict[str, dict[str, Measured]]  # data set -> method -> record and scores per image
    apart: list[list[str]]  # the columns, a metric once in each list: one list where none is in several conventions


def read_run(folder: Path) -> RunContent:
    """Everything that a report says of a run, but its images. Raises DataError."""
    table = read_table(folder)
    apart = conventions_apart(table)
    blocks = _beside([join_runs([folder], metrics=names if len(apart) > 1 else None) for names in apart], table)
    records: list[Record] = []
    measured: dict[str, dict[str, Measured]] = {}
    for path in record_files(folder):
        if path.parent != folder / "records":
            continue
        record = load(path)
        check_names(record, path)
        records.append(record)
        if (scores := scores_of(path, record)) and (rows := read_per_image(scores)).rows:
            measured.setdefault(record.dataset["name"], {})[record.method["name"]] = Measured(record, rows)
    order = {method: i for i, method in enumerate(dict.fromkeys(cell.method for cell in table.cells))}
    records.sort(key=lambda r: (order.get(r.method["name"], len(order)), r.method["name"]))
    for name, of_set in measured.items():
        measured[name] = dict(sorted(of_set.items(), key=lambda item: order.get(item[0], len(order))))
    with_scores = [_with_scores(block, measured.get(block.dataset, {})) for block in blocks]
    in_order = [block.dataset for block in blocks if block.dataset in measured]
    return RunContent(folder, table, records, with_scores, {name: measured[name] for name in in_order}, apart)


def conventions_apart(table: Table) -> list[list[str]]:
    """Column names in lists that hold a metric once, for numbers of two conventions are never ranked together.

    The first has every metric, in the table's own convention where it is measured in that.
    """
    apart: list[dict[str, str]] = [{}]
    for column in sorted(table.columns, key=lambda column: column.convention != table.convention):
        if column.name.endswith(SPREAD):
            continue
        metric = column.name.partition("[")[0]
        free = next((names for names in apart if metric not in names), None)
        if free is None:
            apart.append(free := {})
        free[metric] = column.name
    order = {column.name: i for i, column in enumerate(table.columns)}
    return [sorted(names.values(), key=order.__getitem__) for names in apart]


def _beside(parts: list[list[ValueBlock]], table: Table) -> list[ValueBlock]:
    """The blocks of several lists of columns as one block per data set, each column drawn by itself."""
    joined = parts[0]
    for more in parts[1:]:
        for block, other in zip(joined, more, strict=True):
            block.values = pd.concat([block.values, other.values], axis=1)
            block.better |= other.better
            block.reasons |= other.reasons
    for block in joined if len(parts) > 1 else []:
        block.values = block.values[[c.name for c in table.columns if c.name in block.values]]
    return joined


def _with_scores(block: ValueBlock, measured: dict[str, Measured]) -> RecordBlock:
    own = {field.name: getattr(block, field.name) for field in fields(block)}
    return RecordBlock(**own, images={method: one.rows for method, one in measured.items()})
