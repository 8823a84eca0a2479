"""Losses of SMFNet's two training stages (Zhang et al., arXiv:2407.06159, Eqs. 23-31).

Paper and published code differ. Two terms of the code have no effect on the training and are left out or made to work:

- A Lovasz term of the visible reconstruction is a softmax over one channel, which is 1 whatever the image: constant.
- The decomposition terms turn the correlations into Python numbers, which carry no gradient. Here they carry one;
  `LossOptions.authors_decomposition` brings the code's behaviour back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from evalkit.training.terms import SOBEL, correlation, sobel_gradient, structural_similarity

if TYPE_CHECKING:
    from evalkit.methods.networks.smfnet import Fusion, Reconstruction


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
    authors_decomposition: bool = False
    graph_in_stage_one: bool = False


PAPER = LossOptions(decomposition_one=5, decomposition_two=10, gradient_two=2, halved_ssim=False)
AUTHORS = LossOptions(spatial_gradient=5, authors_decomposition=True)


def structural_loss(image: Tensor, rebuilt: Tensor, halved: bool = True) -> Tensor:
    """1 - SSIM, or half of it (below Eq. 24): two (N, 1, H, W) in [0, 1], sides of at least 6 -> scalar."""
    return (1 - structural_similarity(image, rebuilt)) / (2 if halved else 1)


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
    """
    if features is not None:
        image, rebuilt = features(image), features(rebuilt)
    return functional.mse_loss(gram(rebuilt), gram(image))


def decomposition_loss(low: list[tuple[Tensor, Tensor]], high: tuple[Tensor, Tensor], delta: float = 1.01) -> Tensor:
    """Sum of CC² over pairs of features that should differ, divided by CC + delta of those that should agree.

    Eq. 27 with `low` = [detail], Eq. 31 with `low` = [detail, graph]; `high` = base; each pair is that of infrared and
    visible, (N, C, H, W) -> scalar >= 0.
    """
    return _ratio([correlation(*pair) for pair in low], correlation(*high), delta)


def authors_decomposition_loss(
    low: list[tuple[Tensor, Tensor]], high: tuple[Tensor, Tensor], delta: float = 1.01
) -> Tensor:
    """The same with one correlation over the batch, and without any gradient: a constant to the training."""
    with torch.no_grad():
        return _ratio([correlation(*pair, whole=True) for pair in low], correlation(*high, whole=True), delta)


def _ratio(low: list[Tensor], high: Tensor, delta: float) -> Tensor:
    return torch.stack(low).square().sum() / (high + delta)


def intensity_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Mean distance from the brighter source (Eq. 29): three (N, 1, H, W) -> scalar."""
    return functional.l1_loss(fused, torch.maximum(infrared.abs(), visible.abs()))


def joint_gradient_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Mean distance of the Sobel gradient from the stronger one (Eq. 30): three (N, 1, H, W) -> scalar."""
    strongest = torch.maximum(sobel_gradient(infrared), sobel_gradient(visible))
    return functional.l1_loss(sobel_gradient(fused), strongest)


def stage_one_terms(
    output: Reconstruction, infrared: Tensor, visible: Tensor, options: LossOptions | None = None
) -> dict[str, Tensor]:
    """The weighted terms of Eq. 23, by name; their sum is the loss. Terms of weight 0 are not there."""
    options = options or LossOptions()
    pairs = {"visible": (visible, output.visible), "infrared": (infrared, output.infrared)}
    terms: dict[str, Tensor] = {}
    for name, pair in pairs.items():
        terms[f"{name} ssim"] = options.ssim * structural_loss(*pair, halved=options.halved_ssim)
        terms[f"{name} gradient"] = options.gradient * gradient_loss(*pair)
    if options.spatial_gradient:
        terms["visible spatial gradient"] = options.spatial_gradient * spatial_gradient_loss(*pairs["visible"])
    if options.semantic:
        terms["semantic"] = options.semantic * semantic_loss(*pairs["infrared"])
    terms["decomposition"] = options.decomposition_one * _decomposition(output, options, options.graph_in_stage_one)
    return terms


def stage_two_terms(
    output: Fusion, infrared: Tensor, visible: Tensor, options: LossOptions | None = None
) -> dict[str, Tensor]:
    """The weighted terms of Eq. 28, by name; their sum is the loss."""
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
    """Eq. 23: output of `SMFNet.reconstruct` and its inputs -> scalar."""
    return torch.stack(list(stage_one_terms(output, infrared, visible, options).values())).sum()


def stage_two_loss(output: Fusion, infrared: Tensor, visible: Tensor, options: LossOptions | None = None) -> Tensor:
    """Eq. 28: output of `SMFNet.fuse` and its inputs -> scalar."""
    return torch.stack(list(stage_two_terms(output, infrared, visible, options).values())).sum()
