"""GeSeNet: how it is trained here. Its paper's losses are not at hand and no training code was published.

Li et al., doi:10.1109/TNNLS.2023.3293274; of its training is known that a segmentation network behind the fusion
network judges, too. It learns from what fusion networks commonly learn from (`common_terms`). Its masks are sampled
while it learns.
"""

from __future__ import annotations

from torch import Tensor

from evalkit.methods.layers.luminance import luminance
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.gesenet import METHODS, GeSeNet
from evalkit.training.data import Batch
from evalkit.training.options import built, updated
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System
from evalkit.training.terms import CommonWeights, common_terms


class GeSeNetSystem(System):
    """One stage, all parts together; the network has one size."""

    name = "GeSeNet"
    network: GeSeNet

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.loss = updated(CommonWeights(), recipe.loss, recipe)
        self.network = built(GeSeNet, recipe.network, recipe)()

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        infrared, visible = batch["infrared"], luminance(batch["visible"])
        fused = self.network(infrared, visible)
        return common_terms(fused, infrared, visible, self.loss)

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        return METHODS[cls.name]


SYSTEM = GeSeNetSystem
