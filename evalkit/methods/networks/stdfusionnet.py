"""STDFusionNet: residual blocks that learn from masks where the infrared image shows a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.blocks import conv_leaky
from evalkit.methods.layers.keys import from_tensorflow
from evalkit.methods.layers.scipy_misc import save_gray, signed_pair
from evalkit.methods.network import NetworkMethod


class ResidualBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside the input: (N, C, H, W) -> (N, C', H, W).

    Where C' is another number, a 1x1 convolution without bias brings the input to it.
    """

    def __init__(self, channels_in: int, channels_out: int, activation: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_leaky(channels_in, channels_in, 1),
            conv_leaky(channels_in, channels_in, 3),
            nn.Conv2d(channels_in, channels_out, 1),
        )
        same = channels_in == channels_out
        self.identity = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x) + self.identity(x))


def _extraction() -> nn.Sequential:
    """Image (N, 1, H, W) -> features (N, 64, H, W)."""
    widths = ((16, 16), (16, 32), (32, 64))
    return nn.Sequential(conv_leaky(1, 16, 5), *(ResidualBlock(i, o, nn.LeakyReLU(0.2)) for i, o in widths))


class STDFusionNet(nn.Module):
    """Ma et al., STDFusionNet: An Infrared and Visible Image Fusion Network Based on Salient Target Detection.

    IEEE Transactions on Instrumentation and Measurement 70, 2021, doi:10.1109/TIM.2021.3075747. Two gray images
    (N, 1, H, W) in [-1, 1] -> fused (N, 1, H, W) in [-1, 1]. The masks are needed in training only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = _extraction(), _extraction()
        self.reconstruction = nn.Sequential(
            ResidualBlock(128, 64, nn.ELU()),  # ELU in these two only, as in the authors' code
            ResidualBlock(64, 32, nn.ELU()),
            ResidualBlock(32, 16, nn.LeakyReLU(0.2)),
            ResidualBlock(16, 1, nn.Tanh()),
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        return self.reconstruction(torch.cat((self.visible(visible), self.infrared(infrared)), dim=1))


FILES = ("STDFusionNet/Fusion.model-29.index", "STDFusionNet/Fusion.model-29.data-00000-of-00001")


def _convert(content: Any, path: Path) -> State:
    """From the authors' names."""
    changes = {r"^STDFusion_model/": ""}
    for theirs, ours in (("ir", "infrared"), ("vi", "visible")):
        changes[rf"^{theirs}_extraction_network/conv1/"] = f"{ours}.0.0."
        changes[rf"^{theirs}_extraction_network/block([1-3])/"] = rf"{ours}.\1."
    changes |= {rf"^reconstruction_network/block{i + 1}/": f"reconstruction.{i}." for i in range(4)}
    changes |= {r"\.conv1/": ".body.0.0.", r"\.conv2/": ".body.1.0.", r"\.conv3/": ".body.2."}
    changes |= {r"\.identity_conv/": ".identity.", r"\.w$": ".weight", r"\.b$": ".bias"}
    return from_tensorflow(content, path, changes)


METHODS = {"STDFusionNet": NetworkMethod(STDFusionNet, signed_pair, save_gray, FILES, _convert, reach=9)}
