"""`evalkit fuse`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from evalkit.commands.console import (
    print_json,
    progress,
)
from evalkit.commands.options import (
    EXIT_INCOMPLETE,
    channels_last_option,
    checkpoints_option,
    data_root_option,
    device_option,
    engine_options,
    json_option,
    precision_option,
    seen_by,
    shared_folder,
    timeout_option,
    workers_option,
)
from evalkit.commands.program import kept
from evalkit.commands.wrap import say


@click.command()
@click.argument("method")
@data_root_option
@click.option("--dataset", required=True)
@click.option("--split", help="Of the data set; its default when not given.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Fused images: OUT/<method>/<dataset>/.")
@click.option("--gray", is_flag=True, help="Classical methods: luminance only, without the visible colours.")
@checkpoints_option
@click.option("--checkpoint", "files", multiple=True, type=click.Path(path_type=Path), help="The weights file itself.")
@device_option
@precision_option
@channels_last_option
@workers_option
@engine_options
@timeout_option
@json_option
def fuse(
    method: str,
    data_root: tuple[Path, ...] | None,
    dataset: str,
    split: str | None,
    out: Path,
    gray: bool,
    checkpoints: Path | None,
    files: tuple[Path, ...],
    device: str,
    precision: Any,
    channels_last: bool,
    workers: int | None,
    engine: dict[str, Any],
    timeout: float | None,
    as_json: bool,
) -> None:
    """Fuse a data set with a method, as 8-bit PNG files."""
    from evalkit.engine.open import open_engine
    from evalkit.methods.arithmetic import Arithmetic
    from evalkit.methods.fuse import fuse_dataset
    from evalkit.protocols.plan import each_root, find_data_root

    roots = [path for path in seen_by(engine, *each_root(find_data_root(data_root))) if path]
    files = tuple(path for path in seen_by(engine, *files) if path)
    folder, checkpoints = seen_by(engine, out, checkpoints)
    assert folder is not None
    trained = None
    arithmetic = Arithmetic(precision, channels_last)
    if len(files) == 1 and files[0].suffix == ".safetensors":
        from evalkit.methods.registry import method_card
        from evalkit.training.trained import trained_method

        trained = trained_method(files[0], method_card(method).name)
    must_see = [*roots, *files, *filter(None, [checkpoints]), *shared_folder(engine, folder)]
    with (
        kept(f"The fused images in {out} are complete ones; the same command fuses all of them again."),
        open_engine(**engine, workers=workers, timeout=timeout, must_see=must_see) as opened,
    ):
        result = fuse_dataset(
            method,
            dataset,
            find_data_root(roots),
            folder,
            split,
            gray,
            checkpoints,
            files,
            device,
            workers,
            progress,
            trained,
            arithmetic,
            opened,
        )
    if as_json:
        named = {"arithmetic": arithmetic.name} if arithmetic.name else {}
        print_json({"folder": str(result.folder), "fused": result.fused, "failures": result.failures} | named)
    else:
        say(f"{result.fused} fused images in {result.folder}")
        if arithmetic.name:
            say(f"Networks computed in {arithmetic.name}, their authors' programs in float32.")
        for stem, reason in result.failures.items():
            say(f"– {stem}: {reason}")
    sys.exit(EXIT_INCOMPLETE if result.failures else 0)
