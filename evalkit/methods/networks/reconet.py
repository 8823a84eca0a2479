"""ReCoNet: a small recurrent network that refines the fused image in three steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.blocks import conv_norm
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import unit_opencv_gray
from evalkit.methods.network import NetworkMethod, Pixels, gray_levels, round_levels


class Attention(nn.Module):
    """How much of a source to let in, (N, 1, H, W) in [0, 1], seen beside the image fused so far."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def forward(self, source: Tensor, fused: Tensor) -> Tensor:
        return torch.sigmoid(self.conv(torch.cat((torch.maximum(source, fused), (source + fused) / 2), dim=1)))


class ReCoNet(nn.Module):
    """Huang et al., ReCoNet: Recurrent Correction Network, ECCV 2022, doi:10.1007/978-3-031-19797-0_31.

    The fusion network of the authors' first release (with batch normalisation), without the registration before it.
    Two gray images (N, 1, H, W) in [0, 1] -> fused (N, 1, H, W) in [-1, 1]. The steps share their weights.
    """

    def __init__(self, features: int = 64, steps: int = 3) -> None:
        super().__init__()
        self.steps = steps
        self.infrared_attention = Attention()
        self.visible_attention = Attention()
        self.dilated = nn.ModuleList(conv_norm(3, features, nn.ReLU(), dilation=d) for d in (1, 2, 3))
        self.merge = conv_norm(3 * features, 1, nn.Tanh())

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        fused = torch.maximum(infrared, visible)
        for _ in range(self.steps):
            attended = (
                infrared * self.infrared_attention(infrared, fused),
                fused,
                visible * self.visible_attention(visible, fused),
            )
            x = torch.cat(attended, dim=1)
            fused = self.merge(torch.cat([layer(x) for layer in self.dilated], dim=1))
        return fused


def _convert(content: Any, path: Path) -> State:
    changes = {
        r"^att_a_conv\.": "infrared_attention.conv.",
        r"^att_b_conv\.": "visible_attention.conv.",
        **{rf"^dil_conv_{i + 1}\.": f"dilated.{i}." for i in range(3)},
        r"^fus_conv\.": "merge.",
    }
    return renamed(content, path, changes)


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_opencv_gray(infrared), unit_opencv_gray(visible)


METHODS = {
    "ReCoNet": NetworkMethod(ReCoNet, _prepare, round_levels, ("ReCoNet.pth",), _convert, reach=15, levels=gray_levels)
}
