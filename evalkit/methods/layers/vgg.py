"""VGG-16 as an encoder of five scales; its names are those of the published ImageNet weights (torchvision's)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State, as_state

CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each stage
CHANNELS = (1, 2, 4, 8, 8)  # of each stage, over those of the first

Pool = Callable[[Tensor], Tensor]
over_3x3 = partial(functional.max_pool2d, kernel_size=3, stride=2, padding=1)
over_2x2 = partial(functional.max_pool2d, kernel_size=2)


class VGGEncoder(nn.Module):
    """The thirteen convolutions with ReLU, without classifier and without the last pooling (Simonyan, Zisserman 2015).

    Before every stage but the first comes a pooling of stride 2. Stage i = 0..4 gives (N, channels[i], H / 2^i,
    W / 2^i), sides rounded up, or down by `over_2x2`.

    Args:
        width: channels of the first stage; 64 fits the ImageNet weights.
        first: stage that the encoder begins with; with 1 its input is features of the first stage.
        channels_in: of the image.
        norm: how many of the convolutions, from the first on, have a batch normalisation behind them: 0 or 13 in
            torchvision's networks.
        pool: over 3x3 in several published networks of salient objects, over 2x2 in VGG itself.
    """

    def __init__(
        self, width: int = 64, first: int = 0, channels_in: int = 3, norm: int = 0, pool: Pool = over_3x3
    ) -> None:
        super().__init__()
        self.channels = tuple(width * factor for factor in CHANNELS)
        self.features = nn.ModuleDict()
        self.pool = pool
        self.places: list[list[str]] = []  # of each stage's convolutions among the published layers
        place, before = 0, channels_in
        for stage, count in enumerate(CONVOLUTIONS):
            place += stage > 0  # the pooling
            self.places.append([])
            for _ in range(count):
                self.places[-1].append(str(place))
                if stage >= first:
                    self.features[str(place)] = nn.Conv2d(before, self.channels[stage], 3, padding=1)
                    if sum(map(len, self.places)) <= norm:
                        self.features[str(place + 1)] = nn.BatchNorm2d(self.channels[stage])
                before = self.channels[stage]
                place += 3 if norm else 2

    def stage(self, number: int, x: Tensor) -> Tensor:
        """One stage, 0..4, with the pooling before it: features of the stage before, or the image -> its own."""
        if number:
            x = self.pool(x)
        for name in self.places[number]:
            x = self.features[name](x)
            norm = str(int(name) + 1)
            x = functional.relu(self.features[norm](x) if norm in self.features else x)
        return x

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image (N, C, H, W) -> the outputs of the five stages."""
        features = []
        for number in range(len(self.places)):
            image = self.stage(number, image)
            features.append(image)
        return features


def imagenet_vgg_state(content: Any, path: Path) -> State:
    """Published classification weights of VGG-16 as the state dict of `VGGEncoder`: all but the classifier."""
    state = as_state(content, path)
    return {
        key if key.startswith("features.") else f"features.{key}": value
        for key, value in state.items()
        if not key.startswith("classifier.")
    }
