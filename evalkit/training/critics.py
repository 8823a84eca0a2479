"""Frozen networks that judge fused images while another one learns, with torchvision's published weights.

The classifier is written here. Detector and segmenter are torchvision's own, which is asked for only when a recipe
names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.errors import DataError, EvalkitError
from evalkit.methods.checkpoints import CheckpointError, as_state, load_strictly
from evalkit.methods.layers.pixels import IMAGENET_MEAN, IMAGENET_STD
from evalkit.training.terms import check_labels, freeze

RESNET50 = (3, 4, 6, 3)
MSRS_CLASSES = 9
COCO_OF_BOXES = (1, 2, 3)  # MSRS' box classes person, bicycle, car under COCO's numbers, which begin at 1
# background, car, person, bike; what VOC has no class for is its background: curve, car stop, guardrail, cone, bump
VOC_OF_CLASSES = (0, 7, 15, 2, 0, 0, 0, 0, 0)
VOC_CLASSES = 21


class CriticBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (He et al. 2016): (N, C, H, W) -> (N, 4 w, H/s, W/s)."""

    def __init__(self, channels_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)  # the paper has the stride in conv1
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels_in, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
            if stride != 1 or channels_in != 4 * width
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """The ImageNet classifier under torchvision's names: (N, 3, H, W) -> scores (N, classes).

    Args:
        blocks: bottlenecks of each stage.
        width: channels of the stem.
    """

    def __init__(self, blocks: Sequence[int] = RESNET50, width: int = 64, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = width
        for i, count in enumerate(blocks):
            stage = nn.Sequential()
            for block in range(count):
                stage.append(CriticBottleneck(channels, width << i, stride=2 if i and block == 0 else 1))
                channels = 4 * (width << i)
            self.add_module(f"layer{i + 1}", stage)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        parts: Any = self
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        for stage in (parts.layer1, parts.layer2, parts.layer3, parts.layer4):
            x = stage(x)
        return self.fc(self.avgpool(x).flatten(1))


def load_classifier(content: Any, path: Path) -> ResNet50:
    """ResNet-50 with the weights in a file of torchvision's. Raises CheckpointError."""
    network = ResNet50()
    load_strictly(network, as_state(content, path), str(path))
    return network


class DetectionCritic(nn.Module):
    """A Faster R-CNN's losses for gray images. It never changes.

    It is always in training mode, the only one in which torchvision gives losses, but for normalisation and dropout.

    Args:
        network: takes a list of (3, H, W) in [0, 1] and of targets (boxes, labels) as torchvision's detectors do.
        ids: its number of every class of the boxes.
    """

    def __init__(self, network: nn.Module, ids: Sequence[int] = COCO_OF_BOXES) -> None:
        super().__init__()
        self.network, self.ids = network, tuple(ids)
        self.train()

    def train(self, mode: bool = True) -> DetectionCritic:
        super().train(True)
        freeze(self.network)
        return self

    def forward(self, image: Tensor, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        """(N, 1, H, W) in [0, 1], N times (K, 5): class, left, top, right, bottom -> losses by torchvision's names.

        Raises:
            DataError: a class that is not one of `ids`.
        """
        targets = []
        for rows in boxes:
            classes = rows[:, 0].long()
            if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < len(self.ids):
                raise DataError(
                    f"box classes reach from {int(classes.min())} to {int(classes.max())}, the detector was told of "
                    f"0..{len(self.ids) - 1}."
                )
            ids = torch.tensor(self.ids, device=rows.device)[classes]
            targets.append({"boxes": rows[:, 1:], "labels": ids})
        return self.network(list(image.repeat(1, 3, 1, 1)), targets)


class SegmentationCritic(nn.Module):
    """A segmenter's answer to gray images, and the labels it was trained on. It never changes.

    Args:
        network: takes (N, 3, H, W), normalised as ImageNet's, gives logits (N, classes, H, W) under "out".
        classes: 9, those of MSRS, or 21, those of VOC, onto which the labels of MSRS are mapped.
        as_published: as in TSJNet's code: in training mode, so that batches are normalised by themselves; the images as
            they are; all labels background, which is what reading them as an image in [0, 1] leaves of them.
    """

    mean: Tensor
    std: Tensor
    numbers: Tensor

    def __init__(self, network: nn.Module, classes: int, as_published: bool = False) -> None:
        super().__init__()
        self.network, self.as_published = network, as_published
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        numbers = range(MSRS_CLASSES) if classes == MSRS_CLASSES else VOC_OF_CLASSES
        self.register_buffer("numbers", torch.tensor(tuple(numbers)), persistent=False)
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> SegmentationCritic:
        return super().train(self.as_published)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, classes, H, W) for (N, 1, H, W) in [0, 1]."""
        three = image.repeat(1, 3, 1, 1)
        return self.network(three if self.as_published else (three - self.mean) / self.std)["out"]

    def labels(self, classes: Tensor) -> Tensor:
        """The label map (N, H, W) of MSRS, integers in 0..8, as the segmenter's own classes. Raises DataError."""
        if classes.any():  # a batch without a single object is rare but right
            try:
                check_labels(classes, MSRS_CLASSES)
            except ValueError as error:
                raise DataError(f"{error}.") from None
        return torch.zeros_like(classes) if self.as_published else self.numbers[classes]


def load_detector(content: Any, path: Path, as_published: bool = False) -> DetectionCritic:
    """Faster R-CNN with a ResNet-50 and an FPN, with torchvision's COCO weights or others of 91 classes.

    Args:
        content: of the file.
        path: of it, for the message.
        as_published: with a new last layer for classes and boxes, as in TSJNet's code, which never trains it: the
            regression then measures noise. Else it is the trained one.

    Raises:
        CheckpointError: weights of another network. EvalkitError: no torchvision that works.
    """
    network = _faster_rcnn()
    load_strictly(network, as_state(content, path), str(path))
    if as_published:
        for layer in network.roi_heads.box_predictor.children():
            layer.reset_parameters()
    return DetectionCritic(network)


def random_detector() -> DetectionCritic:
    """The same with random weights: as much work, no judgement. Raises EvalkitError as `load_detector`."""
    return DetectionCritic(without_residuals(_faster_rcnn()))


def _faster_rcnn() -> Any:
    detection = _torchvision("torchvision.models.detection")
    parts = _torchvision("torchvision.models.detection.backbone_utils")
    norm = _torchvision("torchvision.ops").FrozenBatchNorm2d
    backbone = parts.resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=norm, trainable_layers=0)
    network = detection.FasterRCNN(backbone, num_classes=91)
    for module in network.modules():
        if isinstance(module, norm):
            module.eps = 0.0  # as those weights were made
    return network


