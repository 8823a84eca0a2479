"""`evalkit train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evalkit.commands.console import print_json, print_trials, progress
from evalkit.commands.options import (
    accumulate_option,
    data_root_option,
    engine_options,
    json_option,
    seen_by,
    shared_folder,
    steps_option,
)
from evalkit.commands.program import kept, nothing_left
from evalkit.errors import EvalkitError


@click.command()
@click.argument("method")
@click.option("--recipe", "name", default="small", show_default=True, help="small, paper, authors, or a YAML file.")
@click.option("--variant", default="", help="A row of the paper's ablation, e.g. AE3.")
@data_root_option
@click.option("--sample", is_flag=True, help="Learn from generated scenes instead of the recipe's data sets.")
@click.option(
    "--checkpoints",
    "--weights",
    "weights",
    type=click.Path(path_type=Path),
    help="Folder with the published weights that a recipe begins with (`evalkit list pretrained`).",
)
@click.option("--out", type=click.Path(path_type=Path), help="runs/train/<method>-<recipe> when not given.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@click.option("--devices", type=click.IntRange(1), default=1, show_default=True, help="GPUs that train together.")
@click.option("--workers", type=click.IntRange(0), help="Processes that read images.")
@click.option("--existing", type=click.Choice(["reuse", "replace", "fail"]), default="reuse", show_default=True)
@click.option("--show", is_flag=True, help="Print the recipe and stop.")
@click.option("--checkpointing", is_flag=True, help="Compute activations again instead of keeping them: less memory.")
@engine_options
@accumulate_option
@steps_option
@json_option
def train(
    method: str,
    name: str,
    variant: str,
    data_root: tuple[Path, ...] | None,
    sample: bool,
    weights: Path | None,
    out: Path | None,
    device: str,
    devices: int,
    workers: int | None,
    existing: str,
    show: bool,
    checkpointing: bool,
    engine: dict[str, Any],
    accumulate: int,
    steps: int | None,
    as_json: bool,
) -> None:
    """Train a network by a recipe; a run that was interrupted goes on where it stopped.

    \b
      evalkit train SMFNet --recipe small --sample
      evalkit train SMFNet --recipe paper --steps 2     what a step takes, and the whole recipe would
      evalkit fuse SMFNet --checkpoint runs/train/SMFNet-small/best.safetensors --dataset TNO --data-root DIR --out DIR
    """
    from evalkit.methods.extras import need_torch

    need_torch()
    from evalkit.protocols.plan import find_data_root
    from evalkit.training.find_recipe import load_recipe

    recipe = load_recipe(method, name, variant)
    if checkpointing:
        recipe = recipe.model_copy(update={"checkpointing": True})
    if show:
        click.echo(_as_yaml(recipe.model_dump(exclude_defaults=True)))
        return
    if steps:
        if out is not None or devices > 1:
            raise EvalkitError("--steps keeps nothing and runs on one device: leave --out and --devices out.")
        from evalkit.training.try_recipe import try_recipe

        root = None if sample else find_data_root(data_root, sample=True)
        with nothing_left():
            trials = try_recipe(
                recipe,
                root,
                steps,
                weights=weights,
                device=device,
                workers=workers,
                accumulate=accumulate,
                progress=progress,
            )
        print_trials(trials, as_json)
        return
    from evalkit.engine.open import open_engine
    from evalkit.methods.fusers import choose_device
    from evalkit.protocols.plan import each_root
    from evalkit.training.elsewhere import train_each
    from evalkit.training.trained import on_samples, training_scenes

    stem = "-".join(filter(None, [recipe.method, variant.replace("/", ""), recipe.name, "sample" if sample else ""]))
    out = Path("runs") / "train" / stem.replace(" ", "-") if out is None else out
    options: dict[str, Any] = {}
    if engine["engine"] == "local":
        choose_device(device)  # refused before anything is drawn
        options = {"devices": devices, "workers": workers, "tell": lambda text: click.echo(text, err=True)}
    elif devices > 1 or workers:
        raise EvalkitError("--devices and --workers are of this machine: leave them out with --engine dask.")
    with kept(f"The last complete epoch is kept in {out}; the same command goes on from there."):
        if sample:
            recipe, data_root = on_samples(recipe), (training_scenes(out / "data", progress),)
        roots = [path for path in seen_by(engine, *each_root(find_data_root(data_root))) if path]
        folder, weights = seen_by(engine, out, weights)
        assert folder is not None
        must_see = [*roots, *filter(None, [weights]), *shared_folder(engine, folder)]
        with open_engine(**engine, workers=1, must_see=must_see) as opened:
            (result,) = train_each(
                [(recipe, find_data_root(roots), folder)],
                opened,
                progress,
                weights=weights,
                device=device,
                accumulate=accumulate,
                existing=existing,
                **options,
            )
        if isinstance(result, EvalkitError):
            raise result
    if as_json:
        print_json(
            {
                "weights": str(result.weights),
                "recipe": recipe.hash,
                "losses": [{"epoch": e, "stage": s, "loss": v} for e, s, v in result.losses],
                "seconds": result.seconds,
                "steps": result.steps,
                "images_per_second": result.images_per_second,
                "peak_memory": result.peak_memory,
            }
        )
        return
    course = "its log is gone"
    if result.losses:
        (begin, stage, first), (end, last_stage, last) = result.losses[0], result.losses[-1]
        course = f"loss {first:.4f} ({stage}, epoch {begin + 1}) to {last:.4f} ({last_stage}, epoch {end + 1})"
    click.echo(
        f"{recipe.title}, recipe {recipe.name}: {course}, {result.seconds:.0f} s. Weights, log and curves: {out}"
    )


def _as_yaml(fields: dict[str, Any]) -> str:
    import json

    import yaml

    return yaml.safe_dump(json.loads(json.dumps(fields)), sort_keys=False, allow_unicode=True, width=110).rstrip()
