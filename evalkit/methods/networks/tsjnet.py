"""TSJNet: a shared ResNeSt encoder, neighbourhood attention for the base, pooled attention for the detail.

Where the paper and the authors' published code (of a later journal version) differ, this follows the code, whose
weights it can load:

- The paper adds the two fused features before the decoder (Eq. 6); the code concatenates them, base first.
- The paper's visible image has three channels; the code fuses gray images and gives the colour back afterwards.
- The paper works on images of their own size. The code resizes to 512x512 and the result back ("TSJNet-512" here);
  "TSJNet" pads instead, because the resizing changes every pixel. Both stretch the result to 0..255.
- The code trains on the red channel of the visible image and tests on its luminance; here it is always luminance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.data.images import to_gray
from evalkit.methods.checkpoints import State, as_state
from evalkit.methods.layers.borders import padded
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.nat import NeighbourhoodTransformer
from evalkit.methods.layers.pixels import stretched
from evalkit.methods.layers.resnest import ResNeStStage
from evalkit.methods.layers.restormer import ChannelNorm
from evalkit.methods.layers.strips import by_strips
from evalkit.methods.network import NetworkMethod, Pixels, rounded, truncated, unit_gray_pair


@dataclass(frozen=True)
class Sizes:
    """Widths and depths; the default is the published network.

    Attributes:
        stem: convolutions before the bottlenecks of encoder and decoder.
        planes: of the bottlenecks, which have four times as many channels.
        width: channels of base and detail features.
        depths: neighbourhood attention blocks of each level.
        heads: of the attention in the first level.
    """

    stem: tuple[int, int, int] = (64, 64, 128)
    planes: int = 128
    width: int = 64
    depths: tuple[int, ...] = (3, 4, 6, 5)
    heads: int = 2

    @property
    def stride(self) -> int:
        """Sides of the images that the base branch takes are multiples of this."""
        return 4 << (len(self.depths) - 1)


PUBLISHED = Sizes()
SMALL = Sizes(stem=(16, 16, 32), planes=32, width=32, depths=(1, 1), heads=1)  # for a CPU; sides of at least 56


class UnusedHead(nn.Module):
    """Layers of a classifier that the checkpoints carry and the network never applies."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.avgpool = nn.Conv2d(channels, channels, 1)
        self.conv_head = nn.Conv2d(channels, channels, 1)


