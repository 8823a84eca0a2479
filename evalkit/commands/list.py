"""`evalkit list` and `evalkit show`: what is known."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit.commands.console import (
    indented,
    print_json,
    print_rows,
)
from evalkit.commands.options import (
    checkpoints_option,
    json_option,
)
from evalkit.commands.wrap import terminal_width, wrapped
from evalkit.files.names import printable

KINDS = (
    "protocols", "methods", "metrics", "datasets", "conventions", "recipes", "segmenters", "saliency", "detectors",
    "pretrained", "tasks", "plugins",
)  # fmt: skip


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS))
@checkpoints_option
@json_option
def list_command(kind: str, checkpoints: Path | None, as_json: bool) -> None:
    """List what evalkit has and what plug-ins add: protocols, methods (and which can run here), metrics, ..."""
    from evalkit.catalogue import entries_of
    from evalkit.protocols.plan import find_checkpoints

    entries = entries_of(kind, find_checkpoints(checkpoints))
    if as_json:
        print_json(entries)
    elif not entries:
        click.echo("none")
    else:
        print_rows(list(entries[0]), [[str(v) for v in entry.values()] for entry in entries])


@click.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a protocol, method, salient-object system, segmentation network, metric, convention, data set or file of
    pretrained weights."""
    from evalkit.catalogue import describe

    entry = describe(name)
    if as_json:
        print_json(entry)
        return
    for key, value in entry.items():
        if value not in (None, "", [], {}):
            head, *more = wrapped(printable(f"{key}: {indented(value)}"), terminal_width()).split("\n")
            click.echo("\n".join([click.style(key, bold=True) + head.removeprefix(key), *more]))
