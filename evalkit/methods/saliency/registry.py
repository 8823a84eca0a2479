"""Salient-object systems and their cards: one YAML file each in `cards/`, and the code behind them."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evalkit.methods.card import SystemCard, read_card, shipped_cards
from evalkit.methods.registry import check_name
from evalkit.registry import Registry

if TYPE_CHECKING:
    from evalkit.methods.network import NetworkMethod

SaliencyFunction = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.uint8]]


class SaliencyCard(SystemCard):
    """What a salient-object system is and where it comes from; `module` lies in evalkit.methods.saliency.systems."""

    size: int | None = None  # side of the squares that a network sees; none: the pair as it is


@dataclass(frozen=True)
class SaliencySystem:
    """A registered system: its card and its code.

    Attributes:
        function: of a classical system, see `register_saliency`.
        network: gives the `NetworkMethod` of a network, whose `finish` gives the map.
        folder: beside whose files its weights may lie: that of its card.
    """

    card: SaliencyCard
    function: SaliencyFunction | None = None
    network: Callable[[], NetworkMethod] | None = None
    folder: Path | None = None

    def weights_files(self, checkpoints: Path | None) -> list[Path]:
        """The weights that the card names, as far as they are there: in `checkpoints` or beside the card."""
        places = [folder for folder in (checkpoints, self.folder) if folder is not None]
        files = (next((p / name for p in places if (p / name).is_file()), None) for name in self.card.checkpoint)
        return [file for file in files if file is not None]

    def missing(self, checkpoints: Path | None) -> str:
        """Why it cannot make maps here by itself; empty where it can."""
        if self.function is not None:
            return ""
        if self.network is None:
            return "evalkit has no code for this system: bring its maps with --outputs"
        if importlib.util.find_spec("torch") is None:
            return "needs PyTorch: pip install 'evalkit[networks]'"
        if not self.card.checkpoint:
            return "no weights of this network are known: train it, or bring its maps with --outputs"
        present = {file.name for file in self.weights_files(checkpoints)}
        lacking = [name for name in self.card.checkpoint if Path(name).name not in present]
        if not lacking:
            return ""
        if checkpoints is None:
            return f"needs its weights {' and '.join(lacking)}: give --checkpoints DIR"
        return f"its weights {' and '.join(lacking)} are not in {checkpoints} ({self.card.weights})"


SALIENCY_SYSTEMS: Registry[SaliencySystem] = Registry(
    "salient-object system",
    "evalkit.methods.saliency.registry",
    hint="A system of your own needs maps: give --outputs DIR with DIR/SYSTEM/DATASET/*.png.",
)


def register_saliency(
    card: SaliencyCard | Mapping[str, Any] | str | os.PathLike[str],
    function: SaliencyFunction | None = None,
    network: Callable[[], NetworkMethod] | None = None,
) -> SaliencyCard:
    """Register a system that marks salient objects: the row of its name in tables of them gets maps from it.

    Args:
        card: a card, its fields, or the path of its YAML file; weights beside that file are found by themselves.
        function: (infrared, visible), both as stored, uint8 (H, W) or (H, W, 3) RGB, -> the map, uint8 (H, W), 255 on
            the object.
        network: instead: a function that gives the network's `NetworkMethod`, whose `finish` gives the map. Networks
            that `register_system` makes trainable under the same name are trained where their weights are not at hand.

    Returns:
        The card.

    Raises:
        DataError: the file cannot be read, or a field is missing, unknown or wrong.
        EvalkitError: the name or an alias is taken.
    """
    made, folder = read_card(SaliencyCard, card)
    check_name(made.name)
    SALIENCY_SYSTEMS.add(made.name, SaliencySystem(made, function, network, folder), made.aliases)
    return made


def register_shipped() -> None:
    """Register the systems that evalkit has: classical ones first, then by year and name."""
    for card in sorted(shipped_cards(SaliencyCard, "evalkit.methods.saliency"), key=lambda c: (c.kind, c.year or 0)):
        if card.kind == "classical":
            register_saliency(card, function=partial(_shipped_function, card.module))
        else:
            register_saliency(card, network=partial(_shipped_network, card.module))


def _shipped_function(module: str, infrared: NDArray[np.uint8], visible: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return importlib.import_module(f"evalkit.methods.saliency.systems.{module}").saliency_map(infrared, visible)


def _shipped_network(module: str) -> NetworkMethod:
    return importlib.import_module(f"evalkit.methods.saliency.systems.{module}").NETWORK
