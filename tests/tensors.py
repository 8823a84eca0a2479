"""For the tests of networks: tensors drawn by NumPy, the same with every PyTorch, and blocks as they are written."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Uniform in [0, 1)."""
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).to(dtype)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Standard normal."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def pair(*size: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """An infrared and a visible image of one channel, (batch, 1, *size) each."""
    return noise(batch, 1, *size), noise(batch, 1, *size, seed=1)


def naive_scan(u, dt, A, B, C, D=None, dt_bias=None):
    """The recurrence as it is written, one time after the other."""
    groups, channels = B.shape[1], u.shape[1]
    delta = functional.softplus(dt if dt_bias is None else dt + dt_bias[:, None])
    B, C = (x.repeat_interleave(channels // groups, dim=1) for x in (B, C))
    h = u.new_zeros(*u.shape[:2], A.shape[1])
    y = []
    for t in range(u.shape[-1]):
        step = delta[:, :, t, None]
        h = torch.exp(step * A) * h + step * B[..., t] * u[:, :, t, None]
        y.append((C[..., t] * h).sum(-1))
    scanned = torch.stack(y, dim=-1)
    return scanned if D is None else scanned + D[:, None] * u
