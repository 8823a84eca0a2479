"""The command line: parse, call, print. What is heavy is imported inside the commands."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from evalkit.commands.audit import audit
from evalkit.commands.compare import compare
from evalkit.commands.leaderboard import leaderboard
from evalkit.commands.plot import plot
from evalkit.commands.rank import rank
from evalkit.commands.scale import scale
from evalkit.commands.train import train
from evalkit.console import (
    counter,
    indented,
    print_agreement,
    print_conventions,
    print_json,
    print_rows,
    print_scores,
    print_table,
    progress,
)
from evalkit.errors import EvalkitError
from evalkit.escape import printable

if TYPE_CHECKING:
    pass

# threads that wait for each other sleep: where other programs need the cores, spinning costs ten times the time
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

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


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="evalkit")
def main() -> None:
    """Regenerate the tables of infrared-visible image fusion papers, and see where they hold.

    \b
    First steps:
      evalkit reproduce smfnet-table1 --sample          a table from generated scenes
      evalkit evaluate FUSED --infrared IR --visible VI --convention smfnet
      evalkit list protocols                            what can be reproduced

    Exit codes: 0 done and complete, 1 a check failed, 2 wrong usage, 3 incomplete (holes, each with its reason).
    """


@main.command("list")
@click.argument("kind", type=click.Choice(["protocols", "methods", "metrics", "datasets"]))
@checkpoints_option
@json_option
def list_command(kind: str, checkpoints: Path | None, as_json: bool) -> None:
    """List protocols, methods (and which can run here), metrics or datasets."""
    from evalkit.catalogue import ENTRIES, method_entries
    from evalkit.protocols.plan import find_checkpoints

    entries = method_entries(find_checkpoints(checkpoints)) if kind == "methods" else ENTRIES[kind]()
    if as_json:
        print_json(entries)
    else:
        print_rows(list(entries[0]), [[str(v) for v in entry.values()] for entry in entries])


@main.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a protocol, method, metric, convention or data set."""
    from evalkit.catalogue import describe

    entry = describe(name)
    if as_json:
        print_json(entry)
        return
    for key, value in entry.items():
        if value not in (None, "", [], {}):
            click.echo(f"{click.style(key, bold=True)}: {indented(value)}")


@main.group(cls=Commands)
def data() -> None:
    """Check data sets, or write the sample scenes."""


@data.command("check")
@click.argument("dataset", required=False)
@data_root_option
@json_option
def data_check(dataset: str | None, data_root: Path | None, as_json: bool) -> None:
    """Check one data set, or all that are found: pairs, sizes, missing partners, unreadable files, duplicates."""
    from dataclasses import asdict

    from evalkit.data.card import load_card, load_cards
    from evalkit.data.check import check_dataset
    from evalkit.data.report import report_text
    from evalkit.protocols.plan import find_data_root

    root = find_data_root(data_root)
    cards = [load_card(dataset)] if dataset else load_cards()
    reports = [check_dataset(card, root) for card in progress(cards, len(cards), "check")]
    if as_json:
        print_json([asdict(report) for report in reports])
    elif dataset and not reports[0].found:
        raise EvalkitError(str(reports[0].reason))
    else:
        click.echo("\n".join(report_text(report) for report in reports))
    sys.exit(EXIT_INCOMPLETE if any(report.problems() for report in reports) else 0)


@data.command("sample")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1, 100_000), default=8, show_default=True, help="Scenes.")
@click.option("--size", default="640x480", show_default=True, help="WIDTHxHEIGHT.")
@click.option("--seed", type=int, default=0, show_default=True)
def data_sample(out: Path, count: int, size: str, seed: int) -> None:
    """Write generated infrared/visible street scenes with boxes, class masks and salient-object masks."""
    from evalkit.data.scenes import write_scenes

    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise EvalkitError(f"--size is {size!r}, expected WIDTHxHEIGHT such as 640x480.")
    with counter(count, "draw sample scenes") as advance:
        folder = write_scenes(out, count, seed, int(width), int(height), progress=lambda *_: advance())
    click.echo(f"{count} scenes in {folder}. Use them with --data-root {out}.")


