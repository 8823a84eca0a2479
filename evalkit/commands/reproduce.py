"""`evalkit reproduce`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from evalkit.commands.console import (
    print_agreement,
    print_json,
    print_table,
    print_trials,
    progress,
)
from evalkit.commands.options import (
    EXIT_INCOMPLETE,
    accumulate_option,
    channels_last_option,
    checkpoints_option,
    crop_option,
    data_root_option,
    depth_option,
    device_option,
    engine_options,
    gray_option,
    image_name_option,
    images_option,
    json_option,
    models_option,
    names,
    precision_option,
    steps_option,
    timeout_option,
    with_published_option,
    workers_option,
)
from evalkit.commands.program import kept, nothing_left
from evalkit.commands.wrap import say
from evalkit.errors import EvalkitError
from evalkit.files.names import printable


@click.command()
@click.argument("protocol")
@data_root_option
@click.option("--sample", is_flag=True, help="Run on generated sample scenes instead of the protocol's data sets.")
@click.option("--outputs", type=click.Path(path_type=Path), help="Fused images: OUTPUTS/<method>/<dataset>/<stem>.png.")
@image_name_option
@checkpoints_option
@device_option
@precision_option
@channels_last_option
@click.option(
    "--recolour/--no-recolour",
    default=None,
    help="Give gray results of networks the visible chroma before scoring; as the protocol has it when not given.",
)
@click.option(
    "--keep-format/--no-keep-format",
    default=None,
    help="Save networks' images as the infrared image is, JPEG or not, as their authors' scripts do.",
)
@images_option
@crop_option
@depth_option
@gray_option
@models_option
@click.option("--methods", callback=names, help="E.g. CDDFuse,average; else the protocol's and OUTPUTS' own.")
@click.option("--datasets", callback=names, help="E.g. TNO,MSRS; the protocol's when not given.")
@click.option("--out", type=click.Path(path_type=Path), help="Results folder; runs/<protocol> when not given.")
@click.option("--existing", type=click.Choice(["reuse", "replace", "fail"]), default="reuse", show_default=True)
@workers_option
@click.option("--train", is_flag=True, help="Train networks that have neither fused images nor weights.")
@click.option(
    "--recipe", default="", help="How networks are trained: small (unless PROTOCOL has another), paper, or a YAML file."
)
@accumulate_option
@steps_option
@click.option("--networks", callback=names, help="With --steps: those of the recipe that are tried, e.g. SegFormer-B2.")
@engine_options
@timeout_option
@with_published_option
@click.option("--plan", is_flag=True, help="Say what would run, what is missing and where to get it; run nothing.")
@json_option
def reproduce(
    protocol: str,
    data_root: tuple[Path, ...] | None,
    sample: bool,
    outputs: Path | None,
    image_name: str,
    checkpoints: Path | None,
    device: str,
    precision: Any,
    channels_last: bool,
    recolour: bool | None,
    keep_format: bool | None,
    images: str | None,
    crop: Any,
    depth: str | None,
    gray: str,
    methods: list[str] | None,
    datasets: list[str] | None,
    out: Path | None,
    existing: Any,
    workers: int | None,
    train: bool,
    recipe: str,
    accumulate: int,
    steps: int | None,
    networks: list[str] | None,
    engine: dict[str, Any],
    timeout: float | None,
    with_published: bool,
    plan: bool,
    as_json: bool,
) -> None:
    """Regenerate a published table and set it beside what was printed; or run a benchmark file of your own.

    \b
      evalkit reproduce smfnet-table1 --data-root DATA --outputs OUTPUTS
      evalkit reproduce bench.yaml           `evalkit init bench.yaml` writes one

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
        print_json(report) if as_json else say(report_text(report))
        return
    if networks and not steps:
        raise EvalkitError("--networks goes with --steps; else a recipe of your own names the network that is trained.")
    if steps:
        from evalkit.protocols.trial import try_protocol

        if out is not None:
            raise EvalkitError("--steps keeps nothing: leave --out out.")
        with nothing_left():
            trials = try_protocol(
                protocol,
                data_root,
                steps,
                sample=sample,
                checkpoints=checkpoints,
                device=device,
                methods=methods,
                datasets=datasets,
                networks=networks or (),
                recipe=recipe,
                accumulate=accumulate,
                progress=progress,
            )
        print_trials(trials, as_json)
        return
    from evalkit.protocols.run import default_out
    from evalkit.protocols.run import reproduce as run
    from evalkit.protocols.schema import protocol as load_protocol
    from evalkit.protocols.schema import rows_of
    from evalkit.protocols.table.export import to_json
    from evalkit.protocols.table.style import TableStyle
    from evalkit.protocols.table.styled import styled

    if with_published and (sample or not rows_of(load_protocol(protocol))):
        raise EvalkitError(f"{protocol} has no printed rows for this run: leave --with-published out.")
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
            keep_format=keep_format,
            images=images,
            crop=crop,
            depth=depth,
            gray=gray,
            methods=methods,
            datasets=datasets,
            out=out,
            existing=existing,
            workers=workers,
            train=train,
            recipe=recipe,
            accumulate=accumulate,
            precision=precision,
            channels_last=channels_last,
            timeout=timeout,
            progress=progress,
            **engine,
        )
    style = TableStyle(with_published=with_published)
    if with_published:
        table.write(out, style)
    if as_json:
        click.echo(to_json(table, style).encode(), nl=False)
    else:
        shown = styled(table, style, "markdown").table
        print_table(shown)
        if with_published:
            click.echo(printable(shown.note))
        print_agreement(table.agreement)
        say(f"\n{table.coverage()}. Tables (csv, tex, md, html, json), scores and records: {out}", 0)
    sys.exit(0 if table.complete else EXIT_INCOMPLETE)
