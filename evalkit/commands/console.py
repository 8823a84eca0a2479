"""What a reader sees in a terminal: tables, JSON, progress bars. What is heavy is imported inside the functions."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from evalkit.commands.wrap import display_width, say, terminal_width, wrapped
from evalkit.files.names import printable

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.leaderboards.shown import TextTable
    from evalkit.training.trial import StageTrial

NAMED = 25  # images that one line names; the table and --json have all


def print_conventions(frame: pd.DataFrame, columns: dict) -> None:
    """Means over the images: a row per metric, a column per convention."""
    from evalkit.metrics.folders import mean_scores
    from evalkit.metrics.registry import card

    means = {(d.metric, d.convention): mean_scores(frame)[column] for column, d in columns.items()}
    conventions = list(dict.fromkeys(convention for _, convention in means))
    rows = []
    for metric in dict.fromkeys(metric for metric, _ in means):
        values = [means.get((metric, convention), "") for convention in conventions]
        shown = [v if isinstance(v, str) else "–" if v is None else f"{v:.4f}" for v in values]
        rows.append([f"{metric} {card(metric).arrow}", *shown])
    print_rows(["metric", *conventions], rows, f"{_images(len(frame))} · mean in every convention")
    print_missing(frame)


def print_scores(frame: pd.DataFrame, columns: dict, convention: str) -> None:
    """A row per image, the mean where every image has a value, and the missing values with their reasons."""
    from evalkit.metrics.folders import mean_scores
    from evalkit.metrics.registry import card

    heads = [f"{name} {card(definition.metric).arrow}" for name, definition in columns.items()]
    rows = [
        [str(i), *("–" if v != v else f"{v:.4f}" for v in row)]
        for i, row in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    mean = mean_scores(frame)
    rows.append(["mean", *("–" if v is None else f"{v:.4f}" for v in mean.values())])
    print_rows(["image", *heads], rows, f"{_images(len(frame))} · convention {convention}", footer=True)
    print_missing(frame)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def print_missing(frame: pd.DataFrame) -> None:
    """The missing values of a frame of scores: a line per reason and metrics, with the images; and the hint."""
    metrics: dict[tuple[str, str], list[str]] = {}
    for (image, column), reason in frame.attrs["missing"].items():
        metrics.setdefault((image, reason), []).append(column)
    images: dict[tuple[str, str], list[str]] = {}
    for (image, reason), which in metrics.items():
        columns = "all metrics" if len(which) == len(frame.columns) else ", ".join(which)
        images.setdefault((columns, reason), []).append(str(image))
    for (columns, reason), which in images.items():
        named = ", ".join(which[:NAMED]) + (f" and {len(which) - NAMED} more" if len(which) > NAMED else "")
        say(f"– {named}, {columns}: {reason}")
    for note, which in frame.attrs.get("notes", {}).items():
        named = ", ".join(which[:NAMED]) + (f" and {len(which) - NAMED} more" if len(which) > NAMED else "")
        say(f"! {named}: {note}")
    if frame.attrs.get("hint"):
        say(f"Hint: {frame.attrs['hint']}")


def print_table(table: Any) -> None:
    """The table as a reader sees it in a terminal: measured, and how it stands to the published value."""
    from evalkit.protocols.table.text import heading, missing_once, number

    stands = {
        "equal": "= published",
        "unpublished": "",
        "missing": "",
        "other data": "(other data)",
        "published": "",
        "derived": "",
    }
    for dataset in table.datasets:
        rows, columns = [], table.columns_of(dataset)
        for method in table.methods(dataset):
            cells = [table.cell(dataset, method, column.name) for column in columns]
            if all(cell.value is None and cell.status != "published" for cell in cells):
                continue
            row = [method]
            for cell in cells:
                beside = stands.get(cell.status) if cell.status in stands else f"Δ{cell.difference:+.4f}"
                row.append("\n".join(filter(None, [number(cell), beside])))
            rows.append(row)
        heads = ["method", *(column.head for column in columns)]
        title = f"{heading(table, dataset)} · convention {table.convention}"
        if rows:
            print_rows(heads, rows, title)
        else:
            say(title if dataset == table.datasets[0] else f"\n{title}")
    for line in missing_once(table):
        say(f"– {line}")
    partly = re.compile(r"no value for (\d+) of (?!\1 )\d+ images")  # not of those that no image has
    if any(partly.match(cell.reason) for cell in table.cells if cell.status == "missing"):
        say(
            "No mean is taken over a part of the images. To leave images out, of all methods alike: --images common "
            "(what all of them have), or --images LIST (a text file, a name a line)."
        )


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


def print_json(value: Any) -> None:
    """Strict JSON: no NaN."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str)
    click.echo(text.encode(errors="surrogateescape"))  # JSON is UTF-8, whatever the terminal