@main.command()
@click.argument("fused", type=click.Path(path_type=Path))
@click.option("--infrared", required=True, type=click.Path(path_type=Path), help="Folder (or one image).")
@click.option("--visible", required=True, type=click.Path(path_type=Path), help="Folder (or one image).")
@click.option("--convention", default="textbook", show_default=True, help="See `evalkit list metrics`; or all.")
@click.option("--metrics", callback=names, help="E.g. EN,SD,SSIM[smfnet]; all of the convention when not given.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the scores of every image to this CSV file.")
@workers_option
@json_option
def evaluate(
    fused: Path,
    infrared: Path,
    visible: Path,
    convention: str,
    metrics: list[str] | None,
    out: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Measure a folder of fused images (or one image) against its sources, paired by file name."""
    from evalkit.leaderboards.scores import image_scores, scores_csv, scores_dict
    from evalkit.metrics.evaluate import evaluate_folder
    from evalkit.metrics.registry import definitions, full_names_of

    everything = convention == "all"
    if everything:
        convention, metrics = "textbook", full_names_of(metrics)
    columns = definitions(metrics, convention)
    if fused.is_file():
        frame = image_scores(fused, infrared, visible, metrics, convention)
    else:
        frame = evaluate_folder(fused, infrared, visible, metrics, convention, workers, progress)
    if out is not None:
        from evalkit.files import write_text

        # with the convention in every column's name, so that a file can be compared with another one
        write_text(out, scores_csv(frame.rename(columns={name: d.full_name for name, d in columns.items()})))
    if as_json:
        print_json(scores_dict(frame, "all" if everything else convention))
    elif everything:
        print_conventions(frame, columns)
    else:
        print_scores(frame, columns, convention)
    sys.exit(EXIT_INCOMPLETE if frame.attrs["holes"] else 0)


@main.command()
@click.argument("method")
@data_root_option
@click.option("--dataset", required=True)
@click.option("--split", help="Of the data set; its default when not given.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Fused images: OUT/<method>/<dataset>/.")
@click.option("--gray", is_flag=True, help="Classical methods: luminance only, without the visible colours.")
@checkpoints_option
@click.option("--checkpoint", "files", multiple=True, type=click.Path(path_type=Path), help="The weights file itself.")
@device_option
@workers_option
@json_option
def fuse(
    method: str,
    data_root: Path | None,
    dataset: str,
    split: str | None,
    out: Path,
    gray: bool,
    checkpoints: Path | None,
    files: tuple[Path, ...],
    device: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Fuse a data set with a method, as 8-bit PNG files."""
    from evalkit.methods.fuse import fuse_dataset
    from evalkit.protocols.plan import find_data_root

    root = find_data_root(data_root)
    result = fuse_dataset(method, dataset, root, out, split, gray, checkpoints, files, device, workers, progress)
    if as_json:
        print_json({"folder": str(result.folder), "fused": result.fused, "failures": result.failures})
    else:
        click.echo(f"{result.fused} fused images in {result.folder}")
        for stem, reason in result.failures.items():
            click.echo(f"– {stem}: {reason}")
    sys.exit(EXIT_INCOMPLETE if result.failures else 0)


@main.command()
@click.argument("protocol")
@data_root_option
@click.option("--sample", is_flag=True, help="Run on generated sample scenes instead of the protocol's data sets.")
@click.option("--outputs", type=click.Path(path_type=Path), help="Fused images: OUTPUTS/<method>/<dataset>/<stem>.png.")
@checkpoints_option
@device_option
@click.option("--recolour", is_flag=True, help="Give gray results of networks the visible chroma before scoring.")
@click.option("--methods", callback=names, help="E.g. CDDFuse,average; the protocol's rows when not given.")
@click.option("--datasets", callback=names, help="E.g. TNO,MSRS; the protocol's when not given.")
@click.option("--out", type=click.Path(path_type=Path), help="Results folder; runs/<protocol> when not given.")
@click.option("--existing", type=click.Choice(["reuse", "replace", "fail"]), default="reuse", show_default=True)
@workers_option
@click.option("--train", is_flag=True, help="Train networks that have neither fused images nor weights.")
@click.option(
    "--recipe", default="small", show_default=True, help="How networks are trained: small, paper, or a YAML file."
)
@click.option(
    "--engine",
    type=click.Choice(["local", "dask"]),
    default="local",
    show_default=True,
    help="Where the work is done: processes here, or a dask cluster (one on this machine when none is named).",
)
@click.option("--address", help="Of a dask scheduler, e.g. tcp://head:8786.")
@click.option("--cluster", help="Start --workers workers on slurm, pbs, kubernetes, ... as dask's configuration says.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    help="Seconds after which a few images count as hanging and go to another worker.",
)
@click.option("--plan", is_flag=True, help="Say what would run, what is missing and where to get it; run nothing.")
@json_option
def reproduce(
    protocol: str,
    data_root: Path | None,
    sample: bool,
    outputs: Path | None,
    checkpoints: Path | None,
    device: str,
    recolour: bool,
    methods: list[str] | None,
    datasets: list[str] | None,
    out: Path | None,
    existing: Any,
    workers: int | None,
    train: bool,
    recipe: str,
    engine: Literal["local", "dask"],
    address: str | None,
    cluster: str | None,
    timeout: float | None,
    plan: bool,
    as_json: bool,
) -> None:
    """Regenerate a published table and set it beside what was printed."""
    if plan:
        from evalkit.protocols.report import plan_report, report_text

        if sample:
            raise EvalkitError("--plan is of the protocol's own data sets: leave --sample out.")
        report = plan_report(
            protocol, data_root, outputs=outputs, checkpoints=checkpoints, methods=methods, datasets=datasets
        )
        print_json(report) if as_json else click.echo(report_text(report))
        return
    from evalkit.leaderboards.export import to_json
    from evalkit.protocols.run import default_out
    from evalkit.protocols.run import reproduce as run

    out = default_out(protocol, sample) if out is None else out
    table = run(
        protocol,
        data_root,
        sample=sample,
        outputs=outputs,
        checkpoints=checkpoints,
        device=device,
        recolour=recolour,
        methods=methods,
        datasets=datasets,
        out=out,
        existing=existing,
        workers=workers,
        train=train,
        recipe=recipe,
        engine=engine,
        address=address,
        cluster=cluster,
        timeout=timeout,
        progress=progress,
    )
    if as_json:
        click.echo(to_json(table), nl=False)
    else:
        print_table(table)
        print_agreement(table.agreement)
        click.echo(f"\n{table.coverage()}. Tables (csv, tex, md, html, json), scores and records: {out}")
    sys.exit(0 if table.complete else EXIT_INCOMPLETE)


@main.command()
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--published", metavar="PROTOCOL", help="Instead of a run: the published table alone.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "latex", "markdown", "html", "json"]),
    default="markdown",
    show_default=True,
)
@click.option(
    "--significance",
    type=click.Choice(["wilcoxon", "permutation"]),
    help="Mark what the best of a column is not significantly better than.",
)
def table(
    out: Path | None, published: str | None, form: str, significance: Literal["wilcoxon", "permutation"] | None
) -> None:
    """Print the table of a finished run (its --out folder), or a published table, in another format.

    LaTeX is arranged as in the paper: measured values where there are any, the published ones in gray elsewhere.
    """
    from evalkit.leaderboards.export import FORMATS
    from evalkit.leaderboards.table import read_table
    from evalkit.protocols.tables import published_table

    if published is not None and out is None:
        chosen = published_table(published)
    elif out is not None and published is None:
        chosen = read_table(out)
    else:
        raise EvalkitError("name the folder of a run or --published PROTOCOL, one of the two.")
    if significance is not None:
        from evalkit.leaderboards.marks import significance_marks, with_marks

        if out is None or form == "csv":
            raise EvalkitError("--significance needs a run with scores per image, and a format with marks (not csv).")
        chosen = with_marks(chosen, significance_marks(out, significance))
    click.echo(FORMATS[form][1](chosen), nl=False)


