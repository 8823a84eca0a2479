"""`evalkit compare`: two methods, image by image."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from evalkit.commands.console import print_json, print_texts
from evalkit.commands.options import FiniteRange, json_option, names


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--run", type=click.Path(path_type=Path), help="Folder of a run: A and B are methods of it, else files.")
@click.option("--test", type=click.Choice(["wilcoxon", "permutation"]), default="wilcoxon", show_default=True)
@click.option("--metrics", callback=names, help="E.g. EN,SSIM[smfnet]; all that both have when not given.")
@click.option("--datasets", callback=names, help="Of the run; those with scores of both when not given.")
@click.option("--convention", help="Of files whose columns do not name it.")
@click.option("--alpha", type=FiniteRange(0, 1, True, True), default=0.05, show_default=True)
@click.option("--confidence", type=FiniteRange(0, 1, True, True), default=0.95, show_default=True)
@click.option("--resamples", type=click.IntRange(100), default=9999, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of bootstrap and permutation.")
@json_option
def compare(
    a: str,
    b: str,
    run: Path | None,
    test: str,
    metrics: list[str] | None,
    datasets: list[str] | None,
    convention: str | None,
    alpha: float,
    confidence: float,
    resamples: int,
    seed: int,
    as_json: bool,
) -> None:
    """Compare two methods by paired tests over the images.

    \b
      evalkit compare CDDFuse DIDFuse --run runs/smfnet-table1
      evalkit compare a.csv b.csv                from `evalkit evaluate --out`

    Images that only one of both has, or without a value, are left out of the pairing and named (exit code 3). The
    images count as independent: for frames of one video p is too small.
    """
    from evalkit.leaderboards.paired import compare as compare_scores

    comparison = compare_scores(
        a,
        b,
        run,
        datasets=datasets,
        metrics=metrics,
        convention=convention,
        test="permutation" if test == "permutation" else "wilcoxon",
        confidence=confidence,
        alpha=alpha,
        resamples=resamples,
        seed=seed,
    )
    if as_json:
        print_json(comparison.to_dict())
    else:
        print_texts(comparison.texts())
    sys.exit(0 if comparison.complete else 3)
