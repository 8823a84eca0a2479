"""MsgFusion: its loss and how it is trained (Wen and others, IEEE TMM 2024, by their published code).

One stage. The functional image is seen in gray; its colour enters by the light image alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.errors import DataError
from evalkit.methods.checkpoints import as_state
from evalkit.methods.layers.luminance import luminance
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.msgfusion import METHODS, MsgFusion, light
from evalkit.training.data import Batch
from evalkit.training.options import built, updated
from evalkit.training.precision import full_precision
from evalkit.training.pretrained import pretrained
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System
from evalkit.training.terms import structural_similarity


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms.

    Attributes:
        ssim: of the structural term.
        square: of the squared distance.
    """

    ssim: float = 0.8
    square: float = 0.2


def stretched_images(image: Tensor) -> Tensor:
    """Each image from its minimum to its maximum: (N, C, H, W) -> the same in [0, 1]; a constant one becomes 0."""
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low).clamp(min=1e-6)


@full_precision
def fusion_terms(fused: Tensor, first: Tensor, second: Tensor, options: LossOptions) -> dict[str, Tensor]:
    """Mean of 1 - SSIM (windows inside the images) and mean squared distance, each to both sources with a half.

    Args:
        fused, first, second: (N, 3, H, W) in [0, 1], sides of at least 11.
        options: weights of the terms.
    """
    similarity = torch.stack([structural_similarity(fused, image, border="none") for image in (first, second)])
    distance = torch.stack([functional.mse_loss(fused, image) for image in (first, second)])
    return {"ssim": options.ssim * (1 - similarity.mean()), "square": options.square * distance.mean()}


class MsgFusionSystem(System):
    """In the stage `settle` normalisation keeps its statistics, for its layers serve at places that differ in them.

    The code has no such stage; the recipe `paper` has none either.
    """

    name = "MsgFusion"
    network: MsgFusion

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.loss = updated(LossOptions(), recipe.loss, recipe)
        self.network = built(MsgFusion, recipe.network, recipe)()
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def prepare(self, weights: Path | None) -> None:
        file = pretrained(self.recipe, "conv1", weights, "torchvision's ImageNet weights of ResNet-101")
        if file is None:
            return
        kernel, own = as_state(*file).get("conv1.weight"), self.network.channels.conv1.weight
        if kernel is None or kernel.shape != own.shape:
            raise DataError(f"{file[1]} has no conv1.weight of {tuple(own.shape)}: it is not of ResNet-101.")
        with torch.no_grad():
            own.copy_(kernel)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        if moment.stage == "settle":
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        first = stretched_images(batch["infrared"]).expand(-1, 3, -1, -1)
        second = stretched_images(luminance(batch["visible"])).expand(-1, 3, -1, -1)
        fused = self.network(first, second, lights(batch["visible"]))
        return fusion_terms(fused, first, second, self.loss)

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        method = METHODS[cls.name]
        return NetworkMethod(built(MsgFusion, recipe.network, recipe), method.prepare, method.finish)


def lights(visible: Tensor) -> Tensor:
    """The light of each image (N, 3, H, W) in [0, 1] -> the same shape, three equal channels."""
    images = (visible.detach() * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    maps = torch.from_numpy(np.stack([light(image, clipped=False) for image in images]))
    return maps[:, None].expand(-1, 3, -1, -1).to(visible.device)


SYSTEM = MsgFusionSystem
