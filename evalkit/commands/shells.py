"""How bash, zsh and fish ask for completions; imported only where they do."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

from evalkit.errors import EvalkitError


class _Quiet(ShellComplete):
    """Nothing but names comes out: no warnings, nothing that a plug-in prints, and where nothing is known, no error."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            try:
                return super().get_completions(args, incomplete)
            except (EvalkitError, OSError):
                return []


class Bash(_Quiet, BashComplete):
    """Names stand as they are, though SSIM[tang] is a pattern of file names; --metrics=EN comes as three words."""

    source_template = BashComplete.source_template.replace("COMPREPLY+=($value)", 'COMPREPLY+=("$value")')

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        return [word for word in args if word != "="], incomplete


class Zsh(_Quiet, ZshComplete):
    """As click has it."""


class Fish(_Quiet, FishComplete):
    """A list's commas belong to the name."""

    source_template = FishComplete.source_template.replace('split "," ', 'split --max 1 "," ')


def register() -> None:
    """Answer the shells in this way."""
    for answer in (Bash, Zsh, Fish):
        add_completion_class(answer)
