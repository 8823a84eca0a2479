"""PSFusion: its losses, its ablations, and how it is trained (Tang et al., doi:10.1016/j.inffus.2023.101870).

Fusion, reconstruction and segmentation in one stage (Eqs. 16 to 23). Paper and published code differ in most terms;
`LossOptions` has both. Two things to know:

- The authors' training script hands visible and infrared to the fusion loss in the wrong order: its fused image follows
  the *visible* one in targets and where that one has more contrast. That contradicts Eq. 17 unless their stored masks
  (not published) are inverted. The default has Eq. 17's roles; `authors_order` the script's.
- Contrast masks and targets come from the sources and labels: they steer the gradients and get none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from evalkit.methods.layers.colour import to_ycrcb
from evalkit.methods.layers.resnet import BasicBlock
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.psfusion import METHODS, Outputs, PSFusion, load_backbone
from evalkit.methods.networks.psfusion_modules import (
    DenseSceneReconstruction,
    ProfoundSemanticFusion,
    SceneFidelityPath,
    SuperficialDetailFusion,
)
from evalkit.training.data import Batch
from evalkit.training.options import ablation_of, built, updated
from evalkit.training.precision import full_precision
from evalkit.training.pretrained import pretrained
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System
from evalkit.training.terms import correlation, hard_cross_entropy, sobel_derivatives, sobel_gradient

SALIENT = (1, 2, 3)  # car, person and bike of MSRS; the paper names no classes
BINARY_WEIGHTS = (1.4548, 19.8962)  # of background and objects
NOISE = 1e-6  # a variance below this (a standard deviation of a quarter gray level) is rounding
EPSILON = 1e-6


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms, and what paper and code do differently.

    Attributes:
        fusion, fidelity, semantic: lambda_f, lambda_sf and lambda_se of Eq. 22.
        correlation: alpha of Eq. 20.
        intensity: "eq17"; "code" for one source per pixel and squared differences; "unmasked" for Eq. 23 (w/o Mask).
        authors_order: exchange the roles of the sources in the intensity term, as the authors' script does.
        joint_texture: compare |horizontal| + |vertical| in Eq. 18, else each derivative, as the code does.
        fidelity_gradient: "sobel" for Eq. 21, or "second" order as in the code.
        whole_correlation: one correlation over the batch, as in the code, else one per image.
        least_correlation: see `correlation_loss`.
        heads: "bce" on both channels of the binary and the boundary head, as in the code, or the paper's "ce".
        hard_share: share of the pixels that the semantic loss uses at least: 65,536, of 16 crops of 256x256 or of the 4
            that are the default of the authors' script.
    """

    fusion: float = 10
    fidelity: float = 5
    semantic: float = 10
    correlation: float = 0.1
    intensity: Literal["eq17", "code", "unmasked"] = "eq17"
    authors_order: bool = False
    joint_texture: bool = False
    fidelity_gradient: Literal["sobel", "second"] = "sobel"
    whole_correlation: bool = True
    least_correlation: float | None = None
    heads: Literal["bce", "ce"] = "bce"
    hard_share: float = 1 / 16


PAPER = LossOptions(whole_correlation=False, heads="ce")
AUTHORS = LossOptions(intensity="code", authors_order=True, fidelity_gradient="second", hard_share=1 / 4)


class Targets(NamedTuple):
    """What the label map of a scene teaches.

    Attributes:
        salient: (N, 1, H, W), 1 in thermal targets (M_tar of Eq. 17), else 0.
        semantic: classes (N, H, W), 255 where unknown.
        binary: (N, H, W), 1 in objects of any class, else 0.
        boundary: (N, H, W), 1 where classes meet, else 0.
    """

    salient: Tensor
    semantic: Tensor
    binary: Tensor
    boundary: Tensor


def targets_of(labels: Tensor, salient: tuple[int, ...] = SALIENT) -> Targets:
    """Integer classes (N, H, W), 0 for background -> Targets. A boundary is a 3x3 neighbourhood of several classes."""
    classes = labels[:, None].float()
    highest = functional.max_pool2d(classes, 3, stride=1, padding=1)
    lowest = -functional.max_pool2d(-classes, 3, stride=1, padding=1)
    is_salient = torch.isin(labels, torch.tensor(salient, device=labels.device))
    return Targets(is_salient[:, None].float(), labels.long(), (labels > 0).long(), (highest > lowest)[:, 0].long())


