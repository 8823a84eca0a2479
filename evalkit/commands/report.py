"""`evalkit report`: a run as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit.commands.console import progress
from evalkit.commands.options import data_root_option, names
from evalkit.commands.wrap import say


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .html file to write.")
@data_root_option
@click.option("--outputs", type=click.Path(path_type=Path), help="OUTPUTS/<method>/<dataset>/<stem>.png.")
@click.option(
    "--sections", callback=names, help="tables, ranks, radar, boxes, images, setup, versions; all if not given."
)
def report(
    run: Path, out: Path, data_root: tuple[Path, ...] | None, outputs: Path | None, sections: list[str] | None
) -> None:
    """Write RUN, the --out folder of `evalkit reproduce`, as one HTML file: to read, to print, to send.

    \b
      evalkit report runs/smfnet-table1 --data-root DATA --out report.html

    Tables, ranks with significance, radar, box plots, the images where methods differ most and where each is worst,
    set-up, versions. Images that are not found, or are not those that were measured, are named there and here.
    """
    from evalkit.leaderboards.report.write import report as write

    notes = write(run, out, data_root=data_root, outputs=outputs, only=sections, progress=progress)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    for note in notes:
        say(f"– {note}", err=True)
