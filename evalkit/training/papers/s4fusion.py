"""S4Fusion: one stage, judged by a frozen ImageNet classifier (Ma et al., arXiv:2405.20881, Sec. 3.4)."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from evalkit.errors import EvalkitError
from evalkit.methods.layers.luminance import luminance
from evalkit.methods.network import NetworkMethod, count_parameters
from evalkit.methods.networks.s4fusion import ABLATIONS, METHODS, Ablation, Options, S4Fusion
from evalkit.training import losses_s4fusion as losses
from evalkit.training.critics import load_classifier
from evalkit.training.data import Batch
from evalkit.training.options import chosen, updated
from evalkit.training.pretrained import pretrained
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System

CRITIC = "torchvision's ImageNet weights of ResNet-50, which judges the images"


@dataclass(frozen=True)
class LossOptions(losses.LossOptions):
    """The factors of Eq. 5, and what the paper does not say.

    Attributes:
        scale: c, which divides the information before the softmax; of each batch by `information_scale` when None.
        normalised: the critic sees images normalised as ImageNet's.
    """

    scale: float | None = None
    normalised: bool = True


def options_of(recipe: Recipe) -> tuple[Options, LossOptions]:
    """Sizes and losses: the recipe's, with what the ablation changes.

    Raises:
        UnknownNameError: an option or variant that there is not.
        EvalkitError: a perception loss without a critic, or a variant that would not differ from the full method.
    """
    ablation = chosen(ABLATIONS, recipe) or Ablation("")
    loss = updated(LossOptions(), recipe.loss, recipe)
    if loss.perception and "critic" not in recipe.weights:
        raise EvalkitError(
            f"the recipe {recipe.name} of S4Fusion has a perception loss and no critic. "
            "Name the classifier's file (weights: {critic: FILE}), or leave the term out (loss: {perception: 0})."
        )
    if not ablation.perception:
        if not loss.perception:
            raise EvalkitError(
                f"{recipe.variant} of S4Fusion leaves out the perception loss, which the recipe {recipe.name} does not "
                "have anyway. Take the recipe paper, or one with weights: {critic: FILE}."
            )
        loss = replace(loss, perception=0)
    options = updated(ablation.options, recipe.network, recipe)
    if options.fusion == "ADD":  # the table's widths are those of the published sizes
        options = replace(options, widths=widened(replace(options, fusion="CMSA", widths=full_widths(recipe))))
    return options, loss


def full_widths(recipe: Recipe) -> tuple[int, int, int]:
    return updated(Options(), recipe.network, recipe).widths


@cache
def widened(full: Options) -> tuple[int, int, int]:
    """Widths w, 2w, 4w with which the network without CMSA has as many parameters as the full one (A.1)."""

    def parameters(options: Options) -> int:
        with torch.device("meta"):
            return count_parameters(S4Fusion(options))

    def added(width: int) -> int:
        return parameters(replace(full, fusion="ADD", widths=(width, 2 * width, 4 * width)))

    wanted, candidates = parameters(full), range(full.widths[0], 4 * full.widths[0])
    first = bisect(candidates, wanted, key=added)  # the first one that is larger
    width = min(candidates[first - 1 : first + 1], key=lambda w: abs(added(w) - wanted))
    return width, 2 * width, 4 * width


class S4FusionSystem(System):
    """Eq. 5. Without a critic the information is that of the images themselves, as if they were its only features."""

    network: S4Fusion

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        options, self.loss = options_of(recipe)
        self.network = S4Fusion(options)
        self.critic: losses.Critic | None = None

    def load_critics(self, weights: Path | None) -> None:
        found = pretrained(self.recipe, "critic", weights, CRITIC)
        if found is not None:
            self.critic = losses.Critic(load_classifier(*found), self.loss.normalised)

    def no_decay(self) -> set[str]:
        return self.network.no_weight_decay()

    @torch.no_grad()
    def information(self, image: Tensor) -> Tensor:
        """(N, 1, H, W) in [0, 1] -> (N,)."""
        return losses.information([image] if self.critic is None else self.critic.features(image))

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        infrared, visible = batch["infrared"], luminance(batch["visible"])
        known = self.information(infrared), self.information(visible)
        scale = losses.information_scale(*known) if self.loss.scale is None else torch.tensor(self.loss.scale)
        weights = losses.information_weights(*known, scale)
        self.noted = {"information scale": scale, "infrared weight": weights[0].mean()}
        fused = self.network(infrared, visible)
        scores = self.critic(fused) if self.critic is not None and self.loss.perception else None
        return losses.loss_terms(fused, infrared, visible, weights, scores, self.loss)

    @classmethod
    def varied(cls, recipe: Recipe) -> Recipe:
        options_of(recipe)  # refuses what is wrong, without building a large network
        return recipe

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        options, _ = options_of(recipe)
        return replace(METHODS["S4Fusion"], build=partial(S4Fusion, options))


TRAINED = S4FusionSystem
