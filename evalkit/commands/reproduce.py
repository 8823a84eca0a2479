"""`evalkit reproduce` and `evalkit table`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click

from evalkit.commands.console import (
    print_agreement,
    print_json,
    print_table,
    progress,
)
from evalkit.commands.options import (
    EXIT_INCOMPLETE,
    checkpoints_option,
    data_root_option,
    device_option,
    image_name_option,
    json_option,
    names,
    workers_option,
)
from evalkit.commands.program import kept
from evalkit.errors import EvalkitError


@click.command()
@click.argument("protocol")
@data_root_option
@click.option("--sample", is_flag=True, help="Run on generated sample scenes instead of the protocol's data sets.")
@click.option("--outputs", type=click.Path(path_type=Path), help="Fused images: OUTPUTS/<method>/<dataset>/<stem>.png.")
@image_name_option
@checkpoints_option
@device_option
@click.option("--recolour", is_flag=True, help="Give gray results of networks the visible chroma before scoring.")
@click.option("--methods", callback=names, help="E.g. CDDFuse,average; else the protocol's and OUTPUTS' own.")
@click.option("--datasets", callback=names, help="E.g. TNO,MSRS; the protocol's when not given.")
@click.option("--out", type=click.Path(path_type=Path), help="Results folder; runs/<protocol> when not given.")
@click.option("--existing", type=click.Choice(["reuse", "replace", "fail"]), default="reuse", show_default=True)
@workers_option
@click.option("--train", is_flag=True, help="Train networks that have neither fused images nor weights.")
@click.option(
    "--recipe", default="", help="How networks are trained: small (unless PROTOCOL has another), paper, or a YAML file."
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
    image_name: str,
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
    """Regenerate a published table and set it beside what was printed; or run a benchmark file of your own.

    \b
      evalkit reproduce smfnet-table1 --data-root DATA --outputs OUTPUTS
      evalkit reproduce bench.yaml                                       `evalkit init bench.yaml` writes one

    Paths in a benchmark file are relative to it; options here go before what it says.
    """
    context = click.get_current_context()
    if context.get_parameter_source("data_root") is click.core.ParameterSource.ENVIRONMENT:
        data_root = None  # goes after what a benchmark file says
    if plan:
        from evalkit.protocols.report import plan_report, report_text

        if sample:
            raise EvalkitError("--plan is of the protocol's own data sets: leave --sample out.")
        report = plan_report(
            protocol,
            data_root,
            outputs=outputs,
            image_name=image_name,
            checkpoints=checkpoints,
            methods=methods,
            datasets=datasets,
        )
        print_json(report) if as_json else click.echo(report_text(report))
        return
    from evalkit.protocols.run import default_out
    from evalkit.protocols.run import reproduce as run
    from evalkit.protocols.table.export import to_json

    out = default_out(protocol, sample) if out is None else out
    with kept(f"What was done is kept in {out}; the same command goes on from there."):
        table = run(
            protocol,
            data_root,
            sample=sample,
            outputs=outputs,
            image_name=image_name,
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
        click.echo(to_json(table).encode(), nl=False)
    else:
        print_table(table)
        print_agreement(table.agreement)
        click.echo(f"\n{table.coverage()}. Tables (csv, tex, md, html, json), scores and records: {out}")
    sys.exit(0 if table.complete else EXIT_INCOMPLETE)


@click.command()
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
    from evalkit.protocols.table.blank import published_table
    from evalkit.protocols.table.export import FORMATS
    from evalkit.protocols.table.table import read_table

    if published is not None and out is None:
        content = published_table(published)
    elif out is not None and published is None:
        content = read_table(out)
    else:
        raise EvalkitError("name the folder of a run or --published PROTOCOL, one of the two.")
    if significance is not None:
        from evalkit.leaderboards.marks import significance_marks, with_marks

        if out is None or form == "csv":
            raise EvalkitError("--significance needs a run with scores per image, and a format with marks (not csv).")
        content = with_marks(content, significance_marks(out, significance))
    click.echo(FORMATS[form][1](content).encode(), nl=False)  # files are UTF-8, whatever the terminal
