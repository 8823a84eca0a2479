"""APNet: two streams whose deep features guide the finer ones; three maps are weighed against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.vgg import VGGEncoder, over_2x2
from evalkit.methods.network import NetworkMethod, Pixels, rounded
from evalkit.methods.saliency.feed import Feed, pillow_square

SIZES = ((5, 3), (7, 5), (9, 7), (11, 9), (13, 11))  # of the kernels, from the deepest scale to the finest


class Separable(nn.Module):
    """3x3 convolution of each channel, normalisation, ReLU, 1x1 convolution: (N, C, H, W) -> (N, C', H, W)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels_in, channels_in, 3, padding=1, groups=channels_in, bias=False),
            nn.BatchNorm2d(channels_in),
            nn.ReLU(),
            nn.Conv2d(channels_in, channels_out, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def _cross(channels_in: int, channels_out: int, size: int) -> nn.Sequential:
    """A large kernel as a row and a column: (N, C, H, W) -> (N, C', H, W)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, (1, size), padding=(0, size // 2)),
        nn.Conv2d(channels_out, channels_out, (size, 1), padding=(size // 2, 0)),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def twice(x: Tensor, times: int = 2) -> Tensor:
    """Bilinear, the corners staying where they are: (N, C, H, W) -> (N, C, times H, times W)."""
    return interpolate(x, scale_factor=float(times), mode="bilinear", align_corners=True) if times > 1 else x


class GuidedOptimisation(nn.Module):
    """Features seen through two kernels, with those of the next deeper scale, if any, and weighed.

    (N, C, H, W) and, of the deeper scale, (N, C, H / 2, W / 2) -> (N, C, H, W).

    Two surprises of the published code are kept: the pixels' softmax is over each column, not over the image; and the
    channels' weights do not depend on the image, for the normalisation of a single value gives its bias. That bias
    begins as 0, where the ReLU behind it passes no gradient, so only the last bias of `channel` ever learns.
    """

    def __init__(self, channels: int, sizes: tuple[int, int], guided: bool, reduction: int = 4) -> None:
        super().__init__()
        part = channels // (4 if guided else 2)
        self.own = nn.ModuleList(_cross(channels, part, size) for size in sizes)
        self.deeper = nn.ModuleList(_cross(channels, part, size) for size in sizes) if guided else None
        self.channel = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1),
            nn.LayerNorm(1),
            nn.ReLU(),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )
        self.pixel = nn.Conv2d(channels, 1, 1)
        self.join = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor, deeper: Tensor | None = None) -> Tensor:
        seen = [cross(x) for cross in self.own]
        if self.deeper is not None:
            assert deeper is not None
            deeper = twice(deeper)
            seen = [seen[0], self.deeper[0](deeper), seen[1], self.deeper[1](deeper)]
        joined = torch.cat(seen, dim=1)
        weighted = torch.softmax(self.pixel(joined), dim=2) * joined
        both = joined + weighted
        channels = self.channel(both.mean(dim=(2, 3), keepdim=True))
        return self.join(torch.cat((both * channels, weighted, joined, x), dim=1))


class GuidedStream(nn.Module):
    """One image (N, 3, H, W), multiples of 16 -> features of the decoder's four steps, each (N, C, H, W), and a map.

    The published network has a fifth step, `unused`, that nothing is put through.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.encoder = VGGEncoder(width, norm=13, pool=over_2x2)
        self.narrow = nn.ModuleList(Separable(c, channels) for c in reversed(self.encoder.channels))
        self.optimise = nn.ModuleList(
            GuidedOptimisation(channels, sizes, guided=i > 0) for i, sizes in enumerate(SIZES)
        )
        self.finest = Separable(channels, channels)
        self.decode = nn.ModuleList(Separable(2 * channels, channels) for _ in range(4))
        self.unused = Separable(2 * channels, channels)
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        features: list[Tensor] = []
        for narrow, optimise, x in zip(self.narrow, self.optimise, reversed(self.encoder(image)), strict=True):
            features.append(optimise(narrow(x), *features[-1:]))
        full = [twice(x, 16 >> i) for i, x in enumerate(features)]
        full[-1] = self.finest(full[-1])
        deep, fourth, third, second, first = full
        steps = [self.decode[0](torch.cat((deep, fourth), dim=1))]
        steps.append(self.decode[1](torch.cat((steps[-1], third), dim=1)))
        steps.append(self.decode[2](torch.cat((second, steps[-1]), dim=1)))
        steps.append(self.decode[3](torch.cat((first, steps[-1]), dim=1)))
        return steps, self.head(steps[-1])


class APMaps(NamedTuple):
    """Logits (N, 1, H, W): what the network answers, and what else is supervised."""

    final: Tensor
    joint: Tensor
    fourth: Tensor
    third: Tensor
    second: Tensor
    visible: Tensor
    thermal: Tensor


def weigh_maps(*maps: Tensor) -> Tensor:
    """Maps (N, 1, H, W), each times the mean of the sigmoid of its absolute values, summed."""
    return torch.stack([torch.sigmoid(m.abs()).mean(dim=(2, 3), keepdim=True) * m for m in maps]).sum(dim=0)


class APNet(nn.Module):
    """Zhou et al., APNet: Adversarial Learning Assistance and Perceived Importance Fusion Network.

    IEEE TETCI 6(4), 2022, doi:10.1109/TETCI.2021.3118043. Visible and thermal image (N, 3, H, W), normalised, multiples
    of 16 -> logits (N, 1, H, W).

    Args:
        width: of both encoders, 64 in the paper.
        channels: of the decoders, 64 in the paper.
    """

    def __init__(self, width: int = 64, channels: int = 64) -> None:
        super().__init__()
        self.visible, self.thermal = GuidedStream(width, channels), GuidedStream(width, channels)
        self.sides = nn.ModuleList(nn.Conv2d(channels, 1, 1) for _ in range(3))
        self.joint = nn.Conv2d(channels, 1, 1)

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        return self.scores(visible, thermal).final

    def scores(self, visible: Tensor, thermal: Tensor) -> APMaps:
        """All that is supervised."""
        steps, of_visible = self.visible(visible)
        thermal_steps, of_thermal = self.thermal(thermal)
        sums = [a + b for a, b in zip(steps, thermal_steps, strict=True)]
        joint = self.joint(sums[-1])
        fourth, third, second = (side(x) for side, x in zip(self.sides, sums, strict=False))
        final = weigh_maps(of_visible, of_thermal, joint)
        return APMaps(final, joint, fourth, third, second, of_visible, of_thermal)


def convert(content: Any, path: Path) -> State:
    """From the authors' names."""
    changes = {r"^conv_f\.": "joint."} | {rf"^sv{4 - i}_f\.": f"sides.{i}." for i in range(3)}
    for stream, encoder, tail, mark, guide, head in (
        ("visible", "rgb", "_r", "", "r", "rgb"),
        ("thermal", "thermal", "_d", "_d", "d", "d"),
    ):
        changes |= {rf"^{encoder}_pretrained\.": f"{stream}.encoder.", rf"^conv{head}\.": f"{stream}.head."}
        changes |= {rf"^uplayer1{mark}\.0\.": f"{stream}.finest.", rf"^decode_layer1{tail}\.": f"{stream}.unused."}
        changes |= {rf"^decode_layer{5 - i}{tail}\.": f"{stream}.decode.{i}." for i in range(4)}
        for i in range(5):
            changes |= {rf"^changchannel{5 - i}{mark}\.": f"{stream}.narrow.{i}."}
            changes |= {rf"^msca{guide}{5 - i}\.": f"{stream}.optimise.{i}."}
    inside = {"layer1": "own.0", "layer2": "own.1", "layer3": "deeper.0", "layer4": "deeper.1", "fc": "channel"}
    inside |= {"nolocal.0": "pixel", "conv1": "join"}
    for theirs, ours in inside.items():
        changes[rf"(\.optimise\.\d)\.{theirs}\."] = rf"\1.{ours}."
    return renamed(content, path, changes)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """Logits to probabilities, stretched to 0..1 and then resized: the authors keep, and measure, squares of 224."""
    values = torch.sigmoid(output)[None]
    values = (values - values.min()) / (values.max() - values.min() + 1e-8)
    return rounded(interpolate(values, visible.shape[:2], mode="bilinear")[0, 0].numpy() * 255)


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FEED = Feed(224, *IMAGENET, *IMAGENET, square=pillow_square)
NETWORK = NetworkMethod(APNet, FEED, _finish, ("APNet.pth",), convert)
