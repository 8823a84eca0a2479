"""SMR-Net: its losses, its ablations, and how it is trained (Xiao et al., AAAI 39(8), 2025, section "Loss Function").

Fusion network (PCI) and salient-object network (BPS) learn in turns, the fusion network by its own terms and, from the
second round on, by `detection_loss` with the detector frozen; the detector by `detection_loss`. The paper's formulas
have no numbers, and it writes the detector's loss for one map; decision: as in IRFS, whose decoder it takes, every map
of the decoder is supervised with weight 1. Where the detector passes no gradient through the bit planes
(`ste_slope="none"`), the coarse map is the only way from that loss to the fused image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.errors import UnknownNameError
from evalkit.methods.checkpoints import State, as_state, load_strictly
from evalkit.methods.complexity import NetworkCost, complexity
from evalkit.methods.layers.luminance import luminance
from evalkit.methods.layers.msgd import SaliencyMaps
from evalkit.methods.layers.resnet import imagenet_state
from evalkit.methods.network import NetworkMethod, Pixels, rounded, unit_gray
from evalkit.methods.networks.smrnet import METHODS, PCI, SALIENCY_SIZE, SalientObjects, SMRNet
from evalkit.methods.networks.smrnet_saliency import BPS
from evalkit.training.data import Batch
from evalkit.training.options import ablation_of, built, updated
from evalkit.training.precision import full_precision
from evalkit.training.pretrained import pretrained
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System
from evalkit.training.terms import intensity_loss, joint_gradient_loss, structure_weight, weighted_bce, weighted_iou


def saliency_loss(logits: Tensor, target: Tensor) -> Tensor:
    """L_sod = L_bce^w(M, GT) + L_iou^w(M, GT) of one map: logits and label (N, 1, H, W) -> scalar.

    Decision: the weights, which the paper does not define, are those of F3Net, as in IRFS.
    """
    weight = structure_weight(target)
    return weighted_bce(logits, target, weight) + weighted_iou(logits, target, weight)


@full_precision
def detection_loss(saliency: SaliencyMaps, target: Tensor) -> Tensor:
    """Sum of `saliency_loss` over the coarse maps of all three images, both sources, the joint map and the total.

    Decision: for the coarse maps the label is averaged over the area of each of their pixels.

    Args:
        saliency: of N pairs.
        target: label (N, 1, H, W) in [0, 1].
    """
    small = functional.interpolate(target, saliency.coarse.shape[-2:], mode="area").repeat(3, 1, 1, 1)
    full = (saliency.visible, saliency.thermal, saliency.joint, saliency.total)
    return saliency_loss(saliency.coarse, small) + sum(
        (saliency_loss(logits, target) for logits in full), target.new_zeros(())
    )


# --- ablations


ABLATIONS: dict[str, Callable[[], BPS]] = {
    "none": partial(BPS, slicing=False, deformable=False),
    "BS": partial(BPS, deformable=False),
    "DC": partial(BPS, slicing=False),
    "BS+DC": BPS,
    "bit 1": partial(BPS, planes=(1,)),
    "bit 2": partial(BPS, planes=(2,)),
    "bit 3": partial(BPS, planes=(3,)),
    "bit 4": partial(BPS, planes=(4,)),
    "bits 1-2": partial(BPS, planes=(1, 2)),
    "bits 1-3": partial(BPS, planes=(1, 2, 3)),
    "bits 1-4": partial(BPS, planes=(1, 2, 3, 4)),
}


# --- training


FUSION = "fusion."  # what a checkpoint's names of the fusion network begin with


@dataclass(frozen=True)
class LossOptions:
    """Weights of the fusion network's terms.

    Attributes:
        alpha: of the texture, 1 in the paper.
        saliency: of L_sod, 1 in the paper.
    """

    alpha: float = 1
    saliency: float = 1


def builders(recipe: Recipe) -> tuple[Callable[..., PCI], Callable[..., BPS]]:
    """Both networks in the recipe's sizes, the detector as its ablation has it. Raises UnknownNameError."""
    for name in recipe.network:
        if name not in ("fusion", "detection"):
            raise UnknownNameError(f"network in the recipe {recipe.name} of SMR-Net", name, ("fusion", "detection"))
    detector = ablation_of(ABLATIONS, recipe) or BPS
    return (
        built(PCI, recipe.network.get("fusion", {}), recipe),
        built(detector, recipe.network.get("detection", {}), recipe),
    )


