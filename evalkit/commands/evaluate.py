"""`evalkit evaluate`, `evaluate-saliency`, `evaluate-segmentation`: images at hand, no protocol."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from evalkit.commands.console import (
    print_conventions,
    print_json,
    print_rows,
    print_scores,
    print_table,
    progress,
)
from evalkit.commands.options import (
    EXIT_INCOMPLETE,
    crop_option,
    depth_option,
    device_option,
    engine_options,
    gray_option,
    images_option,
    json_option,
    models_option,
    names,
    seen_by,
    timeout_option,
    workers_option,
)
from evalkit.commands.program import kept, nothing_left
from evalkit.commands.wrap import say
from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from evalkit.protocols.schema import Protocol


@click.command()
@click.argument("fused", nargs=-1, required=True)
@click.option("--infrared", required=True, type=click.Path(path_type=Path), help="Folder (or one image).")
@click.option("--visible", required=True, type=click.Path(path_type=Path), help="Folder (or one image).")
@click.option("--convention", default="textbook", show_default=True, help="See `evalkit list metrics`; or all.")
@click.option("--metrics", callback=names, help="E.g. EN,SD,SSIM[smfnet]; all of the convention when not given.")
@click.option("--name", default="{stem}", show_default=True, help="What fused images are called: '{stem}_fused'.")
@click.option("--infrared-name", default="{stem}", show_default=True, help="E.g. 'IR{stem}', or '{stem:05}': 00001.")
@click.option("--visible-name", default="{stem}", show_default=True)
@click.option("--dataset", default="", help="What the pairs are called in a table; else the folder that holds both.")
@images_option
@crop_option
@depth_option
@gray_option
@models_option
@device_option
@click.option(
    "--out", type=click.Path(path_type=Path), help="A CSV file for the scores of every image; or a results folder."
)
@workers_option
@engine_options
@timeout_option
@json_option
def evaluate(
    fused: tuple[str, ...],
    infrared: Path,
    visible: Path,
    convention: str,
    metrics: list[str] | None,
    name: str,
    infrared_name: str,
    visible_name: str,
    dataset: str,
    images: str | None,
    crop: Any,
    depth: str | None,
    gray: str,
    device: str,
    out: Path | None,
    workers: int | None,
    engine: dict[str, Any],
    timeout: float | None,
    as_json: bool,
) -> None:
    """Measure folders of fused images (or one image) against their sources, paired by file name.

    \b
      evalkit evaluate FUSED --infrared IR --visible VI --convention smfnet
      evalkit evaluate FUSED --infrared IR --visible VI --name '{stem}_fused'      01_fused.png with 01.png
      evalkit evaluate OURS THEIRS Old=runs/7 --infrared IR --visible VI           one table, a row per folder
      evalkit evaluate METHODS --infrared IR --visible VI --out runs/mine          METHODS/<method>/01.png

    With a results folder as --out, `table`, `rank`, `compare`, `plot`, `report` and `leaderboard` go on from there.

    What has no value, pairs of sources without a fused image among it, is named: then there is no mean, and the exit
    code is 3.
    """
    from evalkit.data.words import role_told
    from evalkit.engine.open import open_engine
    from evalkit.metrics.folders import ANY_NAME, evaluate_folder, image_scores, pairing_hint, scores_csv, scores_dict
    from evalkit.metrics.jobs import metrics_device
    from evalkit.metrics.registry import definitions, full_names_of
    from evalkit.protocols.folders import folders_protocol, method_folders

    if role_told([infrared.name]) == "visible" and role_told([visible.name]) == "infrared":
        say(f"! --infrared is {infrared}, --visible {visible}: if they are swapped, so are the numbers", err=True)
    everything = convention == "all"
    if everything:
        convention, metrics = "textbook", full_names_of(metrics)
    columns = definitions(metrics, convention)
    if (os.path.realpath(infrared), infrared_name) == (os.path.realpath(visible), visible_name):
        raise EvalkitError(f"--infrared and --visible are both {infrared}. Name the images of each.")
    patterns = name, infrared_name, visible_name
    table = out is not None and out.suffix.lower() != ".csv"
    if len(fused) == 1 and Path(fused[0]).is_file():
        cluster = engine["engine"] != "local"
        if patterns != (ANY_NAME,) * 3 or images or table or metrics_device(device) or cluster:
            raise EvalkitError(
                "names, --images, a GPU, a cluster and a results folder are for folders, not for one image."
            )
        for source in (infrared, visible):
            if source.is_dir():
                raise EvalkitError(f"{source} is a folder, {fused[0]} one image. Name images or folders.")
        frame = image_scores(Path(fused[0]), infrared, visible, metrics, convention, depth, crop, gray)
    else:
        methods = method_folders(fused, name)
        if len(methods) > 1 or table or images or dataset:
            if out is not None and not table:
                raise EvalkitError(f"{out} is a file for one folder of fused images. Name a results folder.")
            protocol = folders_protocol(methods, infrared, visible, metrics, convention, patterns, dataset)
            _evaluate_folders(
                protocol,
                out,
                as_json,
                pairing_hint(next(iter(methods.values())), infrared, visible) if patterns == (ANY_NAME,) * 3 else "",
                images=images,
                crop=crop,
                depth=depth,
                gray=gray,
                device=device,
                workers=workers,
                timeout=timeout,
                **engine,
            )
        (folder,) = methods.values()
        folders = [path for path in seen_by(engine, Path(folder), infrared, visible) if path]
        with open_engine(**engine, workers=workers, timeout=timeout, must_see=folders) as opened:
            frame = evaluate_folder(
                folders[0],
                folders[1],
                folders[2],
                metrics,
                convention,
                workers,
                progress,
                *patterns,
                depth,
                crop,
                gray,
                device,
                opened,
            )
    if out is not None:
        from evalkit.files.write import write_text

        # with the convention in every column's name, so that a file can be compared with another one
        write_text(out, scores_csv(frame.rename(columns={name: d.full_name for name, d in columns.items()})))
    if as_json:
        shown = scores_dict(frame, "all" if everything else convention)
        print_json(shown | ({"gray": gray} if gray else {}))
    elif everything:
        print_conventions(frame, columns)
    else:
        print_scores(frame, columns, convention)
    sys.exit(EXIT_INCOMPLETE if frame.attrs["missing"] else 0)


def _evaluate_folders(protocol: Protocol, out: Path | None, as_json: bool, hint: str, **options: Any) -> NoReturn:
    """A table of several folders; the run is kept where a folder for it is named."""
    from evalkit.protocols.run import reproduce
    from evalkit.protocols.table.export import to_json

    with contextlib.ExitStack() as stack:
        kept_in = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evalkit-"))) if out is None else out
        if out is None:
            stack.enter_context(nothing_left())
        else:
            stack.enter_context(kept(f"What was done is kept in {out}; the same command goes on from there."))
        table = reproduce(protocol, out=kept_in, progress=progress, **options)
    if as_json:
        click.echo(to_json(table).encode(), nl=False)
    else:
        print_table(table)
        if not any(cell.value is not None for cell in table.cells) and hint:
            say(f"Hint: {hint}")
        more = f" Tables (csv, tex, md, html, json), scores and records: {out}" if out is not None else ""
        say(f"\n{table.coverage()}.{more}", 0)
    sys.exit(0 if table.complete else EXIT_INCOMPLETE)


@click.command("evaluate-saliency")
@click.argument("prediction", type=click.Path(path_type=Path))
@click.option("--truth", required=True, type=click.Path(path_type=Path), help="Folder of masks, paired by file name.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the scores of every map to this CSV file.")
@click.option("--curves", type=click.Path(path_type=Path), help="Write the PR, F and E curves to this CSV file.")
@json_option
def evaluate_saliency(prediction: Path, truth: Path, out: Path | None, curves: Path | None, as_json: bool) -> None:
    """Measure a folder of saliency maps: MAE, S, F (adaptive, mean, max, weighted) and E (adaptive, mean, max)."""
    from evalkit.leaderboards.maps import curves_csv, saliency_folder, saliency_json, scores_csv

    result = saliency_folder(prediction, truth, progress)
    if out is not None or curves is not None:
        from evalkit.files.write import write_text

        for path, text in ((out, scores_csv), (curves, curves_csv)):
            if path is not None:
                write_text(path, text(result))
    if as_json:
        print_json(saliency_json(result))
    else:
        rows = [[name, "–" if v != v else f"{v:.4f}"] for name, v in result.scores.items()]
        print_rows(["measure", "value"], rows, f"{len(result.images)} maps · convention pysodmetrics")
        for where, reason in result.missing.items():
            say(f"– {where}: {reason}")
    sys.exit(EXIT_INCOMPLETE if result.missing else 0)


@click.command("evaluate-segmentation")
@click.argument("prediction", type=click.Path(path_type=Path))
@click.option("--truth", required=True, type=click.Path(path_type=Path), help="Folder of masks, paired by file name.")
@click.option("--dataset", default="MSRS", show_default=True, help="Whose classes the ids are.")
@click.option("--ignore", type=int, default=255, show_default=True, help="Id of pixels that do not count.")
@json_option
def evaluate_segmentation(prediction: Path, truth: Path, dataset: str, ignore: int, as_json: bool) -> None:
    """Measure a folder of class masks over the whole set: IoU and Acc per class, mIoU, mAcc, aAcc."""
    from evalkit.data.card import load_card
    from evalkit.leaderboards.masks import segmentation_folder

    result = segmentation_folder(prediction, truth, load_card(dataset).segmentation, ignore, progress)
    per_class = {name: result.scores.pop(name) for name in ("IoU", "Acc") if name in result.scores}
    if as_json:
        plain = {name: None if v != v else v for name, v in result.scores.items()}
        classes = {name: {k: None if v != v else v for k, v in values.items()} for name, values in per_class.items()}
        counts = {"masks": result.masks, "pixels": result.pixels, "ignored": result.ignored}
        print_json({"convention": "set", **counts, **plain, **classes, "missing": result.missing})
    else:
        title = f"{result.masks} masks · {dataset} · one confusion matrix over the set"
        rows = [
            [
                name,
                *("–" if per_class[m][name] != per_class[m][name] else f"{per_class[m][name]:.4f}" for m in per_class),
            ]
            for name in per_class.get("IoU", {})
        ]
        print_rows(["class", *per_class], rows, title)
        for name, value in result.scores.items():
            click.echo(f"{name} {'–' if value != value else f'{value:.4f}'}")
        if result.ignored:
            share = f"{100 * result.ignored / result.pixels:.1f} %"
            say(f"! {result.ignored} of {result.pixels} pixels ({share}) have the id {ignore}: they do not count")
        for where, reason in result.missing.items():
            say(f"– {where}: {reason}")
    sys.exit(EXIT_INCOMPLETE if result.missing else 0)
