"""Bit planes of a map in [0, 1], and a gradient for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Slope = Literal["unit", "saw", "none"]


def min_max(x: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Each sample of (N, C, H, W) stretched to [0, 1] by its own extremes; a constant sample becomes 0.

    A constant sample gets no gradient either: its range of 0 would multiply it by 1 / epsilon.
    """
    low, high = x.amin(dim=(1, 2, 3), keepdim=True), x.amax(dim=(1, 2, 3), keepdim=True)
    return (x - low) / (high - low + epsilon) * (high > low)


def bit_planes(values: Tensor, planes: Sequence[int] = (1, 2, 3, 4), ste_slope: Slope = "unit") -> Tensor:
    """Binary digits of values in [0, 1]: floor((value mod 2^(1-l)) / 2^-l) for plane l, exactly 0 or 1.

    Plane 1 is worth 1/2, plane 4 is worth 1/16, so that the sum of plane l times 2^-l over l = 1..4 is the value cut
    off to sixteenths. By the formula alone a value of 1 (every normalised map has one) would come out as 0000: it is
    lowered a little first and comes out as 1111.

    Args:
        values: (N, 1, H, W).
        planes: which planes, in the order of the output's channels.
        ste_slope: the gradient. The floor's own is 0 everywhere ("none"). A straight-through estimator takes each
            plane's slope as 1 ("unit"), or as the 2^(l-1) that would rise over one period from 0 to 1 ("saw").

    Returns:
        (N, len(planes), H, W).
    """
    below_one = 1 - max(1e-6, torch.finfo(values.dtype).eps)
    hard = values.detach().clamp(0, below_one)
    digits = torch.cat([torch.floor(torch.remainder(hard, 2.0 ** (1 - n)) * 2.0**n) for n in planes], dim=1)
    if ste_slope == "none":
        return digits
    soft = torch.cat([values * (2.0 ** (n - 1) if ste_slope == "saw" else 1.0) for n in planes], dim=1)
    return digits + (soft - soft.detach())  # the bracket is exactly 0, only its gradient counts