@main.command("evaluate-saliency")
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
        from evalkit.files import write_text

        for path, text in ((out, scores_csv), (curves, curves_csv)):
            if path is not None:
                write_text(path, text(result))
    if as_json:
        print_json(saliency_json(result))
    else:
        rows = [[name, "–" if v != v else f"{v:.4f}"] for name, v in result.scores.items()]
        print_rows(["measure", "value"], rows, f"{len(result.images)} maps · convention pysodmetrics")
        for where, reason in result.holes.items():
            click.echo(f"– {where}: {reason}")
    sys.exit(EXIT_INCOMPLETE if result.holes else 0)


@main.command("evaluate-segmentation")
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
        print_json({"convention": "set", "masks": result.masks, **plain, **classes, "holes": result.holes})
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
        for where, reason in result.holes.items():
            click.echo(f"– {where}: {reason}")
    sys.exit(EXIT_INCOMPLETE if result.holes else 0)


@main.command()
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

    from evalkit.leaderboards.golden import check_golden, measure_golden, read_golden, write_golden
    from evalkit.metrics.registry import all_full_names

    folders = (fused, infrared, visible)
    if update:
        from evalkit.files import write_text

        values, _ = measure_golden(None, metrics or all_full_names(), folders, workers, progress)
        write_text(golden, write_golden(replace(one, tolerance=tolerance) for one in values))
        click.echo(f"{len(values)} values in {golden}")
        return
    wanted = read_golden(golden)
    moved = check_golden(wanted, folders, workers, progress)
    if as_json:
        print_json({"checked": len(wanted), "moved": [str(one) for one in moved]})
    else:
        for one in moved:
            click.echo(str(one))
        click.echo(f"{len(wanted)} values checked, {len(moved)} moved")
    sys.exit(EXIT_CHECK if moved else 0)


