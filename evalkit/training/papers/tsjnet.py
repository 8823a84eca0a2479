"""TSJNet: its losses, its ablations, and how it is trained (Jie et al., arXiv:2402.01212), by the paper's equations.

Fusion terms, and those of a frozen detector and a frozen segmenter. Two presets weigh the fusion terms. "code", of the
authors' published training, is the one to use: the paper's loss has no term for the brightness or the edges of the
fused image. Where both differ:

- Eq. 8: one half for each image (paper), or shares by mean Sobel gradient (code).
- Eq. 9: the paper prints a minus before the first part, which attention of 0 everywhere minimises; the code has a plus,
  which keeps one map high and the others low. Both presets take the plus.
- Eq. 10: the reconstruction that weighs 6 is the infrared one (paper), or the visible one (code).
- Eqs. 11, 12: L1 box regression (paper), or three of the detector's four losses (code).

A detector and a segmenter are given from outside, trained and then frozen (`freeze`): the paper never optimises them.
With them frozen, two terms of Eq. 11, those of the infrared and the visible image, do not depend on the fusion network:
they shift the loss and have no gradient.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.errors import EvalkitError, UnknownNameError
from evalkit.methods.layers.borders import padded
from evalkit.methods.layers.luminance import luminance
from evalkit.methods.layers.nat import NeighbourhoodBlock
from evalkit.methods.layers.resnest import Bottleneck
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.tsjnet import (
    METHODS,
    PUBLISHED,
    Decoder,
    DetailSalience,
    Encoder,
    Outputs,
    Sizes,
    TSJNet,
)
from evalkit.training.critics import (
    DetectionCritic,
    SegmentationCritic,
    load_detector,
    load_segmenter,
    random_detector,
    random_segmenter,
)
from evalkit.training.data import Batch
from evalkit.training.options import ablation_of, updated
from evalkit.training.precision import full_precision
from evalkit.training.pretrained import pretrained
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System
from evalkit.training.terms import intensity_loss, joint_gradient_loss, sobel_gradient, structural_similarity

# names of a Faster R-CNN's losses in torchvision; the fourth, of the classes, is left out as in the paper
DETECTOR_LOSSES = ("loss_box_reg", "loss_objectness", "loss_rpn_box_reg")


@dataclass(frozen=True)
class Weights:
    """Factors of the fusion terms; 0 leaves a term out.

    Attributes:
        intensity, gradient: of the terms that only the code has.
        ssim: of Eq. 8.
        diversity: alpha_1 of Eq. 10.
        infrared, visible: of the reconstructions, alpha_2 and alpha_3 of Eq. 10.
        shares: SSIM weighted by `gradient_shares`, not by halves.
        printed_sign: Eq. 9 with the minus as printed.
    """

    intensity: float
    gradient: float
    ssim: float
    diversity: float
    infrared: float
    visible: float
    shares: bool
    printed_sign: bool = False


PRESETS = {
    "paper": Weights(intensity=0, gradient=0, ssim=1, diversity=0.1, infrared=6, visible=1, shares=False),
    "code": Weights(intensity=20, gradient=20, ssim=10, diversity=0.1, infrared=1, visible=6, shares=True),
}


def ssim_loss(fused: Tensor, infrared: Tensor, visible: Tensor, share: Tensor | float = 0.5) -> Tensor:
    """Eq. 8: share (1 - SSIM(F, I)) + (1 - share) (1 - SSIM(F, V)), images (N, 1, H, W) in [0, 1] -> scalar >= 0.

    As in the code zeros surround the images, of which the paper says nothing.

    Args:
        fused, infrared, visible: luminances (N, 1, H, W) in [0, 1].
        share: of the infrared image, in [0, 1].
    """
    with_infrared, with_visible = (structural_similarity(fused, x, border="zeros") for x in (infrared, visible))
    return 1 - (share * with_infrared + (1 - share) * with_visible)


def gradient_shares(infrared: Tensor, visible: Tensor) -> Tensor:
    """The infrared images' share of the mean Sobel gradient of both, in [0, 1]; one half where neither has any."""
    one, other = (sobel_gradient(image).mean() + 1e-8 for image in (infrared, visible))
    return one / (one + other)


def diversity_loss(attention: Tensor, printed_sign: bool = False) -> Tensor:
    """Eq. 9 on the decoder's maps (N, G, H, W) in [0, 1]: mean over the pixels of 1 - max over G, plus the mean map.

    With the plus of the code it is 1 / G where every pixel has one map at 1 and the others at 0, and 1 where all are 0
    or all are 1. With `printed_sign` the first part is subtracted.
    """
    lacking = (1 - attention.amax(dim=1)).mean()
    return (-lacking if printed_sign else lacking) + attention.mean()


def reconstruction_loss(image: Tensor, reconstructed: Tensor) -> Tensor:
    """L'_mse and L''_mse of Eq. 10: the mean squared difference to what the decoder makes of the image's features."""
    return functional.mse_loss(reconstructed, image)


