"""CUFD: its two trainings, of images and of features (Xu et al., CVIU 218, 2022).

Weights are those of the authors' code, whose loss of the features sees the first of four depths alone. Decisions: the
optimiser is that of the recipe, where they take RMSProp; no batch is repeated, where they repeat every second one up to
10 or 20 times; the encoder of the first training is kept in the second; one maximum is taken of both images' features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.luminance import luminance
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.cufd import CUFD, METHODS, unit_range
from evalkit.training.data import Batch
from evalkit.training.options import built
from evalkit.training.precision import full_precision
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System

FOUR = ((0.0, 0.25, 0.0), (0.25, -1.0, 0.25), (0.0, 0.25, 0.0))
EIGHT = ((0.125, 0.125, 0.125), (0.125, -1.0, 0.125), (0.125, 0.125, 0.125))


def differences(image: Tensor, kernel: tuple[tuple[float, ...], ...]) -> Tensor:
    """The mean of the neighbours less the pixel, zeros around: (N, 1, H, W) -> the same.

    Args:
        image: (N, 1, H, W).
        kernel: FOUR or EIGHT neighbours.
    """
    return functional.conv2d(image, torch.tensor(kernel).to(image)[None, None], padding=1)


@full_precision
def image_losses(decoded: Tensor, image: Tensor) -> dict[str, Tensor]:
    """Of images that were encoded and decoded: (N, 1, H, W) in [0, 1] -> intensity and gradient."""
    gradient = functional.mse_loss(differences(decoded, FOUR), differences(image, FOUR))
    return {"intensity": functional.mse_loss(decoded, image), "gradient": 40 * gradient}


@full_precision
def common_loss(common: tuple[Tensor, Tensor], features: tuple[Tensor, Tensor]) -> Tensor:
    """Each common part is near to one of both features, whichever is nearer, and both are near each other.

    Args:
        common, features: of the visible and the infrared image, (N, C, H, W) each.
    """
    nearest = [torch.minimum((part - features[0]).abs(), (part - features[1]).abs()).square() for part in common]
    return (nearest[0] + nearest[1] + 4 * (common[0] - common[1]).square()).mean()


@full_precision
def pixel_loss(decoded: tuple[Tensor, Tensor], features: tuple[Tensor, Tensor]) -> Tensor:
    """Features of both images come back from their parts, the gradients of their sum half as strong again.

    Args:
        decoded, features: of the visible and the infrared image, (N, C, H, W) each.
    """
    total = decoded[0].new_zeros(())
    for ours, own, intensity, gradient in zip(decoded, features, (7, 3), (18, 25), strict=True):
        edges = [differences(x.sum(1, keepdim=True), EIGHT) for x in (ours, own)]
        total = total + intensity * functional.mse_loss(ours, own)
        total = total + gradient * functional.mse_loss(edges[0], 1.5 * edges[1])
    return total


class CUFDSystem(System):
    """Stage `images` learns to encode and decode images, `features` to part their features and join them again."""

    name = "CUFD"
    network: CUFD

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.network = built(CUFD, recipe.network, recipe)()

    def parts(self) -> Mapping[str, nn.Module]:
        network = self.network
        return {
            "images": nn.ModuleList((network.encoder, network.decoder)),
            "features": nn.ModuleList((network.decompose, network.compose)),
        }

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        network = self.network
        visible, infrared = unit_range(luminance(batch["visible"])), unit_range(batch["infrared"])
        # as in the released file, whose norms of images never saw a statistic
        network.encoder.eval()
        network.decoder.eval()
        if moment.stage == "images":
            both = torch.cat((visible, infrared))
            return image_losses(network.decoded(network.encoder(both)), both)
        with torch.no_grad():
            features = network.encoder(visible)[0], network.encoder(infrared)[0]
            largest = torch.stack(features).max().clamp_min(1e-6)
        parts = network.parts(features[0] / largest, features[1] / largest)
        decoded = (
            network.composed(parts.common_visible, parts.unique_visible) * largest,
            network.composed(parts.common_infrared, parts.unique_infrared) * largest,
        )
        common = common_loss((parts.common_visible, parts.common_infrared), features)
        return {"common": common, "pixel": 50 * pixel_loss(decoded, features)}

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        return replace(METHODS[cls.name], build=partial(CUFD, **recipe.network))


SYSTEM = CUFDSystem
