"""Methods and their cards: one YAML file each in `cards/`, classical ones with a function in `classical.py`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from evalkit.errors import EvalkitError, UnknownNameError
from evalkit.files.names import LONGEST, odd_character


class MethodCard(BaseModel):
    """What a method is and where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    aliases: tuple[str, ...] = ()
    kind: Literal["classical", "network"]
    title: str
    authors: str = ""
    paper: str = ""
    year: int | None = None
    doi: str | None = None
    task: str = "infrared-visible fusion"
    colour: str = ""  # what becomes of a colour visible image
    values: str = ""  # value range the network works on
    output: str = ""  # how its output becomes bytes: clamp, rounding, min-max stretch
    module: str = ""  # evalkit.methods.networks.<module>, for a network that evalkit has code for
    parameters: int | None = None  # trainable values, each once
    checkpoint: tuple[str, ...] = ()  # file names of the authors' weights
    weights: str = ""  # where to get them
    licence: str = ""  # of the weights
    note: str = ""

    @property
    def source(self) -> str:
        parts = [self.authors, self.paper, str(self.year or ""), f"doi:{self.doi}" if self.doi else ""]
        return ", ".join(part for part in parts if part)


@cache
def method_cards() -> dict[str, MethodCard]:
    """All cards by name, classical methods first, then by name."""
    folder = resources.files("evalkit.methods").joinpath("cards")
    cards = [
        MethodCard.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    ]
    return {card.name: card for card in sorted(cards, key=lambda c: (c.kind, c.name.casefold()))}


def method_card(name: str) -> MethodCard:
    """The card of a method by name or alias, whatever the case. Raises UnknownNameError."""
    known = {alias.casefold(): card for card in method_cards().values() for alias in (card.name, *card.aliases)}
    try:
        return known[name.casefold()]
    except KeyError:
        raise UnknownNameError(
            "method",
            name,
            method_cards(),
            "A method of your own needs fused images: give --outputs DIR with DIR/METHOD/DATASET/*.png.",
        ) from None


def check_name(name: str) -> str:
    """A method's name as a folder name. Raises EvalkitError where it would leave the folder it belongs to."""
    if len(name.encode(errors="replace")) > LONGEST:
        raise EvalkitError(f"{name[:40]}... cannot be a method's name: it has more than {LONGEST} bytes.")
    if not name.strip() or "/" in name or "\\" in name or name.startswith(".") or odd_character(name):
        raise EvalkitError(f"{name!a} cannot be a method's name: it names a folder, so no slashes and no leading dot.")
    return name
