"""Prose at the terminal's width: lines end between words, never in one."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata

import click

from evalkit.files.names import printable

NARROWEST = 20  # columns: a terminal that says less does not know


def terminal_width(err: bool = False) -> int | None:
    """Columns of the terminal that output goes to, or as the variable COLUMNS says; None where it goes to a file.

    Args:
        err: of standard error.
    """
    stream = sys.stderr if err else sys.stdout
    stated = os.environ.get("COLUMNS", "")
    if not (stated.isascii() and stated.isdecimal()) and not (stream is not None and stream.isatty()):
        return None
    return max(shutil.get_terminal_size().columns, NARROWEST)


def display_width(text: str) -> int:
    """Columns that a line takes in a terminal: two for a Chinese character, none for an accent of its own."""
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def wrapped(text: str, width: int | None, hang: int = 2) -> str:
    """The text with lines that are too long put in several, each at its own indent and `hang` more; words stay whole.

    Args:
        text: lines of it stay lines.
        width: of a line at most, unless it is one word; None for no limit.
        hang: columns by which the further lines of a line are indented more than the first.
    """
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        if display_width(line) <= width:
            lines.append(line)
            continue
        indent = " " * (len(line) - len(line.lstrip(" ")))
        current = ""
        for word in line[len(indent) :].split(" "):
            longer = f"{current} {word}" if current else indent + word
            if current.strip() and display_width(longer) > width:
                lines.append(current)
                longer = f"{indent}{' ' * hang}{word}"
            current = longer
        lines.append(current)
    return "\n".join(lines)


def say(text: str, hang: int = 2, err: bool = False) -> None:
    """Print prose, wrapped at the terminal's width.

    Args:
        text: what is said; the terminal cannot be moved by it.
        hang: columns by which the further lines of a long line are indented more than its first.
        err: on standard error.
    """
    click.echo(wrapped(printable(text), terminal_width(err), hang), err=err)
