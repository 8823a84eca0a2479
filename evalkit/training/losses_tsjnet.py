"""Losses of TSJNet (arXiv:2402.01212): fusion, detection and segmentation terms, by the paper's equation numbers.

Two presets weigh the fusion terms. "code", of the authors' published training, is the one to use: the paper's loss has
no term for the brightness or the edges of the fused image. Where both differ:

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

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.networks.tsjnet import Outputs
from evalkit.training.terms import sobel_gradient, structural_similarity

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
    """Eq. 8: share (1 - SSIM(F, I)) + (1 - share) (1 - SSIM(F, V)), images (N, 1, H, W) in [0, 1] -> scalar >= 0."""
    similar = share * structural_similarity(fused, infrared) + (1 - share) * structural_similarity(fused, visible)
    return 1 - similar


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


def intensity_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Mean |F - max(I, V)| of images (N, 1, H, W); in the code only."""
    return functional.l1_loss(fused, torch.maximum(infrared, visible))


def gradient_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Mean |Sobel(F) - max(Sobel(I), Sobel(V))| of images (N, 1, H, W); in the code only."""
    strongest = torch.maximum(sobel_gradient(infrared), sobel_gradient(visible))
    return functional.l1_loss(sobel_gradient(fused), strongest)


def reconstruction_loss(image: Tensor, reconstructed: Tensor) -> Tensor:
    """L'_mse and L''_mse of Eq. 10: the mean squared difference to what the decoder makes of the image's features."""
    return functional.mse_loss(reconstructed, image)


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
        "gradient": lambda: gradient_loss(fused, infrared, visible),
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
    """
    return infrared + visible + fused


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse segmentation labels that were read as an image.

    The authors' code scales the label image by 1/255 and casts it, so that all labels are 0 and the term asks for
    background everywhere.

    Raises:
        ValueError: labels that are not integers, lie outside 0..classes - 1, or are all background in the whole batch.
    """
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"segmentation labels are {labels.dtype}, expected integers: they are not an image to scale")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(f"segmentation labels reach from {low} to {high}, expected 0..{classes - 1}")
    if high == 0:
        raise ValueError("segmentation labels are 0 in the whole batch: read them as integers, without scaling")


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 13: mean cross-entropy of the segmenter's logits (N, C, H, W) with integer labels (N, H, W) in 0..C - 1.

    The segmenter sees the fused image repeated to three channels. Its classes must be those of the labels: one that was
    trained on others needs a new last layer.
    """
    if labels.is_floating_point():
        raise ValueError(f"segmentation labels are {labels.dtype}, expected integers")
    return functional.cross_entropy(logits, labels.long())


def total_loss(fusion: Tensor, detection: Tensor | None = None, segmentation: Tensor | None = None) -> Tensor:
    """Eq. 7: L_MFF + L_Det + L_Seg. None leaves a term out: in ablations, and where there is no critic."""
    return sum((term for term in (detection, segmentation) if term is not None), fusion)


def freeze(critic: nn.Module) -> nn.Module:
    """A detector or segmenter that lets gradients through to its input and never changes itself.

    Parameters get no gradient. Normalisation and dropout go to evaluation mode, because the authors' critics, left in
    training mode, drift with every image; the rest keeps its mode, since detectors give their losses in training mode
    only. Call it again after `critic.train()`.
    """
    for module in critic.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.modules.dropout._DropoutNd):
            module.eval()
    return critic.requires_grad_(False)