@full_precision
def fusion_terms(outputs: Outputs, infrared: Tensor, visible: Tensor, weights: Weights) -> dict[str, Tensor]:
    """The terms of L_MFF (Eq. 10) with their weights; their sum is the fusion loss.

    Args:
        outputs: of `TSJNet.outputs`.
        infrared, visible: what went in, (N, 1, H, W) in [0, 1].
        weights: one of `PRESETS`.
    """
    fused = outputs.fused
    share = gradient_shares(infrared, visible) if weights.shares else 0.5
    terms = {
        "intensity": lambda: intensity_loss(fused, infrared, visible),
        "gradient": lambda: joint_gradient_loss(fused, infrared, visible),
        "ssim": lambda: ssim_loss(fused, infrared, visible, share),
        "diversity": lambda: diversity_loss(outputs.attention, weights.printed_sign),
        "infrared": lambda: reconstruction_loss(infrared, outputs.infrared),
        "visible": lambda: reconstruction_loss(visible, outputs.visible),
    }
    return {name: getattr(weights, name) * term() for name, term in terms.items() if getattr(weights, name)}


def box_loss(classes: Tensor, predicted: Tensor, target: Tensor) -> Tensor:
    """Eq. 12: [u >= 1] L1(t^u, v), mean over the regions, summed over the four coordinates.

    Args:
        classes: (R,) integers u, 0 for background, whose boxes do not count.
        predicted: (R, 4) box offsets for the true class.
        target: (R, 4) what they should be.

    Returns:
        Scalar; 0 with a gradient of 0 where there is no object.
    """
    objects = (classes >= 1).to(predicted.dtype)
    return (objects[:, None] * (predicted - target).abs()).sum() / max(len(classes), 1)


def detector_loss(losses: Mapping[str, Tensor], names: tuple[str, ...] = DETECTOR_LOSSES) -> Tensor:
    """The detector's own losses for one kind of image, as the code sums them; `loss_classifier` is left out.

    Args:
        losses: what a detector in training mode returns, by torchvision's names.
        names: those to add; `("loss_box_reg",)` is the paper's regression alone.
    """
    return torch.stack([losses[name] for name in names]).sum()


