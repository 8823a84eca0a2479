"""TarDAL: the generator of a target-aware dual adversarial network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evalkit.data.images import merge_colour
from evalkit.methods.checkpoints import as_state
from evalkit.methods.layers.blocks import conv_norm
from evalkit.methods.layers.pixels import unit_opencv_gray
from evalkit.methods.network import NetworkMethod, Pixels, rounded, truncated


class TarDAL(nn.Module):
    """Liu et al., Target-aware Dual Adversarial Learning, CVPR 2022, doi:10.1109/CVPR52688.2022.00571.

    Two gray images (N, 1, H, W) in [0, 1] -> fused (N, 1, H, W) in [-1, 1]. Batch normalisation uses the stored
    statistics in evaluation mode, as the authors' first release does; their second runs the same weights on the
    statistics of the image itself (`network.train()`), which gives other pictures.
    """

    def __init__(self, channels: int = 32, depth: int = 3) -> None:
        super().__init__()
        self.encoder = conv_norm(2, channels, nn.ReLU())
        self.dense = nn.ModuleList(conv_norm(channels * (i + 1), channels, nn.ReLU()) for i in range(depth))
        wide = channels * (depth + 1)
        self.fuse = nn.Sequential(
            nn.Sequential(nn.Conv2d(wide, 4 * channels, 3, padding=1), nn.ReLU()),  # the only one inside without norm
            conv_norm(4 * channels, 2 * channels, nn.ReLU()),
            conv_norm(2 * channels, channels, nn.ReLU()),
            nn.Sequential(nn.Conv2d(channels, 1, 3, padding=1), nn.Tanh()),
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        x = self.encoder(torch.cat((infrared, visible), dim=1))
        for layer in self.dense:
            x = torch.cat((x, layer(x)), dim=1)
        return self.fuse(x)


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return unit_opencv_gray(infrared), unit_opencv_gray(visible)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    values = output[0].numpy() * 255
    # the script lets OpenCV round a gray image, but cuts the luminance of a colour one to integers itself
    return rounded(values) if visible.ndim == 2 else merge_colour(truncated(values), visible)


# the authors' layers have the same names
METHODS = {"TarDAL": NetworkMethod(TarDAL, _prepare, _finish, ("TarDAL.pt",), as_state, reach=8)}
