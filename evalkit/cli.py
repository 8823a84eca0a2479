"""The command line: parse, call, print. What is heavy is imported inside the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    import pandas as pd

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
workers_option = click.option("--workers", type=click.IntRange(1), help="Threads; one per processor when not given.")


class Commands(click.Group):
    """A group that prints a user's mistake as one paragraph, and knows commands that were mistyped."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EvalkitError as error:
            click.echo(f"Error: {error}", err=True)
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
            click.echo(f"{click.style(key, bold=True)}: {_indented(value)}")


def _indented(value: Any, depth: int = 1) -> str:
    pad = "\n" + "  " * depth
    if isinstance(value, dict):
        return "".join(f"{pad}{k}: {_indented(v, depth + 1)}" for k, v in value.items() if v not in (None, "", [], {}))
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return "".join(
            f"{pad}- {', '.join(f'{k}: {_flat(x)}' for k, x in v.items() if x not in (None, '', [], {}))}"
            for v in value
        )
    return _flat(value)


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_flat(v)}" for k, v in value.items() if v not in (None, "", [], {})) + "}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


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

        write_text(out, scores_csv(frame))
    if as_json:
        print_json(scores_dict(frame, "all" if everything else convention))
    elif everything:
        print_conventions(frame, columns)
    else:
        print_scores(frame, columns, convention)
    sys.exit(EXIT_INCOMPLETE if frame.attrs["holes"] else 0)


def print_conventions(frame: pd.DataFrame, columns: dict) -> None:
    """Means over the images: a row per metric, a column per convention."""
    from evalkit.leaderboards.scores import mean_scores
    from evalkit.metrics.registry import card

    means = {(d.metric, d.convention): mean_scores(frame)[column] for column, d in columns.items()}
    conventions = list(dict.fromkeys(convention for _, convention in means))
    rows = []
    for metric in dict.fromkeys(metric for metric, _ in means):
        values = [means.get((metric, convention), "") for convention in conventions]
        shown = [v if isinstance(v, str) else "–" if v is None else f"{v:.4f}" for v in values]
        rows.append([f"{metric} {card(metric).arrow}", *shown])
    print_rows(["metric", *conventions], rows, f"{len(frame)} images · mean in every convention")


def print_scores(frame: pd.DataFrame, columns: dict, convention: str) -> None:
    """A row per image, the mean where every image has a value, and the holes with their reasons."""
    from evalkit.leaderboards.scores import mean_scores
    from evalkit.metrics.registry import card

    heads = [f"{name} {card(definition.metric).arrow}" for name, definition in columns.items()]
    rows = [
        [str(i), *("–" if v != v else f"{v:.4f}" for v in row)]
        for i, row in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    mean = mean_scores(frame)
    rows.append(["mean", *("–" if v is None else f"{v:.4f}" for v in mean.values())])
    print_rows(["image", *heads], rows, f"{len(frame)} images · convention {convention}", footer=True)
    by_reason: dict[tuple[str, str], list[str]] = {}
    for (image, column), reason in frame.attrs["holes"].items():
        by_reason.setdefault((image, reason), []).append(column)
    for (image, reason), which in by_reason.items():
        click.echo(f"– {image}, {'all metrics' if len(which) == len(columns) else ', '.join(which)}: {reason}")


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
@click.option("--methods", callback=names, help="E.g. CDDFuse,average; the protocol's rows when not given.")
@click.option("--datasets", callback=names, help="E.g. TNO,MSRS; the protocol's when not given.")
@click.option("--out", type=click.Path(path_type=Path), help="Results folder; runs/<protocol> when not given.")
@click.option("--existing", type=click.Choice(["reuse", "replace", "fail"]), default="reuse", show_default=True)
@workers_option
@json_option
def reproduce(
    protocol: str,
    data_root: Path | None,
    sample: bool,
    outputs: Path | None,
    checkpoints: Path | None,
    device: str,
    methods: list[str] | None,
    datasets: list[str] | None,
    out: Path | None,
    existing: Any,
    workers: int | None,
    as_json: bool,
) -> None:
    """Regenerate a published table and set it beside what was printed."""
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
        methods=methods,
        datasets=datasets,
        out=out,
        existing=existing,
        workers=workers,
        progress=progress,
    )
    if as_json:
        click.echo(to_json(table), nl=False)
    else:
        print_table(table)
        print_agreement(table.agreement)
        click.echo(f"\n{table.coverage()}. Tables (csv, tex, md, html, json), scores and records: {out}")
    sys.exit(0 if table.complete else EXIT_INCOMPLETE)


