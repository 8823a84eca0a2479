"""What the card of every published system says, whatever it makes: fused images, maps of objects or of classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from evalkit.files.read import model_from_yaml, read_text


class Compared(BaseModel):
    """How evalkit's code of a system was held against the published code, or why it was not.

    Attributes:
        difference: the largest absolute difference of any output over that output's standard deviation.
        size: of the inputs, e.g. "64x48".
        how: the type of the numbers and what filled the tensors, e.g. "float32, filled tensors".
        reason: instead: why there was nothing to compare with, e.g. "no code was published".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    difference: float | None = None
    size: str = ""
    how: str = "float32, filled tensors"
    reason: str = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> Compared:
        if (self.difference is None) != bool(self.reason):
            raise ValueError("it gives either a difference or the reason why there is none")
        return self

    def __str__(self) -> str:
        if self.reason:
            return f"not compared: {self.reason}"
        return f"{self.difference:.1e} ({', '.join(part for part in (self.how, self.size) if part)})"


class SystemCard(BaseModel):
    """A published system: what it is, where it comes from, and what evalkit has of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    aliases: tuple[str, ...] = ()
    kind: Literal["classical", "network"]
    title: str
    authors: str = ""
    paper: str = ""
    year: int | None = None
    doi: str | None = None
    colour: str = ""  # what becomes of a colour visible image
    values: str = ""  # value range the network works on
    output: str = ""  # how its output becomes bytes: clamp, rounding, min-max stretch
    module: str = ""  # the module with its code, for a network that evalkit has code for
    parameters: int | None = None  # trainable values, each once
    checkpoint: tuple[str, ...] = ()  # file names of the authors' weights
    weights: str = ""  # where to get them
    licence: str = ""  # of the weights
    compared: Compared | None = None  # with the published code
    note: str = ""

    @property
    def source(self) -> str:
        parts = [self.authors, self.paper, str(self.year or ""), f"doi:{self.doi}" if self.doi else ""]
        return ", ".join(part for part in parts if part)


CardKind = TypeVar("CardKind", bound=SystemCard)


def read_card(
    kind: type[CardKind], card: CardKind | Mapping[str, Any] | str | os.PathLike[str]
) -> tuple[CardKind, Path | None]:
    """A card, and the folder that it lies in where it is a file.

    Args:
        kind: its class.
        card: a card, its fields, or the path of its YAML file.

    Raises:
        DataError: the file cannot be read, or a field is missing, unknown or wrong.
    """
    if isinstance(card, kind):
        return card, None
    if isinstance(card, Mapping):
        text = yaml.safe_dump(dict(card), sort_keys=False)
        return model_from_yaml(kind, text, f"the card {card.get('name', 'without a name')}"), None
    path = Path(card)  # type: ignore[arg-type]
    return model_from_yaml(kind, read_text(path), f"the card {path}"), path.absolute().parent


def shipped_cards(kind: type[CardKind], package: str) -> list[CardKind]:
    """The cards in the folder `cards` of a package, by name."""
    files = [file for file in resources.files(package).joinpath("cards").iterdir() if file.name.endswith(".yaml")]
    cards = [model_from_yaml(kind, file.read_text(encoding="utf-8"), file.name) for file in files]
    return sorted(cards, key=lambda card: card.name.casefold())
