"""What the losses of several fusion networks share: pure functions of tensors that give a scalar or a map; critics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.errors import DataError
from evalkit.training.precision import full_precision

Border = Literal["mirrored", "zeros", "none"]
SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


def structural_similarity(
    x: Tensor, y: Tensor, size: int = 11, sigma: float = 1.5, border: Border = "mirrored"
) -> Tensor:
    """Mean SSIM of two batches (N, C, H, W) in [0, 1] -> scalar in [-1, 1], 1 where they are equal.

    Args:
        x, y, size, sigma, border: as for `similarity_map`.
    """
    return similarity_map(x, y, size, sigma, border).mean()


def similarity_map(x: Tensor, y: Tensor, size: int = 11, sigma: float = 1.5, border: Border = "mirrored") -> Tensor:
    """SSIM around every pixel of two batches (N, C, H, W) in [0, 1] -> the same shape, less with border "none".

    Gaussian window of `size`, constants .01² and .03².

    Args:
        x, y: (N, C, H, W) in [0, 1].
        size: of the window, odd, in pixels.
        sigma: of the Gaussian, in pixels.
        border: the images are mirrored there (sides of more than size // 2) or zeros surround them; with "none" only
            windows that lie inside count, which needs sides of at least `size`.
    """
    offsets = torch.arange(size, dtype=x.dtype, device=x.device) - size // 2
    window = (-(offsets**2) / (2 * sigma**2)).exp()
    window = window / window.sum()
    channels = x.shape[1]
    kernel = window.outer(window).expand(channels, 1, size, size)

    def smooth(values: Tensor) -> Tensor:
        padded = functional.pad(values, [size // 2] * 4, mode="reflect") if border == "mirrored" else values
        return functional.conv2d(padded, kernel, groups=channels, padding=size // 2 if border == "zeros" else 0)

    mean_x, mean_y = smooth(x), smooth(y)
    variance_x = smooth(x * x) - mean_x**2
    variance_y = smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_x + variance_y + c2)


def sobel_gradient(image: Tensor) -> Tensor:
    """|horizontal| + |vertical| Sobel derivative of every channel, zeros around the image: (N, C, H, W) -> the same."""
    horizontal = torch.tensor(SOBEL, dtype=image.dtype, device=image.device)
    channels = image.shape[1]
    derivatives = (
        functional.conv2d(image, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)
        for kernel in (horizontal, horizontal.T)
    )
    return sum((d.abs() for d in derivatives), torch.zeros_like(image))


@full_precision
def intensity_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Mean distance from the brighter source, |F - max(I, V)|.

    SMFNet's Eq. 29, SMR-Net's L_int, and in TSJNet's code only.

    Args:
        fused, infrared, visible: luminances (N, 1, H, W) in [0, 1].

    Returns:
        Scalar >= 0, the mean over pixels and batch.
    """
    return functional.l1_loss(fused, torch.maximum(infrared, visible))


@full_precision
def joint_gradient_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Mean distance of the Sobel gradient from the stronger one, | |grad F| - max(|grad I|, |grad V|) |.

    SMFNet's Eq. 30, L_grad of S4Fusion's Eq. 5, SMR-Net's L_texture (which leaves the operator open), and in TSJNet's
    code only. The gradient is `sobel_gradient`. It has no gradient of its own where the fused image is constant.

    Args:
        fused, infrared, visible: luminances (N, 1, H, W) in [0, 1].

    Returns:
        Scalar >= 0, the mean over pixels and batch.
    """
    strongest = torch.maximum(sobel_gradient(infrared), sobel_gradient(visible))
    return functional.l1_loss(sobel_gradient(fused), strongest)


@dataclass(frozen=True)
class CommonWeights:
    """Weights of the terms of `common_terms` beside the intensity's 1."""

    gradient: float = 5
    ssim: float = 1


@full_precision
def common_terms(fused: Tensor, infrared: Tensor, visible: Tensor, weights: CommonWeights) -> dict[str, Tensor]:
    """What fusion networks commonly learn from, for those whose own losses are not at hand: terms by name.

    `intensity_loss`, `joint_gradient_loss`, and 1 - the mean of the SSIM with each source.

    Args:
        fused, infrared, visible: luminances (N, 1, H, W) in [0, 1], sides of at least 6.
        weights: of the terms.
    """
    similarity = (structural_similarity(infrared, fused) + structural_similarity(visible, fused)) / 2
    return {
        "intensity": intensity_loss(fused, infrared, visible),
        "gradient": weights.gradient * joint_gradient_loss(fused, infrared, visible),
        "ssim": weights.ssim * (1 - similarity),
    }


def correlation(x: Tensor, y: Tensor, whole: bool = False) -> Tensor:
    """Pearson correlation of two (N, C, H, W) -> scalar in [-1, 1] that has a gradient.

    One per image and channel over the pixels, then their mean; a constant map correlates with nothing (0). With
    `whole`, one over all values of the batch.

    Args:
        x, y: (N, C, H, W).
        whole: one correlation over all values of the batch.
    """
    x, y = (v.flatten()[None] if whole else v.flatten(2) for v in (x, y))
    x, y = (v - v.mean(dim=-1, keepdim=True) for v in (x, y))
    norms = torch.linalg.vector_norm(x, dim=-1) * torch.linalg.vector_norm(y, dim=-1)
    return ((x * y).sum(dim=-1) / (norms + 1e-7)).clamp(-1, 1).mean()


def sobel_derivatives(image: Tensor) -> Tensor:
    """|horizontal| and |vertical| Sobel derivative side by side, zeros around: (N, C, H, W) -> (N, 2 C, H, W)."""
    horizontal = torch.tensor(SOBEL, dtype=image.dtype, device=image.device)
    channels = image.shape[1]
    kernels = torch.stack((horizontal, horizontal.T))[:, None].repeat(channels, 1, 1, 1)
    return functional.conv2d(image, kernels, padding=1, groups=channels).abs()


def hard_cross_entropy(
    logits: Tensor, labels: Tensor, minimum: int, threshold: float = 0.75, ignore: int = 255
) -> Tensor:
    """Mean cross-entropy over the hard pixels of a batch (online hard example mining, OHEM) -> scalar.

    Hard are the pixels whose true class got a probability below `threshold`; where that leaves not more than `minimum`,
    the `minimum` hardest. With no more than minimum + 1 pixels it is the mean over all.

    Args:
        logits: (N, classes, H, W).
        labels: integers (N, H, W); `ignore` is left out.
        minimum: pixels of the whole batch.
        threshold: of the true class's probability, in (0, 1).
        ignore: the label of pixels that do not count.

    Raises:
        DataError: a label that is not one of the classes.
    """
    try:
        losses = functional.cross_entropy(logits, labels, reduction="none", ignore_index=ignore)[labels != ignore]
    except IndexError:
        count, largest = logits.shape[1], int(labels[labels != ignore].max())
        raise DataError(
            f"a mask holds the class {largest}, but the network has {count} classes, 0 to {count - 1}. Train it on a "
            f"data set with these, or number the masks so, {ignore} where a pixel does not count."
        ) from None
    if len(losses) == 0:
        return logits.sum() * 0  # nothing to learn from, but a gradient of 0 instead of none
    if minimum >= len(losses) - 1:
        return losses.mean()
    losses = losses.sort(descending=True).values
    limit = -math.log(threshold)
    return losses[losses > limit].mean() if losses[minimum] > limit else losses[:minimum].mean()


def structure_weight(target: Tensor, size: int = 31, gain: float = 5.0) -> Tensor:
    """Weight of each pixel of a saliency label: 1, and up to 1 + gain near its edges (F3Net, Wei et al. 2020).

    1 + gain |mean of the size x size window - label|; zeros outside the image count in the mean. (N, 1, H, W) -> same.

    Args:
        target: label (N, 1, H, W) in [0, 1].
        size: of the window, odd, in pixels.
        gain: of the weight.
    """
    # rows, then columns: the same mean in a fifteenth of the time
    around = functional.avg_pool2d(target, (size, 1), stride=1, padding=(size // 2, 0))
    around = functional.avg_pool2d(around, (1, size), stride=1, padding=(0, size // 2))
    return 1 + gain * (around - target).abs()


def weighted_bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy averaged with weights within each image, then over the batch: three (N, 1, H, W) -> scalar.

    Widespread code passes a flag that averages the cross-entropy before the weights see it, and so cancels them.

    Args:
        logits: (N, 1, H, W).
        target: label (N, 1, H, W) in [0, 1].
        weight: of each pixel, (N, 1, H, W), `structure_weight`.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((weight * losses).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3))).mean()


def weighted_iou(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - weighted intersection over union, of each image, 1 added to both; mean over the batch -> scalar in [0, 1).

    Args:
        logits: (N, 1, H, W).
        target: label (N, 1, H, W) in [0, 1].
        weight: of each pixel, (N, 1, H, W), `structure_weight`.
    """
    probability = torch.sigmoid(logits)
    both = (weight * probability * target).sum(dim=(1, 2, 3))
    either = (weight * (probability + target)).sum(dim=(1, 2, 3)) - both
    return (1 - (both + 1) / (either + 1)).mean()


def overlap_loss(probability: Tensor, target: Tensor) -> Tensor:
    """1 - intersection over union of each image, mean over the batch: two (N, 1, H, W) in [0, 1] -> scalar in [0, 1].

    Args:
        probability: map.
        target: label; where it and the map are 0 everywhere, the loss is 0.
    """
    both = (probability * target).sum(dim=(1, 2, 3))
    either = (probability + target).sum(dim=(1, 2, 3)) - both
    return ((either - both) / either.clamp(min=torch.finfo(either.dtype).tiny)).mean()


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
