"""Selective scans over feature maps, in four directions.

Liu et al., VMamba: Visual State Space Model, 2024, arXiv:2401.10166, as VM-UNet (arXiv:2402.02491) uses it. Features
are (N, H, W, C) between blocks and (N, C, H, W) inside them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.selective_scan import selective_scan

DIRECTIONS = 4
STEP_RANGE = (1e-3, 1e-1)  # of softplus(bias) at the start of training
STEP_FLOOR = 1e-4


def to_sequences(x: Tensor) -> Tensor:
    """A map in four reading orders: by rows, by columns, and both from the end: (N, D, H, W) -> (N, 4, D, H*W)."""
    forward = torch.stack((x.flatten(2), x.transpose(2, 3).flatten(2)), dim=1)
    return torch.cat((forward, forward.flip(-1)), dim=1)


def from_sequences(sequences: Tensor, height: int, width: int) -> Tensor:
    """Every value back at its place, the four directions summed: (N, 4, D, H*W) -> (N, D, H, W).

    Args:
        sequences: (N, 4, D, H*W), as `to_sequences` gives them.
        height, width: H and W of the map.
    """
    rows, columns = (sequences[:, :2] + sequences[:, 2:].flip(-1)).unbind(1)
    return rows.unflatten(-1, (height, width)) + columns.unflatten(-1, (width, height)).transpose(2, 3)


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """Two sequences (..., L) as one (..., 2L): even positions the first, odd the second."""
    return torch.stack((first, second), dim=-1).flatten(-2)


def recover(sequence: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `interleave`: (..., 2L) -> two of (..., L)."""
    return sequence[..., ::2], sequence[..., 1::2]


class DirectionalScan(nn.Module):
    """The selective scan of four sequences, each direction with its own parameters.

    Args:
        inner: channels D of a sequence.
        states: n, values of the state per channel.
        rank: r, length of what a step is computed from.
    """

    def __init__(self, inner: int, states: int, rank: int) -> None:
        super().__init__()
        self.sizes = (rank, states, states)
        self.dt_weight = nn.Parameter(torch.empty(DIRECTIONS, inner, rank))
        self.dt_bias = nn.Parameter(torch.empty(DIRECTIONS, inner))
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(DIRECTIONS * inner, 1))
        self.D = nn.Parameter(torch.ones(DIRECTIONS * inner))
        init_step_weight(self.dt_weight)
        with torch.no_grad():
            low, high = map(math.log, STEP_RANGE)
            step = torch.empty_like(self.dt_bias).uniform_(low, high).exp_().clamp_(min=STEP_FLOOR)
            self.dt_bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse of softplus

    def new_projection(self) -> nn.Parameter:
        """Weights (4, r + 2n, D) that find step, B and C in a sequence, initialised as nn.Linear."""
        inner = self.dt_bias.shape[1]
        bound = inner**-0.5
        return nn.Parameter(torch.empty(DIRECTIONS, sum(self.sizes), inner).uniform_(-bound, bound))

    def find(
        self, sequences: Tensor, projection: Tensor, dt_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Step before bias and softplus (N, 4, D, L), B and C (N, 4, n, L) of sequences (N, 4, D, L).

        Args:
            sequences: (N, 4, D, L).
            projection: `new_projection`, (4, r + 2n, D).
            dt_weight: (4, D, r), in place of the scan's own.
        """
        low, B, C = torch.einsum("nkdl,kcd->nkcl", sequences, projection).split(self.sizes, dim=2)
        step = torch.einsum("nkrl,kdr->nkdl", low, self.dt_weight if dt_weight is None else dt_weight)
        return step, B, C

    def forward(self, sequences: Tensor, step: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """(N, 4, D, L) -> the same shape, scanned in float32.

        Args:
            sequences: (N, 4, D, L).
            step, B, C: as `find` gives them.
        """
        A = -self.A_log.exp()
        y = selective_scan(sequences.flatten(1, 2), step.flatten(1, 2), A, B, C, self.D, self.dt_bias.flatten())
        return y.view_as(sequences)


def init_step_weight(weight: Tensor) -> None:
    """Uniform within 1 / sqrt(rank), for (..., rank)."""
    nn.init.uniform_(weight, -(weight.shape[-1] ** -0.5), weight.shape[-1] ** -0.5)


class GatedMap(nn.Module):
    """What surrounds a scan of feature maps: linear layers, a depthwise 3x3 convolution, norm and gate.

    Args:
        width: channels d in and out.
        inner: channels D of the scan.
        states: n of the scan.
    """

    def __init__(self, width: int, inner: int, states: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.scan = DirectionalScan(inner, states, rank=math.ceil(width / 16))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def enter(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, d) -> features (N, D, H, W) and gate (N, H, W, D)."""
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        return functional.silu(self.conv(u.permute(0, 3, 1, 2).contiguous())), gate

    def leave(self, y: Tensor, gate: Tensor) -> Tensor:
        """Scanned features (N, D, H, W) and gate (N, H, W, D) -> (N, H, W, d)."""
        return self.out_proj(self.out_norm(y.permute(0, 2, 3, 1)) * functional.silu(gate))


class SS2D(GatedMap):
    """VMamba's 2-D selective scan: (N, H, W, d) -> the same shape."""

    def __init__(self, width: int, inner: int, states: int) -> None:
        super().__init__(width, inner, states)
        self.projection = self.scan.new_projection()

    def forward(self, x: Tensor) -> Tensor:
        u, gate = self.enter(x)
        sequences = to_sequences(u)
        y = self.scan(sequences, *self.scan.find(sequences, self.projection))
        return self.leave(from_sequences(y, *u.shape[2:]), gate)


class VSSBlock(nn.Module):
    """x + SS2D(LayerNorm(x)): (N, H, W, d) -> the same shape."""

    def __init__(self, width: int, inner: int, states: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = SS2D(width, inner, states)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.norm(x))
