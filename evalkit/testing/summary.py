"""What a check of golden values gave, in Markdown: for the summary of a job, or a comment on a pull request."""

from __future__ import annotations

import shlex
from pathlib import Path

from evalkit.files.names import code_span
from evalkit.metrics.registry import card, definitions
from evalkit.provenance import version
from evalkit.testing.golden import Checked, Golden, Moved, relative_change

SHOWN = 50  # values that moved; summaries of jobs are cut at a megabyte, comments at 65536 characters
LEAST = 1e-12  # a relative change that is shown
MISSING = "–"


def summary(checked: Checked, file: Path, folders: tuple[Path, Path, Path]) -> str:
    """A line per metric, and the values that moved.

    Args:
        checked: what `check_golden` gave.
        file: the golden file.
        folders: of the fused, the infrared and the visible images.
    """
    count, moved = len(checked.golden), checked.moved
    new = sum(not one.golden.metric for one in moved)
    title = f"{len(moved) - new} of {count} values moved" if moved else f"none of {count} values moved"
    title += f", {new} fused images are new" if new else ""
    lines = [
        f"### {'✗' if moved else '✓'} evalkit: {title}",
        "",
        "| metric | values | moved | mean was | mean is | largest change | allowed |",
        "|:--|--:|--:|--:|--:|--:|--:|",
        *(_metric_line(name, checked) for name in dict.fromkeys(one.metric for one in checked.golden)),
        "",
    ]
    if moved:
        lines += [
            "<details open><summary>Values that moved</summary>",
            "",
            "| image | metric | was | is | change | allowed | |",
            "|:--|:--|--:|--:|--:|--:|:--|",
            *map(_moved_line, moved[:SHOWN]),
            "",
            *([f"... and {len(moved) - SHOWN} more", ""] if len(moved) > SHOWN else []),
            "</details>",
            "",
            f"If that is meant, commit what this writes: {code_span(_update(file, folders))}",
            "",
        ]
    lines.append(_foot(file))
    return "\n".join(lines) + "\n"


def trouble(error: Exception, file: Path) -> str:
    """Why nothing was checked."""
    lines = ["### ✗ evalkit: nothing was checked", "", code_span(str(error)), "", _foot(file)]
    return "\n".join(lines) + "\n"


def _metric_line(name: str, checked: Checked) -> str:
    golden = [one for one in checked.golden if one.metric == name]
    both = [
        (one.value, now) for one in golden if (now := checked.now.get(_key(one))) is not None and one.value is not None
    ]
    change = max((relative_change(was, now) for was, now in both), default=None)
    means = [sum(values) / len(both) for values in zip(*both, strict=True)] if both else [None, None]
    (definition,) = definitions([name], "textbook").values()
    moved = sum(one.golden.metric == name for one in checked.moved)
    cells = [
        str(len(golden)),
        str(moved),
        *map(_number, means),
        _part(change),
        f"{min(one.tolerance for one in golden):g}",
    ]
    return f"| {code_span(name)} {card(definition.metric).arrow} | {' | '.join(cells)} |"


def _moved_line(one: Moved) -> str:
    was, now = one.golden.value, one.now
    if not one.golden.metric:
        return f"| {code_span(one.golden.image)} | | | | | | {one.reason} |"
    change = None if was is None or now is None else relative_change(was, now)
    cells = [code_span(one.golden.metric), _number(was), _number(now), _part(change), f"{one.golden.tolerance:g}"]
    reason = code_span(one.reason) if one.reason else ""
    return f"| {code_span(one.golden.image)} | {' | '.join(cells)} | {reason} |"


def _key(one: Golden) -> tuple[str, str]:
    return one.image, one.metric


def _foot(file: Path) -> str:
    return f"{code_span(str(file))} · evalkit {version()}"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.7g}"


def _part(value: float | None) -> str:
    """A relative change; the last digits, in which processors differ, are not shown."""
    return MISSING if value is None else f"{value:.1e}" if value >= LEAST else f"< {LEAST:.0e}"


def _update(file: Path, folders: tuple[Path, Path, Path]) -> str:
    fused, infrared, visible = map(str, folders)
    options = ["--fused", fused, "--infrared", infrared, "--visible", visible, "--update"]
    return shlex.join(["evalkit", "check", *options, "--", str(file)])
