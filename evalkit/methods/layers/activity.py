"""Weighting two feature maps by their activity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-12  # where neither image is active the weights are one half each, not 0/0


def l1_weighted(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two feature maps (N, C, H, W), each weighted by its share of the local l1 activity.

    The activity of a pixel is |features| summed over the channels and its 3x3 neighbourhood (DenseFuse's l1-norm
    strategy, doi:10.1109/TIP.2018.2887342). Zeros surround the map: they are the same for both, so the shares of the
    border do not suffer.
    """
    activity_a, activity_b = (_blocks(x) + EPSILON for x in (a, b))
    share = activity_a / (activity_a + activity_b)
    return share * a + (1 - share) * b


def _blocks(features: Tensor) -> Tensor:
    return functional.avg_pool2d(torch.sum(features.abs(), dim=1, keepdim=True), 3, stride=1, padding=1)
