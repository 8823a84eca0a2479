"""What Tab completes: the names that the parameters of the commands take, those of plug-ins and of own files included.

A parameter is completed by its name, so that a new command's `--methods` or PROTOCOL is completed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.errors import EvalkitError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from evalkit.protocols.schema import Protocol
    from evalkit.protocols.table.table import Table

Typed = Mapping[str, Any]  # parameter -> its value, of those that stand before the cursor
Titles = dict[str, str]  # name -> what zsh and fish say of it


class NameType(click.types.StringParamType):
    """A text whose names the shell completes, whatever their case.

    Args:
        names: gives them, from what is typed already.
        several: whether a comma-separated list is typed.
        files: whether it may be a file or folder instead.
    """

    def __init__(self, names: Callable[[Typed], Titles], several: bool = False, files: bool = False) -> None:
        self.names, self.several, self.files = names, several, files

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # not for a command that runs

        before, comma, start = incomplete.rpartition(",") if self.several else ("", "", incomplete)
        listed = {part.strip().casefold() for part in before.split(",")}
        names = {
            name: title
            for name, title in self.names(_typed(ctx)).items()
            if name.casefold().startswith(start.casefold()) and name.casefold() not in listed
        }
        short = [name for name in names if "[" not in name]
        shown = short if "[" not in start and len(short) > 1 else names  # SSIM[tang] once it can only be an SSIM
        items = [CompletionItem(f"{before}{comma}{name}", help=names[name] or None) for name in shown]
        # first, as bash then offers files only where no name begins like this
        return [CompletionItem(incomplete, type="file"), *items] if self.files else items


def complete(command: click.Command) -> None:
    """Have the shell complete the names that a command's parameters take."""
    for param in command.params:
        if type(param.type) is click.types.StringParamType:
            for key in (f"{command.name} {param.name}", param.name):
                if key in PARAMETERS:
                    param.type = PARAMETERS[key]
                    break


def _typed(ctx: click.Context) -> Typed:
    """What is typed already. Where an option lacks its value, as it does here, click sets no argument."""
    typed, words = dict(ctx.params), iter(ctx.args)
    for param in ctx.command.params:
        if isinstance(param, click.Argument) and param.name and not typed.get(param.name):
            typed[param.name] = list(words) if param.nargs == -1 else next(words, None)
    return typed


def _protocols_in(typed: Typed) -> list[Protocol]:
    from evalkit.protocols.schema import protocol

    published = typed.get("published")
    names = [typed.get("protocol"), published if isinstance(published, str) else None]
    names += typed.get("sources") or () if published is True else ()
    protocols = []
    for name in filter(None, names):
        with suppress(EvalkitError):
            protocols.append(protocol(name))
    return protocols


def _tables_in(typed: Typed) -> list[Table]:
    from evalkit.protocols.table.table import read_table

    folders = [typed.get("run"), *(typed.get("runs") or ())]
    folders += typed.get("sources") or () if typed.get("published") is not True else ()
    tables = []
    for folder in filter(None, folders):
        with suppress(EvalkitError, OSError):
            tables.append(read_table(folder))
    return tables


def _untitled(names: Iterable[str]) -> Titles:
    return dict.fromkeys(names, "")


def protocols(_: Typed) -> Titles:
    from evalkit.protocols.schema import PROTOCOLS

    return {name: protocol.title for name, protocol in PROTOCOLS.items()}


def published(typed: Typed) -> Titles:
    """Protocols, where SOURCES are such."""
    return protocols(typed) if typed.get("published") else {}


def costs(typed: Typed) -> Titles:
    from evalkit.protocols.schema import PROTOCOLS

    return {"cards": "of the methods"} | {name: p.title for name, p in PROTOCOLS.items() if p.task == "cost"}


def run_methods(typed: Typed) -> Titles:
    """The rows of the runs that are named."""
    return _untitled(cell.method for table in _tables_in(typed) for cell in table.cells)


def methods(typed: Typed) -> Titles:
    """The rows of the runs or protocols that are named and folders of fused images; else every method."""
    from evalkit.methods.registry import METHODS

    rows = run_methods(typed) | _untitled(name for protocol in _protocols_in(typed) for name in protocol.methods)
    folders: list[str] = []
    if outputs := typed.get("outputs"):
        with suppress(OSError):
            folders = sorted(path.name for path in Path(outputs).iterdir() if path.is_dir() and path.name[0] != ".")
    if rows and "outputs" not in typed:  # what is there already, not what could be made
        return rows
    return _untitled(folders) | rows | {name: method.card.title for name, method in METHODS.items()}


def running_methods(_: Typed) -> Titles:
    from evalkit.methods.registry import METHODS

    return {name: method.card.title for name, method in METHODS.items() if method.runs}


