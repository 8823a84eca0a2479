"""Losses of SMR-Net (section "Loss Function" of the paper, whose formulas have no numbers).

The networks learn in turns, the fusion network by `fusion_loss` with the detector frozen, the detector by
`detection_loss`. The paper writes the detector's loss for one map; decision: as in IRFS, whose decoder it takes, every
map of the decoder is supervised with weight 1. Where the detector passes no gradient through the bit planes
(`ste_slope="none"`), the coarse map is the only way from that loss to the fused image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from evalkit.methods.layers.msgd import Saliency
from evalkit.training.terms import sobel_gradient, structure_weight, weighted_bce, weighted_iou


def intensity_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """L_int = 1/HW ||I_f - max(I_ir, I_vi)||_1: luminances (N, 1, H, W) in [0, 1] -> scalar, mean over the batch."""
    return functional.l1_loss(fused, torch.maximum(infrared, visible))


def texture_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """L_texture = 1/HW || |grad I_f| - max(|grad I_ir|, |grad I_vi|) ||_1, arguments as in `intensity_loss`.

    Decision: the gradient is Sobel's, horizontal plus vertical magnitude. It has no gradient of its own where the fused
    image is constant.
    """
    return functional.l1_loss(sobel_gradient(fused), torch.maximum(sobel_gradient(infrared), sobel_gradient(visible)))


def fusion_loss(
    fused: Tensor, infrared: Tensor, visible: Tensor, detection: Tensor | None = None, alpha: float = 1.0
) -> Tensor:
    """L_fusion = L_int + alpha L_texture + L_sod -> scalar.

    Args:
        fused, infrared, visible: luminances (N, 1, H, W) in [0, 1].
        detection: L_sod of the fused image, with its graph; None before the detector was trained for the first time.
        alpha: 1 in the paper.
    """
    loss = intensity_loss(fused, infrared, visible) + alpha * texture_loss(fused, infrared, visible)
    return loss if detection is None else loss + detection


def saliency_loss(logits: Tensor, target: Tensor) -> Tensor:
    """L_sod = L_bce^w(M, GT) + L_iou^w(M, GT) of one map: logits and label (N, 1, H, W) -> scalar.

    Decision: the weights, which the paper does not define, are those of F3Net, as in IRFS.
    """
    weight = structure_weight(target)
    return weighted_bce(logits, target, weight) + weighted_iou(logits, target, weight)


def detection_loss(saliency: Saliency, target: Tensor) -> Tensor:
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
