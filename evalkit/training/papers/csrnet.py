"""How CSRNet is trained (Huo et al., IEEE TCSVT 32(5), 2022, and the published util.py)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from evalkit.methods.saliency.systems.csrnet import NETWORK
from evalkit.training.salient import SalientSystem, cross_entropy, smoothness
from evalkit.training.terms import overlap_loss


class CSRNetSystem(SalientSystem):
    """Cross-entropy, intersection over union and smoothness of all five maps at full size, each with weight 1."""

    name = "CSRNet"
    published = NETWORK
    encoders = ()

    def objective(self, scores: tuple[Tensor, ...], target: Tensor) -> Mapping[str, Tensor]:
        probabilities = [torch.sigmoid(logits) for logits in scores]
        return {
            "cross_entropy": torch.stack([cross_entropy(logits, target) for logits in scores]).sum(),
            "overlap": torch.stack([overlap_loss(one, target) for one in probabilities]).sum(),
            "smooth": torch.stack([smoothness(one, target) for one in probabilities]).sum(),
        }


SYSTEM = CSRNetSystem
