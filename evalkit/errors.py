"""The errors a user can cause. Each message says what is wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class EvalkitError(Exception):
    """A mistake in the input or the call; the command line prints it as one paragraph and exits with 2."""


class UnknownNameError(EvalkitError):
    """A name that is not registered; carries the nearest known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        near = nearest(name, known)
        text = f"unknown {kind} {name!r}."
        if near:
            text += f" Did you mean {' or '.join(repr(n) for n in near)}?"
        elif known:
            shown = nearest(name, known, cutoff=0.0)
            more = f" and {len(known) - len(shown)} more" if len(known) > len(shown) else ""
            text += f" Known: {', '.join(shown)}{more}."
        super().__init__(f"{text} {hint}".rstrip())
        self.name, self.near = name, near

    def __reduce__(self) -> tuple:
        # what travels between processes is the sentence, which is not made again
        return UnknownNameError.__new__, (UnknownNameError, *self.args), self.__dict__


class DataError(EvalkitError):
    """A data set, folder or image that is missing, damaged or not as its card says."""


class ImageError(DataError):
    """An image that cannot be read, or not be used as it is."""


class UnreadableError(DataError):
    """A file that could not be read now, or for which memory ran out: trouble that may pass, never a result."""


class UnreadableImageError(UnreadableError, ImageError):
    """An image that could not be read now, or for which memory ran out."""


class OtherBytesError(UnreadableError):
    """A file whose bytes are not those that were hashed when the work was planned."""


class CheckpointError(DataError):
    """A checkpoint that is missing, damaged, hostile, or of another network."""


class OutputError(EvalkitError):
    """A folder or file that cannot be written."""


class PluginError(EvalkitError):
    """A plug-in that cannot be loaded."""


class PluginWarning(UserWarning):
    """An installed plug-in that cannot be loaded: it is left out, the rest goes on."""


class StateWarning(UserWarning):
    """A state of a training that cannot be used: the one before it serves, or the training starts again."""


def in_any_case(name: str, known: Iterable[str]) -> str | None:
    """The known spelling of a name, whatever its case; of two that differ in case alone the last."""
    return {one.casefold(): one for one in known}.get(name.casefold())


def spelled(kind: str, name: str, known: Iterable[str], hint: str = "") -> str:
    """The known spelling of a name, whatever its case.

    Args:
        kind: what the name is of, in words, for the message: "metric".
        name: as the user wrote it.
        known: the names there are.
        hint: a sentence to end the message with.

    Raises:
        UnknownNameError: none of the known names is this one.
    """
    known = list(known)
    spelling = in_any_case(name, known)
    if spelling is None:
        raise UnknownNameError(kind, name, known, hint)
    return spelling


def nearest(name: str, known: Iterable[str], count: int = 3, cutoff: float = 0.6) -> list[str]:
    """The known names closest to `name`, the closest first, whatever their case; none where nothing is close.

    Args:
        name: as the user wrote it.
        known: the names there are.
        count: at most so many names, at least 1.
        cutoff: how alike they must be, 0 .. 1.
    """
    by_folded = {k.casefold(): k for k in known}
    return [by_folded[m] for m in difflib.get_close_matches(name.casefold(), by_folded, n=count, cutoff=cutoff)]


OUT_OF_MEMORY = re.compile(
    "out of memory|not enough memory|allocate memory|insufficient memory|alloc_failed|bad_alloc", re.I
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: PyTorch says so in the text of a RuntimeError, of a GPU and of a processor."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | EvalkitError) and OUT_OF_MEMORY.search(str(error)) is not None
    )
