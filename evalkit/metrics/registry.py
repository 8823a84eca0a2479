"""Names of metrics and conventions that parse both ways (`SSIM[smfnet]`), and how both are added from outside."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from evalkit.data.gray import ROUNDED
from evalkit.data.images import parse_gray
from evalkit.errors import EvalkitError, UnknownNameError
from evalkit.files.names import several
from evalkit.metrics.card import (
    CONVENTIONS,
    DEFINITIONS,
    METRICS,
    Better,
    Convention,
    Definition,
    MetricCard,
    add_card,
    checked_better,
)
from evalkit.metrics.image import Pair
from evalkit.metrics.models import NO_MODEL
from evalkit.metrics.packages import NO_WEIGHTS
from evalkit.registry import PROGRAM, current_origin

Function = TypeVar("Function", bound=Callable[[Pair], float])
COST_BETTER: dict[str, Better] = {"FLOPs": "lower", "Params": "lower", "Time": "lower", "FPS": "higher"}  # no cards
_NAME = re.compile(r"[\w-]+")


def metric(
    name: str,
    convention: str,
    better: str = "higher",
    range: str = "any",
    unit: str = "1",
    source: str = "",
    title: str = "",
    choice: str = "",
) -> Callable[[Function], Function]:
    """Register a function of a pair as a metric in a convention; the convention is made where it is not there yet.

    Args:
        name: the column, such as "QX"; letters, digits, `_` and `-`.
        convention: whose definition this is: numbers of different conventions are never ranked together.
        better: "higher" or "lower".
        range, unit: of the values, in words: "0 .. 1", "bit"; "1" for what has no unit.
        source: the paper: authors, year, DOI.
        title: the name in words; the function's name when not given.
        choice: what this convention chose, in a line; the first line of the docstring when not given.

    Returns:
        A decorator. The function takes a `Pair` with `fused`, `infrared` and `visible`, each with `pixels` (H, W) uint8
        and `x` (H, W) float64, and returns a number; where there is none it raises `evalkit.UndefinedError`.

    Raises:
        EvalkitError: the convention has the metric already, or the direction is not that of the metric's card.
    """

    def register(function: Function) -> Function:
        definition = (function.__doc__ or title or name).strip().splitlines()[0]
        _check(name, convention)
        if name in METRICS and not METRICS.origin(name) is PROGRAM is current_origin():
            if METRICS[name].better != better:
                raise EvalkitError(
                    f"the metric {name} is registered with better={METRICS[name].better!r}, not {better!r}."
                )
        else:
            words = title or function.__name__.replace("_", " ")
            add_card(MetricCard(name, words, checked_better(better, name), range, unit, definition, source))
        if convention not in CONVENTIONS:
            register_convention(convention)
        _define(name, convention, function, choice or definition)
        return function

    return register


def register_convention(
    name: str,
    title: str = "",
    used_by: str = "",
    metrics: Mapping[str, tuple[Callable[[Pair], float], str] | str] | None = None,
    gray: str = ROUNDED,
) -> None:
    """Register a convention, with metrics of evalkit that it takes as they are or in a way of its own.

    Args:
        name: letters, digits, `_` and `-`.
        title, used_by: what it is, and whose tables are made with it.
        metrics: metric -> (function of a pair, what was chosen in a line), or the full name of a definition that it
            takes over, such as "SSIM[tang]".
        gray: how it turns colour to gray, one of `evalkit.data.gray.GRAYS`.

    Raises:
        EvalkitError: the name is taken, or a metric has no card.
        UnknownNameError: a definition to take over that does not exist, or no such gray.
    """
    table: dict[str, tuple[Callable[[Pair], float], str]] = {}
    for metric, entry in (metrics or {}).items():
        if isinstance(entry, str):
            other = DEFINITIONS.find(entry)
            entry = other.function, f"{other.choice} (as {other.full_name})"
        table[METRICS.name_of(metric)] = entry
    _check(name, name)
    origin = current_origin()
    add_convention(name, title or f"registered by {origin}", used_by, table, parse_gray(gray) or ROUNDED)


def add_convention(
    name: str,
    title: str,
    used_by: str,
    table: Mapping[str, tuple[Callable[[Pair], float], str]],
    gray: str = ROUNDED,
) -> None:
    """Register a convention and its definitions: metric -> (function, what was chosen).

    Args:
        name: of the convention.
        title: in words.
        used_by: whose tables are computed this way.
        table: metric -> its function and, in words, what the convention decides about it.
        gray: how it turns colour to gray, one of `evalkit.data.gray.GRAYS`.
    """
    CONVENTIONS.add(name, Convention(name, title, used_by, gray))
    for metric, (function, choice) in table.items():
        _define(metric, name, function, choice)


def _define(metric: str, convention: str, function: Callable[[Pair], float], choice: str) -> None:
    definition = Definition(metric, CONVENTIONS[convention].name, function, choice, current_origin().revision)
    DEFINITIONS.add(definition.full_name, definition)


def _check(*names: str) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise EvalkitError(f"{name!r} cannot be a name: letters, digits, _ and - may stand in it.")


def card(name: str) -> MetricCard:
    """The card of a metric, whatever the case of its name. Raises UnknownNameError."""
    return METRICS.find(name)


def column_card(column: str) -> MetricCard | None:
    """The card behind a paper's column: "F" and "E" are the adaptive ones. None for what has no card."""
    column = DEFINITIONS[column].metric if column in DEFINITIONS else column
    for name in (column, f"{column}_adaptive"):
        try:
            return card(name)
        except UnknownNameError:
            continue
    return None