def load_segmenter(content: Any, path: Path, as_published: bool = False) -> SegmentationCritic:
    """DeepLabV3 with a ResNet-101: torchvision's weights with the 21 classes of VOC, or fine-tuned ones with MSRS' 9.

    Args:
        content: of the file.
        path: of it, for the message.
        as_published: as for `SegmentationCritic`.

    Raises:
        CheckpointError: weights of another network. EvalkitError: no torchvision that works.
    """
    state = as_state(content, path)
    last = state.get("classifier.4.weight")
    if last is None or last.shape[0] not in (MSRS_CLASSES, VOC_CLASSES):
        raise CheckpointError(
            f"the checkpoint {path} is not of a DeepLabV3 with {MSRS_CLASSES} classes (MSRS) or {VOC_CLASSES} (VOC)."
        )
    network = _deeplab(len(last), any(key.startswith("aux_classifier.") for key in state))
    load_strictly(network, state, str(path))
    return SegmentationCritic(network, len(last), as_published)


def random_segmenter(as_published: bool = False) -> SegmentationCritic:
    """The one of torchvision's weights, with random ones: as much work, no judgement. Raises EvalkitError."""
    return SegmentationCritic(without_residuals(_deeplab(VOC_CLASSES, True)), VOC_CLASSES, as_published)


def _deeplab(classes: int, auxiliary: bool) -> nn.Module:
    build = _torchvision("torchvision.models.segmentation").deeplabv3_resnet101
    return build(weights=None, weights_backbone=None, num_classes=classes, aux_loss=auxiliary)


def without_residuals(network: nn.Module) -> nn.Module:
    """A ResNet whose blocks begin as their shortcuts, or values that nothing has normalised would grow by each block.

    Args:
        network: with blocks that end in `bn3`; changed in place.
    """
    for name, module in network.named_modules():
        if name.endswith("bn3"):
            module.weight.data.zero_()
    return network


def _torchvision(module: str) -> Any:
    try:
        return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # one made for another torch fails in many ways
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise EvalkitError(
            f"detector and segmenter need torchvision, which is missing or does not fit torch {torch.__version__} "
            f"({first[:120]}). Install the release made for it, from where torch came from."
        ) from None
