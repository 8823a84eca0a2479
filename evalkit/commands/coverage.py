"""`evalkit coverage`: how much of the printed numbers is measured, and why the rest is not."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit.commands.console import print_json, print_rows
from evalkit.commands.options import checkpoints_option, data_root_option, json_option
from evalkit.commands.wrap import say


@click.command()
@click.option(
    "--records",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The --out folder of a run of your own, counted with the shipped records; may be given more than once.",
)
@data_root_option
@click.option("--outputs", type=click.Path(path_type=Path), help="Folder with fused images, as `reproduce` takes it.")
@checkpoints_option
@json_option
def coverage(
    records: tuple[Path, ...],
    data_root: tuple[Path, ...] | None,
    outputs: Path | None,
    checkpoints: Path | None,
    as_json: bool,
) -> None:
    """Count the printed numbers that the records measure, how they agree, and why the others are not measured.

    A printed number counts once; of several records the one that comes nearest to it. The reasons depend on what is at
    hand: with --data-root, --outputs and --checkpoints they say what could be measured here.
    """
    from evalkit.leaderboards.coverage import coverage as coverage_of
    from evalkit.leaderboards.coverage import reasons_here, total
    from evalkit.leaderboards.site.entries import own_entries, shipped_entries
    from evalkit.leaderboards.site.pages import pages

    reasons = reasons_here(data_root, outputs, checkpoints)
    parts = coverage_of(pages([*shipped_entries(), *own_entries(list(records))]), reasons)
    whole = total(parts)
    if as_json:
        blocks = [
            {"protocol": p.protocol, "block": p.block, **p.counts(), "reasons": dict(p.reasons.most_common())}
            for p in parts
        ]
        print_json({"blocks": blocks, "total": whole.counts() | {"reasons": dict(whole.reasons.most_common())}})
        return
    rows = [[p.protocol, p.block, *map(str, p.counts().values())] for p in [*parts, whole]]
    print_rows(["protocol", "block", *whole.counts()], rows)
    say("\nWhy printed numbers are not compared:")
    for reason, count in whole.reasons.most_common():
        say(f"{count} {reason}")
