"""GANMcC: its losses, its discriminator of two classes, and how both learn (Ma et al., TIM 70, 2021).

All images lie in [-1, 1]. Weights, labels and sizes are those of the authors' code. Decisions: generator and
discriminator make one step each with every batch, where the authors' discriminator makes two; the generator's kernels
are not divided by their spectral norm, which changes nothing before a norm, and the published test takes the last one
raw as well; squares are fused whole, with their borders repeated, and the loss sees what lies within.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.luminance import luminance
from evalkit.methods.layers.norm import CurrentNorm
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks.ganmcc import BORDER, METHODS, GANMcC
from evalkit.training.data import Batch
from evalkit.training.options import updated
from evalkit.training.precision import full_precision
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System

GENERATOR = "generator."  # what a checkpoint's names of the fusion network begin with
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
YES, NO = (0.7, 1.2), (0.0, 0.3)  # between which soft labels are drawn


class Discriminator(nn.Module):
    """Image (N, 1, S, S) in [-1, 1] -> whether it is visible and whether it is infrared, (N, 2), not bounded.

    Every kernel is divided by its spectral norm.

    Args:
        side: S, in pixels.
        width: channels of the first layer.
    """

    def __init__(self, side: int = 120, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for i in range(4):
            layers.append(spectral_norm(nn.Conv2d(channels, width << i, 3, stride=2)))
            channels, side = width << i, (side - 3) // 2 + 1
            layers += [CurrentNorm(channels)] * (i > 0) + [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), spectral_norm(nn.Linear(channels * side**2, 2)))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class GeneratorAndDiscriminator(nn.Module):
    """Both networks, as they are trained together."""

    def __init__(self, width: int, side: int, judges: int) -> None:
        super().__init__()
        self.generator = GANMcC(width=width)
        self.discriminator = Discriminator(side, judges)
        for layer in self.generator.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=1e-3, a=-2e-3, b=2e-3)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)


def laplacian(image: Tensor) -> Tensor:
    """The four neighbours less four times the pixel, zeros around: (N, 1, H, W) -> the same."""
    return functional.conv2d(image, torch.tensor(LAPLACIAN).to(image)[None, None], padding=1)


def soft(like: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Labels drawn between bounds, one for each sample: in the shape of `like`, (N,)."""
    return torch.empty_like(like).uniform_(*bounds)


@full_precision
def discriminator_loss(visible: Tensor, infrared: Tensor, fused: Tensor) -> Tensor:
    """How far the discriminator's answers are from the truth; a fused image is neither.

    Args:
        visible, infrared, fused: answers (N, 2): is visible, is infrared.
    """
    total = visible.new_zeros(())
    for answers, labels in ((visible, (YES, NO)), (infrared, (NO, YES)), (fused, (NO, NO))):
        for answer, bounds in zip(answers.unbind(1), labels, strict=True):
            total = total + (answer - soft(answer.detach(), bounds)).square().mean()
    return total


@full_precision
def adversarial_loss(fused: Tensor) -> Tensor:
    """How far the discriminator is from taking a fused image for both: answers (N, 2) -> scalar."""
    return sum(
        ((answer - soft(answer.detach(), YES)).square().mean() for answer in fused.unbind(1)), fused.new_zeros(())
    )


@dataclass(frozen=True)
class ContentOptions:
    """Weights of the generator's terms beside the adversarial one, which has 1.

    Attributes:
        content: of all four together.
        infrared, visible: of the mean squared differences of gray levels.
        visible_gradient, infrared_gradient: of those of Laplacians.
    """

    content: float = 100
    infrared: float = 1
    visible: float = 0.4
    visible_gradient: float = 5
    infrared_gradient: float = 4


@full_precision
def content_losses(fused: Tensor, infrared: Tensor, visible: Tensor, options: ContentOptions) -> dict[str, Tensor]:
    """The weighted terms: images (N, 1, H, W) in [-1, 1] -> intensity and gradient."""
    of_fused = laplacian(fused)
    intensity = options.infrared * functional.mse_loss(fused, infrared)
    intensity = intensity + options.visible * functional.mse_loss(fused, visible)
    gradient = options.visible_gradient * functional.mse_loss(of_fused, laplacian(visible))
    gradient = gradient + options.infrared_gradient * functional.mse_loss(of_fused, laplacian(infrared))
    return {"intensity": options.content * intensity, "gradient": options.content * gradient}


@dataclass(frozen=True)
class Sizes:
    """Channels of the first layers.

    Attributes:
        width: of the generator.
        judges: of the discriminator.
    """

    width: int = 256
    judges: int = 32


class GANMcCSystem(System):
    """Both networks learn with every batch, each from its own loss: neither's gradient reaches the other."""

    name = "GANMcC"
    network: GeneratorAndDiscriminator

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        sizes = updated(Sizes(), recipe.network, recipe)
        self.loss = updated(ContentOptions(), recipe.loss, recipe)
        side = (recipe.augment.crop or 0) - 2 * BORDER
        self.network = GeneratorAndDiscriminator(sizes.width, side, sizes.judges)

    def parts(self) -> Mapping[str, nn.Module]:
        return {"generator": self.network.generator, "discriminator": self.network.discriminator}

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        whole = batch["infrared"] * 2 - 1, luminance(batch["visible"]) * 2 - 1
        side = self.recipe.augment.crop or 0
        within = slice(BORDER, side - BORDER)
        infrared, visible, fused = (x[..., within, within] for x in (*whole, self.network.generator(*whole)))
        judge = self.network.discriminator
        terms = {"discriminator": discriminator_loss(judge(visible), judge(infrared), judge(fused.detach()))}
        learning = [parameter for parameter in judge.parameters() if parameter.requires_grad]
        for parameter in learning:  # the fused image is judged, the judge does not learn from it
            parameter.requires_grad_(False)
        terms["adversarial"] = adversarial_loss(judge(fused))
        for parameter in learning:
            parameter.requires_grad_(True)
        return terms | content_losses(fused, infrared, visible, self.loss)

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        """The generator, with the scales and offsets that it learned."""
        return replace(METHODS[cls.name], build=partial(GANMcC, width=updated(Sizes(), recipe.network, recipe).width))

    @classmethod
    def fusion_state(cls, state: State) -> State:
        return {key.removeprefix(GENERATOR): value for key, value in state.items() if key.startswith(GENERATOR)}


SYSTEM = GANMcCSystem
