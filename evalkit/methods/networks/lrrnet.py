"""LRRNet: a learned low-rank and sparse decomposition of each image, fused part by part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import opencv_gray, stretched
from evalkit.methods.network import NetworkMethod, Pixels, truncated

CODE = 256  # channels of a code: the first half is the low-rank part, the second the sparse part
GROUPS = 32  # a code is kept as a list of groups of channels: a third of the time of one tensor

Code = list[Tensor]  # GROUPS tensors (N, CODE / GROUPS, H, W)


def soft_threshold(x: Tensor, threshold: Tensor) -> Tensor:
    """sign(x) * max(|x| - threshold, 0). A negative threshold, as one of the trained ones is, enlarges instead."""
    return torch.sign(x) * (x.abs() - threshold).relu()


def reflect(x: Tensor) -> Tensor:
    """One row and column more on every side, mirrored about the edge pixels."""
    return functional.pad(x, (1, 1, 1, 1), mode="reflect")


class ToCode(nn.Module):
    """3x3 convolution with reflect padding from one channel to a code, a group at a time.

    Done as a product of the weights and the nine shifted images: up to rounding the same, and quicker on a CPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, CODE, 3)

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        assert self.conv.bias is not None
        taps = functional.unfold(reflect(x), 3)  # (N, 9, H * W)
        weights, biases = self.conv.weight.flatten(1).chunk(GROUPS), self.conv.bias[:, None].chunk(GROUPS)
        for weight, bias in zip(weights, biases, strict=True):
            yield torch.baddbmm(bias[None], weight.expand(len(x), -1, -1), taps).unflatten(2, x.shape[2:])


class ToImage(nn.Module):
    """3x3 convolution with reflect padding from a code, or half of one, to one channel.

    Done as a product over the channels and a sum of nine shifted maps: up to rounding the same, ten times as quick on
    a CPU, and with 9 maps to pad instead of 256.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 1, 3)

    def forward(self, code: Code) -> Tensor:
        assert self.conv.bias is not None
        h, w = code[0].shape[2:]
        weights = self.conv.weight[0].flatten(1).T.chunk(len(code), 1)  # each (9, channels of a group)
        # bmm, not @, which would copy the code: it turns matrix times batch into one product of transposed matrices
        taps = sum(torch.bmm(k.expand(len(x), -1, -1), x.flatten(2)) for k, x in zip(weights, code, strict=True))
        assert isinstance(taps, Tensor)
        taps = reflect(taps.unflatten(2, (h, w)))
        shifted = [taps[:, 3 * i + j, i : i + h, j : j + w] for i in range(3) for j in range(3)]
        return torch.stack(shifted, 1).sum(1, keepdim=True) + self.conv.bias[:, None, None]


class Step(nn.Module):
    """What the dictionary `down` leaves unexplained of the image, as a change of the code."""

    def __init__(self) -> None:
        super().__init__()
        self.down = ToImage(CODE)
        self.up = ToCode()

    def forward(self, image: Tensor, code: Code) -> Iterator[Tensor]:
        return self.up(image - self.down(code))


class Decomposition(nn.Module):
    """Unrolled iterations, (N, 1, H, W) -> code; thresholds (one per channel) and momentum serve all of them."""

    def __init__(self, iterations: int = 4) -> None:
        super().__init__()
        self.start = ToCode()
        self.steps = nn.ModuleList(Step() for _ in range(iterations))
        self.threshold = nn.Parameter(torch.full((1, CODE), 0.01))
        self.momentum = nn.Parameter(torch.ones(1, 1))

    def forward(self, image: Tensor) -> Code:
        thresholds, momentum = self.threshold[..., None, None].chunk(GROUPS, 1), self.momentum[..., None, None]
        code = [soft_threshold(x, threshold) for x, threshold in zip(self.start(image), thresholds, strict=True)]
        for step in self.steps:
            code = [
                soft_threshold(torch.addcmul(change, momentum, x), threshold)
                for change, x, threshold in zip(step(image, code), code, thresholds, strict=True)
            ]
        return code


class Decoder(nn.Module):
    """Codes of both images -> image: each part to one channel, the two low-rank and the two sparse ones fused."""

    def __init__(self) -> None:
        super().__init__()
        self.low_infrared, self.sparse_infrared = ToImage(CODE // 2), ToImage(CODE // 2)
        self.low_visible, self.sparse_visible = ToImage(CODE // 2), ToImage(CODE // 2)
        self.low, self.sparse = ToImage(2), ToImage(2)

    def forward(self, infrared: Code, visible: Code) -> Tensor:
        low, sparse = slice(GROUPS // 2), slice(GROUPS // 2, None)
        lows = [self.low_infrared(infrared[low]), self.low_visible(visible[low])]
        details = [self.sparse_infrared(infrared[sparse]), self.sparse_visible(visible[sparse])]
        return self.low(lows) + self.sparse(details)


class LRRNet(nn.Module):
    """Low-rank representation network: LISTA iterations with convolutions, one set of weights per modality.

    Li et al., LRRNet: A Novel Representation Learning Guided Fusion Network for Infrared and Visible Images, IEEE
    TPAMI 45(9), 2023, doi:10.1109/TPAMI.2023.3268209.

    Holds up to three codes of 256 channels at a time: 2.4 GB at most for 768x576.
    """

    def __init__(self) -> None:
        super().__init__()
        self.infrared, self.visible = Decomposition(), Decomposition()
        self.decoder = Decoder()

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Two (N, 1, H, W) in [0, 1], at least 2x2 -> (N, 1, H, W), not bounded."""
        return self.decoder(self.infrared(infrared), self.visible(visible))


def _convert(content: Any, path: Path) -> State:
    return renamed(
        content,
        path,
        {
            r"\.conv2d\.": ".conv.",
            r"^get_ls1\.": "infrared.",
            r"^get_ls2\.": "visible.",
            r"\.conv_W00\.": ".start.",
            r"\.lrrblock(\d)\.": r".steps.\1.",
            r"\.conv_Wdz\.": ".down.",
            r"\.conv_Wdtz\.": ".up.",
            r"\.lamj$": ".threshold",
            r"\.lamz$": ".momentum",
            r"\.conv_ReZx\.": ".low_infrared.",
            r"\.conv_ReUx\.": ".sparse_infrared.",
            r"\.conv_ReZy\.": ".low_visible.",
            r"\.conv_ReUy\.": ".sparse_visible.",
            r"\.conv_ReL\.": ".low.",
            r"\.conv_ReH\.": ".sparse.",
        },
    )


def _unit_stretched(image: Pixels) -> Tensor:
    """OpenCV gray, stretched to [0, 1) by its own minimum and maximum: (1, H, W) float32."""
    return torch.from_numpy(stretched(opencv_gray(image).astype(np.float32), 1e-5))[None]


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return _unit_stretched(infrared), _unit_stretched(visible)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return truncated(stretched(output[0].numpy(), 1e-5) * 255)


METHODS = {"LRRNet": NetworkMethod(LRRNet, _prepare, _finish, ("LRRNet.model",), _convert, reach=11)}
