"""TAGFNet: thermal features say, while the visible image is encoded, what of it counts. After the paper's abstract."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from evalkit.methods.layers.blocks import conv_norm
from evalkit.methods.layers.vgg import VGGEncoder, over_2x2
from evalkit.methods.network import NetworkMethod
from evalkit.methods.saliency.feed import Feed, logits_to_map


class ThermalGuide(nn.Module):
    """T-aware guidance: visible features weighted, in space and over channels, by the thermal ones, which are added.

    (N, C, H, W) twice -> (N, C, H, W). A dark visible image then still gets thermal features into its encoder.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(
            nn.Conv2d(channels, channels // 4, 1), nn.ReLU(), nn.Conv2d(channels // 4, channels, 1)
        )
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)
        self.add = nn.Conv2d(channels, channels, 1)

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        channels = torch.sigmoid(self.channel(thermal.mean(dim=(2, 3), keepdim=True)))
        summary = torch.cat((thermal.amax(dim=1, keepdim=True), thermal.mean(dim=1, keepdim=True)), dim=1)
        return visible * (1 + channels * torch.sigmoid(self.spatial(summary))) + self.add(thermal)


class CrossFusion(nn.Module):
    """What both images show (product) and what either shows (sum): (N, C, H, W) twice -> (N, C', H, W)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.visible = conv_norm(channels_in, channels_out, nn.ReLU())
        self.thermal = conv_norm(channels_in, channels_out, nn.ReLU())
        self.join = conv_norm(2 * channels_out, channels_out, nn.ReLU())

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        visible, thermal = self.visible(visible), self.thermal(thermal)
        return self.join(torch.cat((visible * thermal, visible + thermal), dim=1))


class RemoteCorrection(nn.Module):
    """The deepest features correct those of a finer step directly: (N, C, H, W), deep (N, C, h, w) -> (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)
        self.join = conv_norm(2 * channels, channels, nn.ReLU())

    def forward(self, x: Tensor, deep: Tensor) -> Tensor:
        deep = interpolate(deep, x.shape[2:], mode="bilinear")
        return self.join(torch.cat((x * torch.sigmoid(self.gate(deep)), deep), dim=1))


class TAGFMaps(NamedTuple):
    """Logits (N, 1, H, W) of the five steps of the decoder, the last and finest one first."""

    finest: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor
    deepest: Tensor


class TAGFNet(nn.Module):
    """After Wang et al., Thermal Images-Aware Guided Early Fusion Network for Cross-Illumination RGB-T SOD.

    Engineering Applications of Artificial Intelligence 118, 2023, doi:10.1016/j.engappai.2022.105640. Visible and
    thermal image (N, 3, H, W), normalised, sides of 16 at least -> logits (N, 1, H, W).

    Neither the code nor more of the paper than its abstract could be had: that thermal features guide an early fusion,
    that both images are fused across modalities and that the result is corrected from afar is the paper's; what each
    part does, where it stands, and all sizes are decisions made here.

    Args:
        width: of both encoders (VGG16), 64 fits the ImageNet weights.
        channels: of the decoder.
    """

    def __init__(self, width: int = 64, channels: int = 64) -> None:
        super().__init__()
        self.visible, self.thermal = (VGGEncoder(width, norm=13, pool=over_2x2) for _ in range(2))
        scales = self.visible.channels
        self.guides = nn.ModuleList(ThermalGuide(c) for c in scales)
        self.fuse = nn.ModuleList(CrossFusion(c, channels) for c in scales)
        self.reach = nn.ModuleList(conv_norm(channels, channels, nn.ReLU(), dilation=d) for d in (1, 2, 4))
        self.correct = nn.ModuleList(RemoteCorrection(channels) for _ in scales[1:])
        self.decode = nn.ModuleList(conv_norm(2 * channels, channels, nn.ReLU()) for _ in scales[1:])
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 3, padding=1) for _ in scales)

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        return self.scores(visible, thermal).finest

    def scores(self, visible: Tensor, thermal: Tensor) -> TAGFMaps:
        """All that is supervised."""
        size = visible.shape[2:]
        fused = []
        for scale, (guide, fuse) in enumerate(zip(self.guides, self.fuse, strict=True)):
            thermal = self.thermal.stage(scale, thermal)
            visible = guide(self.visible.stage(scale, visible), thermal)
            fused.append(fuse(visible, thermal))
        deep = sum((reach(fused[-1]) for reach in self.reach), fused[-1])
        x, maps = deep, [self.heads[-1](deep)]
        for scale in range(len(fused) - 2, -1, -1):
            x = torch.cat((fused[scale], interpolate(x, fused[scale].shape[2:], mode="bilinear")), dim=1)
            x = self.correct[scale](self.decode[scale](x), deep)
            maps.append(self.heads[scale](x))
        return TAGFMaps(*(interpolate(m, size, mode="bilinear") for m in reversed(maps)))


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FEED = Feed(352, *IMAGENET, *IMAGENET)
NETWORK = NetworkMethod(TAGFNet, FEED, logits_to_map)
