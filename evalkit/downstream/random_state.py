"""The state of the random numbers that third-party trainings draw from, to be kept beside their weights."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """Of Python's, NumPy's and PyTorch's global generators, as tensors and plain values."""
    state: Any = np.random.get_state()  # noqa: NPY002 - those that the packages draw from
    kind, keys, *rest = state
    states = {"python": random.getstate(), "numpy": (str(kind), keys.tolist(), *rest), "torch": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else {})


def set_random_state(state: dict[str, Any]) -> None:
    """Go on from what `random_state` gave. Raises KeyError, TypeError or ValueError for what it did not give."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
