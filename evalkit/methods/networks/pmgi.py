"""PMGI: two paths, one for gradients and one for intensities, that show each other what they found."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evalkit.methods.layers.norm import conv_current_norm
from evalkit.methods.layers.scipy_misc import save_gray, signed_pair
from evalkit.methods.network import NetworkMethod

WIDTH = 16  # channels of every layer


def _conv(channels_in: int, size: int = 3) -> nn.Sequential:
    return conv_current_norm(channels_in, WIDTH, size, padding=size // 2, affine=False)


class Path(nn.Module):
    """Four layers, and two transfer blocks through which the path sees both paths."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList((_conv(3, 5), _conv(WIDTH), _conv(3 * WIDTH), _conv(4 * WIDTH)))
        self.transfers = nn.ModuleList(_conv(2 * WIDTH, 1) for _ in range(2))


class PMGI(nn.Module):
    """Zhang et al., Rethinking the Image Fusion, AAAI 2020, doi:10.1609/aaai.v34i07.6975.

    Two gray images (N, 1, H, W) in [-1, 1] -> fused (N, 1, H, W) in [-1, 1].

    Every layer but the last is normalised (`CurrentNorm`), in evaluation mode by the image's own statistics. The
    authors learn a scale and an offset in these norms, and their test script resets them to 1 and 0; here there are
    none. The biases of the twelve normalised layers have no effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = Path(), Path()
        self.last = nn.Conv2d(8 * WIDTH, 1, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        paths = (self.infrared, self.visible)
        # each path sees its own modality twice and the other once
        inputs = (torch.cat((infrared, infrared, visible), dim=1), torch.cat((visible, visible, infrared), dim=1))
        of_paths = []
        for path, x in zip(paths, inputs, strict=True):
            first = path.layers[0](x)
            of_paths.append([first, path.layers[1](first)])
        for step in range(2):
            newest = torch.cat([features[-1] for features in of_paths], dim=1)
            for path, features in zip(paths, of_paths, strict=True):
                x = torch.cat((*features, path.transfers[step](newest)), dim=1)
                features.append(path.layers[2 + step](x))
        return torch.tanh(self.last(torch.cat((*of_paths[0], *of_paths[1]), dim=1)))


METHODS = {"PMGI": NetworkMethod(PMGI, signed_pair, save_gray)}
