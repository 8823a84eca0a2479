"""`evalkit data check` and `evalkit data sample`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from evalkit.commands.console import (
    counter,
    print_json,
    progress,
)
from evalkit.commands.options import (
    EXIT_INCOMPLETE,
    Commands,
    data_root_option,
    json_option,
)
from evalkit.commands.program import kept
from evalkit.commands.wrap import say
from evalkit.errors import EvalkitError


@click.group(cls=Commands)
def data() -> None:
    """Check data sets, or write the sample scenes."""


@data.command("check")
@click.argument("dataset", required=False)
@data_root_option
@json_option
def data_check(dataset: str | None, data_root: tuple[Path, ...] | None, as_json: bool) -> None:
    """Check one data set, or all that are found: pairs, sizes, missing partners, unreadable files, duplicates."""
    from dataclasses import asdict

    from evalkit.data.card import load_card, load_cards
    from evalkit.data.check import check_dataset
    from evalkit.data.report import report_text
    from evalkit.protocols.plan import each_root, find_data_root

    roots = each_root(find_data_root(data_root))
    cards = [(card, root) for root in roots for card in ([load_card(dataset)] if dataset else load_cards())]
    reports = [check_dataset(card, root) for card, root in progress(cards, len(cards), "check")]
    if not any(report.present for report in reports):
        named = ", ".join(map(str, roots))
        cure = "`evalkit init bench.yaml --data DIR` looks at your own."
        unknown = f"{named} holds no data set that evalkit knows. {cure}"
        raise EvalkitError(str(reports[0].reason) if dataset else unknown)
    if len(roots) > 1:
        reports = [report for report in reports if report.present]
    if as_json:
        print_json([asdict(report) for report in reports])
    else:
        say("\n".join(report_text(report) for report in reports))
    sys.exit(EXIT_INCOMPLETE if any(report.problems() for report in reports) else 0)


@data.command("sample")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1, 100_000), default=8, show_default=True, help="Scenes.")
@click.option("--size", default="640x480", show_default=True, help="WIDTHxHEIGHT.")
@click.option("--seed", type=int, default=0, show_default=True)
def data_sample(out: Path, count: int, size: str, seed: int) -> None:
    """Write generated infrared/visible street scenes with boxes, class masks and salient-object masks."""
    from evalkit.data.samples.samples import write_scenes

    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise EvalkitError(f"--size is {size!r}, expected WIDTHxHEIGHT such as 640x480.")
    with (
        kept(f"The scenes in {out} may be incomplete; the same command draws them again."),
        counter(count, "draw sample scenes") as advance,
    ):
        folder = write_scenes(out, count, seed, int(width), int(height), progress=lambda *_: advance())
    say(f"{count} scenes in {folder}. Use them with --data-root {out}.")