def print_table(table: Any) -> None:
    """The table as a reader sees it in a terminal: measured, and how it stands to the published value."""
    from evalkit.leaderboards.export import heading, holes, number

    stands = {"equal": "= published", "unpublished": "", "hole": "", "other data": "(other data)"}
    for dataset in table.datasets:
        rows = []
        for method in table.methods(dataset):
            cells = [table.cell(dataset, method, column.name) for column in table.columns]
            if all(cell.value is None for cell in cells):
                continue
            row = [method]
            for cell in cells:
                beside = stands.get(cell.status) if cell.status in stands else f"Δ{cell.difference:+.4f}"
                row.append("\n".join(filter(None, [number(cell), beside])))
            rows.append(row)
        heads = ["method", *(f"{column.name} {column.arrow}" for column in table.columns)]
        title = f"{heading(table, dataset)} · convention {table.convention}"
        if rows:
            print_rows(heads, rows, title)
        else:
            click.echo(f"\n{title}")
        for line in holes(table, dataset):
            click.echo(f"– {line}")


def print_agreement(rows: list[Any]) -> None:
    """How many values that were published per image come out."""
    if not rows:
        return
    lines = [
        [r.metric, str(r.published), str(r.near), f"{100 * r.share:.1f} %", f"{r.worst:.1e}", r.worst_at] for r in rows
    ]
    published, near = sum(r.published for r in rows), sum(r.near for r in rows)
    lines.append(["all", str(published), str(near), f"{100 * near / published:.1f} %", "", ""])
    heads = ["metric", "published", "within 0.5 %", "share", "worst difference", "at"]
    click.echo()
    print_rows(heads, lines, "values published per image", footer=True)


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "latex", "markdown", "html", "json"]),
    default="markdown",
    show_default=True,
)
def table(out: Path, form: str) -> None:
    """Print the table of a finished run (its --out folder) in another format."""
    from evalkit.leaderboards.export import FORMATS
    from evalkit.leaderboards.table import read_table

    click.echo(FORMATS[form][1](read_table(out)), nl=False)


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


def print_json(value: Any) -> None:
    """Strict JSON: no NaN."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str))


def print_rows(heads: list[str], rows: list[list[str]], title: str | None = None, footer: bool = False) -> None:
    """A table on standard output; as wide as it needs to be where that is not a terminal."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    for i, head in enumerate(heads):
        numeric = i > 0 and bool(rows) and all(row[i][:1] in "0123456789-–" for row in rows)
        shown.add_column(Text(head), justify="right" if numeric else "left", overflow="fold", no_wrap=numeric or i == 0)
    for i, row in enumerate(rows):
        if footer and i == len(rows) - 1:
            shown.add_section()
        shown.add_row(*map(Text, row), style="bold" if footer and i == len(rows) - 1 else None)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(200, 60 + 14 * len(heads)))
    if title:
        console.print(Text(title, style="bold"))
    console.print(shown)


def progress(items: Iterable, total: int, text: str) -> Iterator:
    """The items, with a progress bar on standard error when a person watches it."""
    with counter(total, text) as advance:
        for item in items:
            yield item
            advance()


class counter:  # noqa: N801 - used like a function
    """A progress bar as a context: gives the function that advances it."""

    def __init__(self, total: int, text: str) -> None:
        self.total, self.text = total, text

    def __enter__(self) -> Callable[[], None]:
        self.bar = None
        if self.total and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.bar.start()
            task = self.bar.add_task(self.text, total=self.total)
            bar = self.bar
            return lambda: bar.advance(task)
        return lambda: None

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


if __name__ == "__main__":
    main()
