"""Methods and their cards: one YAML file each in `cards/`, and the code behind them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import EvalkitError
from evalkit.files.names import LONGEST, odd_name
from evalkit.methods.card import SystemCard, read_card, shipped_cards
from evalkit.methods.classical import FROM_FILES, FUSERS
from evalkit.registry import Registry

if TYPE_CHECKING:
    from evalkit.methods.network import NetworkMethod

Function = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.uint8]]
Build = Callable[..., Function]


class MethodCard(SystemCard):
    """What a fusion method is and where it comes from; `module` is evalkit.methods.networks.<module>."""

    task: str = "infrared-visible fusion"
    jpeg: Literal["", "pillow 75", "opencv 95"] = ""  # how its authors' script saves under a name that ends in .jpg


@dataclass(frozen=True)
class Method:
    """A registered method: its card and its code.

    Attributes:
        build: (weights files, or None where the card names none) -> a function of (infrared, visible), see
            `register_method`.
        network: gives the `NetworkMethod` of a network on the shared layers: strict keys, batches, GPUs.
        folder: beside whose files its weights may lie: that of its card.
    """

    card: MethodCard
    build: Build | None = None
    network: Callable[[], NetworkMethod] | None = None
    folder: Path | None = None

    @property
    def runs(self) -> bool:
        """Whether there is code of it."""
        return self.build is not None or self.network is not None


METHODS: Registry[Method] = Registry(
    "method",
    "evalkit.methods.registry",
    hint="A method of your own needs fused images: give --outputs DIR with DIR/METHOD/DATASET/*.png.",
)


def register_method(
    card: MethodCard | Mapping[str, Any] | str | os.PathLike[str],
    build: Build | None = None,
    network: Callable[[], NetworkMethod] | None = None,
) -> MethodCard:
    """Register a method.

    Args:
        card: a card, its fields, or the path of its YAML file; weights beside that file are found by themselves.
        build: called with the paths of the weights, one argument each in the card's order (None where the card names
            none), gives a function (infrared, visible) -> fused, uint8. Of a card of the kind `classical` all three are
            (H, W) gray, and the caller adds the colour of the visible image; of a `network` the sources are as stored,
            (H, W) or (H, W, 3) RGB.
        network: instead, for a network on evalkit's layers: a function that gives its `NetworkMethod`.

    Returns:
        The card.

    Raises:
        DataError: the file cannot be read, or a field is missing, unknown or wrong.
        EvalkitError: the name or an alias is taken.
    """
    made, folder = read_card(MethodCard, card)
    check_name(made.name)
    METHODS.add(made.name, Method(made, build, network, folder), made.aliases)
    return made


def register_shipped() -> None:
    """Register the methods that evalkit has: classical ones first, then by name."""
    for card in sorted(shipped_cards(MethodCard, "evalkit.methods"), key=lambda card: card.kind):
        classical = FUSERS.get(card.name)
        register_method(
            card,
            build=FROM_FILES.get(card.name) if classical is None else partial(_without_weights, classical),
            network=partial(_shipped_network, card) if card.module else None,
        )


def _without_weights(function: Function, _: Path | None) -> Function:
    return function


def _shipped_network(card: MethodCard) -> NetworkMethod:
    return importlib.import_module(f"evalkit.methods.networks.{card.module}").METHODS[card.name]


def method_cards() -> dict[str, MethodCard]:
    """All cards by name: those that ship, classical methods first, then by name; then those that were added."""
    return {name: method.card for name, method in METHODS.items()}


def method_card(name: str) -> MethodCard:
    """The card of a method by name or alias, whatever the case. Raises UnknownNameError."""
    return METHODS.find(name).card


def check_name(name: str) -> str:
    """A method's name as a folder name. Raises EvalkitError where it would leave the folder it belongs to."""
    if len(name.encode(errors="replace")) > LONGEST:
        raise EvalkitError(f"{name[:40]}... cannot be a method's name: it has more than {LONGEST} bytes.")
    if odd := odd_name(name):
        raise EvalkitError(f"{name!a} cannot be a method's name: it holds {odd}.")
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise EvalkitError(f"{name!a} cannot be a method's name: it names a folder, so no slashes and no leading dot.")
    return name
