"""Text, names and tables as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SPECIAL = re.compile(r"[\\*_\[\]#]")
ENTITIES = {"<": "&lt;", ">": "&gt;", "|": "&#124;"}


def text(words: object) -> str:
    """Plain text as Markdown that shows it; what stands between backticks stays code."""
    parts = str(words).split("`")
    if len(parts) % 2 == 0:  # a backtick without its other
        parts = ["'".join(parts)]
    return "`".join(_plain(part) if i % 2 == 0 else part for i, part in enumerate(parts))


def _plain(part: str) -> str:
    escaped = SPECIAL.sub(lambda match: f"\\{match[0]}", part)
    return "".join(ENTITIES.get(letter, letter) for letter in escaped)


def code(words: object) -> str:
    """Text as code."""
    return f"`{words}`" if str(words) else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells that are Markdown; each becomes one line."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(' '.join(cell.split()) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def anchor(*names: str) -> str:
    """What a heading is called in links; given to it explicitly, as names may hold any letters."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(names).lower()).strip("-")
