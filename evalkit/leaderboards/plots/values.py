"""What the plots draw: the means of runs, the printed numbers of a protocol, and values image by image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from evalkit.errors import DataError, EvalkitError
from evalkit.leaderboards.plots.common import ARROWS
from evalkit.leaderboards.rank import Better, chosen_names
from evalkit.leaderboards.run_values import ValueBlock, join_runs, printed_rows
from evalkit.metrics.registry import better_of


def blocks(
    runs: Sequence[Path] = (),
    published: str | None = None,
    datasets: Iterable[str] | None = None,
    methods: Iterable[str] | None = None,
    metrics: Iterable[str] | None = None,
) -> list[ValueBlock]:
    """A block per data set, of runs or of a protocol's printed numbers.

    Args:
        runs: folders that `reproduce` wrote.
        published: name of a protocol, instead of runs.
        datasets, methods, metrics: a choice of blocks, rows and columns, in this order; all when None.

    Raises:
        EvalkitError: neither runs nor a protocol are named, or both are.
        DataError: no run, runs that do not belong together, or a protocol without printed numbers.
        UnknownNameError: an unknown protocol, data set, method or metric.
    """
    if bool(runs) == (published is not None):
        raise EvalkitError("name the folder of a run (`evalkit reproduce --out`) or --published PROTOCOL, one of both.")
    methods = None if methods is None else list(methods)
    if published is not None:
        value_blocks = _published_blocks(published, datasets, metrics)
    else:
        value_blocks = join_runs(runs, datasets, metrics)
    known = list(dict.fromkeys(str(method) for block in value_blocks for method in block.values.index))
    rows = chosen_names("method", methods, known)
    for block in value_blocks:
        block.values = block.values.loc[[row for row in rows if row in block.values.index]]
    return [block for block in value_blocks if not block.values.empty]


def _published_blocks(name: str, datasets: Iterable[str] | None, metrics: Iterable[str] | None) -> list[ValueBlock]:
    rows = printed_rows(name)
    if not rows:
        raise DataError(f"{name} prints no numbers. `evalkit show {name}` says what it shows.")
    metrics = None if metrics is None else list(metrics)
    value_blocks = []
    for dataset in chosen_names("data set", datasets, dict.fromkeys(row.block for row in rows)):
        inside = [row for row in rows if row.block == dataset]
        ways = {row.column: better_of(row.metric) for row in inside}
        better: dict[str, Better] = {column: way for column, way in ways.items() if way is not None}
        columns = chosen_names("metric", metrics, better)
        methods = list(dict.fromkeys(row.method for row in inside))
        values = pd.DataFrame(math.nan, index=methods, columns=columns)
        reasons = {(method, column): "not printed" for method in methods for column in columns}
        for row in inside:
            if row.column in columns and row.value is not None:
                values.loc[row.method, row.column] = row.value
                del reasons[row.method, row.column]
        value_blocks.append(
            ValueBlock(dataset, f"as published in {rows[0].protocol}", values, better, reasons, left_out={})
        )
    return value_blocks


def image_values(block: ValueBlock, metric: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row per image, a column per method with a value for every image; and the other methods with the reason.

    Raises:
        DataError: a published table, which prints no values per image, or no method has any.
    """
    if not block.homes:
        raise DataError(f"{block.convention}: a table prints no values per image. Name the folder of a run.")
    columns: dict[str, pd.Series] = {}
    missing: dict[str, str] = {}
    for method in map(str, block.values.index):
        if reason := block.reasons.get((method, metric)):
            missing[method] = reason
            continue
        try:
            scores = block.scores([method], metric)[method]
        except DataError as error:
            missing[method] = str(error).rstrip(".")
            continue
        first = next(iter(columns.values()), scores)
        if missing_values := int(scores.isna().sum()):
            missing[method] = f"no value for {missing_values} of {len(scores)} images"
        elif set(first.index) != set(scores.index):
            missing[method] = f"measured on other images than {next(iter(columns))}"
        else:
            columns[method] = scores.reindex(first.index)
    if not columns:
        reasons = "; ".join(dict.fromkeys(missing.values()))
        raise DataError(f"nothing to draw: no method has {metric} for every image of {block.dataset} ({reasons}).")
    return pd.DataFrame(columns), missing


def label(block: ValueBlock, metric: str) -> str:
    """`EN ↑`."""
    return f"{metric} {ARROWS[block.better[metric]]}"


def place(block: ValueBlock) -> str:
    """The data set as a title; blocks of a table without one have none."""
    return {"samples": "generated sample scenes"}.get(block.dataset, block.dataset)


def said(blocks: Iterable[ValueBlock]) -> str:
    """`convention smfnet`, or where the numbers were printed."""
    names = dict.fromkeys(block.convention for block in blocks)
    return ", ".join(name if name.startswith("as published") else f"convention {name}" for name in names)


def means(blocks: Iterable[ValueBlock]) -> str:
    """What the values of blocks are: a printed value need not be a mean over images."""
    blocks = list(blocks)
    return f"{'Means over the images' if all(block.homes for block in blocks) else 'Values'}, {said(blocks)}"
