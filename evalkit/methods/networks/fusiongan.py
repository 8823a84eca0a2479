"""FusionGAN: the generator of the first adversarial network for infrared-visible fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.norm import conv_current_norm
from evalkit.methods.layers.scipy_misc import save_gray, signed_pair
from evalkit.methods.network import NetworkMethod

MARGIN = 6  # pixels that the unpadded convolutions of the generator take off every side


class FusionGAN(nn.Module):
    """Ma et al., FusionGAN, Information Fusion 48, 2019, doi:10.1016/j.inffus.2018.09.004.

    Two gray images (N, 1, H, W) in [-1, 1] -> fused (N, 1, H, W) in [-1, 1].

    `generator` pads nothing: the authors train it on patches of 132, compared with their inner 120, and repeat the
    border pixels of a test image, as this module does. All its layers but the last are normalised (`CurrentNorm`), in
    evaluation mode by the image's own statistics; the biases of these four convolutions have no effect. The authors'
    test script also resets the learned scales and offsets to 1 and 0; here they stay as trained.
    """

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            conv_current_norm(2, 256, 5, padding=0),
            conv_current_norm(256, 128, 5, padding=0),
            conv_current_norm(128, 64, 3, padding=0),
            conv_current_norm(64, 32, 3, padding=0),
            nn.Conv2d(32, 1, 1),
            nn.Tanh(),
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        pair = torch.cat((infrared, visible), dim=1)
        return self.generator(functional.pad(pair, (MARGIN,) * 4, mode="replicate"))


METHODS = {"FusionGAN": NetworkMethod(FusionGAN, signed_pair, save_gray)}