class BaseBranch(nn.Module):
    """The paper's N: x + NAT(norm(x)), where the NAT is brought back to full size: (N, C, H, W) -> the same.

    H and W are multiples of the sizes' stride; without `pad_small` they are at least 7 times as large. The parameters
    in `unused` have no effect.
    """

    def __init__(self, sizes: Sizes, relative_bias: bool = True, pad_small: bool = False) -> None:
        super().__init__()
        c = sizes.width
        self.norm = ChannelNorm(c)
        self.nat = NeighbourhoodTransformer(
            c, c, sizes.depths, sizes.heads, relative_bias=relative_bias, pad_small=pad_small
        )
        deepest = c << (len(sizes.depths) - 1)
        self.reduce = nn.Sequential(
            nn.Conv2d(deepest, 2 * c, 3, padding=1),
            nn.ReLU6(),
            nn.Conv2d(2 * c, c, 3, padding=1),
            nn.ReLU6(),
        )
        doublings = sizes.stride.bit_length() - 1
        factors = [4] * (doublings // 2) + [2] * (doublings % 2)  # 4, 4, 2 of the published network
        self.enlarge = nn.Sequential(*(nn.ConvTranspose2d(c, c, factor, factor, bias=False) for factor in factors))
        self.unused = UnusedHead(c)

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.relu6(self.enlarge(self.reduce(self.nat(self.norm(x)))))


class DetailSalience(nn.Module):
    """The paper's detail salience module D (DSM): a residual branch plus a pooled branch weighted by channel.

    (N, C, H, W) -> the same shape, H and W even. The parameters in `unused` have no effect. The published code spends
    one 3x3 convolution more in every call (by its measured multiply-adds); its parameters leave room for a repeated one
    only.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
            for _ in range(2)
        )
        self.residual = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU())
        self.mix = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(channels, channels, 1))
        self.entry = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.2))
        self.weigh = nn.Sequential(
            nn.Linear(channels, channels // 2, bias=False),
            nn.ReLU(),
            nn.Linear(channels // 2, channels, bias=False),
            nn.Sigmoid(),
        )
        self.enlarge = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.unused = GroupedSpatialAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = self.mix(self.second(y + self.residual(y)))
        z = self.entry(x)
        z = functional.max_pool2d(z, 2) + functional.avg_pool2d(z, 2)
        return y + self.enlarge(z * self.weigh(z.mean(dim=(2, 3)))[..., None, None])


class GroupedSpatialAttention(nn.ModuleList):
    """Each of eight groups of channels is multiplied by a map in (0, 1) of its own."""

    groups = 8

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels // self.groups, 1, 1) for _ in range(self.groups))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> weighted features of the same shape, and the maps (N, 8, H, W)."""
        groups = x.chunk(self.groups, dim=1)
        maps = [torch.sigmoid(conv(group)) for conv, group in zip(self, groups, strict=True)]
        weighted = [group * weights for group, weights in zip(groups, maps, strict=True)]
        return torch.cat(weighted, dim=1), torch.cat(maps, dim=1)


class Encoder(nn.Module):
    """Image (N, 1, H, W) in [0, 1] -> base and detail features, each (N, C, H, W) (Eqs. 3, 4)."""

    def __init__(self, sizes: Sizes, detail: bool, relative_bias: bool, pad_small: bool) -> None:
        super().__init__()
        wide, c = 4 * sizes.planes, sizes.width
        self.embed = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        self.trunk = ResNeStStage(3, sizes.stem, sizes.planes)
        self.refine = nn.Sequential(
            nn.Conv2d(wide, wide // 2, 3, padding=1),
            nn.ReLU6(),
            nn.Conv2d(wide // 2, wide // 4, 3, padding=1),
            nn.ReLU6(),
            nn.Conv2d(wide // 4, c, 3, padding=1),
            nn.ReLU6(),
        )
        self.base = BaseBranch(sizes, relative_bias, pad_small)
        self.detail = DetailSalience(c) if detail else nn.Identity()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = by_strips(self.refine, self.trunk(self.embed(image)), border=3)
        return self.base(features), self.detail(features)


class Decoder(nn.Module):
    """Base and detail features -> image (N, 1, H, W) in (0, 1), and the attention maps (N, 8, H, W) (Eq. 6)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        wide, c = 4 * sizes.planes, sizes.width
        self.attention = GroupedSpatialAttention(2 * c)
        self.join = nn.Conv2d(2 * c, c // 2, 1, bias=False)
        self.trunk = ResNeStStage(c // 2, sizes.stem, sizes.planes)
        self.output = nn.Sequential(
            nn.Conv2d(wide, wide // 2, 3, padding=1, bias=False),
            nn.LeakyReLU(0.01),
            nn.Conv2d(wide // 2, 1, 3, padding=1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, base: Tensor, detail: Tensor) -> tuple[Tensor, Tensor]:
        features, maps = self.attention(torch.cat((base, detail), dim=1))
        features = self.join(features)  # few channels
        return by_strips(self.output, self.trunk(features), border=2), maps


class Outputs(NamedTuple):
    """What the losses see: three images (N, 1, H, W) in (0, 1), and the maps (N, 8, H, W) behind the fused one."""

    fused: Tensor
    infrared: Tensor  # reconstructed from its own features
    visible: Tensor
    attention: Tensor


class TSJNet(nn.Module):
    """Jie et al., TSJNet: A Multi-modality Target and Semantic Awareness Joint-driven Image Fusion Network.

    arXiv:2402.01212. Two gray images (N, 1, H, W) in [0, 1] -> fused (N, 1, H, W) in (0, 1). Sides that are not
    multiples of 32 are padded by repeating the last row and column, and the result is cut to size.

    Args:
        sizes: widths and depths.
        detail: with the DSM; without it (ablation) the features themselves are the detail.
        relative_bias: the bias by offset of the neighbourhood attention, which the published weights have.
            Untrained it is a truncated normal of .02, as the transformer's linear weights are; all others start as
            PyTorch starts them.
        pad_small: also take images below 7 * 32 pixels, as releases of the attention's package up to 0.14 do; for
            larger ones it changes nothing. Without it they raise ValueError.
    """

    def __init__(
        self,
        sizes: Sizes = PUBLISHED,
        detail: bool = True,
        relative_bias: bool = True,
        pad_small: bool = False,
    ) -> None:
        super().__init__()
        self.stride = sizes.stride
        self.encoder = Encoder(sizes, detail, relative_bias, pad_small)
        self.decoder = Decoder(sizes)
        self.fuse_base = BaseBranch(sizes, relative_bias, pad_small)
        self.fuse_detail = DetailSalience(sizes.width) if detail else nn.Identity()

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        base, detail = self.encoder(padded(infrared, self.stride))
        other_base, other_detail = self.encoder(padded(visible, self.stride))
        base, detail = base + other_base, detail + other_detail
        del other_base, other_detail
        base, detail = self.fuse_base(base), self.fuse_detail(detail)
        return self.decoder(base, detail)[0][..., : infrared.shape[2], : infrared.shape[3]]

    def outputs(self, infrared: Tensor, visible: Tensor) -> Outputs:
        """The fused image with what training needs beside it; sides are multiples of the stride (32)."""
        infrared_features, visible_features = self.encoder(infrared), self.encoder(visible)
        fused, attention = self._fuse(infrared_features, visible_features)
        return Outputs(fused, self.decoder(*infrared_features)[0], self.decoder(*visible_features)[0], attention)

    def _fuse(self, infrared: tuple[Tensor, Tensor], visible: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Eqs. 5 and 6."""
        base, detail = (a + b for a, b in zip(infrared, visible, strict=True))
        return self.decoder(self.fuse_base(base), self.fuse_detail(detail))


_BASE = r"^(encoder\.base|fuse_base)\."
_DETAIL = r"^(encoder\.detail|fuse_detail)\."
_TRUNK = r"^(encoder|decoder)\.ResNest\."
_BOTTLENECK = _TRUNK + r"layer1\.(\d)\."
_KEYS = {
    r"^DIDF_Encoder\.": "encoder.",
    r"^DIDF_Decoder\.": "decoder.",
    r"^BaseFuseLayer\.": "fuse_base.",
    r"^DetailFuseLayer\.": "fuse_detail.",
    r"^encoder\.baseFeature\.": "encoder.base.",
    r"^encoder\.detailFeature\.": "encoder.detail.",
    r"^encoder\.patch_embed\.proj\.": "encoder.embed.",
    **{rf"^encoder\.conv{i + 1}\.0\.": f"encoder.refine.{2 * i}." for i in range(3)},
    r"^decoder\.reduce_channel\.": "decoder.join.",
    r"^decoder\.spa\.conv\.": "decoder.attention.",
    _TRUNK + r"deep_stem\.": r"\1.trunk.stem.",
    _BOTTLENECK + r"conv1\.": r"\1.trunk.blocks.\2.reduce.",
    _BOTTLENECK + r"conv2\.radix_conv\.": r"\1.trunk.blocks.\2.attention.split.",
    _BOTTLENECK + r"conv2\.fc1\.": r"\1.trunk.blocks.\2.attention.squeeze.",
    _BOTTLENECK + r"conv2\.fc2\.": r"\1.trunk.blocks.\2.attention.excite.",
    _BOTTLENECK + r"conv3\.": r"\1.trunk.blocks.\2.expand.",
    _BOTTLENECK + r"shortcut\.": r"\1.trunk.blocks.\2.shortcut.",
    _BASE + r"norm1\.body\.": r"\1.norm.",
    _BASE + r"attn\.(norm|avgpool|conv_head)\.": r"\1.unused.\2.",
    _BASE + r"attn\.conv1\.": r"\1.reduce.",
    _BASE + r"attn\.conv2\.0\.": r"\1.reduce.2.",
    **{_BASE + rf"attn\.transposed_conv{i + 1}\.": rf"\1.enlarge.{i}." for i in range(3)},
    _BASE + r"attn\.patch_embed\.proj\.": r"\1.nat.tokens.",
    _BASE + r"attn\.patch_embed\.norm\.": r"\1.nat.norm.",
    _BASE + r"attn\.levels\.": r"\1.nat.levels.",
    _DETAIL + r"coa\.conv\.": r"\1.residual.",
    _DETAIL + r"spa\.conv\.": r"\1.unused.",
    _DETAIL + r"convp1\.": r"\1.first.",
    _DETAIL + r"convp2\.": r"\1.second.",
    _DETAIL + r"conv1\.": r"\1.mix.",
    _DETAIL + r"conv4\.": r"\1.entry.0.",
    _DETAIL + r"fc1\.": r"\1.weigh.0.",
    _DETAIL + r"fc2\.": r"\1.weigh.2.",
    _DETAIL + r"conv_transpose\.": r"\1.enlarge.",
}


def _convert(content: Any, path: Path) -> State:
    parts = ("DIDF_Encoder", "DIDF_Decoder", "BaseFuseLayer", "DetailFuseLayer")
    named = {f"{part}.{key}": value for part in parts for key, value in as_state(content, path, part).items()}
    return renamed(named, path, _KEYS)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels, minmax: bool = True) -> Pixels:
    """Stretched per image, as published, unless `minmax` is off; gray: a script of its own gives the colour back."""
    values = output[0].numpy()
    return rounded((stretched(values) if minmax else values) * 255)


RESIZED = 512


def _prepare_resized(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """Gray levels are resized as floats, bilinear: values between two levels stay."""
    levels = (cv2.resize(to_gray(image).astype(np.float32), (RESIZED, RESIZED)) for image in (infrared, visible))
    first, second = (torch.from_numpy(values / 255)[None] for values in levels)
    return first, second


def _finish_resized(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    height, width = infrared.shape[:2]
    return truncated(cv2.resize(stretched(output[0].numpy()) * 255, (width, height)))


# the published weights have a relative bias, so their attention is of a release that pads small maps
_build = partial(TSJNet, pad_small=True)
_FILES = ("TSJNet.pth",)
METHODS = {
    "TSJNet": NetworkMethod(_build, unit_gray_pair, _finish, _FILES, _convert, ("encoder",)),
    "TSJNet-512": NetworkMethod(_build, _prepare_resized, _finish_resized, _FILES, _convert, ("encoder",)),
}
