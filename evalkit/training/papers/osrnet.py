"""How OSRNet is trained (Huo et al., IEEE TIM 71, 2022): every map of the decoder by cross-entropy and overlap."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from evalkit.methods.checkpoints import CheckpointError, State
from evalkit.methods.layers.vgg import VGGEncoder, imagenet_vgg_state
from evalkit.methods.saliency.systems.osrnet import NETWORK, OSRNet
from evalkit.training.salient import SalientSystem
from evalkit.training.terms import overlap_loss


class OSRNetSystem(SalientSystem):
    """Cross-entropy, and 1 - intersection over union, of all five maps with the same weight."""

    name = "OSRNet"
    published = NETWORK
    encoders = ("encoder",)

    def objective(self, scores: tuple[Tensor, ...], target: Tensor) -> Mapping[str, Tensor]:
        zero = target.new_zeros(())
        return {
            "cross-entropy": sum((binary_cross_entropy(score, target) for score in scores), zero),
            "overlap": sum((overlap_loss(score, target) for score in scores), zero),
        }

    @classmethod
    def encoder_state(cls, content: Any, path: Path, part: str = "") -> State:
        """VGG-16's convolutions but the first, which sees other channels; with untrained normalisation between them.

        Raises:
            CheckpointError: a convolution is missing.
        """
        published = imagenet_vgg_state(content, path)
        encoder = OSRNet().encoder
        state = dict(encoder.state_dict())
        pairs = zip(chain(*VGGEncoder().places), chain(*encoder.places), strict=True)
        for theirs, ours in list(pairs)[1:]:
            for kind in ("weight", "bias"):
                name = f"features.{theirs}.{kind}"
                if name not in published:
                    raise CheckpointError(f"{path} is not of VGG-16: the key {name} is missing.")
                state[f"features.{ours}.{kind}"] = published[name]
        return state


SYSTEM = OSRNetSystem
