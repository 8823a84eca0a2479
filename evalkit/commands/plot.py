"""`evalkit plot KIND`: radar, cumulative, bar, box, critical, scatter, pr, f, grid."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.commands.options import EXIT_INCOMPLETE, Commands, FiniteRange, data_root_option, names
from evalkit.commands.wrap import say

if TYPE_CHECKING:
    from evalkit.leaderboards.plots.style import Drawing


class Kinds(Commands):
    """A group that knows kinds that were mistyped."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            from evalkit.errors import UnknownNameError

            raise UnknownNameError("kind of plot", args[0], self.commands)
        return super().resolve_command(ctx, args)


@click.group(cls=Kinds)
def plot() -> None:
    """Draw a run, or a published table, as PDF, SVG or PNG.

    \b
      evalkit plot radar runs/smfnet-table1 --datasets TNO --out radar.pdf
      evalkit plot radar --published smfnet-table1 --datasets TNO,MSRS --width page --out radar.svg
      evalkit plot grid runs/smfnet-table1 --datasets TNO --scenes 04,17 --out grid.pdf

    What could not be drawn is named in the picture and here, and the exit code is 3.
    """


def options(*more: Callable) -> Callable:
    """Options of every kind, and more of its own before them."""
    common = [
        click.option("--methods", callback=names, help="Rows, in this order; all when not given."),
        click.option(
            "--width", type=click.Choice(["column", "page"]), help="3.5 or 7.16 inches; what holds all panels."
        ),
        click.option("--no-caption", is_flag=True, help="Leave the text below the picture out; it is printed anyway."),
        click.option(
            "--out", required=True, type=click.Path(path_type=Path), help="A .pdf, .svg or .png file to write."
        ),
    ]

    def add(command: Callable) -> Callable:
        for option in reversed([*more, *common]):
            command = option(command)
        return command

    return add


runs_argument = click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN]...")
published_option = click.option("--published", metavar="PROTOCOL", help="Instead of a run: its printed numbers.")
datasets_option = click.option("--datasets", callback=names, help="A panel for each; all when not given.")
metrics_option = click.option("--metrics", callback=names, help="Columns, e.g. EN,SSIM; all when not given.")
of_values = (runs_argument, published_option, datasets_option, metrics_option)
of_images = (runs_argument, datasets_option, metrics_option)


def write(draw: Callable[[], list[Drawing]], out: Path) -> None:
    """Draw, save each page, say what is missing."""
    from evalkit.leaderboards.plots.style import check_suffix, missing_lines, unwritable

    check_suffix(out)
    drawings = draw()
    files = [out, *(out.with_stem(f"{out.stem}-{i}") for i in range(2, len(drawings) + 1))]
    missing: dict[str, str] = {}
    for file, drawing in zip(files, drawings, strict=True):
        drawing.save(file)
        missing |= drawing.missing
        say(str(file), 0)
    if len(drawings) > 1:
        say(f"{len(drawings)} pages: one is too small for all panels. --metrics and --datasets choose some.", 0)
    say("\n".join([drawings[0].subject, *missing_lines(missing)]), 0)
    if strange := unwritable(text.get_text() for drawing in drawings for text in drawing.texts()):
        say(f"– no font here has the characters {strange}: install one, e.g. Noto Sans CJK.", err=True)
    sys.exit(EXIT_INCOMPLETE if missing else 0)


def draw_values(name: str, out: Path, width: Any, no_caption: bool, more: dict[str, Any], **which: Any) -> None:
    """Draw a kind that needs blocks of values alone; `evalkit.leaderboards.plots.<module>.<name>`."""
    from importlib import import_module

    def draw() -> list[Drawing]:
        from evalkit.leaderboards.plots.pages import pages
        from evalkit.leaderboards.plots.values import blocks

        module = {"box": "bars", "bar": "bars"}.get(name, name)
        function = getattr(import_module(f"evalkit.leaderboards.plots.{module}"), name)
        return pages(partial(function, caption=not no_caption, **more), blocks(**which), width, name == "radar")

    write(draw, out)


@plot.command()
@options(*of_values)
def radar(out: Path, width: str | None, no_caption: bool, **which: Any) -> None:
    """Methods over metrics; outside is better on every axis, each of which is scaled by itself."""
    draw_values("radar", out, width, no_caption, {}, **which)


@plot.command()
@options(*of_images)
def cumulative(out: Path, width: str | None, no_caption: bool, **which: Any) -> None:
    """Cumulative distribution of each metric over the image pairs, with the mean in the legend."""
    draw_values("cumulative", out, width, no_caption, {}, **which)


