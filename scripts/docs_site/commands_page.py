"""reference/commands.md: every command and option, from click."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import click
from as_markdown import anchor, code, table, text

from evalkit.cli import main

HEAD = """\
# Commands

Every command with its arguments and options, as `evalkit COMMAND --help` prints them. All of them also take `--help`.
"""


def page() -> str:
    """The page as Markdown."""
    context = click.Context(main, info_name="evalkit")
    return "\n".join([HEAD, *_command(context)])


def commands(context: click.Context) -> Iterator[click.Context]:
    """A command and all below it, in alphabetical order."""
    yield context
    if isinstance(context.command, click.Group):
        for name, command in sorted(context.command.commands.items()):
            yield from commands(click.Context(command, info_name=name, parent=context))


def _command(root: click.Context) -> Iterator[str]:
    for context in commands(root):
        path = context.command_path
        level = "##" if context is root or context.parent is root else "###"
        yield f"{level} {path} {{ #{anchor(path)} }}\n"
        if context is not root:
            yield f"```\n{context.command.get_usage(context).removeprefix('Usage: ')}\n```\n"
        yield prose(context.command.help or "")
        options = [p for p in context.command.params if isinstance(p, click.Option) and not p.hidden]
        if options:
            yield table(["option", "meaning"], [_option(option, context) for option in options]) + "\n"


def _option(option: click.Option, context: click.Context) -> list[str]:
    names, meaning = option.get_help_record(context) or ("", "")
    return [" / ".join(code(name) for name in names.split(" / ")), text(meaning)]


def prose(help_text: str) -> str:
    """A help text as Markdown: paragraphs; what `\\b` keeps in lines is shown as lines."""
    parts = []
    for paragraph in cleandoc(help_text).split("\n\n") if help_text else []:
        if paragraph.startswith("\b\n"):
            parts.append(f"```\n{paragraph[2:]}\n```")
        else:
            parts.append(text(" ".join(paragraph.split("\n"))))
    return "\n\n".join(parts) + "\n"
