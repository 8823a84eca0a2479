"""PSFusion: fusion, reconstruction and segmentation in one stage (Tang et al., doi:10.1016/j.inffus.2023.101870)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.psfusion import ABLATIONS, METHODS, Ablation, PSFusion, load_backbone
from evalkit.training.data import Batch
from evalkit.training.losses_psfusion import LossOptions, psfusion_terms, targets_of
from evalkit.training.options import built, chosen, updated
from evalkit.training.pretrained import pretrained
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System


def options_of(recipe: Recipe) -> tuple[Callable[..., PSFusion], LossOptions]:
    """Network and losses: the recipe's, with what the ablation changes. Raises UnknownNameError."""
    ablation = chosen(ABLATIONS, recipe) or Ablation()
    return built(ablation.build, recipe.network, recipe), updated(
        LossOptions(), {**recipe.loss, **ablation.loss}, recipe
    )


class PSFusionSystem(System):
    """All heads learn at once by Eq. 22; the targets come from the classes of the label map."""

    network: PSFusion

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        build, self.loss = options_of(recipe)
        self.network = build()

    def prepare(self, weights: Path | None) -> None:
        found = pretrained(self.recipe, "backbone", weights, "torchvision's ImageNet weights of ResNet-34")
        if found is not None:
            load_backbone(self.network, *found)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        infrared, visible = batch["infrared"], batch["visible"]
        outputs = self.network.outputs(infrared, visible)
        return psfusion_terms(outputs, infrared, visible, targets_of(batch["classes"]), self.loss)

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        return replace(METHODS["PSFusion"], build=options_of(recipe)[0])


TRAINED = PSFusionSystem
