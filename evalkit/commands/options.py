"""Options and the kind of group that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evalkit.errors import UnknownNameError

EXIT_CHECK, EXIT_USAGE, EXIT_INCOMPLETE, EXIT_INTERRUPTED = 1, 2, 3, 130

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
    """A group that knows commands that were mistyped."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            raise UnknownNameError("command", args[0], self.commands) from None


def names(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    """A comma-separated option as a list."""
    return None if value is None else [part.strip() for part in value.split(",") if part.strip()]
