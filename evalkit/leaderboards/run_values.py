"""What is to be ranked: the measured means of runs, or the printed numbers of a protocol, one block per data set."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from evalkit.errors import DataError, EvalkitError
from evalkit.files.names import several
from evalkit.files.read import read_text
from evalkit.leaderboards.image_scores import RunScores, full_name_of
from evalkit.leaderboards.overall import Rankings
from evalkit.leaderboards.rank import Better, Common, checked, chosen_names, rank_values
from evalkit.leaderboards.significance import NoTestError, critical_difference
from evalkit.metrics.registry import better_of
from evalkit.protocols.schema import protocol, rows_of
from evalkit.protocols.table.cells import Column
from evalkit.protocols.table.published import SPREAD, PublishedRow
from evalkit.protocols.table.read import SUFFIXES, read_table
from evalkit.records.record import load

# columns of published tables that are no metrics of evalkit, or stand for one of its variants
IN_MEAN = "its mean over the classes is ranked; name it with --metrics to rank it"  # else it would count twice


@dataclass
class ValueBlock:
    """The values of one data set: a row per method, a column per metric, NaN for a missing value with its reason."""

    dataset: str
    convention: str
    values: pd.DataFrame
    better: dict[str, Better]
    reasons: dict[tuple[str, str], str]
    left_out: dict[str, str]
    homes: dict[str, tuple[RunScores, str]] = field(default_factory=dict)  # row -> its run, and its name there

    def scores(self, methods: Sequence[str], metric: str) -> pd.DataFrame:
        """A row per image, a column per method. Raises DataError where a method has no scores per image."""
        columns = {}
        for method in methods:
            run, name = self.homes[method]
            column = next(c for c in run.table.columns if c.name == metric)
            columns[method] = run.read(self.dataset, name)[full_name_of(column)]
        return pd.DataFrame(columns)


def join_runs(
    runs: Sequence[str | os.PathLike[str]], datasets: Iterable[str] | None = None, metrics: Iterable[str] | None = None
) -> list[ValueBlock]:
    """The measured means of one run or several, one block per data set; of the named metrics, all when None.

    A method that several runs hold on the same data set is told apart by the folder, everywhere: `average (runs/a)`.

    Args:
        runs: folders that `reproduce` wrote.
        datasets: blocks; all when None.
        metrics: columns; all when None.

    Raises:
        DataError: a folder holds no run, or the runs differ in the convention of a metric or in a data set's pairs.
        UnknownNameError: an unknown data set or metric.
    """
    if not runs:
        raise EvalkitError("no run is named. Give the --out folder of an `evalkit reproduce` run.")
    opened = [RunScores(out) for out in dict.fromkeys(os.fspath(run) for run in runs)]
    columns = _joined_columns(opened, None if metrics is None else list(metrics))
    known = list(dict.fromkeys(name for run in opened for name in run.table.datasets))
    named = chosen_names("data set", datasets, known)
    conventions = ", ".join(dict.fromkeys(run.table.convention for run in opened))
    holders = {name: [run for run in opened if name in run.table.datasets] for name in named}
    twice = {
        method
        for name, runs_of in holders.items()
        for method, count in Counter(m for run in runs_of for m in run.table.methods(name)).items()
        if count > 1
    }
    return [_block(name, holders[name], columns, conventions, twice, metrics is not None) for name in named]


def _joined_columns(runs: list[RunScores], metric_names: list[str] | None) -> dict[str, Column]:
    """Column name -> column. Raises DataError when a metric stands in two conventions."""
    measures = (column for run in runs for column in run.table.columns if not column.name.endswith(SPREAD))
    names = chosen_names("metric", metric_names, dict.fromkeys(column.name for column in measures))
    columns: dict[str, Column] = {}
    metrics: dict[str, tuple[Column, Path]] = {}
    for run in runs:
        for column in run.table.columns:
            if column.name not in names:
                continue
            first, home = metrics.setdefault(column.name.partition("[")[0], (column, run.out))
            if first.convention != column.convention or first.name != column.name:
                raise DataError(
                    f"{first.name} is measured in convention {first.convention} in {home}, and in {column.convention} "
                    f"in {run.out}: numbers of different conventions are never ranked together. "
                    "Measure in one of them, or choose other columns with --metrics."
                )
            columns[column.name] = column
    return {name: columns[name] for name in names}


def _block(
    dataset: str, holders: list[RunScores], columns: dict[str, Column], convention: str, twice: set[str], named: bool
) -> ValueBlock:
    _check_same_pairs(dataset, holders)
    present = {cell.metric for run in holders for cell in run.table.cells if cell.dataset == dataset}
    columns = {name: column for name, column in columns.items() if name in present}
    means = {column.metric for column in columns.values() if column.class_ == "mean" and not named}
    left_out = {name: IN_MEAN for name, c in columns.items() if c.metric in means and c.class_ not in ("", "mean")}
    columns = {name: column for name, column in columns.items() if name not in left_out}
    values: dict[str, dict[str, float]] = {}
    block = ValueBlock(
        dataset, convention, pd.DataFrame(), {name: c.better for name, c in columns.items()}, {}, left_out
    )
    for run in holders:
        for method in run.table.methods(dataset):
            row = f"{method} ({run.out})" if method in twice else method
            block.homes[row] = run, method
            cells = {cell.metric: cell for cell in run.table.cells if (cell.dataset, cell.method) == (dataset, method)}
            values[row] = {}
            for name in columns:
                cell = cells.get(name)
                value = cell.value if cell else None
                values[row][name] = math.nan if value is None else value
                if value is None:
                    block.reasons[row, name] = (cell.reason if cell else f"{run.out} has no {name}") or "no value"
    block.values = pd.DataFrame.from_dict(values, orient="index", columns=list(columns))
    return block


def _check_same_pairs(dataset: str, runs: list[RunScores]) -> None:
    """Raises DataError when two runs measured the data set on different images, by the records' content hashes."""
    if len(runs) < 2:
        return
    contents: dict[str, Path] = {}
    for run in runs:
        for path in sorted((run.out / "records").glob(f"{dataset}__*.json")):
            record = load(path)
            if record.dataset["pairs"]:
                contents.setdefault(record.dataset["content_hash"], run.out)
    if len(contents) > 1:
        first, second = list(contents.values())[:2]
        raise DataError(
            f"{first} and {second} measured {dataset} on different pairs: their numbers cannot be ranked together. "
            "Run both on the same data."
        )


