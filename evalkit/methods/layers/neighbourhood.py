"""Attention of every pixel to the window of its nearest neighbours.

Hassani et al., Neighborhood Attention Transformer, CVPR 2023, doi:10.1109/CVPR52729.2023.00599. Near the border the
window is shifted into the image, not cut and not padded, so every query has the same number of keys.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional

VENDOR = "natten"  # the authors' compiled operators, used where they are installed and agree


def window_starts(length: int, kernel: int) -> Tensor:
    """First row (or column) of the window of every row: (length,) int64, i - kernel // 2 clamped into the image."""
    return (torch.arange(length) - kernel // 2).clamp(0, length - kernel)


def bias_places(length: int, kernel: int) -> Tensor:
    """Which row (or column) of the relative bias each neighbour takes: (length, kernel) int64 in 0..2 kernel - 2.

    The offset is key minus query, counted from -(kernel - 1): the first query uses the upper half, the last the lower.
    """
    keys = window_starts(length, kernel)[:, None] + torch.arange(kernel)
    return keys - torch.arange(length)[:, None] + kernel - 1


def neighbourhood_attention(
    query: Tensor, key: Tensor, value: Tensor, kernel: int, bias: Tensor | None = None
) -> Tensor:
    """softmax(query · key / sqrt(d) + bias) · value over the kernel² neighbours of every pixel.

    Args:
        query, key, value: (N, heads, H, W, d), sides of at least `kernel`.
        kernel: odd side of the window.
        bias: (heads, 2 kernel - 1, 2 kernel - 1), added to the scores by the offset key minus query, or None.

    Returns:
        (N, heads, H, W, d).

    Raises:
        ValueError: an even kernel, or an image smaller than it.
    """
    height, width = query.shape[2:4]
    if kernel % 2 == 0 or min(height, width) < kernel:
        raise ValueError(f"neighbourhood attention of {kernel}x{kernel} (odd) on features of {height}x{width}: too few")
    if _vendor_agrees(query.device.type, query.dtype, query.shape[-1], kernel, bias is not None):
        return _vendor_attention(query, key, value, kernel, bias)
    return _plain_attention(query, key, value, kernel, bias)


def _plain_attention(query: Tensor, key: Tensor, value: Tensor, kernel: int, bias: Tensor | None) -> Tensor:
    scores = (query * query.shape[-1] ** -0.5)[..., None, :] @ _neighbours(key, kernel)  # (N, heads, H, W, 1, kernel²)
    if bias is not None:
        scores = scores + _pixel_bias(bias, query.shape[2], query.shape[3], kernel)
    return (scores.softmax(dim=-1) @ _neighbours(value, kernel).mT).squeeze(-2)


def _neighbours(x: Tensor, kernel: int) -> Tensor:
    """(N, heads, H, W, d) -> (N, heads, H, W, d, kernel²): what is in the window of every pixel, in reading order."""
    rows, columns = (window_starts(length, kernel).to(x.device) for length in x.shape[2:4])
    x = x.unfold(2, kernel, 1).index_select(2, rows)
    return x.unfold(3, kernel, 1).index_select(3, columns).flatten(-2)


def _pixel_bias(bias: Tensor, height: int, width: int, kernel: int) -> Tensor:
    """(heads, 2 kernel - 1, 2 kernel - 1) -> (heads, H, W, 1, kernel²)."""
    rows, columns = (bias_places(length, kernel).to(bias.device) for length in (height, width))
    picked = bias.index_select(1, rows.flatten()).index_select(2, columns.flatten())
    windows = picked.unflatten(2, (width, kernel)).unflatten(1, (height, kernel)).transpose(2, 3)
    return windows.flatten(-2)[..., None, :]


@cache
def _vendor() -> ModuleType | None:
    try:
        operators = importlib.import_module(f"{VENDOR}.functional")
    except Exception:  # not installed, or built for another torch, which raises whatever its loader raises
        return None
    return operators if hasattr(operators, "natten2dqkrpb") and hasattr(operators, "natten2dav") else None


def _vendor_attention(query: Tensor, key: Tensor, value: Tensor, kernel: int, bias: Tensor | None) -> Tensor:
    operators = _vendor()
    assert operators is not None
    if bias is None:
        bias = query.new_zeros(query.shape[1], 2 * kernel - 1, 2 * kernel - 1)
    scores = operators.natten2dqkrpb(query * query.shape[-1] ** -0.5, key, bias, kernel, 1)
    return operators.natten2dav(scores.softmax(dim=-1), value, kernel, 1)


@cache
def _vendor_agrees(device: str, dtype: torch.dtype, depth: int, kernel: int, biased: bool) -> bool:
    """Whether the vendor's operators give this module's values and gradients: releases differ in the relative bias."""
    if device == "meta" or _vendor() is None:
        return False
    random = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(device, dtype).requires_grad_()

    with torch.inference_mode(False), torch.enable_grad():
        inputs = [leaf(1, 2, kernel + 1, kernel + 4, depth) for _ in range(3)]
        bias = leaf(2, 2 * kernel - 1, 2 * kernel - 1) if biased else None
        leaves = inputs if bias is None else [*inputs, bias]
        results = []
        try:
            for attention in (_plain_attention, _vendor_attention):
                output = attention(inputs[0], inputs[1], inputs[2], kernel, bias)
                results.append([output, *torch.autograd.grad(output.square().sum(), leaves)])
        except Exception:  # a signature, type, device or kernel size that the installed release lacks
            return False
    allowed = min(100 * torch.finfo(dtype).eps, 0.02)  # sums in another order; another bias differs by far more
    pairs = [(a.detach(), b.detach()) for a, b in zip(*results, strict=True)]
    return all(torch.allclose(a, b, rtol=allowed, atol=allowed * a.abs().max().item()) for a, b in pairs)


class NeighbourhoodAttention(nn.Module):
    """Multi-head neighbourhood attention, with a learned bias for every offset between query and key.

    The bias of the keys (the middle third of `qkv.bias`) adds the same to all scores of a query and has no effect.

    Args:
        channels: length of an element, a multiple of `heads`.
        heads: number of heads.
        kernel: odd side of the window.
        relative_bias: whether there is a bias by offset; the vendor's package has it up to release 0.14 by default.
        pad_small: what those releases do with maps smaller than the window: zeros are added at the right and bottom
            before `qkv`, so the added elements are keys with the values of the biases. False refuses such maps.
    """

    def __init__(
        self, channels: int, heads: int, kernel: int = 7, relative_bias: bool = True, pad_small: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        self.kernel = kernel
        self.pad_small = pad_small
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.rpb = nn.Parameter(torch.empty(heads, 2 * kernel - 1, 2 * kernel - 1)) if relative_bias else None
        if self.rpb is not None:
            nn.init.trunc_normal_(self.rpb, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> the same shape. Raises ValueError for a map smaller than the window without `pad_small`."""
        height, width = x.shape[1:3]
        if self.pad_small:
            x = functional.pad(x, (0, 0, 0, max(self.kernel - width, 0), 0, max(self.kernel - height, 0)))
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 4, 1, 2, 5)
        attended = neighbourhood_attention(query, key, value, self.kernel, self.rpb)
        return self.proj(attended.movedim(1, 3).flatten(3)[:, :height, :width])
