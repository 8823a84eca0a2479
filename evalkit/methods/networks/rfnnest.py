"""RFN-Nest: an auto-encoder with a nested decoder, and a residual fusion network (RFN) for each of its scales."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import CheckpointError, State
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import pillow_gray, stretched
from evalkit.methods.network import NetworkMethod, Pixels, truncated

WIDTHS = (64, 112, 160, 208)  # of the features at full size, half, a quarter, an eighth
FIRST = 16
LARGEST = 512  # the authors cut an image with a longer side into four parts


def conv(channels_in: int, channels_out: int, size: int = 3) -> nn.Sequential:
    """Convolution with reflected border, ReLU: (N, C, H, W) -> (N, C', H, W).

    Args:
        channels_in, channels_out: C and C' of the features.
        size: of the kernel, odd.
    """
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, padding=size // 2, padding_mode="reflect"), nn.ReLU()
    )


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 to half the channels, 1x1 to as many as wanted."""
    return nn.Sequential(conv(channels_in, channels_in // 2), conv(channels_in // 2, channels_out, 1))


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """Every pixel doubled to the size of `like`, which may be one row or column more: that is reflected."""
    x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
    missing_rows, missing_columns = (like.shape[axis] - x.shape[axis] for axis in (2, 3))
    return functional.pad(x, (0, missing_columns, 0, missing_rows), mode="reflect")


class Encoder(nn.Module):
    """Image (N, 1, H, W) -> features at four scales, WIDTHS channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(1, FIRST, 1)
        self.scales = nn.ModuleList(itertools.starmap(block, itertools.pairwise((FIRST, *WIDTHS))))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.first(image)
        features = []
        for level, scale in enumerate(self.scales):
            x = scale(functional.max_pool2d(x, 2) if level else x)
            features.append(x)
        return features


class Decoder(nn.Module):
    """Features at four scales -> image (N, 1, H, W), not negative.

    `nodes[column][level]` takes all nodes of its level in the columns before it, features included, and the enlarged
    node of the next level in the last column.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(
            nn.ModuleList(
                block(column * WIDTHS[level] + WIDTHS[level + 1], WIDTHS[level]) for level in range(4 - column)
            )
            for column in (1, 2, 3)
        )
        self.output = conv(WIDTHS[0], 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        levels = [[x] for x in features]  # what each level has so far
        for column in self.nodes:
            assert isinstance(column, nn.ModuleList)
            below = [level[-1] for level in levels[1:]]  # before this column: it must not see itself
            for i, node in enumerate(column):
                levels[i].append(node(torch.cat((*levels[i], enlarged(below[i], levels[i][0])), dim=1)))
        return self.output(levels[0][-1])


class ResidualFusion(nn.Module):
    """RFN: one convolution on both images' features, plus a deeper path: two (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.direct = conv(2 * channels, channels)
        self.infrared, self.visible = conv(channels, channels), conv(channels, channels)
        self.deep = nn.Sequential(conv(2 * channels, channels, 1), conv(channels, channels), conv(channels, channels))

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        direct = self.direct(torch.cat((infrared, visible), dim=1))
        return direct + self.deep(torch.cat((self.infrared(infrared), self.visible(visible)), dim=1))


class RFNNest(nn.Module):
    """Li, Wu, Kittler, RFN-Nest, Information Fusion 73, 2021, doi:10.1016/j.inffus.2021.02.023.

    Two gray images (N, 1, H, W) in [0, 255], sides of at least 16 -> fused (N, 1, H, W), not negative, of no fixed
    scale. Nothing is padded: where a half size was rounded down, the decoder reflects one row or column.

    Args:
        largest: longest side that is fused in one piece. The authors' script cuts larger images into four parts, which
            overlap by 5 pixels and are averaged there; None never does.
    """

    def __init__(self, largest: int | None = None) -> None:
        super().__init__()
        self.largest = largest
        self.encoder = Encoder()
        self.fusion = nn.ModuleList(ResidualFusion(width) for width in WIDTHS)
        self.decoder = Decoder()

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        height, width = infrared.shape[-2:]
        if self.largest is None or max(height, width) <= self.largest:
            return self.in_one_piece(infrared, visible)
        total, count = torch.zeros_like(infrared), torch.zeros_like(infrared)
        for rows, columns in itertools.product(halves(height), halves(width)):
            total[..., rows, columns] += self.in_one_piece(infrared[..., rows, columns], visible[..., rows, columns])
            count[..., rows, columns] += 1
        return total / count

    def in_one_piece(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """The network itself."""
        scales = zip(self.fusion, self.encoder(infrared), self.encoder(visible), strict=True)
        return self.decoder([fuse(a, b) for fuse, a, b in scales])


def halves(length: int) -> tuple[slice, slice]:
    """Both halves, which share the 5 places around the middle."""
    middle = length // 2
    return slice(0, middle + 3), slice(middle - 2, length)


_ENCODER_KEYS = {
    r"\.conv2d\.": ".0.",
    r"^conv0\.": "encoder.first.",
    r"^conv_out\.": "decoder.output.",
    r"^DB(\d)_(\d)\.denseblock\.": r"DB\1_\2.",
    **{rf"^DB{level}_0\.": f"encoder.scales.{level - 1}." for level in (1, 2, 3, 4)},
    **{
        rf"^DB{level}_{column}\.": f"decoder.nodes.{column - 1}.{level - 1}."
        for column in (1, 2, 3)
        for level in range(1, 5 - column)
    },
}
_FUSION_KEYS = {
    r"\.conv2d\.": ".0.",
    **{rf"^fusion_block{level}\.": f"fusion.{level - 1}." for level in (1, 2, 3, 4)},
    r"\.conv_fusion\.": ".direct.",
    r"\.conv_ir\.": ".infrared.",
    r"\.conv_vi\.": ".visible.",
    r"\.bottelblock\.": ".deep.",
}


def _convert(auto: Any, auto_path: Path, fusion: Any, fusion_path: Path) -> State:
    parts = renamed(auto, auto_path, _ENCODER_KEYS), renamed(fusion, fusion_path, _FUSION_KEYS)
    if twice := parts[0].keys() & parts[1].keys():
        raise CheckpointError(f"{auto_path} and {fusion_path} both hold {min(twice)}: they are not the two files.")
    return parts[0] | parts[1]


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    a, b = (torch.from_numpy(pillow_gray(image).astype("float32"))[None] for image in (infrared, visible))
    return a, b


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return truncated(stretched(output[0].numpy(), epsilon=1e-5) * 255)


_FILES = ("nestfuse_gray_1e2.model", "Final_epoch_2_alpha_700_wir_6.0_wvi_3.0_ssim_vi.model")
METHODS = {"RFN-Nest": NetworkMethod(partial(RFNNest, LARGEST), _prepare, _finish, _FILES, _convert)}
