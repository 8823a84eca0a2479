"""What makes a network a segmenter: how to build it, what goes in and what comes out, which files hold its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.downstream.segmentation.pixels import IGNORE
from evalkit.methods.checkpoints import CheckpointError, State

Tensors = tuple[Tensor, ...]
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # red, green, blue on 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)
THERMAL_MEAN, THERMAL_STD = 0.449, 0.226  # the means of both


def cross_entropy(outputs: Tensors, truth: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of the first output.

    Args:
        outputs: the first (N, classes, H, W), logits.
        truth: (N, H, W) int64, IGNORE where nothing is to be learned.
        weight: (classes,) of the classes.

    Returns:
        A scalar, the weighted mean over the pixels.
    """
    return functional.cross_entropy(outputs[0], truth, weight, ignore_index=IGNORE)


@dataclass(frozen=True)
class SegmentationSystem:
    """A network as a segmenter.

    Attributes:
        build: number of classes, and by name what makes it smaller than published -> the network with untrained
            weights; its forward takes what `prepare` gives and returns logits (N, classes, H, W), or a tuple of which
            they are the first.
        prepare: images (N, C, H, W) float32 in 0..255, red, green, blue and, of two streams, infrared -> the network's
            inputs, as the published program normalises them. None: one input, the C channels together, normalised with
            mean and standard deviation of the training images.
        multiple: of the network's strides: sides of other lengths are continued with the last pixel, and the outputs
            of full size are cut.
        convert: (content, path) of the file under which the whole network is published -> state dict of `build`.
        encoders: prefixes of the names of the parts that are pretrained.
        pretrained: (content, path) of the published weights of an encoder -> state dict of all these parts.
        loss: (outputs, truth (N, H, W) int64 with IGNORE, weights of the classes (classes,)) -> scalar; the outputs as
            a tuple, also where there is one.
    """

    build: Callable[..., nn.Module]
    prepare: Callable[[Tensor], Tensors] | None = None
    multiple: int = 32
    convert: Callable[[Any, Path], State] | None = None
    encoders: tuple[str, ...] = ()
    pretrained: Callable[[Any, Path], State] | None = None
    loss: Callable[[Tensors, Tensor, Tensor], Tensor] = cross_entropy

    def run(self, network: nn.Module, images: Tensor) -> Tensors:
        """The outputs for images, the logits (N, classes, H, W) first.

        Args:
            network: of `build`.
            images: (N, C, H, W), any sides; 0..255, without `prepare` normalised.
        """
        height, width = images.shape[-2:]
        images = continued(images, self.multiple)
        outputs = network(*(self.prepare(images) if self.prepare else (images,)))
        outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        full = images.shape[-2:]
        return tuple(x[..., :height, :width] if x.shape[-2:] == full else x for x in outputs)

    def load_pretrained(self, network: nn.Module, content: Any, path: Path) -> None:
        """Copy pretrained weights into the encoders of a network of `build`.

        Args:
            network: changed in place.
            content: what the file holds.
            path: of the file, for messages.

        Raises:
            CheckpointError: the weights are not of these encoders.
        """
        if self.pretrained is None:
            raise CheckpointError(f"{path} cannot be used: {type(network).__name__} has no pretrained encoder.")
        fill(network, self.pretrained(content, path), self.encoders, path)


def fill(network: nn.Module, state: State, parts: tuple[str, ...], path: Path) -> None:
    """Copy a state dict into parts of a network, all of whose tensors it must have, in their shapes.

    Args:
        network: changed in place.
        state: key -> tensor; what is of no part is passed over (a classifier).
        parts: prefixes of the names of the parts; "" for all of the network.
        path: of the file, for messages.

    Raises:
        CheckpointError: a tensor is missing or of another shape.
    """
    own = {key: value for key, value in network.state_dict().items() if key.startswith(parts)}
    needed = [key for key in own if not key.endswith("num_batches_tracked")]
    wrong = [key for key in needed if key not in state or state[key].shape != own[key].shape]
    if wrong:
        raise CheckpointError(
            f"the checkpoint {path} is not of this encoder: {len(wrong)} of {len(needed)} tensors are missing or of "
            f"another shape ({', '.join(wrong[:3])})."
        )
    network.load_state_dict({key: state[key] for key in own if key in state}, strict=False)


def continued(images: Tensor, multiple: int) -> Tensor:
    """Images (N, C, H, W) with their last row and column repeated up to sides of a multiple."""
    height, width = images.shape[-2:]
    return functional.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def unit(images: Tensor) -> Tensors:
    """0..255 to 0..1, all channels as one input."""
    return (images / 255,)


def imagenet(images: Tensor) -> Tensor:
    """Three channels (N, 3, H, W) in 0..255, normalised with ImageNet's means and deviations."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images / 255 - mean) / std


def imagenet_pair(images: Tensor) -> Tensors:
    """Four channels (N, 4, H, W) in 0..255 -> visible (N, 3, H, W) and infrared (N, 1, H, W), normalised so."""
    return imagenet(images[:, :3]), (images[:, 3:] / 255 - THERMAL_MEAN) / THERMAL_STD