class SMRNetSystem(System):
    """Stage `fuse` learns the fusion network, `detect` the detector; each is frozen while the other learns.

    L_sod enters the fusion's loss from the second round on, when there is a trained detector that can judge. The
    detector gets the fused image without its graph.
    """

    name = "SMR-Net"
    network: SMRNet

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        fusion, detection = builders(recipe)
        self.loss = updated(LossOptions(), recipe.loss, recipe)
        self.network = SMRNet(fusion(), detection())

    def parts(self) -> Mapping[str, nn.Module]:
        return {"fusion": self.network.fusion, "detection": self.network.detection}

    def prepare(self, weights: Path | None) -> None:
        file = pretrained(self.recipe, "encoder", weights, "torchvision's ImageNet weights of ResNet-34")
        if file is not None:
            load_strictly(self.network.detection.encoder, imagenet_state(*file), str(file[1]))

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        infrared, visible = batch["infrared"], batch["visible"]
        if moment.stage == "detect":
            with torch.no_grad():
                _, colour = self.network.fuse(infrared, visible)
            saliency = self.network.detection(visible, infrared.expand_as(visible), colour)
            return {"saliency": detection_loss(saliency, batch["salient"])}
        fused, colour = self.network.fuse(infrared, visible)
        gray = luminance(visible)
        terms = {
            "intensity": intensity_loss(fused, infrared, gray),
            "texture": self.loss.alpha * joint_gradient_loss(fused, infrared, gray),
        }
        if moment.round > 0:
            saliency = self.network.detection(visible, infrared.expand_as(visible), colour)
            terms["saliency"] = self.loss.saliency * detection_loss(saliency, batch["salient"])
        return terms

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        """The fusion network alone: the detector does not change what is fused."""
        return replace(METHODS[cls.name], build=builders(recipe)[0])

    @classmethod
    def fusion_state(cls, state: State) -> State:
        return {key.removeprefix(FUSION): value for key, value in state.items() if key.startswith(FUSION)}


def saliency_method(recipe: Recipe) -> NetworkMethod:
    """Both networks as a maker of saliency maps, 8-bit, of a pair's own size: from the weights of a training.

    The detector sees squares of the size that it learned from. Raises UnknownNameError.
    """
    fusion, detection = builders(recipe)
    stage = next((s for s in reversed(recipe.stages) if not s.parts or "detection" in s.parts), recipe.stages[-1])
    size = (stage.augment or recipe.augment).resize or SALIENCY_SIZE

    def build() -> SalientObjects:
        return SalientObjects(SMRNet(fusion(), detection()), size)

    def convert(content: Any, where: Path) -> State:
        return inside(as_state(content, where))

    return NetworkMethod(build, _gray_and_colour, _as_map, convert=convert)


def inside(state: State) -> State:
    """The state of both networks as that of `SalientObjects`."""
    return {f"network.{key}": value for key, value in state.items()}


def _gray_and_colour(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    colour = visible if visible.ndim == 3 else np.repeat(visible[..., None], 3, axis=2)
    return unit_gray(infrared), torch.from_numpy(colour.astype(np.float32) / 255).permute(2, 0, 1)


def _as_map(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return rounded(output[0].numpy() * 255)


def detector_cost(recipe: Recipe) -> NetworkCost:
    """What the recipe's detector costs for three images of 352x352. Raises UnknownNameError."""
    _, detection = builders(recipe)

    def three(infrared: Pixels, visible: Pixels) -> tuple[Tensor, ...]:
        return (torch.zeros(3, *visible.shape[:2]),) * 3

    return complexity(NetworkMethod(detection, three, _as_map), SALIENCY_SIZE, SALIENCY_SIZE)


SYSTEM = SMRNetSystem
