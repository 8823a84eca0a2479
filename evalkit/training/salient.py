"""What the training of salient-object networks of two streams shares: the system, and terms of several papers' losses.

The thermal image is read in gray, three times over: what `evalkit train` learns from is what its networks see later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State, load_strictly
from evalkit.methods.layers.resnet import imagenet_state
from evalkit.methods.layers.vgg import imagenet_vgg_state
from evalkit.methods.network import NetworkMethod
from evalkit.methods.saliency.feed import Feed, GrayFeed
from evalkit.training.data import Batch
from evalkit.training.options import built
from evalkit.training.precision import full_precision
from evalkit.training.pretrained import pretrained
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, System
from evalkit.training.terms import sobel_derivatives

READERS = {"vgg": imagenet_vgg_state, "resnet": imagenet_state}


class SalientSystem(System):
    """A network of two streams that learns from pairs and masks; a subclass has the loss of its paper.

    Attributes:
        published: the network as it is published; its `prepare` is a `Feed`. The network has a method `scores`,
            (visible, thermal) -> all maps that the loss judges, a tuple of tensors.
        backbone: which published ImageNet weights the recipe's `weights: {encoder: FILE}` are: "vgg", "resnet".
        encoders: the network's parts that begin with them.
    """

    published: ClassVar[NetworkMethod]
    backbone: ClassVar[str] = "vgg"
    encoders: ClassVar[tuple[str, ...]] = ("visible", "thermal")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.network = self.builder(recipe)()

    @classmethod
    def builder(cls, recipe: Recipe) -> Callable[..., nn.Module]:
        """The network's constructor with the recipe's sizes. Raises UnknownNameError."""
        return built(cls.published.build, recipe.network, recipe)

    def objective(self, scores: tuple[Tensor, ...], target: Tensor) -> Mapping[str, Tensor]:
        """The weighted terms of the loss, by name.

        Args:
            scores: what the network's `scores` gives.
            target: mask (N, 1, H, W) in [0, 1].
        """
        raise NotImplementedError

    def prepare(self, weights: Path | None) -> None:
        file = pretrained(self.recipe, "encoder", weights, f"torchvision's ImageNet weights of {self.backbone}")
        if file is not None:
            for name in self.encoders:
                part = self.network.get_submodule(name)
                load_strictly(part, self.encoder_state(*file, name), str(file[1]))

    @classmethod
    def encoder_state(cls, content: Any, path: Path, part: str = "") -> State:
        """The state dict of one of `encoders` in the file of the ImageNet weights. Raises CheckpointError.

        Args:
            content: of the file.
            path: of the file, for messages.
            part: the encoder's name in the network.
        """
        return READERS[cls.backbone](content, path)

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        visible = batch["visible"]
        images = feed_of(self.published).normalised(visible, batch["infrared"].expand_as(visible))
        scores = cast(Callable[..., tuple[Tensor, ...]], self.network.scores)
        return dict(full_precision(self.objective)(scores(*images), batch["salient"]))

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        """The network as a maker of saliency maps; it sees squares of the size that it learned from."""
        feed = feed_of(cls.published)
        size = (recipe.stages[-1].augment or recipe.augment).resize or feed.size
        return replace(cls.published, build=cls.builder(recipe), prepare=GrayFeed(replace(feed, size=size)))


def feed_of(network: NetworkMethod) -> Feed:
    """How pairs go into the network of a `SalientSystem`."""
    assert isinstance(network.prepare, Feed)
    return network.prepare


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (N, 1, h, w) with a mask (N, 1, H, W), resized to them -> scalar."""
    if logits.shape[-2:] != target.shape[-2:]:
        target = functional.interpolate(target, logits.shape[-2:], mode="bilinear", align_corners=True)
    return functional.binary_cross_entropy_with_logits(logits, target)


def smoothness(probability: Tensor, target: Tensor, sharpness: float = 10, weight: float = 10) -> Tensor:
    """Edge-preserving smoothness (Tu et al. 2021, Eq. 14): gradients of the map cost where the mask has none.

    Mean over pixels of sqrt((|g| exp(-sharpness |g'|))² + 1e-6) for the horizontal and vertical Sobel derivatives g of
    the map and g' of the mask, added.

    Args:
        probability: map (N, 1, H, W) in [0, 1].
        target: mask (N, 1, H, W) in [0, 1].
        sharpness: of the fall along the mask's edges.
        weight: of the whole.
    """
    of_map, of_mask = sobel_derivatives(probability), sobel_derivatives(target)
    penalties = torch.sqrt((of_map * torch.exp(-sharpness * of_mask)) ** 2 + 1e-6)
    return weight * penalties.sum(dim=1).mean()
