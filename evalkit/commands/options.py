"""Options and the kind of group that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from evalkit.errors import EvalkitError
from evalkit.files.names import printable

EXIT_CHECK, EXIT_USAGE, EXIT_INCOMPLETE = 1, 2, 3

checkpoints_option = click.option(
    "--checkpoints", type=click.Path(path_type=Path), help="Folder with the authors' weights (`evalkit list methods`)."
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="For networks: auto, cpu, cuda, cuda:N."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
data_root_option = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    envvar="EVALKIT_DATA",
    help="Folder with the data sets [EVALKIT_DATA].",
)
workers_option = click.option("--workers", type=click.IntRange(1), help="Processes; one per processor when not given.")


class Commands(click.Group):
    """A group that prints a user's mistake as one paragraph, and knows commands that were mistyped."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EvalkitError as error:
            click.echo(f"Error: {printable(str(error))}", err=True)
            ctx.exit(EXIT_USAGE)
        except BrokenPipeError:  # the reader of our output, e.g. `head`, has enough
            sys.stderr.close()
            ctx.exit(0)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from evalkit.errors import UnknownNameError

            raise UnknownNameError("command", args[0], self.commands) from None


def names(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    """A comma-separated option as a list."""
    return None if value is None else [part.strip() for part in value.split(",") if part.strip()]
