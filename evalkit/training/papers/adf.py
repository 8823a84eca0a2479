"""How ADF is trained (Tu et al., IEEE TMM 25, 2023, section "Loss function", and the published solver.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from evalkit.methods.checkpoints import State
from evalkit.methods.saliency.systems.adf import NETWORK
from evalkit.training.salient import SalientSystem

LAPLACIAN = ((-1.0, -1.0, -1.0), (-1.0, 8.0, -1.0), (-1.0, -1.0, -1.0))
FIRST_STAGE = ("features.0.", "features.2.")  # which the fusing branch has not


def laplacian_edges(image: Tensor) -> Tensor:
    """|Laplacian| / 9 with zeros around: (N, 1, H, W) in [0, 1] -> the same, at most 8/9."""
    kernel = image.new_tensor(LAPLACIAN)[None, None]
    return (functional.conv2d(image, kernel, padding=1) / 9).abs()


class ADFSystem(SalientSystem):
    """Cross-entropy of the map, and of its edges with those of the mask, 7 to 3; summed over an image's pixels."""

    name = "ADF"
    published = NETWORK
    encoders = ("visible.vgg", "thermal.vgg", "fusion")

    @classmethod
    def encoder_state(cls, content: Any, path: Path, part: str = "") -> State:
        state = super().encoder_state(content, path)
        if part != "fusion":
            return state
        return {key: value for key, value in state.items() if not key.startswith(FIRST_STAGE)}

    def objective(self, scores: tuple[Tensor, ...], target: Tensor) -> Mapping[str, Tensor]:
        (logits,) = scores
        edges = laplacian_edges(torch.sigmoid(logits))
        return {
            "map": 0.7 * functional.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(target),
            "edges": 0.3
            * functional.binary_cross_entropy(edges, laplacian_edges(target), reduction="sum")
            / len(target),
        }


SYSTEM = ADFSystem
