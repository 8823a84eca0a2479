"""`evalkit coverage`: how much of the printed numbers is measured, and why the rest is not."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit.commands.console import print_json, print_rows
from evalkit.commands.options import checkpoints_option, data_root_option, json_option
from evalkit.commands.wrap import say


@click.command()
@click.argument("protocol", nargs=-1)
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
    protocol: tuple[str, ...],
    records: tuple[Path, ...],
    data_root: tuple[Path, ...] | None,
    outputs: Path | None,
    checkpoints: Path | None,
    as_json: bool,
) -> None:
    """Count the printed numbers that the records measure, how they agree, and what would unlock the others.

    A printed number counts once; of several records the one that comes nearest to it. A number that is not compared
    stands under the hardest thing that it lacks. With --data-root, --outputs and --checkpoints what is at hand is not
    among these; without them, data and weights are. Of all protocols, or of each PROTOCOL.
    """
    from evalkit.leaderboards.coverage import coverage as coverage_of
    from evalkit.leaderboards.coverage import needs_here, reasons, total
    from evalkit.leaderboards.site.entries import own_entries, shipped_entries
    from evalkit.leaderboards.site.pages import pages
    from evalkit.protocols.schema import PROTOCOLS

    chosen = {PROTOCOLS.name_of(name) for name in protocol}
    needs = needs_here(data_root, outputs, checkpoints)
    parts = coverage_of(pages([*shipped_entries(), *own_entries(list(records))]), needs)
    parts = [part for part in parts if not chosen or part.protocol in chosen]
    whole = total(parts)
    if as_json:
        blocks = [
            {"protocol": p.protocol, "block": p.block, **p.counts(), "reasons": [r.to_dict() for r in reasons([p])]}
            for p in parts
        ]
        print_json({"blocks": blocks, "total": whole.counts() | {"reasons": [r.to_dict() for r in reasons(parts)]}})
        return
    rows = [[p.protocol, p.block, *map(str, p.counts().values())] for p in [*parts, whole]]
    print_rows(["protocol", "block", *whole.counts()], rows)
    say("\nWhy printed numbers are not compared, and what would unlock them:")
    for reason in reasons(parts):
        also = ", ".join(f"{kind} ({count})" for kind, count in reason.also.most_common())
        say(f"{reason.count} {reason.need.kind}: {reason.need.text}")
        say(f"  unlocked by: {reason.need.unlock}{f'; besides: {also}' if also else ''} [{', '.join(reason.where)}]")
