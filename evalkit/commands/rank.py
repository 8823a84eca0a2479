"""`evalkit rank`: ranks, mean rank, Borda count, Friedman's test."""

from __future__ import annotations

import sys
from typing import Literal

import click

from evalkit.commands.console import print_json, print_texts
from evalkit.commands.options import FiniteRange, json_option, names


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--published", is_flag=True, help="SOURCES are protocols, or CSV files with a published table.")
@click.option("--metrics", callback=names, help="Columns, e.g. EN,SSIM; all when not given.")
@click.option("--methods", callback=names, help="Rows; all when not given.")
@click.option("--datasets", callback=names, help="Blocks; all when not given.")
@click.option(
    "--common", type=click.Choice(["methods", "metrics"]), help="Leave out the ones that have a missing value."
)
@click.option("--alpha", type=FiniteRange(0, 1, True, True), default=0.05, show_default=True)
@json_option
def rank(
    sources: tuple[str, ...],
    published: bool,
    metrics: list[str] | None,
    methods: list[str] | None,
    datasets: list[str] | None,
    common: Literal["methods", "metrics"] | None,
    alpha: float,
    as_json: bool,
) -> None:
    """Rank the methods of one run, or of several, in every metric, over the metrics and over the data sets.

    \b
      evalkit rank runs/smfnet-table1
      evalkit rank runs/tno runs/roadscene       a run per data set
      evalkit rank smfnet-table1 --published

    A method without a value in a metric has neither a rank in it nor a mean rank (exit code 3), unless --common leaves
    such methods or metrics out. The overall rank is the mean over the data sets, of methods that all of them rank, in
    the metrics that all of them rank; numbers of different conventions are never ranked together.
    Friedman's test and Nemenyi's critical difference are over the images, per metric.
    """
    from evalkit.leaderboards.run_values import printed_rows, rank_published
    from evalkit.leaderboards.run_values import rank as rank_runs

    if published:
        tables = [printed_rows(name) for name in sources]
        groups = [rank_published(rows, datasets, methods, metrics, common) for rows in tables]
    else:
        groups = [rank_runs(*sources, datasets=datasets, methods=methods, metrics=metrics, common=common, alpha=alpha)]
    if as_json:
        print_json(
            {
                "rankings": [ranking.to_dict() for rankings in groups for ranking in rankings],
                "overall": [rankings.overall.to_dict() for rankings in groups if rankings.overall],
                "no_overall": [rankings.no_overall for rankings in groups if rankings.no_overall],
            }
        )
    else:
        for rankings in groups:
            print_texts(rankings.texts())
    sys.exit(0 if all(rankings.complete for rankings in groups) else 3)
