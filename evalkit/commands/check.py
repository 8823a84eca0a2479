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
    json_option,
    names,
    workers_option,
)
from evalkit.commands.wrap import say


@click.command()
@click.argument("golden", type=click.Path(path_type=Path))
@click.option("--fused", required=True, type=click.Path(path_type=Path), help="Folder of fused images.")
@click.option("--infrared", required=True, type=click.Path(path_type=Path))
@click.option("--visible", required=True, type=click.Path(path_type=Path))
@click.option("--update", is_flag=True, help="Write the golden file from what is measured now.")
@click.option("--metrics", callback=names, help="With --update: e.g. SSIM[smfnet],PSNR[tang]; all when not given.")
@click.option("--tolerance", type=click.FloatRange(0), default=1e-6, show_default=True, help="With --update: relative.")
@workers_option
@json_option
def check(
    golden: Path,
    fused: Path,
    infrared: Path,
    visible: Path,
    update: bool,
    metrics: list[str] | None,
    tolerance: float,
    workers: int | None,
    as_json: bool,
) -> None:
    """Fail (exit code 1) when a metric is not what the golden file says. A regression test for CI."""
    from dataclasses import replace

    from evalkit.metrics.registry import all_full_names
    from evalkit.testing.golden import check_golden, measure_golden, read_golden, write_golden

    folders = (fused, infrared, visible)
    if update:
        from evalkit.files.write import write_text

        values, _ = measure_golden(None, metrics or all_full_names(), folders, workers, progress)
        write_text(golden, write_golden(replace(one, tolerance=tolerance) for one in values))
        say(f"{len(values)} values in {golden}")
        return
    golden_values = read_golden(golden)
    moved = check_golden(golden_values, folders, workers, progress)
    if as_json:
        print_json({"checked": len(golden_values), "moved": [str(one) for one in moved]})
    else:
        for one in moved:
            say(str(one))
        say(f"{len(golden_values)} values checked, {len(moved)} moved")
    sys.exit(EXIT_CHECK if moved else 0)
