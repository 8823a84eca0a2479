"""evalkit's own networks as mmsegmentation's Runner trains them, and their preprocessing. Needs `segmentation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmseg.models.data_preprocessor import SegDataPreProcessor
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.registry import MODELS, OPTIMIZERS
from torch import Tensor

from evalkit.downstream.segmentation.networks import segmenter
from evalkit.downstream.segmentation.ranger import Ranger

OPTIMIZERS.register_module(module=Ranger)


@MODELS.register_module()
class AnyChannels(SegDataPreProcessor):
    """mmsegmentation's preprocessing for four channels, too; its own refuses other numbers than one and three."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], **options: Any) -> None:
        super().__init__(**options)
        self._enable_normalize = True
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)


@MODELS.register_module()
class OwnSegmentor(BaseSegmentor):
    """A network of a `SegmentationSystem`, with the loss of its system."""

    align_corners = False

    def __init__(
        self,
        network: str,
        classes: int,
        class_weights: Sequence[float],
        data_preprocessor: dict,
        reduced: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        made = segmenter(network).network
        assert made is not None
        self.system = made()
        self.network = self.system.build(classes, **(reduced or {}))
        self.register_buffer("weight", torch.tensor(class_weights or [1.0] * classes), persistent=False)

    def extract_feat(self, inputs: Tensor) -> Tensor:
        return self._logits(inputs)

    def encode_decode(self, inputs: Tensor, batch_data_samples: Any = None) -> Tensor:
        return self._logits(inputs)

    def loss(self, inputs: Tensor, data_samples: Any) -> dict[str, Tensor]:
        truth = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples]).long()
        return {"loss": self.system.loss(self.system.run(self.network, inputs), truth, self.weight)}

    def predict(self, inputs: Tensor, data_samples: Any = None) -> Any:
        return self.postprocess_result(self._logits(inputs), data_samples)

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        return self._logits(inputs)

    def _logits(self, inputs: Tensor) -> Tensor:
        return self.system.run(self.network, inputs)[0]
