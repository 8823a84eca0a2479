"""Two methods on the same images: which is better in which metric, and is it more than chance?"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from evalkit.errors import DataError, EvalkitError, UnknownNameError
from evalkit.files.names import several
from evalkit.leaderboards.comparison import Comparison, Paired
from evalkit.leaderboards.image_scores import NOT_MEASURED, RunScores, chosen_columns, read_scores, short_name
from evalkit.leaderboards.significance import (
    RESAMPLES,
    NoTestError,
    Test,
    bootstrap_interval,
    cohen_dz,
    paired_p,
    rank_biserial,
)
from evalkit.leaderboards.significance import holm as holm_adjusted
from evalkit.metrics.registry import card


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    run: str | os.PathLike[str] | None = None,
    *,
    datasets: Iterable[str] | str | None = None,
    metrics: Iterable[str] | str | None = None,
    convention: str | None = None,
    test: Test = "wilcoxon",
    confidence: float = 0.95,
    alpha: float = 0.05,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two methods image by image.

    Args:
        a, b: methods of the run `run`, or without it two files of scores per image (`evaluate --out`).
        run: the folder that `reproduce` wrote.
        datasets: of the run; those with scores of both when not given.
        metrics: e.g. ["EN", "SSIM[tang]"]; all that both have when not given.
        convention: of columns of a file whose names do not say it.
        test: "wilcoxon" (signed rank) or "permutation" (sign flip).
        confidence: of the bootstrap interval of the mean difference.
        alpha: level at which a winner is named, after Holm's correction over all metrics and data sets.
        resamples, seed: of bootstrap and permutation.

    Raises:
        DataError: files or folders that cannot be used, or nothing that both have in the same convention.
        UnknownNameError: an unknown method, data set or metric.
    """
    if not (0 < confidence < 1 and 0 < alpha < 1):
        raise EvalkitError("confidence and alpha must lie between 0 and 1, e.g. 0.95 and 0.05.")
    datasets, metrics = several(datasets), several(metrics)
    if str(a) == str(b):
        raise EvalkitError(f"{a} is compared with itself. Name two methods, or two files of scores.")
    if run is None:
        for file in (Path(a), Path(b)):
            if not file.exists():
                raise DataError(f"there is no file {file}. Give two CSV files of scores, or two methods and --run.")
        if datasets is not None:
            raise EvalkitError("data sets can be chosen within a run only. Name its folder, or leave them out.")
        names = _distinct(Path(a), Path(b))
        blocks = {"": (read_scores(a, convention), read_scores(b, convention))}
        notes: list[str] = []
    else:
        names = str(a), str(b)
        blocks, notes = _blocks(RunScores(run), names, None if datasets is None else list(datasets))
    metric_names = None if metrics is None else list(metrics)
    results = []
    for dataset, (x, y) in blocks.items():
        columns, only = _common_columns(x, y, names)
        notes += [f"{dataset}: {line}" if dataset else line for line in only] if metric_names is None else []
        for metric in chosen_columns(columns, metric_names):
            results.append(_paired(dataset, metric, x, y, names, test, confidence, resamples, seed))
    return Comparison(*names, test, confidence, alpha, _decided(results, alpha), notes)


def _distinct(a: Path, b: Path) -> tuple[str, str]:
    return (a.stem, b.stem) if a.stem != b.stem else (str(a), str(b))


def _blocks(
    run: RunScores, names: tuple[str, str], datasets: list[str] | None
) -> tuple[dict[str, tuple[pd.DataFrame, pd.DataFrame]], list[str]]:
    """Data set -> scores of both, and a line for each data set that one of both has no scores on."""
    known = run.table.datasets
    for dataset in datasets or []:
        if dataset not in known:
            raise UnknownNameError("data set", dataset, known, f"in {run.out}")
    methods = list(dict.fromkeys(method for dataset in known for method in run.table.methods(dataset)))
    for name in names:
        if name not in methods:
            raise UnknownNameError("method", name, methods, f"It must be a row of {run.out}, or A and B two CSV files.")
    blocks, notes = {}, []
    for dataset in datasets or known:
        try:
            blocks[dataset] = (run.read(dataset, names[0]), run.read(dataset, names[1]))
        except DataError as error:
            notes.append(f"{dataset}: {error}")
    if not blocks:
        raise DataError("; ".join(notes))
    return blocks, notes


def _common_columns(x: pd.DataFrame, y: pd.DataFrame, names: tuple[str, str]) -> tuple[list[str], list[str]]:
    """Full names that both have, and a line for the others. Raises DataError when there are none in common."""
    common = [column for column in x.columns if column in y.columns]
    alone = [
        f"only {name} has {', '.join(only)}"
        for name, frame in zip(names, (x, y), strict=True)
        if (only := [column for column in frame.columns if column not in common])
    ]
    if not common:
        cure = "Numbers of different conventions are never compared: measure both in the same."
        raise DataError(f"{'; '.join(alone) or 'there are no metrics'}. {cure}")
    return common, alone


def _paired(
    dataset: str,
    metric: str,
    x: pd.DataFrame,
    y: pd.DataFrame,
    names: tuple[str, str],
    test: Test,
    confidence: float,
    resamples: int,
    seed: int,
) -> Paired:
    left_out = {}
    for image in [*x.index, *(i for i in y.index if i not in x.index)]:
        for name, frame in zip(names, (x, y), strict=True):
            if image not in frame.index:
                left_out[image] = f"not in the scores of {name}"
            elif (image, metric) in frame.attrs["missing"]:
                left_out[image] = f"{name} has no value: {frame.attrs['missing'][image, metric] or NOT_MEASURED}"
    images = [image for image in x.index if image not in left_out]
    better = card(short_name(metric)).better
    if not images:
        reason = "no image has a value of both"
        missing = dict.fromkeys(["mean", "interval", "p", "rank_biserial", "d_z"], reason)
        return Paired(dataset, metric, better, 0, left_out=left_out, missing=missing)
    a, b = x.loc[images, metric].to_numpy(), y.loc[images, metric].to_numpy()
    d = a - b
    missing = {}

    def attempt(name: str, function: Any, *arguments: Any) -> Any:
        try:
            return function(d, *arguments)
        except NoTestError as error:
            missing[name] = str(error)
            return None

    low, high = attempt("interval", bootstrap_interval, confidence, resamples, seed) or (None, None)
    return Paired(
        dataset,
        metric,
        better,
        n=len(images),
        mean_a=math.fsum(a) / len(images),
        mean_b=math.fsum(b) / len(images),
        difference=math.fsum(d) / len(images),
        low=low,
        high=high,
        p=attempt("p", paired_p, test, resamples, seed),
        rank_biserial=attempt("rank_biserial", rank_biserial),
        d_z=attempt("d_z", cohen_dz),
        left_out=left_out,
        missing=missing,
    )


def _decided(results: list[Paired], alpha: float) -> list[Paired]:
    """The results with Holm's p and the winner."""
    tested = [result.p for result in results if result.p is not None]
    adjusted = iter(holm_adjusted(tested))
    return [_winner(replace(r, p_holm=next(adjusted)), alpha) if r.p is not None else r for r in results]


def _winner(result: Paired, alpha: float) -> Paired:
    if result.p_holm is None or result.p_holm >= alpha or not result.difference or not result.rank_biserial:
        return result
    if result.difference * result.rank_biserial < 0:
        return result  # a few large differences one way, many small ones the other way
    return replace(result, winner="a" if (result.difference > 0) == (result.better == "higher") else "b")
