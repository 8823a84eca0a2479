"""From a recipe's plain values to the option classes of networks and losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from inspect import signature
from typing import Any, TypeVar

from torch import nn

from evalkit.errors import UnknownNameError
from evalkit.training.recipe import Recipe

Options = TypeVar("Options")
Ablation = TypeVar("Ablation")
Network = TypeVar("Network", bound=nn.Module)


def updated(options: Options, values: Mapping[str, Any], recipe: Recipe) -> Options:
    """Options with some values changed.

    Args:
        options: a dataclass.
        values: name -> value, as a recipe has them; lists become tuples.
        recipe: where they are from, for the message.

    Raises:
        UnknownNameError: a name that the options do not have.
    """
    known = [field.name for field in fields(options)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise UnknownNameError(f"option in the recipe {recipe.name} of {recipe.method}", name, known)
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return replace(options, **plain)  # type: ignore[type-var]


def ablation_of(ablations: Mapping[str, Ablation], recipe: Recipe) -> Ablation | None:
    """The ablation that the recipe names, None for the full method. Raises UnknownNameError."""
    if not recipe.variant:
        return None
    if recipe.variant not in ablations:
        raise UnknownNameError(f"variant of {recipe.method}", recipe.variant, ablations)
    return ablations[recipe.variant]


def built(build: Callable[..., Network], values: Mapping[str, Any], recipe: Recipe) -> Callable[..., Network]:
    """A network's constructor with some arguments set.

    Args:
        build: the constructor.
        values: argument -> value, as a recipe has them; lists become tuples.
        recipe: where they are from, for the message.

    Raises:
        UnknownNameError: a name that is not one of its arguments.
    """
    known = list(signature(build).parameters)
    for name in values:
        if name not in known:
            raise UnknownNameError(f"option in the recipe {recipe.name} of {recipe.method}", name, known)
    return partial(
        build, **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    )
