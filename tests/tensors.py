"""Random tensors for the tests of networks, drawn by NumPy: the same with every version of PyTorch."""

from __future__ import annotations

import numpy as np
import torch


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Uniform in [0, 1)."""
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).to(dtype)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Standard normal."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def pair(*size: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """An infrared and a visible image of one channel, (batch, 1, *size) each."""
    return noise(batch, 1, *size), noise(batch, 1, *size, seed=1)
