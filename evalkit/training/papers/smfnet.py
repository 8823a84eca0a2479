"""SMFNet: its losses, its ablations, and how it is trained (Zhang et al., arXiv:2407.06159, Sec. III-E, Eqs. 23-31).

Two stages: first rebuilding each image, then fusing. Paper and published code differ. Two terms of the code have no
effect on the training and are left out or made to work:

- A Lovasz term of the visible reconstruction is a softmax over one channel, which is 1 whatever the image: constant.
- The decomposition terms turn the correlations into Python numbers, which carry no gradient. Here they carry one;
  `LossOptions.authors_decomposition` brings the code's behaviour back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.enhanced import GradientResidualDense
from evalkit.methods.layers.graph import IntraModalityGraph
from evalkit.methods.layers.invertible import ClampedCoupling, InvertibleNode
from evalkit.methods.layers.luminance import luminance
from evalkit.methods.layers.restormer import TransformerBlock
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.smfnet import METHODS, Fusion, Options, Reconstruction, SMFNet
from evalkit.training.data import Batch
from evalkit.training.options import ablation_of, updated
from evalkit.training.precision import full_precision
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System
from evalkit.training.terms import (
    SOBEL,
    correlation,
    intensity_loss,
    joint_gradient_loss,
    similarity_map,
    sobel_gradient,
)


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms, and what paper and code do differently.

    Attributes:
        ssim, gradient: beta1 and beta2 of Eqs. 24 and 25.
        spatial_gradient: of a second gradient term of the visible image, 5 in the code, not in the paper.
        semantic: of Eq. 26; 0 in AE5.
        decomposition_one: alpha1 of Eq. 23, 5 in the paper, 2 in the code.
        decomposition_two: of Eq. 31 in Eq. 28; the paper gives it 10 and the gradient 2, the code the reverse, as
            CDDFuse does.
        gradient_two: of Eq. 30 in Eq. 28.
        delta: keeps the denominators of Eqs. 27 and 31 positive.
        halved_ssim: (1 - SSIM) / 2 as the code's library has it, else 1 - SSIM.
        clamped_ssim: a negative SSIM counts as 0 and has no gradient, as in the release of that library that the code
            asks for.
        authors_decomposition: as the code: one correlation over the whole batch, the detail features twice instead of
            the graph features in stage II, and no gradient.
        graph_in_stage_one: the graph features join Eq. 27 as they do Eq. 31 (AE6).
    """

    ssim: float = 8
    gradient: float = 10
    spatial_gradient: float = 0
    semantic: float = 1
    decomposition_one: float = 2
    decomposition_two: float = 2
    gradient_two: float = 10
    delta: float = 1.01
    halved_ssim: bool = True
    clamped_ssim: bool = False
    authors_decomposition: bool = False
    graph_in_stage_one: bool = False


PAPER = LossOptions(decomposition_one=5, decomposition_two=10, gradient_two=2, halved_ssim=False)
AUTHORS = LossOptions(spatial_gradient=5, clamped_ssim=True, authors_decomposition=True)


def structural_loss(image: Tensor, rebuilt: Tensor, halved: bool = True, clamped: bool = False) -> Tensor:
    """1 - SSIM, or half of it (below Eq. 24): two (N, 1, H, W) in [0, 1], sides of at least 6 -> scalar.

    Args:
        image, rebuilt: (N, 1, H, W) in [0, 1], sides of at least 6.
        halved: (1 - SSIM) / 2.
        clamped: at every pixel an SSIM below 0 counts as 0.
    """
    similarity = similarity_map(image, rebuilt)
    return (1 - (similarity.clamp_min(0) if clamped else similarity)).mean() / (2 if halved else 1)


def gradient_loss(image: Tensor, rebuilt: Tensor) -> Tensor:
    """Mean difference of the Sobel gradients (below Eq. 24): two (N, 1, H, W) -> scalar."""
    return functional.l1_loss(sobel_gradient(rebuilt), sobel_gradient(image))


