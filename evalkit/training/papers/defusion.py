"""DeFusion: how it learns from single images, its masks and its losses (Liang et al., ECCV 2022, and its code).

doi:10.1007/978-3-031-19797-0_41. One image gives two views of which each lacks parts, with noise in their place; the
network is to find what both show, what each shows alone, and the whole image. The code counts its steps: the loss
begins with the parts where they lie, later also asks for nothing elsewhere, and last for the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.luminance import luminance
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.defusion import METHODS, Decomposed, DeFusion
from evalkit.training.data import Batch
from evalkit.training.options import built, updated
from evalkit.training.precision import full_precision
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System

COARSE, FINE = 13, (26, 27)  # sides of the grids that masks are drawn on


@dataclass(frozen=True)
class LossOptions:
    """When the terms begin.

    Attributes:
        pace: the code's steps that one step here counts for: above 1 the schedule is run through faster.
    """

    pace: float = 1


class Views(NamedTuple):
    """Two views of one image and where they show it."""

    first: Tensor  # (N, 3, H, W)
    second: Tensor
    first_mask: Tensor  # (N, 1, H, W), 0 or 1
    second_mask: Tensor


def jittered(image: Tensor) -> Tensor:
    """Brightness, contrast and saturation reduced by factors in [.1, 1], each image's own: (N, 3, H, W) -> the same."""
    brightness, contrast, saturation = (0.1 + 0.9 * torch.rand(3, len(image), 1, 1, 1, device=image.device)).unbind()
    image = image * brightness
    image = contrast * image + (1 - contrast) * luminance(image).mean((2, 3), keepdim=True)
    return saturation * image + (1 - saturation) * luminance(image)


def drawn_masks(size: tuple[int, int], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Two masks (1, H, W) of 0 and 1, at least one of them 1 at every pixel.

    Each is 1 where a coarse and a fine grid of random cells both are; a third grid gives what neither shows to one of
    them.

    Args:
        size: height and width.
        device: of the masks.
    """
    share = 0.1 + torch.rand(()).item() / 1.12
    fine, third = (FINE[int(torch.randint(len(FINE), ()))] for _ in range(2))

    def cells(side: int) -> Tensor:
        grid = (torch.rand(1, 1, side, side) < share).float().to(device)
        return functional.interpolate(grid, size, mode="nearest")[0]

    first, second = cells(COARSE) * cells(fine), cells(COARSE) * cells(fine)
    place = torch.rand(()).item()
    divided = cells(COARSE if place < 0.33 else fine if place < 0.66 else third)
    neither = (1 - first) * (1 - second)
    first, second = first + divided * neither, second + (1 - divided) * neither
    return (first, second) if torch.rand(()).item() < 0.5 else (second, first)


def views(image: Tensor) -> Views:
    """Two views of each image (N, 3, H, W), noise |N(0, 1)| of at most 1 where they do not show it."""
    masks = [drawn_masks((image.shape[2], image.shape[3]), image.device) for _ in image]
    first, second = (torch.stack(mask) for mask in zip(*masks, strict=True))
    noise = torch.randn(2, *image.shape, device=image.device).abs().clamp(max=1)
    return Views(image * first + noise[0] * (1 - first), image * second + noise[1] * (1 - second), first, second)


@full_precision
def decomposition_terms(output: Decomposed, image: Tensor, shown: Views, step: float) -> dict[str, Tensor]:
    """L1 of the three parts and, from step 17000 on, of the fused image; sums over the images, means over pixels.

    Args:
        output: of the network for both views.
        image: (N, 3, H, W), the whole.
        shown: both views.
        step: of the training, as the code counts.
    """
    both = shown.first_mask * shown.second_mask
    leak = 0.0 if step < 3000 else 0.15 * (min(step, 7000) / 7000) ** 2
    leak *= 0.1 if step > 40000 else 1

    def part(found: Tensor, mask: Tensor) -> Tensor:
        return functional.l1_loss(found * leak + found * mask * (1 - leak), image * mask) * len(image)

    terms = {
        "common": part(output.common, both),
        "first": part(output.infrared, shown.first_mask - both),
        "second": part(output.visible, shown.second_mask - both),
    }
    if step >= 17000:
        weight = (min(step - 10000, 14000) / 14000) ** 2
        terms["fused"] = weight * functional.l1_loss(output.fused, image) * len(image)
    return terms


class DeFusionSystem(System):
    """One stage. The images of a pair are two images to learn from; that they belong together is not used."""

    name = "DeFusion"
    network: DeFusion

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.loss = updated(LossOptions(), recipe.loss, recipe)
        self.network = built(DeFusion, recipe.network, recipe)()
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        image = jittered(torch.cat((batch["visible"], batch["infrared"].expand(-1, 3, -1, -1))))
        shown = views(image)
        output = self.network.decompose(shown.first, shown.second)
        return decomposition_terms(output, image, shown, moment.step * self.loss.pace)

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        method = METHODS[cls.name]
        return NetworkMethod(built(DeFusion, recipe.network, recipe), method.prepare, method.finish)


SYSTEM = DeFusionSystem