def printed_rows(source: str) -> list[PublishedRow]:
    """The printed numbers of a protocol, or of a reader's own table. Raises DataError, UnknownNameError."""
    if not source.casefold().endswith(SUFFIXES):
        return rows_of(protocol(source))
    path = Path(source)
    return read_table(read_text(path), path.name).rows


def rank_published(
    rows: Iterable[PublishedRow],
    datasets: Iterable[str] | str | None = None,
    methods: Iterable[str] | str | None = None,
    metrics: Iterable[str] | str | None = None,
    common: Common | None = None,
) -> Rankings:
    """Rank the printed numbers of one protocol, block by block and over them; equal printed numbers are tied.

    Where a block prints means over classes, only these are ranked, unless `metrics` names columns: a class and the mean
    that it is in would count it twice. Columns whose better way is not known are left out and named.

    Args:
        rows: the printed numbers.
        datasets, methods, metrics: a choice of blocks, rows and columns; everything when not given.
        common: leave out the "methods" or the "metrics" that have a missing value.

    Raises:
        DataError: rows of several protocols (whose conventions may differ), or nothing is left to rank.
        UnknownNameError: an unknown data set, method or column.
    """
    datasets, methods, metrics = several(datasets), several(methods), several(metrics)
    rows = list(rows)
    protocols = list(dict.fromkeys(row.protocol for row in rows))
    if len(protocols) != 1:
        numbers = f"the numbers of {', '.join(protocols)}" if rows else "no printed numbers"
        raise DataError(f"{numbers} cannot be ranked: numbers of one protocol are, for papers differ in conventions.")
    blocks = list(dict.fromkeys(row.block for row in rows))
    columns = None if metrics is None else list(metrics)
    rankings = []
    for block in chosen_names("data set", datasets, blocks):
        inside = [row for row in rows if row.block == block]
        means = {row.metric for row in inside if row.class_ == "mean" and columns is None}
        left_out: dict[str, str] = {}
        better: dict[str, Better] = {}
        for row in inside:
            way = better_of(row.metric)
            if way is None:
                left_out[row.column] = "which way is better is not known"
            elif row.metric in means and row.class_ not in ("", "mean"):
                left_out[row.column] = IN_MEAN
            else:
                better[row.column] = way
        values = pd.DataFrame(
            math.nan, index=list(dict.fromkeys(row.method for row in inside)), columns=list(better), dtype=float
        )
        reasons = {(str(m), c): "not printed" for m in values.index for c in better}
        for row in inside:
            if row.column in better and row.value is not None:
                values.loc[row.method, row.column] = row.value
        values = values.loc[chosen_names("method", methods, values.index), chosen_names("metric", columns, better)]
        ranking = rank_values(values, better, reasons, common, block, f"as published in {protocols[0]}")
        for column, why in left_out.items():
            ranking.left_out.setdefault(column, why)
        rankings.append(ranking)
    return Rankings(checked(rankings), common)


def rank(
    *runs: str | os.PathLike[str],
    datasets: Iterable[str] | str | None = None,
    methods: Iterable[str] | str | None = None,
    metrics: Iterable[str] | str | None = None,
    common: Common | None = None,
    alpha: float = 0.05,
) -> Rankings:
    """Rank the measured methods of one run, or of several, per data set and over the data sets.

    Runs may be of the same data sets, each on the same pairs, or of one data set each; all in the same conventions.

    Args:
        runs: folders that `reproduce` wrote.
        datasets, methods, metrics: a choice; everything when not given.
        common: leave out the "methods" or the "metrics" that have a missing value.
        alpha: level of Friedman's test and of the critical difference.

    Raises:
        DataError: a folder holds no run, the runs differ in convention or in their pairs, or nothing is left to rank.
        UnknownNameError: an unknown data set, method or metric.
    """
    if not 0 < alpha < 1:
        raise EvalkitError("alpha must lie between 0 and 1, e.g. 0.05.")
    datasets, methods, metrics = several(datasets), several(methods), several(metrics)
    rankings = []
    for block in join_runs(runs, datasets, metrics):
        values = block.values.loc[chosen_names("method", methods, block.values.index)]
        ranking = rank_values(values, block.better, block.reasons, common, block.dataset, block.convention)
        for metric in ranking.ranks.columns:
            ranked = [str(m) for m in ranking.ranks.index[ranking.ranks[metric].notna()]]
            try:
                scores = block.scores(ranked, str(metric))
                ranking.friedman[str(metric)] = critical_difference(scores, block.better[str(metric)], alpha)
            except (NoTestError, DataError) as error:
                ranking.no_friedman[str(metric)] = str(error)
        ranking.left_out.update(block.left_out)
        rankings.append(ranking)
    return Rankings(checked(rankings), common)