def spatial_gradient_loss(image: Tensor, rebuilt: Tensor) -> Tensor:
    """Mean difference of the signed derivatives, an eighth of Sobel's, border repeated: two (N, 1, H, W) -> scalar.

    In the code only.
    """
    horizontal = torch.tensor(SOBEL, dtype=image.dtype, device=image.device) / 8
    kernels = torch.stack((horizontal, horizontal.T))[:, None]
    padded = functional.pad(rebuilt - image, (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(padded, kernels).abs().mean()


def gram(features: Tensor) -> Tensor:
    """Products between channels, averaged over channels and pixels: (N, C, H, W) -> (N, C, C)."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat[0].numel()


def semantic_loss(image: Tensor, rebuilt: Tensor, features: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Squared difference of the Gram matrices (Eq. 26): two (N, 1, H, W) -> scalar.

    The Gram matrix of a gray image is one number, its mean square: as published, this term matches the energy of two
    images and nothing else. `features` (of a classifier, say) taken first make it what its name promises.

    Args:
        image, rebuilt: (N, 1, H, W) in [0, 1].
        features: image -> (N, C, H', W').
    """
    if features is not None:
        image, rebuilt = features(image), features(rebuilt)
    return functional.mse_loss(gram(rebuilt), gram(image))


def decomposition_loss(low: list[tuple[Tensor, Tensor]], high: tuple[Tensor, Tensor], delta: float = 1.01) -> Tensor:
    """Sum of CC² over pairs of features that should differ, divided by CC + delta of those that should agree.

    Eq. 27 with `low` = [detail], Eq. 31 with `low` = [detail, graph]; `high` = base; each pair is that of infrared and
    visible, (N, C, H, W) -> scalar >= 0.

    Args:
        low: pairs of infrared and visible features (N, C, H, W) that should differ.
        high: a pair that should agree.
        delta: keeps the denominator positive.
    """
    return _ratio([correlation(*pair) for pair in low], correlation(*high), delta)


def authors_decomposition_loss(
    low: list[tuple[Tensor, Tensor]], high: tuple[Tensor, Tensor], delta: float = 1.01
) -> Tensor:
    """The same with one correlation over the batch, and without any gradient: a constant to the training.

    Args:
        low, high, delta: as for `decomposition_loss`.
    """
    with torch.no_grad():
        return _ratio([correlation(*pair, whole=True) for pair in low], correlation(*high, whole=True), delta)


def _ratio(low: list[Tensor], high: Tensor, delta: float) -> Tensor:
    return torch.stack(low).square().sum() / (high + delta)


@full_precision
def stage_one_terms(
    output: Reconstruction, infrared: Tensor, visible: Tensor, options: LossOptions | None = None
) -> dict[str, Tensor]:
    """The weighted terms of Eq. 23, by name; their sum is the loss. Terms of weight 0 are not there.

    Args:
        output: of `SMFNet.reconstruct`.
        infrared, visible: what went in, (N, 1, H, W) in [0, 1].
        options: weights of the terms; those of the code when None.
    """
    options = options or LossOptions()
    pairs = {"visible": (visible, output.visible), "infrared": (infrared, output.infrared)}
    terms: dict[str, Tensor] = {}
    for name, pair in pairs.items():
        terms[f"{name} ssim"] = options.ssim * structural_loss(*pair, options.halved_ssim, options.clamped_ssim)
        terms[f"{name} gradient"] = options.gradient * gradient_loss(*pair)
    if options.spatial_gradient:
        terms["visible spatial gradient"] = options.spatial_gradient * spatial_gradient_loss(*pairs["visible"])
    if options.semantic:
        terms["semantic"] = options.semantic * semantic_loss(*pairs["infrared"])
    terms["decomposition"] = options.decomposition_one * _decomposition(output, options, options.graph_in_stage_one)
    return terms


@full_precision
def stage_two_terms(
    output: Fusion, infrared: Tensor, visible: Tensor, options: LossOptions | None = None
) -> dict[str, Tensor]:
    """The weighted terms of Eq. 28, by name; their sum is the loss.

    Args:
        output: of `SMFNet.fuse`.
        infrared, visible: what went in, (N, 1, H, W) in [0, 1].
        options: weights of the terms; those of the code when None.
    """
    options = options or LossOptions()
    return {
        "intensity": intensity_loss(output.fused, infrared, visible),
        "gradient": options.gradient_two * joint_gradient_loss(output.fused, infrared, visible),
        "decomposition": options.decomposition_two * _decomposition(output, options, graph=True),
    }


def _decomposition(output: Reconstruction | Fusion, options: LossOptions, graph: bool) -> Tensor:
    """Eq. 27, or with `graph` Eq. 31; without a graph branch both are Eq. 27."""
    a, b = output.infrared_features, output.visible_features
    base, detail = (a.base, b.base), (a.detail, b.detail)
    low = [detail]
    if graph and a.graph is not None and b.graph is not None:
        low.append(detail if options.authors_decomposition else (a.graph, b.graph))
    loss = authors_decomposition_loss if options.authors_decomposition else decomposition_loss
    return loss(low, base, options.delta)


def stage_one_loss(
    output: Reconstruction, infrared: Tensor, visible: Tensor, options: LossOptions | None = None
) -> Tensor:
    """Eq. 23: output of `SMFNet.reconstruct` and its inputs -> scalar.

    Args:
        output, infrared, visible, options: as for `stage_one_terms`.
    """
    return torch.stack(list(stage_one_terms(output, infrared, visible, options).values())).sum()


def stage_two_loss(output: Fusion, infrared: Tensor, visible: Tensor, options: LossOptions | None = None) -> Tensor:
    """Eq. 28: output of `SMFNet.fuse` and its inputs -> scalar.

    Args:
        output, infrared, visible, options: as for `stage_two_terms`.
    """
    return torch.stack(list(stage_two_terms(output, infrared, visible, options).values())).sum()


# --- ablations


@dataclass(frozen=True)
class Ablation:
    """A row of Table VI: what is built, what it learns from, and for how many epochs in stage I and stage II."""

    title: str
    network: Options = field(default_factory=Options)
    loss: LossOptions = field(default_factory=LossOptions)
    epochs: tuple[int, int] = (40, 80)


ABLATIONS: dict[str, Ablation] = {
    "AE1": Ablation("from CAI to INN block", network=Options(detail="inn")),
    "AE2": Ablation("BFE w/o residual connections", network=Options(base_residual=False)),
    "AE3": Ablation("w/o GNN", network=Options(graph=False)),
    "AE4": Ablation("exchange detail and base fusion layer", network=Options(swap_fusion=True)),
    "AE5": Ablation("w/o semantic loss in stage I", loss=LossOptions(semantic=0)),
    "AE6": Ablation("both stages with CC of the graph features", loss=LossOptions(graph_in_stage_one=True)),
    "AE7": Ablation("w/o two-stage training", epochs=(0, 120)),
    "AE8": Ablation("SMFNet"),
}


# --- training


def options_of(recipe: Recipe) -> tuple[Options, LossOptions]:
    """Sizes and losses: the recipe's, with what the ablation changes."""
    ablation = ablation_of(ABLATIONS, recipe) or Ablation("")
    return updated(ablation.network, recipe.network, recipe), updated(ablation.loss, recipe.loss, recipe)


class SMFNetSystem(System):
    """Stage `reconstruct` learns encoder, graph and decoder by Eq. 23, `fuse` all by Eq. 28."""

    name = "SMFNet"
    network: SMFNet
    segments = (TransformerBlock, InvertibleNode, ClampedCoupling, GradientResidualDense, IntraModalityGraph)

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
        ablation = ablation_of(ABLATIONS, recipe)
        if ablation is None or ablation.epochs[0]:
            return recipe
        total = sum(stage.epochs for stage in recipe.stages)
        stages = [stage.model_copy(update={"epochs": total if stage.name == "fuse" else 0}) for stage in recipe.stages]
        return recipe.model_copy(update={"stages": tuple(stages)})

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        options, _ = options_of(recipe)
        return replace(METHODS[cls.name], build=partial(SMFNet, options))


SYSTEM = SMFNetSystem