def better_of(column: str) -> Better | None:
    """Which way is better in a paper's column; None where that is not known, or of a spread."""
    metric_card = column_card(column)
    if metric_card is not None:
        return "lower" if metric_card.better == "lower" else "higher"
    return COST_BETTER.get(column)


def convention(name: str) -> Convention:
    """A convention by name. Raises UnknownNameError with the nearest ones."""
    return CONVENTIONS.find(name)


def definitions(metrics: Iterable[str] | str | None, default_convention: str) -> dict[str, Definition]:
    """Column name -> definition for names like `SSIM` (in the default convention) and `SSIM[tang]`.

    None stands for every metric of the default convention. Order is kept, repeated names are computed once.

    Raises:
        UnknownNameError: no such metric or convention, or the convention does not define the metric.
    """
    metrics = several(metrics)
    default = convention(default_convention)
    if metrics is None:
        return dict(default.definitions)
    by_column = {}
    for name in metrics:
        definition = parse(name, default)
        by_column[definition.metric if definition.convention == default.name else definition.full_name] = definition
    if not by_column:
        raise EvalkitError("no metric is named. Give e.g. metrics=['EN', 'SSIM'], or leave them out to compute all.")
    return by_column


def all_full_names() -> list[str]:
    """Every metric in every convention, e.g. SSIM[smfnet]."""
    return list(DEFINITIONS)


def full_names_of(metrics: Iterable[str] | str | None) -> list[str]:
    """Full names of the metrics in every convention that defines them; of all metrics when None, but for those whose
    model files or weights are not at hand.

    Raises:
        UnknownNameError: no such metric.
    """
    metrics = several(metrics)
    named = None if metrics is None else {card(metric.partition("[")[0].strip()).name for metric in metrics}
    if named is None:
        return [name for name, definition in DEFINITIONS.items() if definition.parameters not in (NO_MODEL, NO_WEIGHTS)]
    return [name for name in all_full_names() if name.partition("[")[0] in named]


def parse(name: str, default: Convention) -> Definition:
    """`SSIM` or `SSIM[tang]` -> definition. Raises UnknownNameError."""
    match = re.fullmatch(r"\s*([\w-]+)\s*(?:\[\s*([\w.-]+)\s*\])?\s*", name)
    if not match:
        raise EvalkitError(f"{name!r} is not a metric name. Write METRIC or METRIC[convention], e.g. SSIM[smfnet].")
    its_convention = convention(match[2]) if match[2] else default
    metric = card(match[1]).name
    if (task := card(metric).task) != "fusion":
        raise EvalkitError(f"{metric} is measured for {task}, not on fused images. See `evalkit --help`.")
    if metric not in its_convention.definitions:
        raise EvalkitError(
            f"convention {its_convention.name!r} has no {metric}. It has: {', '.join(its_convention.definitions)}. "
            f"`evalkit show {metric}` lists the conventions that define it."
        )
    return its_convention.definitions[metric]
