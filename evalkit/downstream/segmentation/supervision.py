"""What networks with more than one head learn besides the classes: objects against background, and boundaries.

The weights are ENet's, 1 / ln(1.02 + share of the pixels) (Paszke et al. 2016), as GMNet's, EGFNet's and LASNet's
authors give them for MFNet's data set.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from evalkit.downstream.segmentation.pixels import IGNORE

BINARY_WEIGHTS = (1.5121, 10.2388)
BOUNDARY_WEIGHTS = (1.4459, 23.7228)
WINDOW = 5  # pixels, in which a boundary shows more than one class


def entropy(logits: Tensor, truth: Tensor, weights: Tensor | Sequence[float]) -> Tensor:
    """Weighted cross-entropy, without the pixels that are not labelled; 0 where no pixel is.

    Args:
        logits: (N, classes, H, W).
        truth: (N, H, W), 255 where nothing is to be learned.
        weights: of the classes.
    """
    weights = torch.as_tensor(weights, dtype=logits.dtype, device=logits.device)
    if not (truth != IGNORE).any():
        return 0 * logits.sum()
    return functional.cross_entropy(logits, truth, weights, ignore_index=IGNORE)


def objects(truth: Tensor) -> Tensor:
    """1 where there is any class but the background, 0 where not, 255 where nothing is to be learned."""
    return torch.where(truth == IGNORE, truth, (truth > 0).to(truth.dtype))


def boundaries(truth: Tensor) -> Tensor:
    """1 where the 5x5 pixels around show more than one class, 0 where not, 255 where nothing is to be learned.

    Beyond the border is background; so are, for their neighbours, pixels that are not labelled.
    """
    classes = torch.where(truth == IGNORE, 0, truth).to(torch.float32)[:, None]
    classes = functional.pad(classes, [WINDOW // 2] * 4)
    highest = functional.max_pool2d(classes, WINDOW, stride=1)
    lowest = -functional.max_pool2d(-classes, WINDOW, stride=1)
    return torch.where(truth == IGNORE, truth, (highest != lowest)[:, 0].to(truth.dtype))


def lovasz(logits: Tensor, truth: Tensor) -> Tensor:
    """Lovasz-softmax loss over the classes that the batch shows (Berman et al. 2018, doi:10.1109/CVPR.2018.00464).

    Args:
        logits: (N, classes, H, W).
        truth: (N, H, W), 255 where nothing is to be learned.

    Returns:
        A scalar, 0 to 1; 0 where no pixel is labelled.
    """
    known = truth != IGNORE
    chances, truth = logits.softmax(dim=1).movedim(1, -1)[known], truth[known]
    losses = []
    for class_ in truth.unique().tolist():
        right = (truth == class_).to(chances.dtype)
        errors, order = (right - chances[:, class_]).abs().sort(descending=True)
        losses.append(errors @ _steps(right[order]))
    return torch.stack(losses).mean() if losses else 0 * logits.sum()


def _steps(right: Tensor) -> Tensor:
    """How much each pixel, worst first, takes from the Jaccard index of a class."""
    jaccard = 1 - (right.sum() - right.cumsum(0)) / (right.sum() + (1 - right).cumsum(0))
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