def detection_loss(infrared: Tensor, visible: Tensor, fused: Tensor) -> Tensor:
    """Eq. 11: the scalars of the three kinds of images. Only the last one depends on the fusion network.

    The code has one detector for infrared and fused images and another for visible ones.

    Args:
        infrared, visible, fused: `detector_loss` of each kind of image, scalars.
    """
    return infrared + visible + fused


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 13: mean cross-entropy of the segmenter's logits (N, C, H, W) with integer labels (N, H, W) in 0..C - 1.

    The segmenter sees the fused image repeated to three channels. Its classes must be those of the labels: one that was
    trained on others needs a new last layer.
    """
    if labels.is_floating_point():
        raise ValueError(f"segmentation labels are {labels.dtype}, expected integers")
    return functional.cross_entropy(logits, labels.long())


def total_loss(fusion: Tensor, detection: Tensor | None = None, segmentation: Tensor | None = None) -> Tensor:
    """Eq. 7: L_MFF + L_Det + L_Seg. None leaves a term out: in ablations, and without a critic.

    Args:
        fusion: sum of `fusion_terms`.
        detection, segmentation: `detector_loss` and `segmentation_loss`.
    """
    return sum((term for term in (detection, segmentation) if term is not None), fusion)


# --- ablations


@dataclass(frozen=True)
class Ablation:
    """One row of the paper's Table 3: which parts of the network and of the loss are there.

    Attributes:
        detail: the DSM, in the encoder and in the fusion. The paper does not say what takes its place; here nothing
            does: the features pass unchanged, and the decoder stays as it is.
        detection, segmentation: the terms of Eq. 7.
    """

    detail: bool = True
    detection: bool = True
    segmentation: bool = True

    def build(self, sizes: Sizes = PUBLISHED) -> TSJNet:
        return TSJNet(sizes, detail=self.detail)


ABLATIONS: dict[str, Ablation] = {
    "w/o DSM": Ablation(detail=False),
    "w/o L_Det": Ablation(detection=False),
    "w/o L_Seg": Ablation(segmentation=False),
    "w/o L_Det, L_Seg": Ablation(detection=False, segmentation=False),
}


# --- training


CRITICS = {"detection": ("detector", "boxes"), "segmentation": ("segmenter", "classes")}  # term: critic, its labels
DETECTOR = "torchvision's COCO weights of Faster R-CNN with a ResNet-50 and an FPN, which judges the fused images"
SEGMENTER = "torchvision's weights of DeepLabV3 with a ResNet-101, which judges the fused images"


@dataclass(frozen=True)
class LossOptions:
    """The terms of Eq. 7.

    Attributes:
        preset: of the fusion terms' factors, one of `PRESETS`.
        detection, segmentation: with the terms of the detector and the segmenter.
        detector_losses: those of the detector's losses that count; `loss_box_reg` alone is the paper's.
        authors_critics: both critics as the code has them (`load_detector`, `SegmentationCritic`).
        red: the red channel is the visible image, as in the code, not the luminance.
    """

    preset: str = "code"
    detection: bool = True
    segmentation: bool = True
    detector_losses: tuple[str, ...] = DETECTOR_LOSSES
    authors_critics: bool = False
    red: bool = False


AUTHORS = LossOptions(authors_critics=True, red=True)


def options_of(recipe: Recipe) -> tuple[Sizes, Ablation, LossOptions]:
    """Sizes, parts and losses: the recipe's, with what the ablation leaves out.

    Raises:
        UnknownNameError: an option, preset or variant that there is not.
        EvalkitError: a term without its critic or labels, or a variant that would leave out what is not there.
    """
    loss = updated(LossOptions(), recipe.loss, recipe)
    if loss.preset not in PRESETS:
        raise UnknownNameError("preset of TSJNet's losses", loss.preset, PRESETS)
    ablation = ablation_of(ABLATIONS, recipe) or Ablation()
    left_out: dict[str, Any] = {}
    for term, (critic, label) in CRITICS.items():
        if not getattr(loss, term):
            if not getattr(ablation, term):
                raise EvalkitError(
                    f"{recipe.variant} of TSJNet leaves out the {term} loss, which the recipe {recipe.name} does not "
                    f"have anyway. Take the recipe paper, or one with weights: {{{critic}: FILE}}."
                )
        elif critic not in recipe.weights or label not in recipe.data.labels:
            raise EvalkitError(
                f"the recipe {recipe.name} of TSJNet has a {term} loss and lacks its critic or its labels. Name both "
                f"(weights: {{{critic}: FILE}}, labels: [{label}]), or leave the term out (loss: {{{term}: false}})."
            )
        elif not getattr(ablation, term):
            left_out[term] = False
    return updated(PUBLISHED, recipe.network, recipe), ablation, replace(loss, **left_out)


class TSJNetSystem(System):
    """Eq. 7. Of Eq. 11 only the term of the fused image, the only one with a gradient.

    In the stage `settle` normalisation uses its running statistics. Before, every pass is normalised by its own, but
    infrared, visible and fused features go through the same layers, and the fusion method has one mean for them all.
    """

    name = "TSJNet"
    network: TSJNet
    # the bottlenecks lie within the first two: a step in float32 holds 13 GiB so, 29 with ResNeStStage for these three
    segments = (Encoder, Decoder, Bottleneck, NeighbourhoodBlock, DetailSalience)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        sizes, ablation, self.loss = options_of(recipe)
        self.network = TSJNet(sizes, detail=ablation.detail, pad_small=True)
        self.detector: DetectionCritic | None = None
        self.segmenter: SegmentationCritic | None = None

    def clipped(self, part: str) -> Sequence[nn.Module]:
        return list(self.network.children())  # encoder, decoder, both fusion layers, as in the code

    def load_critics(self, weights: Path | None) -> None:
        if self.loss.detection and (file := pretrained(self.recipe, "detector", weights, DETECTOR)):
            self.detector = load_detector(*file, self.loss.authors_critics)
        if self.loss.segmentation and (file := pretrained(self.recipe, "segmenter", weights, SEGMENTER)):
            self.segmenter = load_segmenter(*file, self.loss.authors_critics)

    def random_critics(self, missing: Collection[str]) -> None:
        if self.loss.detection and "detector" in missing:
            self.detector = random_detector()
        if self.loss.segmentation and "segmenter" in missing:
            self.segmenter = random_segmenter(self.loss.authors_critics)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        if moment.stage == "settle":
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        infrared = batch["infrared"]
        visible = batch["visible"][:, :1] if self.loss.red else luminance(batch["visible"])
        height, width = infrared.shape[-2:]
        images = self.network.outputs(*(padded(image, self.network.stride) for image in (infrared, visible)))
        outputs = Outputs(*(image[..., :height, :width] for image in images))
        terms = fusion_terms(outputs, infrared, visible, PRESETS[self.loss.preset])
        if self.detector is not None:
            detected = self.detector(outputs.fused, batch["boxes"])
            terms["detection"] = detector_loss(detected, self.loss.detector_losses)
        if self.segmenter is not None:
            terms["segmentation"] = segmentation_loss(
                self.segmenter(outputs.fused), self.segmenter.labels(batch["classes"])
            )
        return terms

    @classmethod
    def varied(cls, recipe: Recipe) -> Recipe:
        options_of(recipe)  # refuses what is wrong, without building a large network
        return recipe

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        sizes, ablation, _ = options_of(recipe)
        return replace(METHODS[cls.name], build=partial(TSJNet, sizes, detail=ablation.detail, pad_small=True))


SYSTEM = TSJNetSystem
