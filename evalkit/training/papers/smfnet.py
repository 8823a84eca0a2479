"""SMFNet: two stages, first rebuilding each image, then fusing (Zhang et al., arXiv:2407.06159, Sec. III-E)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from evalkit.methods.layers.luminance import luminance
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.smfnet import ABLATIONS, METHODS, Ablation, Options, SMFNet
from evalkit.training.data import Batch
from evalkit.training.losses_smfnet import LossOptions, stage_one_terms, stage_two_terms
from evalkit.training.options import chosen, updated
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System


def options_of(recipe: Recipe) -> tuple[Options, LossOptions]:
    """Sizes and losses: the recipe's, with what the ablation changes."""
    ablation = chosen(ABLATIONS, recipe) or Ablation("")
    return updated(ablation.network, recipe.network, recipe), updated(ablation.loss, recipe.loss, recipe)


class SMFNetSystem(System):
    """Stage `reconstruct` learns encoder, graph and decoder by Eq. 23, `fuse` all by Eq. 28."""

    network: SMFNet

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        options, self.loss = options_of(recipe)
        self.network = SMFNet(options)

    def parts(self) -> Mapping[str, nn.Module]:
        return self.network.parts(2)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        infrared, visible = batch["infrared"], luminance(batch["visible"])
        if moment.stage == "reconstruct":
            return stage_one_terms(self.network.reconstruct(infrared, visible), infrared, visible, self.loss)
        return stage_two_terms(self.network.fuse(infrared, visible), infrared, visible, self.loss)

    @classmethod
    def varied(cls, recipe: Recipe) -> Recipe:
        """AE7 has no first stage; the second one gets its epochs."""
        ablation = chosen(ABLATIONS, recipe)
        if ablation is None or ablation.epochs[0]:
            return recipe
        total = sum(stage.epochs for stage in recipe.stages)
        stages = [stage.model_copy(update={"epochs": total if stage.name == "fuse" else 0}) for stage in recipe.stages]
        return recipe.model_copy(update={"stages": tuple(stages)})

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        options, _ = options_of(recipe)
        return replace(METHODS["SMFNet"], build=partial(SMFNet, options))


TRAINED = SMFNetSystem