@main.group(cls=Commands)
def bench() -> None:
    """Measure speed."""


@bench.command("metrics")
@click.option("--metrics", callback=names, help="E.g. VIF[smfnet],CB; the nine common ones, CV and CB when not given.")
@click.option("--sizes", callback=names, help="ROWSxCOLUMNS, ...; 450x620,768x1024,1024x1280 when not given.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=5, show_default=True, help="The median counts.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures to this JSON file.")
@json_option
def bench_metrics(
    metrics: list[str] | None, sizes: list[str] | None, repeats: int, out: Path | None, as_json: bool
) -> None:
    """Milliseconds per pair of each metric, for a first and a further method on the same sources."""
    from evalkit.bench import NINE, SIZES
    from evalkit.bench import bench_metrics as run
    from evalkit.metrics.registry import definitions

    wanted = definitions(metrics or [*NINE, "CV[vifb]", "CB[vifb]"], "smfnet")
    rows = run([d.full_name for d in wanted.values()], sizes or SIZES, repeats, progress)
    if out is not None:
        from evalkit.files import write_text

        write_text(out, json.dumps(rows, indent=1) + "\n")
    if as_json:
        print_json(rows)
        return
    lines = []
    for row in rows:
        times = [f"{row[key]:.1f}" if row[key] is not None else "–" for key in ("first", "further", "dense")]
        memory = f"{row['peak_mb']:.0f}" if row["peak_mb"] else "–"
        lines.append([row["metric"], row["size"], *times, memory])
    print_rows(["metric", "size", "first", "further", "dense", "peak MB"], lines, "ms per pair, one thread")


bench.add_command(scale)
for command in (audit, compare, leaderboard, plot, rank, train):
    main.add_command(command)


if __name__ == "__main__":
    main()
