"""IGNet: two encoders that meet only in graphs, whose nodes are maps of both modalities at three depths."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.blocks import conv_leaky
from evalkit.methods.layers.borders import padded
from evalkit.methods.layers.colour import gray_and_luminance, recoloured_and_stretched
from evalkit.methods.layers.graph import CrossModalityEdges, IntraModalityGraph, conv_norm_relu
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.norm import CurrentNorm
from evalkit.methods.network import NetworkMethod

Norm = Callable[[int], nn.Module]
Pair = tuple[Tensor, Tensor]  # of infrared and visible
DILATIONS = (4, 8, 16)  # one node each
STEPS = 2  # of the edges across the modalities, and of those within each
STRIDE = 8


@dataclass(frozen=True)
class Sizes:
    """Widths.

    Attributes:
        encoder: of the four convolutions.
        ratio: channels of an encoder's features to those of a node.
        cascade: of what the graphs are read out to, coarse to fine.
    """

    encoder: tuple[int, int, int, int] = (128, 256, 384, 512)
    ratio: int = 32
    cascade: tuple[int, int, int] = (128, 32, 4)


class ModalityEncoder(nn.Module):
    """Image (N, 1, H, W), sides multiples of 8 -> features at an eighth, a quarter and half the size.

    Args:
        widths: of the four convolutions.
        product: the deepest features are pooled by maximum and by mean; their product is taken, else their sum.
    """

    def __init__(self, widths: tuple[int, int, int, int], product: bool) -> None:
        super().__init__()
        self.product = product
        self.layers = nn.ModuleList(conv_leaky(a, b) for a, b in zip((1, *widths[:-1]), widths, strict=True))
        self.attention = nn.Sequential(
            nn.Linear(widths[-1], widths[-1] // 16, bias=False),
            nn.ReLU(),
            nn.Linear(widths[-1] // 16, widths[-1], bias=False),
            nn.Sigmoid(),
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        fine = functional.max_pool2d(self.layers[0](image), 2)
        middle = functional.max_pool2d(self.layers[1](fine), 2)
        x = self.layers[3](self.layers[2](middle))
        strongest, mean = functional.max_pool2d(x, 2), functional.avg_pool2d(x, 2)
        deep = strongest * mean if self.product else strongest + mean
        return [deep * self.attention(deep.mean((2, 3)))[..., None, None], middle, fine]


class ModalityNodes(nn.Module):
    """What one modality has of its own at one depth: its nodes, their graph, and how both are read out.

    Args:
        channels: C of the encoder's features.
        width: of a node.
        cascade: channels that come from the depth below, and those that go to the one above.
        leader: nodes are weighed by the mean of what was read out below.
        norm: channels -> the normalisation.
    """

    def __init__(self, channels: int, width: int, cascade: tuple[int, int], leader: bool, norm: Norm) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(conv_norm_relu(channels, width, dilation, norm) for dilation in DILATIONS)
        self.leader = (
            nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(2 * width, width // 2, 1, bias=False),
                nn.ReLU(),
                nn.Conv2d(width // 2, width, 1, bias=False),
                nn.Sigmoid(),
            )
            if leader
            else None
        )
        self.reasoning = IntraModalityGraph(width, len(DILATIONS), STEPS, "interleaved")
        self.merge = conv_norm_relu(len(DILATIONS) * width, width, norm=norm)
        self.enlarge = conv_norm_relu(width + cascade[0], cascade[1], norm=norm)

    def states(self, features: Tensor, merged: Tensor | None) -> list[Tensor]:
        """Features (N, C, H, W) and what was read out below -> the nodes before any reasoning."""
        nodes = [node(features) for node in self.nodes]
        if self.leader is None:
            return nodes
        weight = 1 + self.leader(merged)
        return [node * weight for node in nodes]

    def forward(self, nodes: list[Tensor], cascade: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes and the cascade so far -> what is read out, and the cascade at twice the size."""
        merged = self.merge(torch.cat(self.reasoning(nodes), dim=1))
        both = torch.cat((merged, cascade), dim=1)
        larger = functional.interpolate(both, scale_factor=2, mode="bilinear", align_corners=True)
        return merged, self.enlarge(larger)


class GraphLevel(nn.Module):
    """One depth of both modalities: their nodes exchange what differs before each modality reasons by itself."""

    def __init__(self, channels: int, width: int, cascade: tuple[int, int], leader: bool, norm: Norm) -> None:
        super().__init__()
        self.infrared = ModalityNodes(channels, width, cascade, leader, norm)
        self.visible = ModalityNodes(channels, width, cascade, leader, norm)
        self.cross = CrossModalityEdges(width)

    def exchange(self, features: Pair, merged: Pair | None) -> tuple[list[Tensor], list[Tensor]]:
        """Features of both, and what was read out below -> their nodes after the edges across."""
        below = merged or (None, None)
        infrared = self.infrared.states(features[0], below[0])
        visible = self.visible.states(features[1], below[1])
        pairs = list(zip(infrared, visible, strict=True))
        for _ in range(STEPS):
            pairs = [self.cross(*pair) for pair in pairs]
        return [first for first, _ in pairs], [second for _, second in pairs]

    def forward(self, features: Pair, merged: Pair | None, cascade: Pair) -> tuple[Pair, Pair]:
        """Features, what was read out below and the cascade so far -> what is read out, the cascade at twice the size.

        All are pairs of infrared and visible.
        """
        infrared, visible = self.exchange(features, merged)
        first, second = self.infrared(infrared, cascade[0]), self.visible(visible, cascade[1])
        return (first[0], second[0]), (first[1], second[1])


