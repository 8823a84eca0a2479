"""The names of the segmentation networks, and where each is: read without what building them needs (`models`)."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.errors import EvalkitError, UnknownNameError
from evalkit.methods.card import SystemCard, shipped_cards
from evalkit.methods.pretrained import find_pretrained
from evalkit.registry import Registry

if TYPE_CHECKING:
    from evalkit.downstream.segmentation.system import SegmentationSystem


class SegmenterCard(SystemCard):
    """What a segmentation network is; `module` is evalkit.downstream.segmentation.systems.<module>.

    Attributes:
        streams: 1: takes one image, fused or not; 2: the visible and the infrared image, four channels.
        backbone: its encoder in words.
        encoder: pattern of the file name of the encoder's pretrained weights below --checkpoints; empty: none.
        config: of mmsegmentation, below mmseg/.mim/configs, or an absolute path; empty for a network with a module.
        channels: of the head, where the paper's differ from the configuration's.
        multiply_adds: of convolutions and linear layers for a class map of 480x640, in 10^9.
    """

    streams: int = 1
    backbone: str = ""
    encoder: str = ""
    config: str = ""
    channels: int | None = None
    multiply_adds: float | None = None


@dataclass(frozen=True)
class Segmenter:
    """A registered network: its card, and its code where mmsegmentation does not build it."""

    card: SegmenterCard
    network: Callable[[], SegmentationSystem] | None = None

    @property
    def streams(self) -> int:
        return self.card.streams

    @property
    def config(self) -> str:
        return self.card.config


SEGMENTERS: Registry[Segmenter] = Registry("segmentation network", "evalkit.downstream.segmentation.networks")


def register_shipped() -> None:
    """Register the networks of the papers: those that read one image first, then by name."""
    for card in sorted(shipped_cards(SegmenterCard, "evalkit.downstream.segmentation"), key=lambda card: card.streams):
        SEGMENTERS.add(card.name, Segmenter(card, partial(_shipped, card) if card.module else None), card.aliases)


def _shipped(card: SegmenterCard) -> SegmentationSystem:
    return importlib.import_module(f"evalkit.downstream.segmentation.systems.{card.module}").SYSTEMS[card.name]


def register_segmenter(
    name: str,
    config: str | os.PathLike[str] = "",
    weights: str = "",
    channels: int | None = None,
    network: Callable[[], SegmentationSystem] | None = None,
    streams: int = 1,
) -> None:
    """Register a segmentation network: one that mmsegmentation can build, or one of your own.

    Args:
        name: as recipes and tables call it.
        config: a configuration of mmsegmentation, a .py file below the package's own `configs` folder
            ("segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py") or, as an absolute path, a file of yours.
        weights: pattern of the file name of its pretrained encoder below --checkpoints; none: trained from scratch.
        channels: of the head, where they are to differ from the configuration's.
        network: instead of `config`: a function that gives its `SegmentationSystem`.
        streams: 2 for a `network` that reads the visible and the infrared image.

    Raises:
        EvalkitError: the name is taken, or it is not one of `config` and `network`.
    """
    if bool(config) == bool(network):
        raise EvalkitError(f"the segmenter {name} needs a configuration of mmsegmentation or a network, one of both.")
    if streams not in (1, 2) or (streams == 2 and config):
        raise EvalkitError(f"the segmenter {name} has {streams} streams: 1, or 2 for a network of your own.")
    card = SegmenterCard(
        name=name, kind="network", title=name, config=os.fspath(config), encoder=weights, channels=channels,
        streams=streams,
    )  # fmt: skip
    SEGMENTERS.add(name, Segmenter(card, network))


def segmenter(name: str) -> Segmenter:
    """A network by name or alias, whatever the case. Raises UnknownNameError."""
    return SEGMENTERS.find(name)


def network_of_row(method: str) -> str:
    """The network of two streams that fills a row of that name; empty where it is a row of images."""
    try:
        name = SEGMENTERS.name_of(method)
    except UnknownNameError:
        return ""
    return name if SEGMENTERS[name].streams == 2 else ""


def find_weights(name: str, checkpoints: Path | None) -> Path | None:
    """The file with the encoder's pretrained weights below `checkpoints`; none where there is none."""
    return find_pretrained(segmenter(name).card.encoder, checkpoints)