@plot.command()
@options(*of_values)
def bar(out: Path, width: str | None, no_caption: bool, **which: Any) -> None:
    """Means, with a 95 % bootstrap interval where there are values per image."""
    draw_values("bar", out, width, no_caption, {}, **which)


@plot.command()
@options(*of_images)
def box(out: Path, width: str | None, no_caption: bool, **which: Any) -> None:
    """Box plots of the values per image."""
    draw_values("box", out, width, no_caption, {}, **which)


@plot.command()
@options(*of_images, click.option("--alpha", type=FiniteRange(0, 1, True, True), default=0.05, show_default=True))
def critical(out: Path, width: str | None, no_caption: bool, alpha: float, **which: Any) -> None:
    """Critical-difference diagram: mean ranks over the images, and which methods do not differ significantly."""
    draw_values("critical", out, width, no_caption, {"alpha": alpha}, **which)


@plot.command()
@options(
    *of_values,
    click.option("--cost", required=True, help="cards, a protocol (smfnet-table5), or the folder of a run of one."),
    click.option("--measure", default="Params", show_default=True, help="Of the cost: Params, FLOPs or Time."),
)
def scatter(out: Path, width: Any, no_caption: bool, cost: str, measure: str, **which: Any) -> None:
    """Quality against cost, a point per method."""

    def draw() -> list[Drawing]:
        from evalkit.leaderboards.plots.pages import pages
        from evalkit.leaderboards.plots.scatter import read_cost
        from evalkit.leaderboards.plots.scatter import scatter as scatter_plot
        from evalkit.leaderboards.plots.values import blocks

        quality = partial(scatter_plot, cost=read_cost(cost, measure), caption=not no_caption)
        return pages(lambda some, wide: quality(some, width=wide), blocks(**which), width)

    write(draw, out)


maps_argument = click.argument("maps", type=click.Path(path_type=Path))
truth_option = click.option("--truth", required=True, type=click.Path(path_type=Path), help="Folder of masks.")
title_option = click.option("--title", default="", help="Above the picture, e.g. the data set.")


def draw_curves(
    kind: Any, maps: Path, truth: Path, title: str, methods: Any, width: Any, no_caption: bool, out: Path
) -> None:
    def draw() -> list[Drawing]:
        from evalkit.commands.console import progress
        from evalkit.leaderboards.plots.curves import curves, read_maps

        measured, missing = read_maps(maps, truth, methods, progress)
        return [curves(kind, measured, missing, title, width or "column", not no_caption)]

    write(draw, out)


@plot.command()
@options(maps_argument, truth_option, title_option)
def pr(**which: Any) -> None:
    """Precision-recall curves of saliency maps: MAPS/<method>/<stem>.png, paired with the masks by name."""
    draw_curves("pr", **which)


@plot.command()
@options(maps_argument, truth_option, title_option)
def f(**which: Any) -> None:
    """F against the threshold, of saliency maps: MAPS/<method>/<stem>.png, paired with the masks by name."""
    draw_curves("f", **which)


@plot.command()
@options(
    click.argument("run", type=click.Path(path_type=Path)),
    click.option("--datasets", metavar="DATASET", help="The one to draw, where the run has several."),
    click.option("--scenes", callback=names, help="Stems of file names; the first two when not given."),
    click.option(
        "--box", "boxes", multiple=True, metavar="[SCENE:]X,Y,W,H",
        help="Red, then green, in pixels or fractions; where the methods differ most when not given; none for none.",
    ),
    data_root_option,
    click.option("--outputs", type=click.Path(path_type=Path), help="OUTPUTS/<method>/<dataset>/<stem>.png."),
    click.option("--per-line", type=click.IntRange(1, 20), help="Panels side by side."),
    click.option("--methods-down", is_flag=True, help="A row per method and a column per scene."),
)  # fmt: skip
def grid(
    run: Path,
    datasets: str | None,
    scenes: list[str] | None,
    boxes: tuple[str, ...],
    data_root: tuple[Path, ...] | None,
    outputs: Path | None,
    per_line: int | None,
    methods_down: bool,
    methods: list[str] | None,
    width: Any,
    no_caption: bool,
    out: Path,
) -> None:
    """Qualitative comparison: infrared, visible and fused images with enlarged zoom boxes."""

    def draw() -> list[Drawing]:
        from evalkit.leaderboards.plots.grid import grid as grid_plot
        from evalkit.leaderboards.plots.scenes import load_scenes

        grid_scenes, missing = load_scenes(run, datasets, methods, scenes, boxes, data_root, outputs)
        return [grid_plot(grid_scenes, missing, width or "page", not no_caption, per_line, methods_down)]

    write(draw, out)
