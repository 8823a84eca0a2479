"""Significance marks for the cells of a table: what the best value is not significantly better than."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalkit.errors import DataError
from evalkit.leaderboards.image_scores import RunScores, full_name_of
from evalkit.leaderboards.significance import NoTestError, Test, holm, paired_p, rank_biserial
from evalkit.protocols.table.cells import Column
from evalkit.protocols.table.table import Table

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, str, str]  # data set, method, metric: the keys of a cell
NOT_BETTER, NO_TEST = "†", "‡"
TEST_NAMES = {"wilcoxon": "Wilcoxon signed-rank test", "permutation": "sign-flip permutation test"}


@dataclass(frozen=True)
class Marks:
    """Cell -> mark, and the sentence that explains the marks below the table."""

    marks: dict[Key, str]
    note: str


def significance_marks(
    out: str | os.PathLike[str], test: Test = "wilcoxon", alpha: float = 0.05, seed: int = 0
) -> Marks:
    """Mark the values that the best of their column is not significantly better than.

    In each column of a data set, the best mean is tested against every other, paired per image, with Holm's correction
    over these tests. `†`: the best is not significantly better. `‡`: no test was possible. The best and what is missing
    bear no mark.

    Args:
        out: the folder that `reproduce` wrote.
        test: "wilcoxon" (signed rank) or "permutation" (sign flip).
        alpha: level below which the corrected p is significant, 0 .. 1.
        seed: of the permutation test.

    Raises:
        DataError: the folder holds no finished run, or no scores per image.
    """
    run = RunScores(out)
    scores = {
        (dataset, method): run.read(dataset, method)
        for dataset in run.table.datasets
        for method in run.methods(dataset)
    }
    if not scores:
        raise DataError(f"{out} holds no scores per image (scores/<dataset>/<method>.csv): nothing to test.")
    marks: dict[Key, str] = {}
    for dataset in run.table.datasets:
        for column in run.table.columns:
            marks |= _column_marks(run, scores, dataset, column, test, alpha, seed)
    note = f"{NOT_BETTER}: the best is not significantly better (paired {TEST_NAMES[test]} over the images, "
    note += f"Holm-corrected within the column, p >= {alpha:g})"
    if NO_TEST in marks.values():
        note += f"; {NO_TEST}: no test was possible"
    return Marks(marks, note)


def with_marks(table: Table, marks: Marks) -> Table:
    """The table with the marks as signs in its cells, and the sentence in its note."""
    cells = [replace(cell, sign=marks.marks.get((cell.dataset, cell.method, cell.metric), "")) for cell in table.cells]
    return replace(table, cells=cells, note=marks.note)


def _column_marks(
    run: RunScores,
    scores: dict[tuple[str, str], pd.DataFrame],
    dataset: str,
    column: Column,
    test: Test,
    alpha: float,
    seed: int,
) -> dict[Key, str]:
    values = {
        cell.method: cell.value
        for cell in run.table.cells
        if cell.dataset == dataset and cell.metric == column.name and cell.value is not None
    }
    if len(values) < 2:
        return {}
    sign = 1 if column.better == "higher" else -1
    best = max(values, key=lambda method: sign * values[method])
    name = full_name_of(column)
    marks: dict[Key, str] = {}
    tested: dict[str, float] = {}
    for method in values:
        if method == best:
            continue
        frames = [scores[dataset, m] for m in (best, method) if (dataset, m) in scores]
        pair = [frame[name] for frame in frames if name in frame]
        if len(pair) < 2 or set(pair[0].index) != set(pair[1].index):
            marks[dataset, method, column.name] = NO_TEST
            continue
        d = sign * (pair[0] - pair[1]).to_numpy()
        if not d.any():
            marks[dataset, method, column.name] = NOT_BETTER  # equal on every image
            continue
        try:
            p = paired_p(d, test, seed=seed)
            tested[method] = p if rank_biserial(d) > 0 else 1.0  # ranks against the means are no evidence for the best
        except NoTestError:
            marks[dataset, method, column.name] = NO_TEST
    for method, p in zip(tested, holm(list(tested.values())), strict=True):
        if p >= alpha:
            marks[dataset, method, column.name] = NOT_BETTER
    return marks
