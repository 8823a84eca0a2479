"""How LAFB is trained (Wang et al., IEEE TCSVT 34(8), 2024, and the published train.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.resnet import imagenet_state
from evalkit.methods.saliency.systems.lafb import NETWORK
from evalkit.training.salient import SalientSystem, cross_entropy, smoothness

WEIGHTS = (1.0, 0.8, 0.6, 0.5)  # of the scales' maps, the finest first


def dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """1 - 2 (|A and B| + 1) / (|A| + |B| + 1) of each map with its mask, then the mean, as published.

    Args:
        probability: map (N, 1, H, W) in [0, 1].
        target: mask (N, 1, H, W) in [0, 1].
    """
    both = (probability * target).sum((1, 2, 3))
    either = (probability + target).sum((1, 2, 3))
    return (1 - 2 * (both + 1) / (either + 1)).mean()


class LAFBSystem(SalientSystem):
    """Cross-entropy of the maps of all scales; smoothness and Dice loss of the finest."""

    name = "LAFB"
    published = NETWORK
    backbone = "Res2Net-50 v1b"

    @classmethod
    def encoder_state(cls, content: Any, path: Path, part: str = "") -> State:
        return imagenet_state(content, path)

    def objective(self, scores: tuple[Tensor, ...], target: Tensor) -> Mapping[str, Tensor]:
        finest = torch.sigmoid(scores[0])
        weighted = [w * cross_entropy(logits, target) for w, logits in zip(WEIGHTS, scores, strict=True)]
        return {
            "cross_entropy": torch.stack(weighted).sum(),
            "smooth": smoothness(finest, target),
            "dice": dice_loss(finest, target),
        }


SYSTEM = LAFBSystem
