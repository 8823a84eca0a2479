"""`evalkit compare`: two methods, image by image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit.commands.console import print_json, print_rows
from evalkit.commands.options import json_option, names

if TYPE_CHECKING:
    from evalkit.leaderboards.paired import Comparison, Paired

NAMED = 10  # images that a line names; --json names all


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--run", type=click.Path(path_type=Path), help="Folder of a run: A and B are methods of it, else files.")
@click.option("--test", type=click.Choice(["wilcoxon", "permutation"]), default="wilcoxon", show_default=True)
@click.option("--metrics", callback=names, help="E.g. EN,SSIM[smfnet]; all that both have when not given.")
@click.option("--datasets", callback=names, help="Of the run; those with scores of both when not given.")
@click.option("--convention", help="Of files whose columns do not name it.")
@click.option("--alpha", type=click.FloatRange(0, 1, True, True), default=0.05, show_default=True)
@click.option("--confidence", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True)
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
      evalkit compare a.csv b.csv                              from `evalkit evaluate --out`

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
        _print(comparison)
    sys.exit(0 if comparison.complete else 3)


def _print(comparison: Comparison) -> None:
    from evalkit.leaderboards.image_scores import short_name

    percent = f"{100 * comparison.confidence:g} %"
    heads = ["metric", "A", "B", "A - B", percent, "p", "Holm p", "rank-biserial", "d_z", "n", "better"]
    for dataset in dict.fromkeys(result.dataset for result in comparison.results):
        results = [result for result in comparison.results if result.dataset == dataset]
        conventions = list(dict.fromkeys(result.metric.partition("[")[2].rstrip("]") for result in results))
        one = len(conventions) == 1
        rows = [_row(result, short_name(result.metric) if one else result.metric, comparison) for result in results]
        title = " · ".join(filter(None, [dataset, f"A = {comparison.a}", f"B = {comparison.b}", comparison.test]))
        print_rows(heads, rows, f"{title} · convention {conventions[0]}" if one else title)
        for line in _left_out(results) + _missing_values(results):
            click.echo(f"– {line}")
    for line in comparison.notes:
        click.echo(f"– {line}")
    tests = sum(result.p is not None for result in comparison.results)
    click.echo(
        "\nMeans over the n paired images; BCa bootstrap interval of the mean difference; "
        f"Holm's correction over {tests} tests; better: Holm p < {comparison.alpha:g}."
    )


def _row(result: Paired, name: str, comparison: Comparison) -> list[str]:
    interval = "–" if result.low is None else f"{result.low:+.4f} .. {result.high:+.4f}"
    effects = ["–" if v is None else f"{v:+.2f}" for v in (result.rank_biserial, result.d_z)]
    return [
        f"{name} {'↑' if result.better == 'higher' else '↓'}",
        *("–" if v is None else f"{v:.4f}" for v in (result.mean_a, result.mean_b)),
        "–" if result.difference is None else f"{result.difference:+.4f}",
        interval,
        *("–" if v is None else p_text(v) for v in (result.p, result.p_holm)),
        *effects,
        str(result.n),
        {"a": comparison.a, "b": comparison.b}.get(result.winner, ""),
    ]


def p_text(p: float) -> str:
    """Two digits; a p that is too small for a number is not a zero."""
    return f"{p:.2g}" if p else "<1e-300"


def _left_out(results: list[Paired]) -> list[str]:
    """A line per reason: metrics and images that were left out of the pairing."""
    by_reason: dict[str, dict[str, list[str]]] = {}
    for result in results:
        for image, reason in result.left_out.items():
            by_reason.setdefault(reason, {}).setdefault(image, []).append(result.metric)
    lines = []
    for reason, images in by_reason.items():
        metrics = list(dict.fromkeys(metric for which in images.values() for metric in which))
        where = "all metrics" if len(metrics) == len(results) else ", ".join(metrics)
        named = ", ".join(list(images)[:NAMED]) + (f" and {len(images) - NAMED} more" if len(images) > NAMED else "")
        lines.append(f"left out of {where}: {named}: {reason}")
    return lines


def _missing_values(results: list[Paired]) -> list[str]:
    """A line per metric and reason: what could not be computed."""
    lines = []
    for result in results:
        by_reason: dict[str, list[str]] = {}
        for name, reason in result.missing.items():
            by_reason.setdefault(reason, []).append(name)
        lines += [f"{result.metric}, no {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    return lines
