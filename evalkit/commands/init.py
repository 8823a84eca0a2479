"""`evalkit init`: a benchmark file from folders."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.commands.console import print_json
from evalkit.commands.options import EXIT_INCOMPLETE, checkpoints_option, json_option, names
from evalkit.files.names import printable

NAMED = 8  # images that one line names; --json has all

if TYPE_CHECKING:
    from evalkit.protocols.draft import Draft


@click.command()
@click.argument("file", metavar="BENCH.yaml", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(path_type=Path), envvar="EVALKIT_DATA", help="Folder with the data sets [EVALKIT_DATA]."
)
@click.option(
    "--outputs", type=click.Path(path_type=Path), help="Folder with fused images, in whatever layout they have."
)
@checkpoints_option
@click.option("--convention", default="smfnet", show_default=True, help="Of metrics that name none.")
@click.option("--metrics", callback=names, help="e.g. EN,VIF,SSIM[tang]; eight usual ones when not given.")
@click.option("--force", is_flag=True, help="Replace the file where it is there already.")
@json_option
def init(
    file: Path,
    data: Path | None,
    outputs: Path | None,
    checkpoints: Path | None,
    convention: str,
    metrics: list[str] | None,
    force: bool,
    as_json: bool,
) -> None:
    """Look at folders and write a benchmark file for `evalkit reproduce`: data sets, methods, how images are called.

    Images are told by the names of files and folders, never by their order. Where two readings fit, both are shown and
    stand in the file as comments. Exit code 3 where something was left open.
    """
    from evalkit.errors import DataError, OutputError
    from evalkit.files.write import write_text
    from evalkit.protocols.draft import draft_benchmark

    if data is None:
        raise DataError("no folder of data sets is named. Give --data DIR (or set EVALKIT_DATA).")
    if os.path.lexists(file) and (not force or not file.is_file()):
        cure = "Choose another name." if not file.is_file() else "Choose another name, or give --force to replace it."
        raise OutputError(f"{file} is there already. {cure}")
    draft = draft_benchmark(file, data, outputs, checkpoints, convention, metrics)
    write_text(file, draft.text)
    if as_json:
        print_json(_fields(draft, file))
    else:
        _show(draft, file)
    sys.exit(EXIT_INCOMPLETE if draft.open else 0)


def _show(draft: Draft, file: Path) -> None:
    """What was understood, as a reader sees it; then what was not."""
    lines = [f"{_count(draft.measured, 'data set')} in DATA"]
    for one in draft.measured:
        files = " with ".join(one.example if one.card else (one.infrared, one.visible))
        place = f" in {one.root}" if one.root not in ("", ".") else ""
        lines.append(f"  {one.name}: {_count(one.stems, 'pair')}, {files}{place}")
        if one.alone:
            lines.append(f"  – {one.name}: {_some(one.alone)}: one of the two images is missing")
    for one, why in draft.unmeasured:
        lines.append(f"  {one.name}: {_count(one.stems, 'pair')}, {why}: a comment in the file")
    if draft.layouts is not None:
        taken, missing = draft.layouts.taken, _missing(draft)
        lines.append(f"{_count(draft.layouts.methods, 'method')} in OUTPUTS")
        for method in draft.layouts.methods:
            rows = {one.dataset: one for (name, _), one in taken.items() if name == method}
            sizes = {one.name: len(one.stems) for one in draft.discovery.taken}
            counts = [f"{name} {len(one.files)} of {sizes.get(name, '?')}" for name, one in rows.items()]
            lines.append(f"  {method}: {', '.join(counts)}; {' and '.join({one.pattern: 0 for one in rows.values()})}")
            for dataset in rows:
                if some := missing.get((method, dataset)):
                    lines.append(f"  – {method}, {dataset}: no image of {_some(some)}")
        for folder, count in draft.layouts.sources.items():
            lines.append(f"  {folder}: {count} images are called as infrared or visible ones: passed over")
        if draft.layouts.others:
            lines.append(f"  {draft.layouts.others} files there are no images: passed over")
    if draft.weights:
        lines.append(f"weights of {', '.join(draft.weights)}: comments in the file")
    lines += [f"? {sentence}" for sentence in draft.open]
    for line in lines:
        click.echo(printable(line))
    click.echo(printable(f"{file} is written. Next: evalkit reproduce {shlex.quote(str(file))}"))


def _count(things: Collection[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _missing(draft: Draft) -> dict[tuple[str, str], list[str]]:
    """(method, data set) -> stems without an image, where there are others."""
    from evalkit.data.pairs import natural_key

    if draft.layouts is None:
        return {}
    stems = {one.name: one.stems for one in draft.measured}
    lacking = {row: stems.get(row[1], frozenset()) - one.files.keys() for row, one in draft.layouts.taken.items()}
    return {row: sorted(some, key=natural_key) for row, some in lacking.items() if some}


def _some(stems: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(stems) - NAMED} more" if len(stems) > NAMED else ""
    return f"{', '.join(stems[:NAMED])}{more}"


def _fields(draft: Draft, file: Path) -> dict[str, Any]:
    layouts, missing = draft.layouts, _missing(draft)
    return {
        "file": str(file),
        "datasets": {
            one.name: {
                "pairs": len(one.stems),
                "card": one.card is not None,
                "split": one.split,
                "root": one.root,
                "infrared": one.infrared,
                "visible": one.visible,
                "example": one.example,
                "unpaired": one.alone,
            }
            for one in draft.measured
        },
        "not_measured": {one.name: why for one, why in draft.unmeasured},
        "methods": [
            {
                "method": method,
                "dataset": dataset,
                "pattern": one.pattern,
                "images": len(one.files),
                "missing": missing.get((method, dataset), []),
            }
            for (method, dataset), one in (layouts.taken.items() if layouts else ())
        ],
        "weights": draft.weights,
        "undecided": [
            *(
                {"text": some.text, "patterns": [[one.infrared, one.visible] for one in some.readings]}
                for some in draft.discovery.unclear
            ),
            *(
                {"text": some.text, "patterns": [one.pattern for one in some.readings]}
                for some in (layouts.undecided if layouts else ())
            ),
        ],
        "not_understood": {
            "data": dict(draft.discovery.left),
            "outputs": {folder: some for folder, (some, _) in layouts.left.items()} if layouts else {},
        },
        "open": draft.open,
    }
