"""`evalkit audit`: what arithmetic can tell about published tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evalkit.commands.console import print_json
from evalkit.commands.options import json_option
from evalkit.commands.wrap import say
from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from evalkit.leaderboards.audit.report import Report

INTRO = """What arithmetic can tell about the published tables, written by

    {command}

Each line comes from a check that runs on any table, a reader's own too (`evalkit audit --table my.csv`); the checks are
in `evalkit/leaderboards/audit/`. A printed number stands for every number that rounds to it, or that gives it when its
digits are cut off; of two numbers with as many decimals the one that is printed greater is greater. **certain**: no
such numbers give what is printed, whichever way the sentence is read. **likely**, **possible**: there is another
explanation or another reading, and the last column names it. A row that repeats another in every cell is certain where
less than a thousandth of such a pair is expected by chance.

A sentence that something is best "overall" is certainly false only where one rival is better in every block, which no
way of putting the blocks together can turn round. It is likely false where mean and mean rank over the blocks both have
another first, and possibly false where one of them has. A sentence that names no data set may also mean every block, or
a single one: the line says in which readings it fails and in which it holds. A finding says that numbers and sentences
do not fit together, not how they came about."""


@click.command()
@click.argument("protocol", required=False)
@click.option("--all", "everything", is_flag=True, help="Every protocol, and what their tables say of each other.")
@click.option(
    "--table", type=click.Path(path_type=Path), help="Your own: CSV (long or wide), TSV, ;, Markdown or LaTeX."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write FILE.md, FILE.html or FILE.json instead.")
@click.option("--sure", type=click.Choice(["certain", "likely", "possible"]), default="possible", show_default=True)
@click.option("--strict", is_flag=True, help="Exit code 1 where a finding is certain.")
@json_option
def audit(
    protocol: str | None, everything: bool, table: Path | None, out: Path | None, sure: str, strict: bool, as_json: bool
) -> None:
    """Check a published table by arithmetic: means, repeated rows, PSNR, ranges, marks, statements, other tables.

    \b
      evalkit audit smfnet-table3
      evalkit audit runs/mine                    the values that a run measured
      evalkit audit --table my.csv --strict
      evalkit audit --all --out docs/audit.md

    A table has a line per method, with the metrics as headings, or a line per number: method, metric, printed, and,
    where there are such, dataset, variant (a network), class ("mean" for an aggregate over classes), mark (best,
    second) and note. What is not understood is said. Findings are not a failure: the
    exit code is 0, with --strict 1 where one is certain. --sure leaves out what is less sure.
    """
    if (protocol is not None) + everything + (table is not None) != 1:
        raise click.UsageError("name one PROTOCOL, or --all, or --table FILE. `evalkit list protocols` shows all.")
    from evalkit.leaderboards.audit import audit as run
    from evalkit.leaderboards.audit import is_table, read_own_table

    if protocol is not None and is_table(Path(protocol)):
        table, protocol = Path(protocol), None
    read = read_own_table(table) if table is not None else None
    for note in read.notes if read is not None else []:
        say(f"{table}: {note}.", err=True)
    report = run(None if everything else read.rows if read is not None else protocol).at_least(sure)
    if out is not None:
        _write(report, out, everything, protocol, table)
    elif as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    sys.exit(1 if strict and report.certain else 0)


def _print(report: Report) -> None:
    from evalkit.leaderboards.audit.report import cells

    for heading, findings in report.sections():
        say(heading)
        for finding in findings:
            sure, check, where, printed, recomputed, explanation = cells(finding)
            say(f"{sure:8}  {check} · {where}", hang=10)
            values = " → ".join(filter(None, [printed and f"printed {printed}", recomputed]))
            for text in filter(None, [values, explanation]):
                say(f"{'':10}{text}", hang=0)
        say("" if findings else "Nothing found.\n")
    say(f"{report.summary()}.")


def _write(report: Report, out: Path, everything: bool, protocol: str | None, table: Path | None) -> None:
    import json

    from evalkit.files.write import write_text
    from evalkit.leaderboards.audit.report import to_html, to_markdown

    suffix = out.suffix.casefold()
    subject = "--all" if everything else protocol or f"--table {table}"
    if suffix == ".md":
        text = to_markdown(report, intro=INTRO.format(command=f"evalkit audit {subject} --out {out}"))
    elif suffix in (".html", ".htm"):
        text = to_html(report)
    elif suffix == ".json":
        text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        raise EvalkitError(f"--out {out}: expected a name that ends in .md, .html or .json.")
    write_text(out, text)
    say(f"{report.summary()}. Written to {out}")
