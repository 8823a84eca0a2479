"""`evalkit leaderboard`: write the leaderboards as a static site, check a record, make a submission."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click

from evalkit.commands.console import print_json, progress
from evalkit.commands.options import Commands, given, json_option, models_option, names
from evalkit.commands.program import kept
from evalkit.commands.wrap import say


class Count(click.ParamType):
    """A whole number of at least 0, or all (None)."""

    name = "all|N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        text = str(value).strip().casefold()
        if text == "all":
            return None
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            self.fail(f"{value!r} is neither a whole number nor 'all'", param, ctx)
        return int(text)


COUNT = Count()


@click.group(cls=Commands)
def leaderboard() -> None:
    """Write the leaderboards as a static site, check a record, or make a submission of a run."""


@leaderboard.command("build")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--records",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The --out folder of a run of your own, or submissions, shown beside the shipped records; may be given more "
    "than once.",
)
@click.option(
    "--badges",
    multiple=True,
    type=click.Path(path_type=Path),
    help="What `leaderboard verify --badge` wrote: these records were measured again. May be given more than once.",
)
@click.option("--plots/--no-plots", default=True, help="Draw what is measured.")
@click.option("--only-mine", is_flag=True, help="Show the runs of --records alone, without the shipped records.")
@json_option
def build_command(
    out: Path, records: tuple[Path, ...], badges: tuple[Path, ...], plots: bool, only_mine: bool, as_json: bool
) -> None:
    """Write the leaderboards to the folder OUT: open OUT/index.html, from the disk or from any web server."""
    from evalkit.leaderboards.site.build import build

    with kept(f"{out} may hold pages of both sites; the same command makes it whole."):
        pages = build(out, records, plots, only_mine, progress, badges)
    counts = [page.counts() for page in pages]
    summary = {
        "out": str(out),
        "protocols": len(pages),
        "printed": sum(c["printed"] for c in counts),
        "records": sum(len(page.entries) for page in pages),
        "measured": sum(c["measured"] for c in counts),
        "compared": sum(c["compared"] for c in counts),
        "equal": sum(c["equal"] for c in counts),
    }
    if as_json:
        print_json(summary)
        return
    say("{protocols} tables and figures, {printed} printed numbers, {records} records".format(**summary))
    say("{measured} measured numbers, {compared} compared, {equal} equal to the printed digits".format(**summary))
    say(f"Open {out / 'index.html'}")


@leaderboard.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--scores", type=click.Path(path_type=Path), help="Per-image scores; those of its run when not given.")
@click.option("--fused", type=click.Path(path_type=Path), help="Fused images: FUSED/<method>/<dataset>/<stem>.png.")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    multiple=True,
    callback=given,
    help="Folder with the data sets, to check the sources; may be given more than once.",
)
@click.option("--checkpoints", type=click.Path(path_type=Path), help="Folder with the weights, to check them.")
@click.option(
    "--remeasure",
    type=COUNT,
    default="3",
    show_default=True,
    metavar="all|N",
    help="How many images of each record are measured again, chosen by hash; they are fused again where need be.",
)
@models_option
@click.option("--badge", type=click.Path(path_type=Path), help="Write here which records were measured again and hold.")
@json_option
def verify_command(
    file: Path,
    scores: Path | None,
    fused: Path | None,
    data_root: tuple[Path, ...] | None,
    checkpoints: Path | None,
    remeasure: int | None,
    badge: Path | None,
    as_json: bool,
) -> None:
    """Check the record FILE, or every record of a run or a submission.

    That is: fields, hashes, completeness, means of the per-image scores; of a submission also its files and names.

    Where the images are at hand, some are measured again: without them nothing shows that the scores were measured.
    That takes --data-root and --fused; images that evalkit fused itself are fused again, with --checkpoints where a
    network made them.

    Exit codes: 0 all hold, 1 problems (a line each), 2 FILE is not a record.
    """
    from evalkit.leaderboards.submission import write_badge
    from evalkit.leaderboards.verify import verify

    verdicts = verify(file, scores, fused, data_root, checkpoints, remeasure, progress)
    if as_json:
        print_json(
            [
                {"record": str(v.path), "ok": v.ok, "problems": v.problems, "notes": v.notes, "checked": v.checked}
                for v in verdicts
            ]
        )
    else:
        for verdict in verdicts:
            for problem in verdict.problems:
                say(f"{verdict.path}: {problem}")
        for note, count in Counter(note for verdict in verdicts for note in verdict.notes).items():
            say(f"note on {count} of {len(verdicts)}: {note}")
        wrong = sum(not verdict.ok for verdict in verdicts)
        say(f"{len(verdicts)} checked ({', '.join(verdicts[0].checked)}), {wrong} with problems")
    if badge is not None:
        write_badge(badge, verdicts)
    sys.exit(0 if all(verdict.ok for verdict in verdicts) else 1)


@leaderboard.command("submit")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The submission's folder.")
@click.option("--by", required=True, metavar="NAME", help="Who submits, as the board shows it.")
@click.option("--methods", callback=names, help="The rows; all that the run measured when not given.")
@click.option(
    "--card",
    "cards",
    multiple=True,
    type=click.Path(path_type=Path),
    help="YAML file that describes a method that evalkit has no card of; may be given more than once.",
)
@json_option
def submit_command(
    run: Path, out: Path, by: str, methods: list[str] | None, cards: tuple[Path, ...], as_json: bool
) -> None:
    """Make a folder of RUN for a board: records, per-image scores, cards, environment, hashes; no images.

    `evalkit leaderboard verify` accepts it, and `evalkit leaderboard build --records` shows it as submitted.
    """
    from evalkit.leaderboards.submission import submit

    records = submit(run, out, by, methods or (), cards)
    rows = [{"method": record.method["name"], "dataset": record.dataset["name"]} for record in records]
    if as_json:
        print_json({"out": str(out), "protocol": records[0].protocol["name"], "rows": rows})
        return
    count = f"{len(rows)} row{'' if len(rows) == 1 else 's'}"
    say(f"{count} of {records[0].protocol['name']}, without images: {out}")
    say(f"Check it as a board will: evalkit leaderboard verify {out}")
