"""Graph reasoning over feature maps: the nodes are maps of two modalities at several scales (SMFNet, Eqs. 12-16).

Zhang et al., arXiv:2407.06159, section III-B4. Nothing is pooled: a node has the size of the image, its scale is the
dilation of a convolution. The paper's Pool(.) of Eq. 13 is not defined there and not in the published code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from evalkit.methods.layers.strips import by_strips

EdgeLayout = Literal["block", "interleaved"]


def conv_norm_relu(
    channels_in: int, channels_out: int, dilation: int = 1, norm: Callable[[int], nn.Module] = nn.BatchNorm2d
) -> nn.Sequential:
    """3x3 convolution without bias, normalisation, ReLU: (N, C, H, W) -> (N, C', H, W).

    Args:
        channels_in, channels_out: C and C' of the features.
        dilation: of the kernel, in pixels.
        norm: channels -> the normalisation.
    """
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=dilation, dilation=dilation, bias=False),
        norm(channels_out),
        nn.ReLU(),
    )


class CrossModalityEdges(nn.Module):
    """Two nodes of one scale exchange what differs between them: two (N, C, H, W) -> two of the same shape.

    second' = second + first * sigmoid(P0(first - second)) and the reverse with P1; both see the old nodes. P0 and P1
    give one weight per pixel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_second = nn.Conv2d(channels, 1, 1, bias=False)
        self.to_first = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        first, second = by_strips(self._exchanged, first, second).chunk(2, dim=1)
        return first, second

    def _exchanged(self, first: Tensor, second: Tensor) -> Tensor:
        difference = first - second
        return torch.cat(
            (
                first + second * self.to_first(-difference).sigmoid(),
                second + first * self.to_second(difference).sigmoid(),
            ),
            dim=1,
        )


class ConvGRU(nn.Module):
    """Gated recurrent unit whose matrices are 1x1 convolutions, so that every pixel has its own state.

    r, u = sigmoid(W [m, h]); c = tanh(V [m, r * h]); (1 - u) * h + u * c, for the message m and the state h.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.candidate = nn.Conv2d(2 * channels, channels, 1)
        for conv in (self.gates, self.candidate):
            nn.init.normal_(conv.weight, std=0.01)

    def forward(self, message: Tensor, state: Tensor) -> Tensor:
        """Two (N, C, H, W) -> the new state, (N, C, H, W)."""
        reset, update = self.gates(torch.cat((message, state), dim=1)).sigmoid().chunk(2, dim=1)
        candidate = self.candidate(torch.cat((message, reset * state), dim=1)).tanh()
        return (1 - update) * state + update * candidate


class IntraModalityGraph(nn.Module):
    """The nodes of one modality send each other messages and update themselves (Eqs. 14-16).

    Args:
        channels: of a node.
        nodes: how many.
        steps: how often, with the same weights; in a step all nodes see the old state of the others.
        layout: which channels of a neighbour an edge weighs. "block": all of them, by its own edge (Eq. 15).
            "interleaved": as the published code runs, even and odd channels (with two neighbours) of every neighbour
            by the first and the second edge; the authors' weights were trained this way. `channels` must then be a
            multiple of the number of neighbours.
        residual: h + gamma * GRU(m, h) with a learned gamma that starts at 0, so that the graph starts as the identity
            and its other weights get no gradient until gamma moves (published code); else GRU(m, h) (Eq. 16).
    """

    def __init__(
        self, channels: int, nodes: int = 3, steps: int = 2, layout: EdgeLayout = "block", residual: bool = True
    ) -> None:
        super().__init__()
        neighbours = nodes - 1
        self.steps = steps
        self.layout = layout
        self.edges = nn.Conv2d(neighbours * channels, neighbours, 1, groups=neighbours, bias=False)
        self.gru = ConvGRU(channels)
        self.gamma = nn.Parameter(torch.zeros(1)) if residual else None

    def message(self, nodes: list[Tensor], target: int) -> Tensor:
        """What the node `target` hears from the others, taken in ascending order: (N, C, H, W)."""
        others = [node for i, node in enumerate(nodes) if i != target]
        gates = self.edges(torch.cat([nodes[target] - other for other in others], dim=1)).sigmoid()
        if self.layout == "interleaved":  # channel c of every neighbour by edge c modulo the number of edges
            together = sum(others[1:], others[0]).unflatten(1, (-1, len(others)))
            return (together * gates[:, None]).flatten(1, 2)
        weighted = [other * gates[:, i : i + 1] for i, other in enumerate(others)]
        return sum(weighted[1:], weighted[0])

    def update(self, node: Tensor, message: Tensor) -> Tensor:
        """Node and message -> the node after one step, all (N, C, H, W)."""
        new = self.gru(message, node)
        return new if self.gamma is None else node + self.gamma * new

    def forward(self, nodes: list[Tensor]) -> list[Tensor]:
        """Nodes, each (N, C, H, W) -> as many of the same shape."""
        for _ in range(self.steps):
            nodes = [self.update(node, self.message(nodes, i)) for i, node in enumerate(nodes)]
        return nodes


class ModalityGraph(nn.Module):
    """What one modality has of its own: how its nodes are made, how they reason, how they are read out."""

    def __init__(self, channels: int, dilations: tuple[int, ...], steps: int, layout: EdgeLayout, residual: bool):
        super().__init__()
        self.nodes = nn.ModuleList(conv_norm_relu(channels, channels, dilation) for dilation in dilations)
        self.reasoning = IntraModalityGraph(channels, len(dilations), steps, layout, residual)
        self.read_out = conv_norm_relu(len(dilations) * channels, channels)

    def reason(self, *nodes: Tensor) -> Tensor:
        """Nodes, each (N, C, H, W) -> what becomes of them, one behind the other: (N, nodes * C, H, W)."""
        return torch.cat(self.reasoning(list(nodes)), dim=1)


class GraphReasoning(nn.Module):
    """Features of two modalities -> what each learns from the other and from its own scales (Eq. 12).

    Nodes by dilated convolutions, edges across the modalities, edges within each, read-out of all nodes together.

    Args:
        channels: of the features.
        dilations: one node each; at least two.
        cross_steps: how often the cross-modality edges are applied, with one pair of weights for all scales.
        steps, layout, residual: as for `IntraModalityGraph`.
    """

    def __init__(
        self,
        channels: int,
        dilations: tuple[int, ...] = (4, 8, 16),
        cross_steps: int = 2,
        steps: int = 2,
        layout: EdgeLayout = "block",
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.cross_steps = cross_steps
        self.infrared = ModalityGraph(channels, dilations, steps, layout, residual)
        self.visible = ModalityGraph(channels, dilations, steps, layout, residual)
        self.cross = CrossModalityEdges(channels)
        self.join = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Two (N, C, H, W) -> two of the same shape, none of them negative."""
        states = []
        for to_first, to_second in zip(self.infrared.nodes, self.visible.nodes, strict=True):
            pair = to_first(infrared), to_second(visible)
            for _ in range(self.cross_steps):
                pair = self.cross(*pair)
            states.append(pair)
        nodes = zip((self.infrared, self.visible), zip(*states, strict=True), strict=True)
        del states, pair
        first, second = (graph.read_out(by_strips(graph.reason, *state)) for graph, state in nodes)
        return first, second

    def fuse(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Both read-outs -> one, (N, C, H, W), by a 1x1 convolution (Eq. 18)."""
        return self.join(torch.cat((infrared, visible), dim=1))
