"""MSGD: the decoder of IRFS and SMR-Net that makes one saliency map of the features of three images.

Wang et al., An interactively reinforced paradigm for joint infrared-visible image fusion and saliency object detection,
Information Fusion 98, 2023, doi:10.1016/j.inffus.2023.101828.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class SaliencyMaps(NamedTuple):
    """Logits of saliency; the sigmoid of `total` is the prediction, the others are supervised beside it.

    Attributes:
        coarse: (3 N, 1, H/32, W/32), from the deepest features of the visible, then thermal, then fused images.
        visible, thermal, joint: (N, 1, H, W), whose sum is
        total: (N, 1, H, W).
    """

    coarse: Tensor
    visible: Tensor
    thermal: Tensor
    joint: Tensor
    total: Tensor


def conv_bn(channels_in: int, channels_out: int, size: int | tuple[int, int], dilation: int = 1) -> nn.Sequential:
    """Convolution without bias that keeps the size, batch normalisation, no activation.

    Args:
        channels_in, channels_out: C and C' of the features.
        size: of the kernel, odd; or (rows, columns).
        dilation: of the kernel, in pixels.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    padding = (rows // 2 * dilation, columns // 2 * dilation)
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, (rows, columns), padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(channels_out),
    )


def enlarged(x: Tensor, factor: int) -> Tensor:
    """Bilinear, corner on corner: (N, C, H, W) -> (N, C, factor H, factor W)."""
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)


class GlobalContext(nn.Module):
    """GCM: four fields of view side by side, joined, beside a shortcut: (N, C, H, W) -> (N, C', H, W)."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.views = nn.ModuleList(
            [conv_bn(channels_in, channels, 1)]
            + [
                nn.Sequential(
                    conv_bn(channels_in, channels, 1),
                    conv_bn(channels, channels, (1, k)),
                    conv_bn(channels, channels, (k, 1)),
                    conv_bn(channels, channels, 3, dilation=k),
                )
                for k in (3, 5, 7)
            ]
        )
        self.join = conv_bn(4 * channels, channels, 3)
        self.shortcut = conv_bn(channels_in, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.join(torch.cat([view(x) for view in self.views], dim=1)) + self.shortcut(x))


class Aggregation(nn.Module):
    """Features of one image at three scales -> features and a map at the finest of them.

    Args:
        channels_in: of the features at every scale.
        channels: inside and out.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        c = channels
        self.narrow = nn.ModuleList(nn.Conv2d(channels_in, c, 1) for _ in range(3))
        self.deep_times_middle = conv_bn(c, c, 3)
        self.deep_times_fine = conv_bn(c, c, 3)
        self.middle_times_fine = conv_bn(c, c, 3)
        self.deep_beside_middle = conv_bn(c, c, 3)
        self.middle_beside_fine = conv_bn(2 * c, 2 * c, 3)
        self.join = conv_bn(3 * c, 3 * c, 3)
        self.out = conv_bn(3 * c, c, 3)
        self.map = nn.Conv2d(c, 1, 1)

    def forward(self, fine: Tensor, middle: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H/8, W/8), .../16, .../32 -> features (N, channels, H/8, W/8), logits (N, 1, H/8, W/8).

        Args:
            fine, middle, deep: (N, C, H, W) at 1/8, 1/16 and 1/32 of the image's sides.

        Returns:
            Features (N, channels, H/8, W/8) and logits (N, 1, H/8, W/8).
        """
        fine, middle, deep = (narrow(x) for narrow, x in zip(self.narrow, (fine, middle, deep), strict=True))
        deep_2 = enlarged(deep, 2)
        # doubled twice, as published: corner on corner that is not the same as four times at once
        product = self.deep_times_fine(enlarged(deep_2, 2)) * self.middle_times_fine(enlarged(middle, 2)) * fine
        middle = torch.cat((self.deep_times_middle(deep_2) * middle, self.deep_beside_middle(deep_2)), dim=1)
        joined = self.join(torch.cat((product, self.middle_beside_fine(enlarged(middle, 2))), dim=1))
        features = self.out(joined)
        return features, self.map(features)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut: (N, C, H, W) -> the same shape, or twice the sides if `double`."""

    def __init__(self, channels: int, double: bool = False) -> None:
        super().__init__()
        second: nn.Module = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut: nn.Module = nn.Identity()
        if double:
            second = nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1, bias=False)
            self.shortcut = nn.Sequential(
                nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False), nn.BatchNorm2d(channels)
            )
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            second,
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


def doubling_stage(channels: int) -> nn.Sequential:
    """1x1 convolution, two residual blocks, a third that doubles the sides."""
    return nn.Sequential(
        conv_bn(channels, channels, 1),
        nn.ReLU(),
        ResidualBlock(channels),
        ResidualBlock(channels),
        ResidualBlock(channels, double=True),
    )


class MSGD(nn.Module):
    """Features of three images at four scales -> `SaliencyMaps`.

    The fused image's share is read by `coarse` alone. The head of the first scale is read by nothing: the published
    network has it, so it is counted, but it never runs and gets no gradient.

    Args:
        stages: channels of the encoder's four stages.
        heads: channels of the heads.
        channels: of the decoder behind them.
    """

    def __init__(self, stages: Sequence[int] = (64, 128, 256, 512), heads: int = 64, channels: int = 32) -> None:
        super().__init__()
        middles = (stages[0], stages[1] // 2, stages[2] * 3 // 8, stages[3] // 4)  # 64, 64, 96, 128 in the original
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(stage, middle, 3, padding=1), nn.ReLU(), GlobalContext(middle, heads))
            for stage, middle in zip(stages, middles, strict=True)
        )
        self.coarse = nn.Conv2d(heads, 1, 1)
        self.visible = Aggregation(heads, channels)
        self.thermal = Aggregation(heads, channels)
        self.joint = nn.Sequential(doubling_stage(channels), doubling_stage(channels), nn.Conv2d(channels, 1, 1))

    def forward(self, features: Sequence[Tensor]) -> SaliencyMaps:
        """Four tensors (3 N, C_i, H / 2^(i+1), W / 2^(i+1)): N visible, N thermal, N fused images."""
        scales = [head(x) for head, x in zip(self.heads[1:], features[1:], strict=True)]
        visible, thermal, _ = zip(*(scale.chunk(3) for scale in scales), strict=True)
        visible_features, visible_map = self.visible(*visible)
        thermal_features, thermal_map = self.thermal(*thermal)
        joint = self.joint(enlarged(visible_features + thermal_features, 2))
        visible_map, thermal_map = enlarged(visible_map, 8), enlarged(thermal_map, 8)
        return SaliencyMaps(self.coarse(scales[-1]), visible_map, thermal_map, joint, visible_map + thermal_map + joint)
