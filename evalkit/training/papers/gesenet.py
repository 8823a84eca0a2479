"""GeSeNet: how it is trained here. Its paper's losses are not at hand and no training code was published.

Li et al., doi:10.1109/TNNLS.2023.3293274; of its training is known that a segmentation network behind the fusion
network judges, too. It learns from what fusion networks commonly learn from (`common_terms`). Its masks are sampled
while it learns.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from evalkit.methods.layers.luminance import luminance
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.gesenet import METHODS, GeSeNet
from evalkit.training.data import Batch
from evalkit.training.options import built, updated
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System
from evalkit.training.terms import common_terms


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms beside the intensity's 1."""

    gradient: float = 5
    ssim: float = 1


class GeSeNetSystem(System):
    """One stage, all parts together; the network has one size."""

    name = "GeSeNet"
    network: GeSeNet

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.loss = updated(LossOptions(), recipe.loss, recipe)
        self.network = built(GeSeNet, recipe.network, recipe)()

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        infrared, visible = batch["infrared"], luminance(batch["visible"])
        fused = self.network(infrared, visible)
        return common_terms(fused, infrared, visible, self.loss.gradient, self.loss.ssim)

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        return METHODS[cls.name]


SYSTEM = GeSeNetSystem
