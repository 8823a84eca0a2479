"""MATR: convolutions whose kernels adapt to the image, at three depths, each followed by a small transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.attention import Transformer, UnusedPatchNorm
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import unit_pillow_gray, wrapped
from evalkit.methods.network import NetworkMethod, Pixels

WIDTH = 16


class GatedConv(nn.Module):
    """3x3 convolution without bias whose kernel is gated by the context of the image (Lin et al., ECCV 2020).

    The context is the input pooled to 3x3, squeezed to 5 numbers per channel. From it come two maps of 3x3, one per
    input and one per output channel; the sigmoid of their sum scales the kernel. So every image has a kernel of its
    own. All channels form one group. The published code reshapes its result to a square; here to the input's size.

    Attributes, by the names of the checkpoint: `ce` encodes the context, `ci` maps input to output channels, `gd` and
    `gd2` decode to the 9 positions of the kernel.
    """

    def __init__(self, inputs: int, outputs: int, context: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.ce = nn.Linear(9, context, bias=False)
        self.ce_bn = nn.BatchNorm1d(inputs)
        self.ci_bn2 = nn.BatchNorm1d(inputs)
        self.ci = nn.Linear(inputs, outputs, bias=False)
        self.ci_bn = nn.BatchNorm1d(outputs)
        self.gd = nn.Linear(context, 9, bias=False)
        self.gd2 = nn.Linear(context, 9, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        n, c, h, w = x.shape
        kernels = self.kernels(x)
        # one group per image: a convolution of the whole batch with a kernel for each
        result = functional.conv2d(x.reshape(1, n * c, h, w), kernels.flatten(0, 1), padding=1, groups=n)
        return result.reshape(n, -1, h, w)

    def kernels(self, x: Tensor) -> Tensor:
        """The kernel of every image, (N, outputs, inputs, 3, 3)."""
        context = self.ce(functional.adaptive_avg_pool2d(x, 3).flatten(2))  # (N, inputs, 5)
        per_input = self.gd(torch.relu(self.ce_bn(context)))  # (N, inputs, 9)
        mixed = self.ci(torch.relu(self.ci_bn2(context)).transpose(1, 2)).transpose(1, 2)  # (N, outputs, 5)
        per_output = self.gd2(torch.relu(self.ci_bn(mixed)))  # (N, outputs, 9)
        gate = torch.sigmoid(per_input[:, None] + per_output[:, :, None])
        return self.weight * gate.unflatten(3, (3, 3))


class GatedConvNormReLU(nn.Module):
    """Gated convolution, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = GatedConv(inputs, outputs)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class MATR(nn.Module):
    """Multiscale adaptive transformer for functional (PET, SPECT) and anatomical (MRI) images.

    Tang et al., MATR: Multimodal Medical Image Fusion via Multiscale Adaptive Transformer, IEEE TIP 31, 2022,
    doi:10.1109/TIP.2022.3193288.

    One gated convolution and one transformer serve at all places of the three branches. `patch_embed.norm` and the
    attention's queries, keys and bias tables are in the checkpoint and have no effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = GatedConvNormReLU(2, WIDTH)
        self.conv = GatedConvNormReLU(WIDTH, WIDTH)
        self.patch_embed = UnusedPatchNorm()
        self.transformer = Transformer(depth=3, channels=WIDTH, heads=8)
        self.last = nn.Conv2d(WIDTH, 1, 1, bias=False)

    def forward(self, anatomical: Tensor, functional_image: Tensor) -> Tensor:
        """MRI, then PET or SPECT, both (N, 1, H, W) in [0, 1] -> (N, 1, H, W) in (-1, 1)."""
        x = self.first(torch.cat([functional_image, anatomical], 1))
        branches = []
        for _ in range(3):  # one, two and three convolutions before the transformer
            x = self.conv(x)
            branches.append(self.conv(self.transformer(x)))
        return torch.tanh(self.last(torch.stack(branches).sum(0)))


def _convert(content: Any, path: Path) -> State:
    return renamed(
        content,
        path,
        {
            r"^(convInput|conv)\.conv1\.": r"\1.conv.",
            r"^(convInput|conv)\.bn1\.": r"\1.bn.",
            r"^convInput\.": "first.",
            r"^convolutional_out\.conv1\.": "last.",
            r"^basicLayer\.": "transformer.",
        },
    )


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """MRI takes the infrared role, PET or SPECT the visible one, as in the cards of the medical data sets."""
    return unit_pillow_gray(infrared), unit_pillow_gray(visible)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return wrapped(output[0].numpy() * 255)


METHODS = {"MATR": NetworkMethod(MATR, _prepare, _finish, ("MATR.pth",), _convert)}