def trainable_methods(_: Typed) -> Titles:
    from evalkit.methods.registry import METHODS
    from evalkit.training.find_recipe import trainable

    return {name: METHODS[name].card.title if name in METHODS else "" for name in trainable()}


def datasets(typed: Typed) -> Titles:
    from evalkit.data.card import DATASETS

    there = {cell.dataset for table in _tables_in(typed) for cell in table.cells}
    asked = [name for protocol in _protocols_in(typed) for name in protocol.datasets]
    named = [*sorted(there, key=str.casefold), *asked]
    return {name: DATASETS[name].title if name in DATASETS else "" for name in named or DATASETS}


def splits(typed: Typed) -> Titles:
    from evalkit.data.card import DATASETS

    with suppress(EvalkitError):
        return _untitled(split.name for split in DATASETS.find(typed.get("dataset") or "").splits)
    return {}


def conventions(_: Typed) -> Titles:
    from evalkit.metrics.card import CONVENTIONS

    return {name: convention.title for name, convention in CONVENTIONS.items()}


def one_or_all_conventions(typed: Typed) -> Titles:
    return conventions(typed) | {"all": "each of them"}


def full_metrics(_: Typed) -> Titles:
    """Metrics with their conventions: SSIM[smfnet]."""
    from evalkit.metrics.card import DEFINITIONS

    return {name: definition.choice for name, definition in DEFINITIONS.items()}


def fusion_metrics(typed: Typed) -> Titles:
    """The metrics of the convention that is named, and all with their conventions."""
    from evalkit.metrics.card import CONVENTIONS, METRICS

    with suppress(EvalkitError):
        own = CONVENTIONS.find(typed.get("convention") or "textbook").definitions
        return {name: METRICS[name].title for name in own} | full_metrics(typed)
    return {name: card.title for name, card in METRICS.items() if card.task == "fusion"} | full_metrics(typed)


def metrics(typed: Typed) -> Titles:
    """The columns of the runs or protocols that are named; else every metric."""
    from evalkit.metrics.card import METRICS

    columns = [cell.metric for table in _tables_in(typed) for cell in table.cells]
    columns += [name for protocol in _protocols_in(typed) for name in protocol.metrics]
    if columns:
        return {name: METRICS[name].title if name in METRICS else "" for name in columns}
    return {name: card.title for name, card in METRICS.items()} | full_metrics(typed)


def recipes(typed: Typed) -> Titles:
    """The recipes of the method that is named, or of any; small ones first."""
    from evalkit.training.find_recipe import RECIPES

    method = (typed.get("method") or "").casefold()
    own = [recipe for recipe in RECIPES.values() if method in ("", recipe.method.casefold())]
    names = dict.fromkeys(recipe.name for recipe in own)
    return dict.fromkeys(sorted(names, key=lambda name: name != "small"), "")


def everything(typed: Typed) -> Titles:
    from evalkit.data.card import DATASETS
    from evalkit.methods.registry import METHODS
    from evalkit.metrics.card import METRICS

    return (
        protocols(typed)
        | {name: method.card.title for name, method in METHODS.items()}
        | {name: card.title for name, card in DATASETS.items()}
        | conventions(typed)
        | {name: card.title for name, card in METRICS.items()}
        | full_metrics(typed)
    )


def sections(_: Typed) -> Titles:
    from evalkit.leaderboards.report.page import SECTIONS

    return SECTIONS


def common(_: Typed) -> Titles:
    return {"common": "the images that all methods have"}


def nothing(_: Typed) -> Titles:
    return {}


PARAMETERS = {  # a parameter's name, or that of its command before it
    "protocol": NameType(protocols, files=True),
    "published": NameType(protocols),
    "sources": NameType(published, files=True),
    "cost": NameType(costs, files=True),
    "method": NameType(running_methods),
    "train method": NameType(trainable_methods),
    "methods": NameType(methods, several=True),
    "a": NameType(run_methods, files=True),
    "b": NameType(run_methods, files=True),
    "dataset": NameType(datasets),
    "datasets": NameType(datasets, several=True),
    "split": NameType(splits),
    "convention": NameType(conventions),
    "evaluate convention": NameType(one_or_all_conventions),
    "metrics": NameType(metrics, several=True),
    "evaluate metrics": NameType(fusion_metrics, several=True),
    "check metrics": NameType(full_metrics, several=True),
    "recipe": NameType(recipes, files=True),
    "train name": NameType(recipes, files=True),
    "show name": NameType(everything),
    "sections": NameType(sections, several=True),
    "images": NameType(common, files=True),
    "fused": NameType(nothing, files=True),
    "plugins": NameType(nothing, files=True),
}