def print_rows(heads: list[str], rows: list[list[str]], title: str | None = None, footer: bool = False) -> None:
    """A table on standard output, as wide as it needs to be. Where a terminal is narrower, texts are put in lines, of
    whole words; where that is not enough, columns that do not fit follow below, with the first column once more.

    Args:
        heads: of the columns.
        rows: cells; a cell may have several lines.
        title: above the table.
        footer: the last row is one.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    numeric = [i > 0 and bool(rows) and all(row[i][:1] in "0123456789+-–" for row in rows) for i in range(len(heads))]
    lines = [
        [part for cell in (head, *(r[i] for r in rows)) for part in cell.split("\n")] for i, head in enumerate(heads)
    ]
    full = [max(map(display_width, column)) for column in lines]
    words = [max(display_width(word) for part in column for word in part.split(" ")) for column in lines]
    width = terminal_width() or sum(full) + 2 * len(full)
    room = max(width - full[0] - 2, 8)  # a longer word, as addresses are, makes its own line longer and no other
    least = [full[i] if numeric[i] or i == 0 else min(words[i], room) for i in range(len(heads))]
    if title:
        click.echo(click.style(wrapped(printable(title), terminal_width()), bold=True))
    for number, block in enumerate(_blocks(least, width)):
        if number:
            click.echo()
        widths = _widths([full[i] for i in block], [least[i] for i in block], width)
        _print_block([heads, *rows], block, widths, numeric, footer)


def _blocks(least: list[int], width: int) -> list[list[int]]:
    """Columns that fit side by side, the first one before each block of others."""
    blocks = [[0]]
    for i in range(1, len(least)):
        if len(blocks[-1]) > 1 and sum(least[j] + 2 for j in blocks[-1]) + least[i] > width:
            blocks.append([0])
        blocks[-1].append(i)
    return blocks


def _widths(full: list[int], least: list[int], width: int) -> list[int]:
    """Columns as wide as they would be, the widest of those that can be put in lines narrower until all fit."""
    widths = list(full)
    while sum(widths) + 2 * (len(widths) - 1) > width:
        excess = [w - minimum for w, minimum in zip(widths, least, strict=True)]
        loose = [i for i, more in enumerate(excess) if more > 0]
        if not loose:
            break
        widths[max(loose, key=lambda i: (widths[i], -i))] -= 1
    return widths


def _print_block(rows: list[list[str]], block: list[int], widths: list[int], numeric: list[bool], footer: bool) -> None:
    for number, row in enumerate(rows):
        last = footer and number == len(rows) - 1
        cells = [wrapped(row[i], width, 0).split("\n") for i, width in zip(block, widths, strict=True)]
        for k in range(max(map(len, cells))):
            line = []
            for i, cell, width in zip(block, cells, widths, strict=True):
                text = cell[k] if k < len(cell) else ""
                space = " " * (width - display_width(text))
                line.append(space + text if numeric[i] else text + space)
            shown = "  ".join(line).rstrip()
            click.echo(click.style(shown, bold=True) if number == 0 or last else shown)


def print_trials(trials: list[StageTrial], as_json: bool) -> None:
    """What `--steps` measured: a row per stage, then the terms of the losses, then what was not as in a training."""
    from evalkit.training.trial import NOTHING_KEPT, json_of, rows_of, terms_of

    if as_json:
        print_json({"trial": NOTHING_KEPT, "stages": json_of(trials)})
        return
    print_rows(*rows_of(trials))
    click.echo()
    for trial in trials:
        terms = ", ".join(f"{name} {first:.4g} to {last:.4g}" for name, (first, last) in terms_of(trial).items())
        say(f"{trial.network}, {trial.stage}: {terms}", 2)
    for note in dict.fromkeys(note for trial in trials for note in trial.notes):
        say(f"– {note}", 2)
    say(NOTHING_KEPT, 0)


def print_texts(tables: Iterable[TextTable]) -> None:
    """Tables of texts with their notes below them."""
    for table in tables:
        if table.rows:
            print_rows(table.heads, table.rows, table.title)
        else:
            say(table.title, 0)
        for note in table.notes:
            say(f"– {note}")
        click.echo()


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
        if self.total and sys.stderr is not None and sys.stderr.isatty():
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


def indented(value: Any, depth: int = 1) -> str:
    pad = "\n" + "  " * depth
    if isinstance(value, dict):
        return "".join(f"{pad}{k}: {indented(v, depth + 1)}" for k, v in value.items() if v not in (None, "", [], {}))
    if isinstance(value, list) and any(isinstance(v, str) and " " in v and len(v) > 40 for v in value):  # sentences
        return "".join(f"{pad}- {v}" for v in value)
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return "".join(
            f"{pad}- {', '.join(f'{k}: {flat(x)}' for k, x in v.items() if x not in (None, '', [], {}))}" for v in value
        )
    return flat(value)


def flat(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {flat(v)}" for k, v in value.items() if v not in (None, "", [], {})) + "}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