# --- fusion


def window_mean(image: Tensor, window: Tensor) -> Tensor:
    """Mean under a separable window (k,), k odd, zeros around the image: (N, 1, H, W) -> the same shape."""
    reach = len(window) // 2
    image = functional.conv2d(image, window[None, None, :, None], padding=(reach, 0))
    return functional.conv2d(image, window[None, None, None, :], padding=(0, reach))


def local_variance(image: Tensor) -> Tensor:
    """Variance under a 9x9 Gaussian of sigma 1.5, at least NOISE: (N, 1, H, W) -> the same shape.

    As in the code zeros surround the image, so that four pixels of border vary with their brightness.
    """
    offsets = torch.arange(-4, 5, dtype=image.dtype, device=image.device)
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = window / window.sum()
    return (window_mean(image**2, window) - window_mean(image, window) ** 2).clamp_min(NOISE)


def contrast_masks(infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """M_ir and M_vi of Eq. 16: 1 where an image varies more than the other, both 0 at ties: (N, 1, H, W) each."""
    of_infrared, of_visible = local_variance(infrared), local_variance(visible)
    return (of_infrared > of_visible).to(infrared), (of_visible > of_infrared).to(visible)


def intensity_loss(
    fused: Tensor, *, infrared: Tensor, visible: Tensor, salient: Tensor, authors_order: bool = False
) -> Tensor:
    """Mean distance from both sources, weighted by contrast and targets, Eq. 17: four (N, 1, H, W) -> scalar.

    The weights are sigmoids of 0, 1 or 2: .5, .73 or .88, so neither source is ever left out.

    Args:
        fused, infrared, visible: luminances (N, 1, H, W) in [0, 1].
        salient: (N, 1, H, W), 1 in thermal targets, else 0.
        authors_order: exchange the roles of the sources.
    """
    if authors_order:
        infrared, visible = visible, infrared
    of_infrared, of_visible = contrast_masks(infrared, visible)
    from_infrared = torch.sigmoid(of_infrared + salient) * (fused - infrared).abs()
    from_visible = torch.sigmoid(of_visible + 1 - salient) * (fused - visible).abs()
    return from_infrared.mean() + from_visible.mean()


def selected_intensity_loss(
    fused: Tensor, *, infrared: Tensor, visible: Tensor, salient: Tensor, authors_order: bool = False
) -> Tensor:
    """Eq. 17 as the code has it: squared distance, averaged over 9x9, from one source per pixel -> scalar.

    That is infrared where it varies more or a target is, visible elsewhere.

    Args:
        fused, infrared, visible, salient, authors_order: as for `intensity_loss`.
    """
    if authors_order:
        infrared, visible = visible, infrared
    use_infrared = (contrast_masks(infrared, visible)[0] + salient > 0).to(fused)
    box = torch.full((9,), 1 / 9, dtype=fused.dtype, device=fused.device)
    error_infrared, error_visible = (window_mean((fused - source) ** 2, box) for source in (infrared, visible))
    return (use_infrared * error_infrared + (1 - use_infrared) * error_visible).mean()


def unmasked_intensity_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Mean distance from both sources, Eq. 23: three (N, 1, H, W) -> scalar.

    Args:
        fused, infrared, visible: luminances (N, 1, H, W) in [0, 1].
    """
    return functional.l1_loss(fused, infrared) + functional.l1_loss(fused, visible)


def texture_loss(fused: Tensor, infrared: Tensor, visible: Tensor, joint: bool = False) -> Tensor:
    """Mean distance of the Sobel gradient from the stronger one, Eq. 18: three (N, 1, H, W) -> scalar.

    Horizontal and vertical derivatives each have their maximum and their mean, which are added; with `joint` their sum
    is compared.

    Args:
        fused, infrared, visible: luminances (N, 1, H, W) in [0, 1].
        joint: compare |horizontal| + |vertical|.
    """
    gradient = sobel_gradient if joint else sobel_derivatives
    strongest = torch.maximum(gradient(infrared), gradient(visible))
    return _mean_of_sums(gradient(fused) - strongest)


def correlation_loss(
    fused: Tensor, infrared: Tensor, visible: Tensor, whole: bool = True, least: float | None = None
) -> Tensor:
    """1 / (correlation with infrared + correlation with visible), Eq. 19: three (N, 1, H, W) -> scalar.

    At best 1/2. EPSILON keeps a sum of 0 finite. As published, a negative sum makes the loss negative, and descending
    drives the sum towards 0 from below, where the pole is. With `least` a sum below it counts as it, without gradient.
    Next to the pole the gradient grows with 1 / sum² and can push an untrained network, whose output correlates with
    nothing yet, into a constant image: begin with small steps, as the authors' warm-up from 1e-5 does.

    Args:
        fused, infrared, visible: (N, 1, H, W).
        whole: one correlation over the values of the whole batch, as in the code, else the mean over images.
        least: of the sum of both correlations; none as published.
    """
    total = correlation(fused, infrared, whole) + correlation(fused, visible, whole)
    return 1 / ((total if least is None else total.clamp_min(least)) + EPSILON)


# --- scene fidelity


def second_derivatives(image: Tensor) -> Tensor:
    """Sum of |xx|, |xy| and |yy| over the channels, border repeated: (N, C, H, W) -> (N, 1, H, W).

    5x5 kernels, each Sobel's with itself or with its transpose, divided by the sum of their absolute values.
    """
    derivative, smooth = image.new_tensor([1, 2, 0, -2, -1]), image.new_tensor([1, 4, 6, 4, 1])
    second = image.new_tensor([-1, 0, 2, 0, -1])
    kernels = torch.stack((smooth.outer(second), derivative.outer(derivative), second.outer(smooth)))
    kernels = kernels / kernels.abs().sum(dim=(1, 2), keepdim=True)
    padded = functional.pad(image, (2, 2, 2, 2), mode="replicate")
    channels = image.shape[1]
    maps = functional.conv2d(padded, kernels[:, None].repeat(channels, 1, 1, 1), groups=channels)
    return maps.abs().sum(dim=1, keepdim=True)


def fidelity_loss(rebuilt: Tensor, source: Tensor, gradient: Literal["sobel", "second"] = "sobel") -> Tensor:
    """Mean distance of a reconstruction and of its gradients, Eq. 21: two (N, 1, H, W) -> scalar.

    Args:
        rebuilt, source: (N, 1, H, W) in [0, 1].
        gradient: "sobel" (paper) or "second" order (code).
    """
    slope = sobel_derivatives if gradient == "sobel" else second_derivatives
    return functional.l1_loss(rebuilt, source) + _mean_of_sums(slope(rebuilt) - slope(source))


def _mean_of_sums(maps: Tensor) -> Tensor:
    """||.||_1 / (H W) of (N, C, H, W), averaged over the batch."""
    return maps.abs().sum(dim=1).mean()


# --- segmentation


def binary_loss(
    logits: Tensor, target: Tensor, kind: Literal["bce", "ce"] = "bce", weights: tuple[float, float] = BINARY_WEIGHTS
) -> Tensor:
    """L_bi, and with weights of 1 L_bd: logits (N, 2, H, W), 0 or 1 (N, H, W) -> scalar.

    "bce" takes each channel for a logit of its own and weights what it should find; "ce" takes both for one softmax
    and weights the classes, as the paper says.

    Args:
        logits: (N, 2, H, W).
        target: 0 or 1, (N, H, W) integers.
        kind: "bce" (code) or "ce" (paper).
        weights: of 0 and of 1.
    """
    per_class = logits.new_tensor(weights)
    if kind == "ce":
        return functional.cross_entropy(logits, target, weight=per_class)
    channels = functional.one_hot(target, 2).movedim(-1, 1).to(logits)
    return functional.binary_cross_entropy_with_logits(logits, channels, pos_weight=per_class[:, None, None])


def semantic_loss(logits: Tensor, labels: Tensor, share: float = 1 / 16) -> Tensor:
    """L_se: cross-entropy of the hard pixels, at least `share` of all: (N, classes, H, W), (N, H, W) -> scalar.

    Args:
        logits: (N, classes, H, W).
        labels: (N, H, W) integers, 255 where unknown.
        share: of the pixels, that count at least.
    """
    return hard_cross_entropy(logits, labels, minimum=int(labels.numel() * share))


# --- all


@full_precision
def psfusion_terms(
    outputs: Outputs, infrared: Tensor, visible: Tensor, targets: Targets, options: LossOptions | None = None
) -> dict[str, Tensor]:
    """The weighted terms of Eq. 22, by name; their sum is the loss. Terms of heads that are not there are left out.

    Args:
        outputs: of `PSFusion.outputs`.
        infrared: (N, 1, H, W) in [0, 1].
        visible: RGB (N, 3, H, W) in [0, 1], of which the luminance counts.
        targets: `targets_of` the labels.
    """
    o = options or LossOptions()
    visible = to_ycrcb(visible)[:, :1]
    if o.intensity == "unmasked":
        intensity = unmasked_intensity_loss(outputs.fused, infrared, visible)
    else:
        loss = intensity_loss if o.intensity == "eq17" else selected_intensity_loss
        intensity = loss(
            outputs.fused,
            infrared=infrared,
            visible=visible,
            salient=targets.salient,
            authors_order=o.authors_order,
        )
    correlated = correlation_loss(outputs.fused, infrared, visible, o.whole_correlation, o.least_correlation)
    terms = {
        "intensity": o.fusion * intensity,
        "texture": o.fusion * texture_loss(outputs.fused, infrared, visible, o.joint_texture),
        "correlation": o.fusion * o.correlation * correlated,
    }
    for name, rebuilt, source in (("visible", outputs.visible, visible), ("infrared", outputs.infrared, infrared)):
        if rebuilt is not None:
            terms[f"{name} fidelity"] = o.fidelity * fidelity_loss(rebuilt, source, o.fidelity_gradient)
    if outputs.semantic is not None:
        terms["semantic"] = o.semantic * semantic_loss(outputs.semantic, targets.semantic, o.hard_share)
    if outputs.boundary is not None:
        terms["boundary"] = o.semantic * binary_loss(outputs.boundary, targets.boundary, o.heads, weights=(1, 1))
    if outputs.binary is not None:
        terms["binary"] = o.semantic * binary_loss(outputs.binary, targets.binary, o.heads)
    return terms


def psfusion_loss(
    outputs: Outputs, infrared: Tensor, visible: Tensor, targets: Targets, options: LossOptions | None = None
) -> Tensor:
    """Eq. 22: the sum of `psfusion_terms` -> scalar.

    Args:
        outputs, infrared, visible, targets, options: as for `psfusion_terms`.
    """
    return torch.stack(list(psfusion_terms(outputs, infrared, visible, targets, options).values())).sum()


# --- ablations


@dataclass(frozen=True)
class Ablation:
    """A row of the paper's ablation tables.

    Attributes:
        build: the network.
        loss: options that differ from the recipe's, of `LossOptions`; terms of parts that the network does not
            have are left out by themselves.
    """

    build: Callable[..., PSFusion] = PSFusion
    loss: Mapping[str, str] = field(default_factory=dict)


# Tables 3 and 4. Without S2P2 the S2PM stays and is still injected, but nothing teaches it segmentation.
ABLATIONS: dict[str, Ablation] = {
    "w/o Mask": Ablation(loss={"intensity": "unmasked"}),
    "w/o SFP": Ablation(partial(PSFusion, scene_fidelity=False)),
    "w/o S2P2": Ablation(partial(PSFusion, semantic_path=False)),
    "w/o PSFM": Ablation(partial(PSFusion, profound_fusion=False)),
}


# --- training


def options_of(recipe: Recipe) -> tuple[Callable[..., PSFusion], LossOptions]:
    """Network and losses: the recipe's, with what the ablation changes. Raises UnknownNameError."""
    ablation = ablation_of(ABLATIONS, recipe) or Ablation()
    return built(ablation.build, recipe.network, recipe), updated(
        LossOptions(), {**recipe.loss, **ablation.loss}, recipe
    )


class PSFusionSystem(System):
    """All heads learn at once by Eq. 22; the targets come from the classes of the label map."""

    name = "PSFusion"
    network: PSFusion
    segments = (
        BasicBlock,
        SuperficialDetailFusion,
        ProfoundSemanticFusion,
        DenseSceneReconstruction,
        SceneFidelityPath,
    )

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        build, self.loss = options_of(recipe)
        self.network = build()

    def prepare(self, weights: Path | None) -> None:
        file = pretrained(self.recipe, "backbone", weights, "torchvision's ImageNet weights of ResNet-34")
        if file is not None:
            load_backbone(self.network, *file)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        infrared, visible = batch["infrared"], batch["visible"]
        outputs = self.network.outputs(infrared, visible)
        return psfusion_terms(outputs, infrared, visible, targets_of(batch["classes"]), self.loss)

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        return replace(METHODS[cls.name], build=options_of(recipe)[0])


SYSTEM = PSFusionSystem
