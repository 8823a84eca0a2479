"""`evalkit check`: golden values."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from evalkit.commands.console import (
    print_json,
    progress,
)
from evalkit.commands.options import (
    EXIT_CHECK,
    FiniteRange,
    json_option,
    models_option,
    names,
    workers_option,
)
from evalkit.commands.wrap import say
from evalkit.errors import EvalkitError


@click.command()
@click.argument("golden", type=click.Path(path_type=Path))
@click.option("--fused", required=True, type=click.Path(path_type=Path), help="Folder of fused images.")
@click.option("--infrared", required=True, type=click.Path(path_type=Path))
@click.option("--visible", required=True, type=click.Path(path_type=Path))
@click.option("--update", is_flag=True, help="Write the golden file from what is measured now.")
@click.option(
    "--metrics",
    callback=names,
    help="E.g. SSIM[smfnet],PSNR[tang]. Those of the file when not given; of a new one, all.",
)
@click.option("--convention", default="textbook", show_default=True, help="Of --metrics that do not name theirs.")
@click.option(
    "--tolerance",
    type=FiniteRange(0),
    help="Relative, instead of what the file says; with --update, of its lines. 1e-6 where nothing is said.",
)
@click.option("--summary", type=click.Path(path_type=Path), help="A file to write in Markdown: what moved, per metric.")
@workers_option
@models_option
@json_option
def check(
    golden: Path,
    fused: Path,
    infrared: Path,
    visible: Path,
    update: bool,
    metrics: list[str] | None,
    convention: str,
    tolerance: float | None,
    summary: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Fail (exit code 1) when a metric is not what the golden file says. A regression test for CI."""
    from dataclasses import replace

    from evalkit.files.write import write_text
    from evalkit.testing import summary as markdown
    from evalkit.testing.golden import check_golden, only_metrics, read_golden, update_golden

    folders = (fused, infrared, visible)
    if update:
        if summary is not None:
            raise EvalkitError("--summary says what moved, and --update takes it as it is: leave one of them out.")
        written = update_golden(golden, folders, metrics, convention, tolerance, workers, progress)
        say(f"{len(written)} values in {golden}")
        return
    try:
        values = read_golden(golden)
        if metrics is not None:
            values = only_metrics(values, metrics, convention, golden)
        if tolerance is not None:
            values = [replace(one, tolerance=tolerance) for one in values]
        checked = check_golden(values, folders, workers, progress)
    except EvalkitError as error:
        if summary is not None:
            write_text(summary, markdown.trouble(error, golden))
        raise
    if summary is not None:
        write_text(summary, markdown.summary(checked, golden, folders))
    if as_json:
        print_json({"checked": len(values), "moved": [str(one) for one in checked.moved]})
    else:
        for one in checked.moved:
            say(str(one))
        say(f"{len(values)} values checked, {len(checked.moved)} moved")
    sys.exit(EXIT_CHECK if checked.moved else 0)
