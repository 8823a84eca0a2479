"""How TAGFNet is trained; its paper's loss could not be read, so every map by cross-entropy and overlap."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from evalkit.methods.saliency.systems.tagfnet import NETWORK
from evalkit.training.salient import SalientSystem, cross_entropy
from evalkit.training.terms import overlap_loss


class TAGFNetSystem(SalientSystem):
    """Cross-entropy, and 1 - intersection over union, of all five maps with the same weight."""

    name = "TAGFNet"
    published = NETWORK

    def objective(self, scores: tuple[Tensor, ...], target: Tensor) -> Mapping[str, Tensor]:
        zero = target.new_zeros(())
        return {
            "cross-entropy": sum((cross_entropy(score, target) for score in scores), zero),
            "overlap": sum((overlap_loss(torch.sigmoid(score), target) for score in scores), zero),
        }


SYSTEM = TAGFNetSystem
