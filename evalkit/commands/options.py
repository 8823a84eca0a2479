"""Options and the kind of group that several commands share."""

from __future__ import annotations

import functools
import math
import os
import re
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from evalkit.commands.completion import complete
from evalkit.errors import EvalkitError, OutputError, PluginWarning, StateWarning, UnknownNameError
from evalkit.files.names import printable
from evalkit.registry import load_plugins, name_plugin, named_plugins

EXIT_CHECK, EXIT_USAGE, EXIT_INCOMPLETE, EXIT_INTERRUPTED = 1, 2, 3, 130


class FiniteRange(click.FloatRange):
    """A number in a range, which click takes NaN to be in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


checkpoints_option = click.option(
    "--checkpoints", type=click.Path(path_type=Path), help="Folder with the authors' weights (`evalkit list methods`)."
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Where networks run: auto, cpu, cuda, cuda:N. A GPU that is named here also measures (docs/tensors.md).",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "tf32", "bf16"]),
    default="float32",
    show_default=True,
    help="Of networks that fuse. Records name another than float32; their values stand beside no printed ones.",
)
channels_last_option = click.option(
    "--channels-last", is_flag=True, help="Networks fuse with the channels of a pixel together in memory; likewise."
)
images_option = click.option(
    "--images",
    metavar="LIST|common",
    help="Measure the images that all methods have (common), or those of a text file, a name a line; said everywhere.",
)
crop_option = click.option(
    "--crop",
    is_flag=False,
    flag_value="end",
    default="",
    type=click.Choice(["", "end", "centre"]),
    metavar="[end|centre]",
    help="Cut fused images that a network padded to the size of their sources: right and below, or on all sides.",
)
depth_option = click.option(
    "--depth",
    type=click.Choice(["8", "16", "stretch"]),
    help="What 16-bit files hold: 8 (levels 0..255), 16 (parts of 65535) or stretch (smallest to 0, largest to 255). "
    "Else 16; files that hold no more than 255 are refused.",
)
gray_option = click.option(
    "--gray",
    default="",
    type=click.Choice(["", "rounded", "opencv", "pil", "matlab", "truncated", "jpeg"], case_sensitive=False),
    metavar="[rounded|opencv|pil|matlab|truncated|jpeg]",
    help="How colour becomes gray where images are measured; as the convention has it when not given.",
)
image_name_option = click.option(
    "--name",
    "image_name",
    default="",
    help="What fused images are called: '{stem}_fused', or below OUTPUTS '{dataset}/{method}/{stem}'.",
)
models_option = click.option(
    "--models",
    type=click.Path(path_type=Path),
    expose_value=False,
    is_eager=True,
    callback=lambda _context, _option, folder: _name_models(folder),
    help="Folder with the model files of NIQE and BRISQUE [EVALKIT_MODELS]; see docs/noreference.md.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def given(context: click.Context, option: click.Parameter, folders: tuple[Path, ...]) -> tuple[Path, ...] | None:
    """The folders of a repeatable option; None where it is not given."""
    return tuple(folder.expanduser() for folder in folders) or None


data_root_option = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    multiple=True,
    callback=given,
    envvar="EVALKIT_DATA",
    help="Folder with the data sets [EVALKIT_DATA]; of several the first that has all pairs of a set is taken.",
)
with_published_option = click.option(
    "--with-published", is_flag=True, help="Set the printed rows that were not measured below the measured ones."
)


steps_option = click.option(
    "--steps",
    type=click.IntRange(1),
    metavar="N",
    help="Try the recipe: N steps of every stage as they stand, their time, memory and loss; nothing is kept.",
)
accumulate_option = click.option(
    "--accumulate",
    type=click.IntRange(1),
    default=1,
    metavar="K",
    help="Compute each batch in K parts, whose gradients add up, where it does not fit into the memory.",
)


def _plugin_option() -> click.Option:
    return click.Option(
        ["--plugin", "plugins"],
        multiple=True,
        is_eager=True,
        expose_value=False,
        callback=_name_plugins,
        metavar="FILE.py|MODULE",
        help="A plug-in that is not installed; can be given more than once [EVALKIT_PLUGINS].",
    )


def _name_models(folder: Path | None) -> None:
    if folder is not None:
        from evalkit.metrics.models import name_models

        name_models(folder)


workers_option = click.option("--workers", type=click.IntRange(1), help="Processes; one per processor when not given.")


timeout_option = click.option(
    "--timeout",
    type=FiniteRange(0, min_open=True),
    help="Seconds after which a few images count as hanging and go to another worker.",
)


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """--engine, --address and --scheduler-file; the command gets them together, as `engine`, for `open_engine`."""

    @click.option(
        "--engine",
        type=click.Choice(["local", "dask"]),
        default="local",
        show_default=True,
        help="Where the work is done: processes here, or a dask cluster (one on this machine when none is named).",
    )
    @click.option("--address", help="Of a dask scheduler, e.g. tcp://head:8786, or tls://head:8786 (docs/cluster.md).")
    @click.option(
        "--scheduler-file",
        type=click.Path(path_type=Path),
        help="Instead of --address: the file that `dask scheduler --scheduler-file` wrote.",
    )
    @functools.wraps(command)
    def collected(
        *arguments: Any, engine: str, address: str | None, scheduler_file: Path | None, **options: Any
    ) -> None:
        where = {"engine": engine, "address": address, "scheduler_file": scheduler_file}
        command(*arguments, engine=where, **options)

    return collected


def seen_by(engine: Mapping[str, Any], *paths: Path | None) -> list[Path | None]:
    """The paths, absolute where they go to the workers of a cluster, which run in folders of their own."""
    return [path.absolute() if path is not None and engine["engine"] != "local" else path for path in paths]


def shared_folder(engine: Mapping[str, Any], out: Path) -> list[Path]:
    """The folder for results, made where the workers of a cluster have to see it. Raises OutputError."""
    if engine["engine"] == "local":
        return []
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {out}: {error.strerror or error}. Choose another --out.") from None
    return [out]


def _name_plugins(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> None:
    """Named and loaded at once: what cannot be loaded ends the command, whatever it would have looked up."""
    for value in values:
        name_plugin(value)
    if named_plugins():
        warnings.showwarning = _say
        load_plugins()


def _say(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    if issubclass(category, PluginWarning | StateWarning):
        click.echo(f"Warning: {printable(str(message))}", err=True)
    else:
        _show_warning(message, category, *place, **more)


_show_warning = warnings.showwarning


_HOME = re.compile(r"^((?:--)?[\w-]+=|)~(?=/|$)")  # a shell leaves it as it is in --infrared=~/ir


def _check_empty(command: click.Command, args: list[str]) -> None:
    """What an unset variable of a shell gives is refused; pathlib would take it for the current folder.

    Raises:
        EvalkitError: an argument is empty, or an option whose own default is not.
    """
    options = {name: option for option in command.params for name in option.opts if isinstance(option, click.Option)}
    for before, text in pairwise(["", *args]):
        name, equals, value = text.partition("=")
        option = options.get(name if equals else before)
        if option is not None and option.is_flag:
            option = None
        if (value if equals and option else text) == "" and (option is None or option.default != ""):
            what = option.opts[0] if option else f"an argument of `evalkit {command.name}`"
            raise EvalkitError(
                f"{what} is empty. Give it a value, or leave it out (a shell variable that is not set is empty)."
            )


class Commands(click.Group):
    """A group that knows commands that were mistyped.

    It and each of its commands take `--plugin`, and complete names.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.params.append(_plugin_option())
        complete(self)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        if not isinstance(cmd, click.Group):
            cmd.params.append(_plugin_option())
            complete(cmd)
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        warnings.showwarning = _say
        return super().invoke(ctx)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            name, command, rest = super().resolve_command(ctx, args)
        except click.UsageError:
            raise UnknownNameError("command", args[0], self.commands) from None
        if command is not None and not isinstance(command, click.Group):
            _check_empty(command, rest)
            rest = [_HOME.sub(lambda match: match[1] + os.path.expanduser("~"), text) for text in rest]
        return name, command, rest


def names(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    """A comma-separated option as a list."""
    return None if value is None else [part.strip() for part in value.split(",") if part.strip()]
