"""TSJNet: fusion terms, and those of a frozen detector and a frozen segmenter (Jie et al., arXiv:2402.01212)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.errors import EvalkitError, UnknownNameError
from evalkit.methods.layers.luminance import luminance
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.tsjnet import ABLATIONS, METHODS, PUBLISHED, Ablation, Outputs, Sizes, TSJNet, padded
from evalkit.training.critics import Detector, Segmenter, load_detector, load_segmenter
from evalkit.training.data import Batch
from evalkit.training.losses_tsjnet import DETECTOR_LOSSES, PRESETS, detector_loss, fusion_terms, segmentation_loss
from evalkit.training.options import chosen, updated
from evalkit.training.pretrained import pretrained
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System

CRITICS = {"detection": ("detector", "boxes"), "segmentation": ("segmenter", "classes")}  # term: critic, its labels
DETECTOR = "torchvision's COCO weights of Faster R-CNN with a ResNet-50 and an FPN, which judges the fused images"
SEGMENTER = "torchvision's weights of DeepLabV3 with a ResNet-101, which judges the fused images"


@dataclass(frozen=True)
class LossOptions:
    """The terms of Eq. 7.

    Attributes:
        preset: of the fusion terms' factors, one of `losses_tsjnet.PRESETS`.
        detection, segmentation: with the terms of the detector and the segmenter.
        detector_losses: those of the detector's losses that count; `loss_box_reg` alone is the paper's.
    """

    preset: str = "code"
    detection: bool = True
    segmentation: bool = True
    detector_losses: tuple[str, ...] = DETECTOR_LOSSES


def options_of(recipe: Recipe) -> tuple[Sizes, Ablation, LossOptions]:
    """Sizes, parts and losses: the recipe's, with what the ablation leaves out.

    Raises:
        UnknownNameError: an option, preset or variant that there is not.
        EvalkitError: a term without its critic or labels, or a variant that would leave out what is not there.
    """
    loss = updated(LossOptions(), recipe.loss, recipe)
    if loss.preset not in PRESETS:
        raise UnknownNameError("preset of TSJNet's losses", loss.preset, PRESETS)
    ablation = chosen(ABLATIONS, recipe) or Ablation()
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

    network: TSJNet

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        sizes, ablation, self.loss = options_of(recipe)
        self.network = TSJNet(sizes, detail=ablation.detail, pad_small=True)
        self.detector: Detector | None = None
        self.segmenter: Segmenter | None = None

    def load_critics(self, weights: Path | None) -> None:
        if self.loss.detection and (found := pretrained(self.recipe, "detector", weights, DETECTOR)):
            self.detector = load_detector(*found)
        if self.loss.segmentation and (found := pretrained(self.recipe, "segmenter", weights, SEGMENTER)):
            self.segmenter = load_segmenter(*found)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        if moment.stage == "settle":
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        infrared, visible = batch["infrared"], luminance(batch["visible"])
        height, width = infrared.shape[-2:]
        found = self.network.outputs(*(padded(image, self.network.stride) for image in (infrared, visible)))
        # SSIM and the like take differences of squares, for which half precision is too coarse
        with torch.autocast(infrared.device.type, enabled=False):
            outputs = Outputs(*(image[..., :height, :width].float() for image in found))
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
        return replace(METHODS["TSJNet"], build=partial(TSJNet, sizes, detail=ablation.detail, pad_small=True))


TRAINED = TSJNetSystem
