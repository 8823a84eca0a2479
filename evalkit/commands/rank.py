"""`evalkit rank`: ranks, mean rank, Borda count, Friedman's test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

import click

from evalkit.commands.compare import p_text
from evalkit.commands.console import print_json, print_rows
from evalkit.commands.options import json_option, names

if TYPE_CHECKING:
    from evalkit.leaderboards.rank import Ranking


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--published", is_flag=True, help="SOURCES are protocols, or CSV files with a published table.")
@click.option("--metrics", callback=names, help="Columns, e.g. EN,SSIM; all when not given.")
@click.option("--methods", callback=names, help="Rows; all when not given.")
@click.option("--datasets", callback=names, help="Blocks; all when not given.")
@click.option(
    "--common", type=click.Choice(["methods", "metrics"]), help="Leave out the ones that have a missing value."
)
@click.option("--alpha", type=click.FloatRange(0, 1, True, True), default=0.05, show_default=True)
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
    """Rank the methods of one run, or of several on the same data, in every metric and over all of them.

    \b
      evalkit rank runs/smfnet-table1
      evalkit rank smfnet-table1 --published

    A method without a value in a metric has neither a rank in it nor a mean rank (exit code 3), unless --common leaves
    such methods or metrics out. Friedman's test and Nemenyi's critical difference are over the images, per metric.
    """
    from evalkit.leaderboards.run_values import rank as rank_runs

    if published:
        from evalkit.leaderboards.run_values import printed_rows, rank_published

        tables = [printed_rows(name) for name in sources]
        rankings = [r for rows in tables for r in rank_published(rows, datasets, methods, metrics, common)]
    else:
        rankings = rank_runs(*sources, datasets=datasets, methods=methods, metrics=metrics, common=common, alpha=alpha)
    if as_json:
        print_json([ranking.to_dict() for ranking in rankings])
    else:
        for ranking in rankings:
            _print(ranking)
    sys.exit(0 if all(ranking.complete for ranking in rankings) else 3)


def _print(ranking: Ranking) -> None:
    metrics = [str(metric) for metric in ranking.ranks.columns]
    rows = []
    for method, row in ranking.ranks.iterrows():
        if row.notna().any():
            mean, borda = ranking.mean_rank[str(method)], ranking.borda[str(method)]
            over_all = ["–" if mean is None else f"{mean:.3f}", "–" if borda is None else f"{borda:g}"]
            rows.append([str(method), *("–" if r != r else f"{r:g}" for r in row), *over_all])
    title = " · ".join(filter(None, [ranking.dataset, ranking.convention, "ranks, 1 is best, ties share"]))
    if rows:
        print_rows(["method", *metrics, "mean rank", "Borda"], rows, title)
    else:
        click.echo(title)
    for line in _reasons(ranking):
        click.echo(f"– {line}")
    if ranking.friedman:
        lines = []
        for metric, test in ranking.friedman.items():
            groups = "; ".join(", ".join(group) for group in test.groups) or "none"
            lines.append([metric, str(test.n), f"{test.statistic:.3f}", p_text(test.p), f"{test.cd:.3f}", groups])
        print_rows(
            ["metric", "images", "chi-square", "p", "CD", "not significantly different (best first)"],
            lines,
            "Friedman's test over the images, Nemenyi's critical difference of the mean ranks",
        )
    by_reason: dict[str, list[str]] = {}
    for metric, reason in ranking.no_friedman.items():
        by_reason.setdefault(reason, []).append(metric)
    for reason, which in by_reason.items():
        click.echo(f"– no Friedman test in {', '.join(which)}: {reason}")
    click.echo()


def _reasons(ranking: Ranking) -> list[str]:
    """A line per reason: what is left out, and which methods are not ranked in which metrics."""
    left_out: dict[str, list[str]] = {}
    for name, reason in ranking.left_out.items():
        left_out.setdefault(reason, []).append(name)
    lines = [f"left out: {', '.join(names)}: {reason}" for reason, names in left_out.items()]
    missing: dict[tuple[str, str], list[str]] = {}
    for (method, metric), reason in ranking.missing.items():
        missing.setdefault((reason, method), []).append(metric)
    methods: dict[str, list[str]] = {}
    for (reason, method), metrics in missing.items():
        which_metrics = "" if len(metrics) == ranking.ranks.shape[1] else f" ({', '.join(metrics)})"
        methods.setdefault(reason, []).append(method + which_metrics)
    return lines + [f"not ranked: {', '.join(names)}: {reason}" for reason, names in methods.items()]
