"""Ways to make one feature map of two, to be compared with S4Fusion's: (N, H, W, d) twice -> (N, H, W, d).

They are what Table 3 of S4Fusion puts in the place of its module. The paper names them, cites what they are modelled
on, and says that layers and channels were adjusted to the same number of parameters; it gives no structure. These are
readings of the cited ideas, as short as they get.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from evalkit.methods.layers.state_space import GatedMap, from_sequences, to_sequences
from evalkit.methods.network import count_parameters

HEADS = 8


def hidden_for(budget: int, build: Callable[[int], nn.Module], multiple: int = 1) -> int:
    """The hidden width, a multiple of `multiple`, at which `build(width)` comes closest to so many parameters.

    Each further channel must cost the same.

    Args:
        budget: trainable values.
        build: hidden width -> module.
        multiple: of the width.
    """
    with torch.device("meta"):  # counted without memory and without a random number
        few, many = (count_parameters(build(factor * multiple)) for factor in (1, 2))
    return multiple * max(1, round(1 + (budget - few) / (many - few)))


class Addition(nn.Module):
    """The sum."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class ConvFusion(nn.Module):
    """A 1x1 convolution of both, then residual blocks of two 3x3 convolutions (He et al. 2016).

    Args:
        width: channels d.
        hidden: channels between the two convolutions of a block.
        blocks: how many.
    """

    def __init__(self, width: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.join = nn.Conv2d(2 * width, width, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, width, 3, padding=1))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        z = self.join(torch.cat((x, y), dim=-1).permute(0, 3, 1, 2).contiguous())
        for block in self.blocks:
            z = z + block(z)
        return z.permute(0, 2, 3, 1)


class CrossAttention(nn.Module):
    """Each modality asks the other: queries of one, keys and values of the other, both directions, residual.

    As in CMX (Zhang et al. 2023, doi:10.1109/TITS.2023.3300537) the values are first summed up per head to a small
    matrix, so the cost grows with the number of pixels, not its square. Keys are softmax-normalised over the pixels and
    queries over the channels (Shen et al. 2021, efficient attention), which keeps the result independent of size.

    Args:
        width: channels d.
        hidden: channels of queries, keys and values, a multiple of HEADS.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * hidden, bias=False) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(hidden, width) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, d) twice -> the same shapes."""
        queries, contexts = [], []
        for features, norm, qkv in zip((x, y), self.norms, self.qkv, strict=True):
            q, k, v = qkv(norm(features)).flatten(1, 2).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
            queries.append(q.softmax(dim=-1))  # (N, heads, H*W, c)
            contexts.append(k.softmax(dim=-2).transpose(-2, -1) @ v)  # (N, heads, c, c)
        answers = [
            out((query @ context).transpose(1, 2).flatten(2)).view_as(x)
            for out, query, context in zip(self.out, queries, contexts[::-1], strict=True)
        ]
        return x + answers[0], y + answers[1]


class CrossScan(GatedMap):
    """Each modality is scanned with the step, B and C of the other, in a sequence and with a state of its own.

    After the FSSM of FusionMamba (arXiv:2404.07932), which lets one input set the parameters for the other. Weights are
    shared between the modalities where S4Fusion shares them.
    """

    def __init__(self, width: int, inner: int, states: int) -> None:
        super().__init__(width, inner, states)
        self.projections = nn.ParameterList([self.scan.new_projection(), self.scan.new_projection()])

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, d) twice -> the same shapes."""
        maps, gates = zip(*(self.enter(features) for features in (x, y)), strict=True)
        sequences = [to_sequences(u) for u in maps]
        parameters_of_both = [self.scan.find(s, p) for s, p in zip(sequences, self.projections, strict=True)]
        scanned = [self.scan(s, *parameters) for s, parameters in zip(sequences, parameters_of_both[::-1], strict=True)]
        left = [self.leave(from_sequences(s, *maps[0].shape[2:]), gate) for s, gate in zip(scanned, gates, strict=True)]
        return x + left[0], y + left[1]


class PairwiseFusion(nn.Module):
    """Blocks that change both maps, one after the other, and the sum of what comes out."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        for block in self.blocks:
            x, y = block(x, y)
        return x + y
