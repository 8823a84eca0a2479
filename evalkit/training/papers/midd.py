"""How MIDD is trained (Tu et al., IEEE TIP 30, 2021, section "Loss function")."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from evalkit.methods.saliency.systems.midd import NETWORK
from evalkit.training.salient import SalientSystem, cross_entropy, smoothness


class MIDDSystem(SalientSystem):
    """Cross-entropy of the joint map, of each decoder's and of the context's, and half the joint map's smoothness."""

    name = "MIDD"
    published = NETWORK

    def objective(self, scores: tuple[Tensor, ...], target: Tensor) -> Mapping[str, Tensor]:
        joint, visible, thermal, context = scores
        return {
            "joint": cross_entropy(joint, target),
            "visible": cross_entropy(visible, target),
            "thermal": cross_entropy(thermal, target),
            "context": cross_entropy(context, target),
            "smooth": 0.5 * smoothness(torch.sigmoid(joint), target),
        }


SYSTEM = MIDDSystem
