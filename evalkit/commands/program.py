"""How a command ends, whatever ends it: an exit code, one sentence, no traceback for what is not evalkit's fault."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

from evalkit.commands.options import EXIT_INTERRUPTED, EXIT_USAGE, Commands
from evalkit.commands.wrap import say, terminal_width, wrapped
from evalkit.errors import OUT_OF_MEMORY, EvalkitError, OutputError

# what tables are made of, for terminals without it; anything else is written out, as \u03c3
PLAIN = {"–": "-", "—": "-", "↑": "^", "↓": "v", "·": "|", "Δ": "d", "×": "x", "±": "+-", "²": "^2", "…": "..."}
MEANT = {"--ir": "--infrared", "--vi": "--visible", "--vis": "--visible"}  # as folders of data sets are called
COMPLETE = "_EVALKIT_COMPLETE"  # set by a shell that asks what could stand here


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, where it is known what is kept; the message says so."""


@contextmanager
def kept(sentence: str) -> Iterator[None]:
    """Say this where the command is interrupted inside: what is kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(sentence) from None


@contextmanager
def nothing_left() -> Iterator[None]:
    """Inside, SIGTERM ends the command as Ctrl-C does: temporary folders are removed."""

    def end(*_: object) -> None:
        raise Interrupted("It was ended from outside. Nothing of it is kept.")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Program(Commands):
    """The whole command line."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        call: Callable[..., Any] = super().main
        if COMPLETE in os.environ:
            from evalkit.commands.shells import register

            register()
        if not kwargs.pop("standalone_mode", True):
            return call(*args, standalone_mode=False, **kwargs)
        try:
            code = _run(lambda: call(*args, standalone_mode=False, **kwargs))
        except KeyboardInterrupt:  # while an error was told
            code = EXIT_INTERRUPTED
        sys.exit(code)


def _run(call: Callable[[], Any]) -> int:
    """The exit code of a command, once all of its output is written."""
    stdout = sys.stdout
    try:
        if _fill_closed() or stdout is None:
            raise OutputError("standard output is closed. Send it somewhere: > FILE, or > /dev/null.")
        sys.stdout = _Terminal.of(stdout)
        try:
            code = call()
        except SystemExit as error:
            code = error.code
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and error.ctx is not None:
            meant = MEANT.get(error.option_name)
            if any(meant in option.opts for option in error.ctx.command.params):
                text = f"No such option {error.option_name!r}. Did you mean {meant!r}?"
                error = click.NoSuchOption(error.option_name, text, ctx=error.ctx)
        with suppress(OSError):
            text = wrapped(f"Error: {error.format_message()}", terminal_width(err=True), 0).removeprefix("Error: ")
            setattr(error, "format_message", lambda: text)  # noqa: B010 - click's own text, in lines
            error.show()
        return EXIT_USAGE
    except (KeyboardInterrupt, click.Abort) as error:
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would cut this short
        cause = error.__cause__ if isinstance(error, click.Abort) else error  # click's name for Ctrl-C
        told = str(cause or "") or "Nothing is left half-written; the same command starts from the beginning."
        return _say(f"Interrupted. {told}", EXIT_INTERRUPTED)
    except EvalkitError as error:
        return _say(f"Error: {error}", EXIT_USAGE)
    except OSError as error:
        where = f" {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes | os.PathLike) else ""
        reason = error.strerror or str(error) or type(error).__name__
        return _say(f"Error: the system cannot read or write{where}: {reason}.", EXIT_USAGE)
    except Exception as error:
        if not (isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error))):
            raise
        cure = "Run it again with fewer --workers, or with nothing else beside it"
        return _say(f"Error: memory ran out. {cure}: what was done is kept.", EXIT_USAGE)
    finally:
        with suppress(OSError, EvalkitError, ValueError):
            if sys.stdout is not None:
                sys.stdout.flush()
        sys.stdout = stdout


def _say(text: str, code: int) -> int:
    with suppress(OSError):  # of an error stream that is full or closed, too
        say(text, 0, err=True)
    return code


def _fill_closed() -> bool:
    """Whether standard output is closed. What is closed is opened on nothing, else a file would take its number."""
    closed = False
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            closed |= number == 1
    return closed


def _written_out(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end


codecs.register_error("evalkit", _written_out)


class _Terminal(io.TextIOWrapper):
    """Standard output that shows what it can. Text is for people; what machines read is written as UTF-8 bytes."""

    shown = "utf-8"

    @classmethod
    def of(cls, stream: TextIO) -> TextIO:
        """A stream over the same file; a stream that has no file, as in tests, is itself."""
        try:
            number = stream.fileno()
        except (OSError, ValueError, AttributeError):
            return stream
        encoding = codecs.lookup(stream.encoding or "utf-8").name
        raw = io.BufferedWriter(_File(number, "w", closefd=False))
        # click takes an ASCII terminal for one that is set up wrongly, and would send UTF-8 there
        inside = "utf-8" if encoding == "ascii" else encoding
        made = cls(raw, encoding=inside, errors="evalkit", line_buffering=stream.isatty())
        made.shown = encoding
        return made

    def write(self, text: str, /) -> int:
        return super().write(text.encode(self.shown, "evalkit").decode(self.shown))


class _File(io.FileIO):
    """Where the output goes. A reader that has enough, such as `head`, is not an error: the command goes on quietly."""

    lost = False

    def write(self, data: Any, /) -> int:
        if not self.lost:
            try:
                return super().write(data)
            except BrokenPipeError:
                self.lost = True
            except OSError as error:
                self.lost = True
                raise OutputError(f"standard output cannot be written: {error.strerror}. Send it elsewhere.") from None
        return len(data)
