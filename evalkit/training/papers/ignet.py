"""IGNet: how it is trained here. Its paper's losses are not at hand and no training code was published.

Li et al., ACM MM 2023, doi:10.1145/3581783.3612135. It learns from what fusion networks commonly learn from
(`common_terms`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor

from evalkit.methods.layers.luminance import luminance
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.ignet import METHODS, IGNet, Sizes
from evalkit.training.data import Batch
from evalkit.training.options import updated
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System
from evalkit.training.terms import CommonWeights, common_terms


class IGNetSystem(System):
    """One stage, all parts together."""

    name = "IGNet"
    network: IGNet

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.loss = updated(CommonWeights(), recipe.loss, recipe)
        self.network = IGNet(updated(Sizes(), recipe.network, recipe))

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        infrared, visible = batch["infrared"], luminance(batch["visible"])
        fused = self.network(infrared, visible)
        return common_terms(fused, infrared, visible, self.loss)

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        return replace(METHODS[cls.name], build=partial(IGNet, updated(Sizes(), recipe.network, recipe)))


SYSTEM = IGNetSystem
