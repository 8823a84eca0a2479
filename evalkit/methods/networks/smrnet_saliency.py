"""BPS, the salient-object half of SMR-Net: the fused image, sliced into bit planes, guides the features of the sources.

The paper leaves open what is a parameter here, and what `BPS` names as a decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.bitplanes import Slope, bit_planes, min_max
from evalkit.methods.layers.deform import DeformableConv2d
from evalkit.methods.layers.msgd import MSGD, SaliencyMaps
from evalkit.methods.layers.pixels import IMAGENET_MEAN, IMAGENET_STD
from evalkit.methods.layers.resnet import RESNET34, ResNetEncoder

Reweighting = Literal["residual", "mul"]
STRIDE = 32  # sides must be multiples of it


class BitPlaneSlicing(nn.Module):
    """BS, Eqs. 9-12: features to one map, its bit planes, back to features; (N, C, H, W) -> the same shape.

    The bias of `to_map` has no effect and no gradient: the normalisation of Eq. 10 subtracts it.

    Args:
        channels: C.
        planes: which of the four; 4 is the least significant.
        ste_slope: gradient of the floor in Eq. 11, see `bit_planes`. With "none", the literal equation, nothing in
            front of it learns through this module.
    """

    def __init__(self, channels: int, planes: Sequence[int] = (4,), ste_slope: Slope = "unit") -> None:
        super().__init__()
        self.planes, self.ste_slope = tuple(planes), ste_slope
        self.to_map = nn.Conv2d(channels, 1, 1)
        self.from_planes = nn.Conv2d(len(self.planes), channels, 3, padding=1)

    def forward(self, fused: Tensor) -> Tensor:
        normalised = min_max(self.to_map(fused))  # Eqs. 9, 10: every sample by itself
        return self.from_planes(bit_planes(normalised, self.planes, self.ste_slope))  # Eqs. 11, 12


class DeformableEnhancement(nn.Module):
    """DC, Eqs. 13-15: (N, C, H, W) -> the same shape.

    The plain convolutions are 1x1: with 3x3 ones the network has more parameters than the abstract claims.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enhance = nn.Conv2d(channels, channels, 1)
        self.deform = nn.Sequential(DeformableConv2d(channels, channels), nn.Conv2d(channels, channels, 1))
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, sliced: Tensor) -> Tensor:
        enhanced = self.enhance(functional.relu(sliced))  # Eq. 13
        return self.out(self.deform(enhanced) * enhanced) + sliced  # Eqs. 14, 15


def reweighted(source: Tensor, guide: Tensor, how: Reweighting = "residual") -> Tensor:
    """Features of a source weighted by the sigmoid of the guide, pixel by pixel and channel by channel.

    "mul" is the paper's sentence. As a sigmoid starts near one half, it halves the input of the next pretrained stage
    four times over; "residual" adds the weighted features to the unweighted ones, as IRFS does.

    Args:
        source, guide: features (N, C, H, W).
        how: "mul" or "residual".
    """
    weighted = source * torch.sigmoid(guide)
    return source + weighted if how == "residual" else weighted


class BPS(nn.Module):
    """Bit-plane-slicing based salient-object network: three RGB images in [0, 1] -> `Saliency` (logits).

    Decisions where the paper is silent: the guide follows each of the four stages, not the stem; the fused image's own
    features go on to the next stage unchanged; the decoder, which the paper names, is as IRFS describes it; all layers
    but the encoder's start as PyTorch starts them, offsets at 0. A pixel near a step of a bit plane flips with the last
    digit of the arithmetic, so two machines agree in all but a few places.

    Args:
        planes: bit planes. Eq. 12 joins all four, (1, 2, 3, 4); the results that the paper reports for the full network
            are those of plane 4 alone in its Table 4, which is therefore the default.
        slicing: with BS; without it the fused image's features enter DC as they are (Table 3).
        deformable: with DC; without it the output of BS is the guide (Table 3).
        ste_slope: gradient of the bit planes, see `bit_planes`.
        reweight: see `reweighted`.
        norm_all: normalise all three images with ImageNet's statistics, not only the visible one.
        blocks, width: of the encoder, ResNet-34 in the paper.
        heads, channels: of the decoder.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        planes: Sequence[int] = (4,),
        slicing: bool = True,
        deformable: bool = True,
        ste_slope: Slope = "unit",
        reweight: Reweighting = "residual",
        norm_all: bool = False,
        blocks: Sequence[int] = RESNET34,
        width: int = 64,
        heads: int = 64,
        channels: int = 32,
    ) -> None:
        super().__init__()
        self.reweight, self.norm_all = reweight, norm_all
        self.encoder = ResNetEncoder(blocks, width)
        stages = self.encoder.channels
        self.slicing = nn.ModuleList(
            BitPlaneSlicing(c, planes, ste_slope) if slicing else nn.Identity() for c in stages
        )
        self.deformable = nn.ModuleList(DeformableEnhancement(c) if deformable else nn.Identity() for c in stages)
        self.decoder = MSGD(stages, heads, channels)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, visible: Tensor, thermal: Tensor, fused: Tensor) -> SaliencyMaps:
        """Three images (N, 3, H, W) in [0, 1], sides multiples of 32 -> `Saliency`.

        Args:
            visible, thermal, fused: (N, 3, H, W) in [0, 1].

        Raises:
            ValueError: other sides.
        """
        if visible.shape[-2] % STRIDE or visible.shape[-1] % STRIDE:
            raise ValueError(
                f"BPS takes sides that are multiples of {STRIDE}, not {tuple(visible.shape[-2:])}. "
                "Resize the images, or call salient_objects, which does."
            )
        images = [self._normalised(visible), thermal, fused]
        if self.norm_all:
            images[1:] = [self._normalised(thermal), self._normalised(fused)]
        return self.decoder(self.encode(torch.cat(images)))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Features of visible | thermal | fused (3 N, 3, H, W), normalised, at the four scales, guided."""
        x, features = self.encoder.stem(images), []
        for stage, slicing, deformable in zip(self.encoder.stages, self.slicing, self.deformable, strict=True):
            visible, thermal, fused = stage(x).chunk(3)
            guide = deformable(slicing(fused))
            sources = (reweighted(source, guide, self.reweight) for source in (visible, thermal))
            x = torch.cat((*sources, fused))
            features.append(x)
        return features

    def _normalised(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std
