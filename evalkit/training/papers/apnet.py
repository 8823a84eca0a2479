"""How APNet is trained (Zhou et al., IEEE TETCI 6(4), 2022), without its discriminators.

The published code is the network alone, and of the paper no more than the abstract could be had: it tells of a
generator and three discriminators in turns. What is here is the supervision that the network's seven outputs are for.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from evalkit.methods.saliency.systems.apnet import NETWORK, APMaps
from evalkit.training.salient import SalientSystem, cross_entropy


class APNetSystem(SalientSystem):
    """Cross-entropy of every map with the same weight."""

    name = "APNet"
    published = NETWORK
    backbone = "vgg"
    encoders = ("visible.encoder", "thermal.encoder")

    def objective(self, scores: tuple[Tensor, ...], target: Tensor) -> Mapping[str, Tensor]:
        return {name: cross_entropy(score, target) for name, score in zip(APMaps._fields, scores, strict=True)}


SYSTEM = APNetSystem
