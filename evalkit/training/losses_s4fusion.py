"""Losses of S4Fusion (Ma et al., arXiv:2405.20881, Sec. 3.4): Eq. 5 and its terms.

The paper gives formulas for two terms and says of the others that they are "inspired by U2Fusion". Those follow the
published code as far as it is known. Not known: the constant that divides the information (`information_scale` is a
choice), and how a gray image is shown to the classifier (`Critic` repeats it to three channels and normalises them as
ImageNet's; `normalised=False` leaves that out).

No term is without effect on the training. The weights of infrared and visible come from the sources alone and carry no
gradient; the classifier is never trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.training.terms import sobel_gradient, structural_similarity

FLOOR = 1e-9  # added to probabilities before the logarithm
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class LossOptions:
    """Factors of the terms in Eq. 5.

    Attributes:
        perception: of the entropy; 1 in the paper, 0 for Exp. 6 of its Table 3.
        intensity, structure, gradient: alpha1, alpha2 and alpha3.
    """

    perception: float = 1
    intensity: float = 15
    structure: float = 15
    gradient: float = 15


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
    """
    both = torch.stack((infrared, visible)).detach() / scale
    first, second = both.softmax(dim=0).unbind()
    return first, second


def intensity_loss(fused: Tensor, infrared: Tensor, visible: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """L_L1 of Eq. 5: weighted mean distance from both sources: three (N, 1, H, W), two (N,) -> scalar."""
    pairs = zip((infrared, visible), weights, strict=True)
    distances = [weight * (fused - source).abs().mean(dim=(1, 2, 3)) for source, weight in pairs]
    return torch.stack(distances).sum(dim=0).mean()


def structure_loss(fused: Tensor, infrared: Tensor, visible: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """L_ssim of Eq. 5: weighted (1 - SSIM) / 2 of both sources: three (N, 1, H, W), two (N,) -> scalar in [0, 1].

    The code clamps to [0, 1], where the values are anyway.
    """
    losses = []
    for source, weight in zip((infrared, visible), weights, strict=True):
        pairs = zip(source.split(1), fused.split(1), strict=True)  # the weights need SSIM by image
        losses.append(weight * (1 - torch.stack([structural_similarity(a, b) for a, b in pairs])) / 2)
    return torch.stack(losses).sum(dim=0).mean()


def gradient_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """L_grad of Eq. 5: mean distance of the Sobel gradient from the stronger one: three (N, 1, H, W) -> scalar."""
    strongest = torch.maximum(sobel_gradient(infrared), sobel_gradient(visible))
    return functional.l1_loss(sobel_gradient(fused), strongest)


def perception_loss(scores: Tensor) -> Tensor:
    """L_per of Eq. 5: entropy of the classifier's answer to the fused image: (N, classes) -> scalar in nats.

    log(classes) where it has no idea, 0 where it is sure.
    """
    probabilities = scores.softmax(dim=-1) + FLOOR
    return -(probabilities * probabilities.log()).sum(dim=-1).mean()


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
        terms["gradient"] = options.gradient * gradient_loss(fused, infrared, visible)
    return terms


def loss(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    weights: tuple[Tensor, Tensor],
    scores: Tensor | None = None,
    options: LossOptions | None = None,
) -> Tensor:
    """Eq. 5, arguments as for `loss_terms` -> scalar."""
    return torch.stack(list(loss_terms(fused, infrared, visible, weights, scores, options).values())).sum()
