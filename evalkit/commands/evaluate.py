"""`evalkit evaluate`, `evaluate-saliency`, `evaluate-segmentation`: images at hand, no protocol."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from evalkit.commands.console import (
    print_conventions,
    print_json,
    print_rows,
    print_scores,
    progress,
)
from evalkit.commands.options import (
    EXIT_INCOMPLETE,
    json_option,
    names,
    workers_option,
)
from evalkit.errors import EvalkitError

DEPTH_HELP = (
    "What 16-bit files hold: 8 (levels 0..255), 16 (parts of 65535) or stretch (smallest to 0, largest to 255). "
    "Else 16; files that hold no more than 255 are refused."
)


@click.command()
@click.argument("fused", type=click.Path(path_type=Path))
@click.option("--infrared", required=True, type=click.Path(path_type=Path), help="Folder (or one image).")
@click.option("--visible", required=True, type=click.Path(path_type=Path), help="Folder (or one image).")
@click.option("--convention", default="textbook", show_default=True, help="See `evalkit list metrics`; or all.")
@click.option("--metrics", callback=names, help="E.g. EN,SD,SSIM[smfnet]; all of the convention when not given.")
@click.option("--name", default="{stem}", show_default=True, help="What fused images are called: '{stem}_fused'.")
@click.option("--infrared-name", default="{stem}", show_default=True, help="E.g. 'IR{stem}', or '{stem:05}': 00001.")
@click.option("--visible-name", default="{stem}", show_default=True)
@click.option("--depth", type=click.Choice(["8", "16", "stretch"]), help=DEPTH_HELP)
@click.option("--out", type=click.Path(path_type=Path), help="Write the scores of every image to this CSV file.")
@workers_option
@json_option
def evaluate(
    fused: Path,
    infrared: Path,
    visible: Path,
    convention: str,
    metrics: list[str] | None,
    name: str,
    infrared_name: str,
    visible_name: str,
    depth: str | None,
    out: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Measure a folder of fused images (or one image) against its sources, paired by file name.

    \b
      evalkit evaluate FUSED --infrared IR --visible VI --convention smfnet
      evalkit evaluate FUSED --infrared IR --visible VI --name '{stem}_fused'      01_fused.png with 01.png

    What has no value, pairs of sources without a fused image among it, is named: then there is no mean, and the exit
    code is 3.
    """
    from evalkit.metrics.evaluate import ANY_NAME, evaluate_folder
    from evalkit.metrics.folders import image_scores, scores_csv, scores_dict
    from evalkit.metrics.registry import definitions, full_names_of

    everything = convention == "all"
    if everything:
        convention, metrics = "textbook", full_names_of(metrics)
    columns = definitions(metrics, convention)
    if fused.is_file():
        if (name, infrared_name, visible_name) != (ANY_NAME,) * 3:
            raise EvalkitError("--name, --infrared-name and --visible-name are for folders, not for one image.")
        frame = image_scores(fused, infrared, visible, metrics, convention, depth)
    else:
        patterns = name, infrared_name, visible_name
        frame = evaluate_folder(fused, infrared, visible, metrics, convention, workers, progress, *patterns, depth)
    if out is not None:
        from evalkit.files.write import write_text

        # with the convention in every column's name, so that a file can be compared with another one
        write_text(out, scores_csv(frame.rename(columns={name: d.full_name for name, d in columns.items()})))
    if as_json:
        print_json(scores_dict(frame, "all" if everything else convention))
    elif everything:
        print_conventions(frame, columns)
    else:
        print_scores(frame, columns, convention)
    sys.exit(EXIT_INCOMPLETE if frame.attrs["missing"] else 0)


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
            click.echo(f"– {where}: {reason}")
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
            click.echo(
                f"! {result.ignored} of {result.pixels} pixels ({share}) have the id {ignore}: they do not count"
            )
        for where, reason in result.missing.items():
            click.echo(f"– {where}: {reason}")
    sys.exit(EXIT_INCOMPLETE if result.missing else 0)
