"""OSRNet: both images, their product and their mean are one input of one encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.blocks import conv_norm
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.vgg import VGGEncoder, over_2x2
from evalkit.methods.network import NetworkMethod, Pixels, rounded
from evalkit.methods.saliency.feed import Feed


def _conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 convolution without bias, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()
    )


def _double(channels: int) -> nn.Sequential:
    """Features of twice the size: a convolution, and a transposed one of stride 2."""
    return nn.Sequential(
        _conv(channels, channels),
        nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


class MaximumGates(nn.Module):
    """Channels weighted by their maxima, then pixels by the maximum of their channels: (N, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(
            nn.Conv2d(channels, channels // 8, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // 8, channels, 1, bias=False),
        )
        self.spatial = nn.Conv2d(1, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.sigmoid(self.channel(x.amax(dim=(2, 3), keepdim=True)))
        return x * torch.sigmoid(self.spatial(x.amax(dim=1, keepdim=True)))


class DilatedPyramid(nn.Module):
    """The mean of all pixels and convolutions of four reaches, joined: (N, 2C, H, W) -> (N, C, H, W).

    As published, no activation in it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Conv2d(2 * channels, channels, 1)
        self.reaches = nn.ModuleList(
            [nn.Conv2d(2 * channels, channels, 1)]
            + [nn.Conv2d(2 * channels, channels, 3, padding=d, dilation=d) for d in (3, 6, 9)]
        )
        self.join = nn.Conv2d(5 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        everywhere = self.mean(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.join(torch.cat((everywhere, *(reach(x) for reach in self.reaches)), dim=1))


class ResidualU(nn.Module):
    """A small U-Net beside a shortcut (Qin et al., U2-Net, 2020): (N, 2C, H, W) -> (N, C, H, W), any size."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.first = conv_norm(2 * channels, channels, nn.ReLU())
        self.down = nn.ModuleList(
            [
                conv_norm(channels, inner, nn.ReLU()),
                conv_norm(inner, inner, nn.ReLU()),
                conv_norm(inner, inner, nn.ReLU()),
            ]
        )
        self.bottom = conv_norm(inner, inner, nn.ReLU(), dilation=2)
        self.up = nn.ModuleList(
            [
                conv_norm(2 * inner, inner, nn.ReLU()),
                conv_norm(2 * inner, inner, nn.ReLU()),
                conv_norm(2 * inner, channels, nn.ReLU()),
            ]
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        one = self.down[0](x)
        two = self.down[1](self.pool(one))
        three = self.down[2](self.pool(two))
        y = self.up[0](torch.cat((self.bottom(three), three), dim=1))
        y = self.up[1](torch.cat((interpolate(y, two.shape[2:], mode="bilinear"), two), dim=1))
        return x + self.up[2](torch.cat((interpolate(y, one.shape[2:], mode="bilinear"), one), dim=1))


class OSRMaps(NamedTuple):
    """Probabilities (N, 1, H, W) of the five steps of the decoder, the last and finest one first."""

    finest: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor
    coarsest: Tensor


class OSRNet(nn.Module):
    """Huo et al., Real-Time One-Stream Semantic-Guided Refinement Network for RGB-Thermal Salient Object Detection.

    IEEE TIM 71, 2022, doi:10.1109/TIM.2022.3185323. Visible and thermal image (N, 3, H, W), normalised, multiples of 16
    -> probabilities (N, 1, H, W).

    The two deepest scales are weighted and seen at several reaches; the map of the second of them (the fourth of
    `OSRMaps`) guides the three finer steps. As published, the last convolution of the encoder has no normalisation.

    Args:
        width: of the encoder, 64 in the paper.
        channels: of the decoder, 32 in the paper.
    """

    def __init__(self, width: int = 64, channels: int = 32) -> None:
        super().__init__()
        self.encoder = VGGEncoder(width, channels_in=12, norm=12, pool=over_2x2)
        *finer, fourth, fifth = self.encoder.channels
        self.narrow = nn.ModuleList([_conv(c, channels) for c in (*finer, fourth)] + [_conv(fifth, 2 * channels)])
        self.gates = nn.ModuleList(MaximumGates(2 * channels) for _ in range(2))
        self.pyramids = nn.ModuleList(DilatedPyramid(channels) for _ in range(2))
        self.refine = nn.ModuleList(ResidualU(channels, channels // 2) for _ in range(3))
        self.grow = nn.ModuleList([*(_double(channels) for _ in range(4)), _conv(channels, channels)])
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 3, padding=1) for _ in range(5))

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        return self.scores(visible, thermal).finest

    def scores(self, visible: Tensor, thermal: Tensor) -> OSRMaps:
        """All that is supervised."""
        image = torch.cat((visible, thermal, visible * thermal, 0.5 * visible + 0.5 * thermal), dim=1)
        one, two, three, four, five = (narrow(x) for narrow, x in zip(self.narrow, self.encoder(image), strict=True))
        maps = []
        x = self.grow[0](self.pyramids[0](self.gates[0](five)))
        maps.append(torch.sigmoid(self.heads[0](x)))
        x = self.grow[1](self.pyramids[1](self.gates[1](torch.cat((four, x), dim=1))))
        guide = torch.sigmoid(self.heads[1](x))
        maps.append(guide)
        for i, finer in enumerate((three, two, one)):
            both = torch.cat((finer, x), dim=1)
            both = both + both * interpolate(guide, both.shape[2:], mode="bilinear")
            x = self.grow[i + 2](self.refine[i](both))
            maps.append(torch.sigmoid(self.heads[i + 2](x)))
        size = visible.shape[2:]
        return OSRMaps(*(interpolate(m, size, mode="bilinear", align_corners=True) for m in reversed(maps)))


PLACES = ((0, 3), (7, 10), (14, 17, 20), (24, 27, 30), (34, 37, 40))  # of the convolutions in the encoder


def convert(content: Any, path: Path) -> State:
    """From the authors' names."""
    changes = {r"^vgg\.": "encoder."}
    for stage, layers in enumerate(PLACES, 1):
        for i, place in enumerate(layers, 1):
            changes[rf"^encoder\.conv{stage}\.conv{stage}_{i}\."] = f"encoder.features.{place}."
            changes[rf"^encoder\.conv{stage}\.bn{stage}_{i}\."] = f"encoder.features.{place + 1}."
    changes[r"^decoder_rgbd\."] = ""
    for scale in range(1, 6):
        changes |= {
            rf"^ch_r{scale}\.conv\.": f"narrow.{scale - 1}.0.",
            rf"^ch_r{scale}\.bn\.": f"narrow.{scale - 1}.1.",
        }
        step, inner = 5 - scale, "" if scale == 1 else ".0"  # the last step does not double the size
        changes |= {rf"^decoder{scale}_rgb\.0\.conv\.": f"grow.{step}{inner}.0."}
        changes |= {rf"^decoder{scale}_rgb\.0\.bn\.": f"grow.{step}{inner}.1."}
        changes |= {
            rf"^decoder{scale}_rgb\.1\.Deconv\.": f"grow.{step}.1.",
            rf"^decoder{scale}_rgb\.1\.bn\.": f"grow.{step}.2.",
        }
        changes |= {rf"^S{scale}_rgb\.0\.": f"heads.{step}."}
    for i, scale in enumerate((5, 4)):
        changes |= {rf"^ca{scale}\.fc1\.": f"gates.{i}.channel.0.", rf"^ca{scale}\.fc2\.": f"gates.{i}.channel.2."}
        changes |= {rf"^sa{scale}\.conv1\.": f"gates.{i}.spatial."}
        changes |= {
            rf"^aspp_r{scale}\.conv\.": f"pyramids.{i}.mean.",
            rf"^aspp_r{scale}\.conv_1x1_output\.": f"pyramids.{i}.join.",
        }
        for k, block in enumerate((1, 6, 12, 18)):
            changes[rf"^aspp_r{scale}\.atrous_block{block}\."] = f"pyramids.{i}.reaches.{k}."
    for i, scale in enumerate((3, 2, 1)):
        parts = {"in": "first", "1": "down.0", "2": "down.1", "3": "down.2", "4": "bottom"}
        parts |= {"3d": "up.0", "2d": "up.1", "1d": "up.2"}
        for theirs, ours in parts.items():
            for k, layer in enumerate(("conv", "bn")):
                changes[rf"^uf{scale}_rgb\.rebnconv{theirs}\.{layer}_s1\."] = f"refine.{i}.{ours}.{k}."
    return renamed(content, path, changes)


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """Probabilities to the pair's size, stretched to 0..255. The authors write JPEG files, with losses."""
    full = interpolate(output[None], visible.shape[:2], mode="bilinear")[0, 0].numpy()
    return rounded((full - full.min()) / (full.max() - full.min() + 1e-8) * 255)


FEED = Feed(  # the authors' means are of blue, green and red, in this order
    320, (0.532, 0.619, 0.551), (0.244, 0.236, 0.241), (0.753, 0.360, 0.341), (0.241, 0.269, 0.208), bgr=True
)
NETWORK = NetworkMethod(OSRNet, FEED, _finish, ("OSRNet.pth",), convert)