class IGNet(nn.Module):
    """Li et al., Learning a Graph Neural Network with Cross Modality Interaction for Image Fusion, ACM MM 2023.

    doi:10.1145/3581783.3612135. Two gray images (N, 1, H, W) in [0, 1] -> fused (N, 1, H, W), not bounded. Sides that
    are not multiples of 8, which the published code refuses, are padded by repeating the border.

    Args:
        sizes: widths.
        statistics: what features are normalised by outside training: "image", those of each image, as the published
            script runs, where the result depends on the whole image; "stored", those of the training.
    """

    def __init__(self, sizes: Sizes | None = None, statistics: Literal["image", "stored"] = "image") -> None:
        super().__init__()
        sizes = sizes or Sizes()
        norm: Norm = CurrentNorm if statistics == "image" else nn.BatchNorm2d
        self.infrared = ModalityEncoder(sizes.encoder, product=True)
        self.visible = ModalityEncoder(sizes.encoder, product=False)
        channels = [sizes.encoder[i] for i in (3, 1, 0)]
        cascade = list(zip((channels[0], *sizes.cascade[:-1]), sizes.cascade, strict=True))
        self.levels = nn.ModuleList(
            GraphLevel(c, c // sizes.ratio, steps, leader=i > 0, norm=norm)
            for i, (c, steps) in enumerate(zip(channels, cascade, strict=True))
        )
        self.last = nn.Conv2d(2 * sizes.cascade[-1], 1, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        height, width = infrared.shape[2:]
        a = self.infrared(padded(infrared, STRIDE))
        b = self.visible(padded(visible, STRIDE))
        return self.last(torch.cat(self.cascades(a, b)[-1], dim=1))[..., :height, :width]

    def cascades(self, infrared: list[Tensor], visible: list[Tensor]) -> list[Pair]:
        """Features of both encoders -> what their graphs give, coarse to fine: pairs of infrared and visible."""
        merged, cascades = None, [(infrared[0], visible[0])]
        for level, features in zip(self.levels, zip(infrared, visible, strict=True), strict=True):
            merged, cascade = level(features, merged, cascades[-1])
            cascades.append(cascade)
        return cascades[1:]


DEAD = re.compile(r"^graph\.graph\.0\.C_ca\.")  # below the first depth there is no leader
STATISTICS = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")
_KEYS = {
    **{rf"^(vis|inf)_conv\.conv{i + 1}\.": rf"\1.layers.{i}.0." for i in range(4)},
    r"^(vis|inf)_conv\.fc1\.": r"\1.attention.0.",
    r"^(vis|inf)_conv\.fc2\.": r"\1.attention.2.",
    r"^graph\.graph\.(\d)\.ppm_(rgb|dep)\.convs\.": r"levels.\1.\2.nodes.",
    r"^graph\.graph\.(\d)\.graph_(rgb|dep)\.": r"levels.\1.\2.reasoning.",
    r"\.reasoning\.C_wgt\.": ".reasoning.edges.",
    r"\.reasoning\.ConvGRU\.ConvGates\.": ".reasoning.gru.gates.",
    r"\.reasoning\.ConvGRU\.Conv_ct\.": ".reasoning.gru.candidate.",
    r"^graph\.graph\.(\d)\.C_ca\.0\.": r"levels.\1.rgb.leader.",
    r"^graph\.graph\.(\d)\.C_ca\.1\.": r"levels.\1.dep.leader.",
    r"^graph\.graph\.(\d)\.C_pa\.0\.": r"levels.\1.cross.to_second.",
    r"^graph\.graph\.(\d)\.C_pa\.1\.": r"levels.\1.cross.to_first.",
    **{rf"^graph\.C_cat\.{i}\.": f"levels.{i % 3}.{('rgb', 'dep')[i // 3]}.merge." for i in range(6)},
    **{rf"^graph\.C_up\.{i}\.": f"levels.{i % 3}.{('rgb', 'dep')[i // 3]}.enlarge." for i in range(6)},
    r"^graph\.C_cls\.": "last.",
    r"^inf\.": "infrared.",
    r"^vis\.": "visible.",
    r"\.rgb\.": ".infrared.",
    r"\.dep\.": ".visible.",
}


def _convert(content: Any, path: Path, stored: bool = False) -> State:
    state = {key: value for key, value in renamed(content, path, {}).items() if not DEAD.match(key)}
    if not stored:
        state = {key: value for key, value in state.items() if not STATISTICS.search(key)}
    return renamed(state, path, _KEYS)


_FILES = ("IGNet.pth",)
METHODS = {
    "IGNet": NetworkMethod(IGNet, gray_and_luminance, recoloured_and_stretched, _FILES, _convert),
    "IGNet-stored": NetworkMethod(
        partial(IGNet, statistics="stored"),
        gray_and_luminance,
        recoloured_and_stretched,
        _FILES,
        partial(_convert, stored=True),
    ),
}
