"""Split attention and the bottlenecks made of it.

Zhang et al., ResNeSt: Split-Attention Networks, CVPR Workshops 2022, doi:10.1109/CVPRW56347.2022.00309.
"""

from __future__ import annotations

from torch import Tensor, nn

from evalkit.methods.layers.blocks import conv_norm
from evalkit.methods.layers.strips import by_strips


def _pointwise(channels_in: int, channels_out: int, bias: bool = True, relu: bool = True) -> nn.Sequential:
    """1x1 convolution, batch normalisation, ReLU where asked: (N, C, H, W) -> (N, C', H, W)."""
    layers = [nn.Conv2d(channels_in, channels_out, 1, bias=bias), nn.BatchNorm2d(channels_out)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class SplitAttention(nn.Module):
    """`radix` feature maps from one, summed with weights that their global mean decides: (N, C, H, W) -> the same.

    The weights pass a batch normalisation and a ReLU before the softmax, as in the code of TSJNet. In training the
    normalisation sees one value per image and channel, so it needs two images.

    Args:
        channels: in and out, a multiple of `radix`.
        radix: how many maps are weighted against each other, each from its own group of the input's channels.
    """

    def __init__(self, channels: int, radix: int = 2) -> None:
        super().__init__()
        self.radix = radix
        width = radix * channels
        inner = max(32, width // 4)
        self.split = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, groups=radix), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.squeeze = _pointwise(channels, inner, bias=False)
        self.excite = _pointwise(inner, width, bias=False)

    def weights(self, splits: Tensor) -> Tensor:
        """Splits (N, radix, C, H, W) -> (N, radix, C, 1, 1), which sum to 1 over the splits."""
        mean = splits.sum(dim=1).mean(dim=(2, 3), keepdim=True)
        return self.excite(self.squeeze(mean)).unflatten(1, (self.radix, -1)).softmax(dim=1)

    def summed(self, splits: Tensor, weights: Tensor) -> Tensor:
        """Splits (N, radix * C, H, W) with their weights (N, radix, C, 1, 1) -> (N, C, H, W)."""
        return (weights * splits.unflatten(1, (self.radix, -1))).sum(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        splits = by_strips(self.split, x, border=1)
        return self.summed(splits, self.weights(splits.unflatten(1, (self.radix, -1))))


class Bottleneck(nn.Module):
    """1x1, split attention, 1x1 to four times the planes, added to the input, ReLU: (N, C, H, W) -> (N, 4P, H, W).

    Args:
        channels: in.
        planes: width P between the 1x1 convolutions. Where 4P is `channels`, a large input is overwritten without a
            gradient. Where 4P is not `channels`, the input passes a 3x3 maximum (which
            keeps the size) and a 1x1 convolution before it is added.
    """

    def __init__(self, channels: int, planes: int) -> None:
        super().__init__()
        self.reduce = _pointwise(channels, planes)
        self.attention = SplitAttention(planes)
        self.expand = _pointwise(planes, 4 * planes, relu=False)
        self.shortcut = (
            nn.Identity()
            if channels == 4 * planes
            else nn.Sequential(
                nn.MaxPool2d(3, stride=1, padding=1), *_pointwise(channels, 4 * planes, bias=False, relu=False)
            )
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        splits = by_strips(lambda rows: self.attention.split(self.reduce(rows)), x, border=1)
        weights = self.attention.weights(splits.unflatten(1, (self.attention.radix, -1)))

        def joined(splits: Tensor, x: Tensor) -> Tensor:
            return self.relu(self.expand(self.attention.summed(splits, weights)) + self.shortcut(x))

        # these are the largest maps of all; where there are strips, the result takes the place of its input
        if isinstance(self.shortcut, nn.Identity):
            return by_strips(joined, splits, x, out=x)
        return by_strips(joined, splits, x, border=1)


class ResNeStStage(nn.Module):
    """Three 3x3 convolutions and two bottlenecks, all at full size: (N, C, H, W) -> (N, 4P, H, W).

    Args:
        channels: in.
        stem: widths of the three convolutions.
        planes: P of the bottlenecks.
    """

    def __init__(self, channels: int, stem: tuple[int, int, int], planes: int) -> None:
        super().__init__()
        widths = zip((channels, *stem[:-1]), stem, strict=True)
        self.stem = nn.Sequential(*(layer for a, b in widths for layer in conv_norm(a, b, nn.ReLU())))
        self.blocks = nn.Sequential(Bottleneck(stem[-1], planes), Bottleneck(4 * planes, planes))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))
