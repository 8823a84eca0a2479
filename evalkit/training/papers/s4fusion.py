"""S4Fusion: its losses, its ablations, and how it is trained (Ma et al., arXiv:2405.20881, Sec. 3.4, Eq. 5).

One stage, judged by a frozen ImageNet classifier. The paper gives formulas for two terms and says of the others that
they are "inspired by U2Fusion". Those follow the published code as far as it is known. Not known: the constant that
divides the information (`information_scale` is a choice), and how a gray image is shown to the classifier (`Critic`
repeats it to three channels and normalises them as ImageNet's; `normalised=False` leaves that out).

No term is without effect on the training. The weights of infrared and visible come from the sources alone and carry no
gradient; the classifier is never trained.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.errors import EvalkitError
from evalkit.methods.layers.luminance import luminance
from evalkit.methods.layers.pixels import IMAGENET_MEAN, IMAGENET_STD
from evalkit.methods.layers.state_space import VSSBlock
from evalkit.methods.network import NetworkMethod, count_parameters
from evalkit.methods.networks.s4fusion import METHODS, CMSABlock, Options, S4Fusion
from evalkit.training.critics import ResNet50, load_classifier, without_residuals
from evalkit.training.data import Batch
from evalkit.training.options import ablation_of, updated
from evalkit.training.precision import full_precision
from evalkit.training.pretrained import pretrained
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System
from evalkit.training.terms import (
    joint_gradient_loss,
    sobel_gradient,
    structural_similarity,
)

FLOOR = 1e-9  # added to probabilities before the logarithm


@dataclass(frozen=True)
class LossOptions:
    """Factors of the terms in Eq. 5, and what the paper does not say.

    Attributes:
        perception: of the entropy; 1 in the paper, 0 for Exp. 6 of its Table 3.
        intensity, structure, gradient: alpha1, alpha2 and alpha3.
        scale: c, which divides the information before the softmax; of each batch by `information_scale` when None.
        normalised: the critic sees images normalised as ImageNet's.
    """

    perception: float = 1
    intensity: float = 15
    structure: float = 15
    gradient: float = 15
    scale: float | None = None
    normalised: bool = True


class Critic(nn.Module):
    """A frozen ImageNet classifier that says what it sees in a gray image; ResNet-50 in the paper.

    Args:
        resnet: a network with the parts of torchvision's ResNet (conv1, bn1, relu, maxpool, layer1..4, avgpool, fc).
            Its parameters are frozen, and it stays in evaluation mode.
        normalised: by the mean and deviation of ImageNet.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, resnet: nn.Module, normalised: bool = True) -> None:
        super().__init__()
        self.resnet = resnet.requires_grad_(False)
        self.normalised = normalised
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.train(False)

    def train(self, mode: bool = True) -> Critic:
        return super().train(False)

    def features(self, image: Tensor) -> list[Tensor]:
        """Outputs of the four stages for (N, 1, H, W) in [0, 1]: (N, C, h, w) each."""
        parts: Any = self.resnet
        three = image.repeat(1, 3, 1, 1)
        x = (three - self.mean) / self.std if self.normalised else three
        x = parts.maxpool(parts.relu(parts.bn1(parts.conv1(x))))
        stages = []
        for stage in (parts.layer1, parts.layer2, parts.layer3, parts.layer4):
            x = stage(x)
            stages.append(x)
        return stages

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the classes (N, classes) for (N, 1, H, W) in [0, 1]; a gradient reaches the image."""
        parts: Any = self.resnet
        return parts.fc(parts.avgpool(self.features(image)[-1]).flatten(1))


@full_precision
def information(features: Sequence[Tensor]) -> Tensor:
    """How much there is to see (below Eq. 5): feature maps (N, C, H, W) of several depths -> (N,) >= 0.

    Squared Sobel gradient, averaged over each depth's values, then over the depths.
    """
    return torch.stack([sobel_gradient(f).square().mean(dim=(1, 2, 3)) for f in features]).mean(dim=0)


def information_scale(infrared: Tensor, visible: Tensor) -> Tensor:
    """The divisor at which the information of two sources, (N,) each, differs by 1 on average -> scalar."""
    return (infrared - visible).abs().mean()


def information_weights(infrared: Tensor, visible: Tensor, scale: float | Tensor) -> tuple[Tensor, Tensor]:
    """omega1 and omega2 (below Eq. 5): the information of both sources (N,) -> weights (N,) that add up to 1.

    A softmax; large `scale` makes them one half each. They carry no gradient.

    Args:
        infrared, visible: `information` of both sources, (N,).
        scale: what divides it, > 0.
    """
    both = torch.stack((infrared, visible)).detach() / scale
    first, second = both.softmax(dim=0).unbind()
    return first, second


def intensity_loss(fused: Tensor, infrared: Tensor, visible: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """L_L1 of Eq. 5: weighted mean distance from both sources: three (N, 1, H, W), two (N,) -> scalar.

    Args:
        fused, infrared, visible: luminances (N, 1, H, W) in [0, 1].
        weights: `information_weights`, two (N,).
    """
    pairs = zip((infrared, visible), weights, strict=True)
    distances = [weight * (fused - source).abs().mean(dim=(1, 2, 3)) for source, weight in pairs]
    return torch.stack(distances).sum(dim=0).mean()


def structure_loss(fused: Tensor, infrared: Tensor, visible: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """L_ssim of Eq. 5: weighted (1 - SSIM) / 2 of both sources: three (N, 1, H, W), two (N,) -> scalar in [0, 1].

    The code clamps to [0, 1], where the values are anyway.

    Args:
        fused, infrared, visible: luminances (N, 1, H, W) in [0, 1].
        weights: `information_weights`, two (N,).
    """
    losses = []
    for source, weight in zip((infrared, visible), weights, strict=True):
        pairs = zip(source.split(1), fused.split(1), strict=True)  # the weights need SSIM by image
        losses.append(weight * (1 - torch.stack([structural_similarity(a, b) for a, b in pairs])) / 2)
    return torch.stack(losses).sum(dim=0).mean()


def perception_loss(scores: Tensor) -> Tensor:
    """L_per of Eq. 5: entropy of the classifier's answer to the fused image: (N, classes) -> scalar in nats.

    log(classes) where it has no idea, 0 where it is sure.
    """
    probabilities = scores.softmax(dim=-1) + FLOOR
    return -(probabilities * probabilities.log()).sum(dim=-1).mean()


@full_precision
def loss_terms(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    weights: tuple[Tensor, Tensor],
    scores: Tensor | None = None,
    options: LossOptions | None = None,
) -> dict[str, Tensor]:
    """The weighted terms of Eq. 5, by name; their sum is the loss. Terms of weight 0 are not there.

    Args:
        fused, infrared, visible: (N, 1, H, W), the sources in [0, 1].
        weights: `information_weights`.
        scores: the critic's for the fused images; needed unless the perception loss has weight 0.
    """
    options = options or LossOptions()
    terms: dict[str, Tensor] = {}
    if options.perception:
        if scores is None:
            raise ValueError("the perception loss needs a classifier's scores of the fused images, or weight 0")
        terms["perception"] = options.perception * perception_loss(scores)
    if options.intensity:
        terms["intensity"] = options.intensity * intensity_loss(fused, infrared, visible, weights)
    if options.structure:
        terms["structure"] = options.structure * structure_loss(fused, infrared, visible, weights)
    if options.gradient:
        terms["gradient"] = options.gradient * joint_gradient_loss(fused, infrared, visible)
    return terms


def loss(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    weights: tuple[Tensor, Tensor],
    scores: Tensor | None = None,
    options: LossOptions | None = None,
) -> Tensor:
    """Eq. 5, arguments as for `loss_terms` -> scalar.

    Args:
        fused, infrared, visible, weights, scores, options: as for `loss_terms`.
    """
    return torch.stack(list(loss_terms(fused, infrared, visible, weights, scores, options).values())).sum()


# --- ablations


@dataclass(frozen=True)
class Ablation:
    """A row of the paper's Table 3.

    Attributes:
        title: as in the table.
        options: of the network.
        perception: trained with the perception-enhanced loss.
    """

    title: str
    options: Options = field(default_factory=Options)
    perception: bool = True

    def build(self) -> S4Fusion:
        return S4Fusion(self.options)


# The replacements get as many parameters as CMSA by the width of their own hidden layers. ADD has none, so there the
# paper (A.1) changes the channels of encoders and decoder instead.
ABLATIONS: dict[str, Ablation] = {
    "Exp.1": Ablation("CMSA→ADD", Options(fusion="ADD", widths=(75, 150, 300))),
    "Exp.2": Ablation("CMSA→CNN", Options(fusion="CNN")),
    "Exp.3": Ablation("CMSA→CA", Options(fusion="CA")),
    "Exp.4": Ablation("CMSA→FSSM", Options(fusion="FSSM")),
    "Exp.5": Ablation("w/o PM", Options(marks=False)),
    "Exp.6": Ablation("w/o Per", perception=False),
    "Exp.7": Ablation("S4Fusion"),
}


# --- training


CRITIC = "torchvision's ImageNet weights of ResNet-50, which judges the images"


def options_of(recipe: Recipe) -> tuple[Options, LossOptions]:
    """Sizes and losses: the recipe's, with what the ablation changes.

    Raises:
        UnknownNameError: an option or variant that there is not.
        EvalkitError: a perception loss without a critic, or a variant that would not differ from the full method.
    """
    ablation = ablation_of(ABLATIONS, recipe) or Ablation("")
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

    target, candidates = parameters(full), range(full.widths[0], 4 * full.widths[0])
    first = bisect(candidates, target, key=added)  # the first one that is larger
    width = min(candidates[first - 1 : first + 1], key=lambda w: abs(added(w) - target))
    return width, 2 * width, 4 * width


class S4FusionSystem(System):
    """Eq. 5. Without a critic the information is that of the images themselves, as if they were its only features."""

    name = "S4Fusion"
    network: S4Fusion
    segments = (VSSBlock, CMSABlock)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        options, self.loss = options_of(recipe)
        self.network = S4Fusion(options)
        self.critic: Critic | None = None

    def load_critics(self, weights: Path | None) -> None:
        file = pretrained(self.recipe, "critic", weights, CRITIC)
        if file is not None:
            self.critic = Critic(load_classifier(*file), self.loss.normalised)

    def random_critics(self, missing: Collection[str]) -> None:
        if "critic" in missing:
            self.critic = Critic(without_residuals(ResNet50()), self.loss.normalised)

    def shared(self, batch: Batch) -> Batch:
        """The divisor of the information, which is a mean over the batch."""
        known = self.information(batch["infrared"]), self.information(luminance(batch["visible"]))
        return {"information scale": information_scale(*known).expand(len(batch["infrared"]))}

    def no_decay(self) -> set[str]:
        return self.network.no_weight_decay()

    @torch.no_grad()
    def information(self, image: Tensor) -> Tensor:
        """(N, 1, H, W) in [0, 1] -> (N,)."""
        return information([image] if self.critic is None else self.critic.features(image))

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        infrared, visible = batch["infrared"], luminance(batch["visible"])
        known = self.information(infrared), self.information(visible)
        if self.loss.scale is not None:
            scale = torch.tensor(self.loss.scale)
        elif "information scale" in batch:
            scale = batch["information scale"][0]
        else:
            scale = information_scale(*known)
        weights = information_weights(*known, scale)
        self.noted = {"information scale": scale, "infrared weight": weights[0].mean()}
        fused = self.network(infrared, visible)
        scores = self.critic(fused) if self.critic is not None and self.loss.perception else None
        return loss_terms(fused, infrared, visible, weights, scores, self.loss)

    @classmethod
    def varied(cls, recipe: Recipe) -> Recipe:
        options_of(recipe)  # refuses what is wrong, without building a large network
        return recipe

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        options, _ = options_of(recipe)
        return replace(METHODS[cls.name], build=partial(S4Fusion, options))


SYSTEM = S4FusionSystem
