"""The modules of PSFusion under the names of its paper; equation numbers are the paper's.

Where the paper and the authors' code differ the code is the default, because the published weights belong to it; each
class says what the paper has instead.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.gates import pointwise_pair
from evalkit.methods.layers.resnet import BasicBlock

Recalibration = Literal["self", "cross"]
Attention = Literal["code", "eq9"]


def conv_norm_relu(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 convolution without bias, batch normalisation, ReLU: (N, C, H, W) -> (N, C', H, W)."""
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU())


def conv_twice_normed(channels_in: int, channels_out: int) -> nn.Sequential:
    """The same, normalised twice as in the published code: (N, C, H, W) -> (N, C', H, W).

    In training the second normalisation undoes scale and offset of the first, which get (nearly) no gradient.
    """
    conv, norm, relu = conv_norm_relu(channels_in, channels_out)
    return nn.Sequential(conv, norm, nn.BatchNorm2d(channels_out), relu)


def enlarged(x: Tensor, times: int) -> Tensor:
    """(N, C, H, W) -> (N, C, times * H, times * W), bilinear; the corner pixels keep their place."""
    return x if times == 1 else functional.interpolate(x, scale_factor=times, mode="bilinear", align_corners=True)


def to_unit(x: Tensor) -> Tensor:
    """Any values -> [0, 1] by a hyperbolic tangent."""
    return (torch.tanh(x) + 1) / 2


class FReLU(nn.Module):
    """max(x, T(x)) with a learned depthwise 3x3 T instead of 0: (N, C, H, W) -> the same shape.

    Ma et al., Funnel Activation for Visual Recognition, ECCV 2020, doi:10.1007/978-3-030-58621-8_21.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, self.norm(self.conv(x)))


def residual_stage(channels_in: int, channels_out: int, blocks: int, stride: int = 1) -> nn.Sequential:
    """A ResNet's blocks of one size, the first with the stride: (N, C, H, W) -> (N, C', H / stride, W / stride).

    Args:
        channels_in, channels_out: C and C' of the features.
        blocks: how many.
        stride: of the first block, in pixels.
    """
    first = BasicBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(BasicBlock(channels_out, channels_out) for _ in range(blocks - 1)))


class Encoder(nn.Module):
    """Features of one image on six levels, Eqs. 1 to 3: two superficial blocks (SFEB), then the stages of a ResNet.

    (N, C, H, W) in [0, 1], sides multiples of 32 -> a list of six: `width` channels at the full size, then 2, 2, 4, 8
    and 16 times `width` at 1/2, 1/4, 1/8, 1/16 and 1/32.
    """

    def __init__(self, channels: int, width: int, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.sfeb1 = nn.Sequential(
            nn.Conv2d(channels, width, 7, padding=3),
            nn.BatchNorm2d(width),
            FReLU(width),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            FReLU(width),
        )
        # no normalisation behind its last convolution: the ResNet's own first one, with its weights, follows
        self.sfeb2 = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            FReLU(2 * width),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        )
        self.bn1 = nn.BatchNorm2d(2 * width)
        self.levels = nn.ModuleDict(
            {
                "3": residual_stage(2 * width, 2 * width, blocks[0]),
                "4": residual_stage(2 * width, 4 * width, blocks[1], stride=2),
                "5": residual_stage(4 * width, 8 * width, blocks[2], stride=2),
                "6": residual_stage(8 * width, 16 * width, blocks[3], stride=2),
            }
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        first = self.sfeb1(image)
        second = functional.relu(self.bn1(self.sfeb2(first)))
        features = [first, second]
        x = functional.max_pool2d(second, 3, stride=2, padding=1)
        for stage in self.levels.values():
            x = stage(x)
            features.append(x)
        return features


class SuperficialDetailFusion(nn.Module):
    """SDFM: the share of each image, per channel and pixel, from channel and spatial attention, Eqs. 4 to 6.

    Two (N, C, H, W) -> (N, C', H, W). Three convolutions per image come first, which the paper does not mention.

    The paper adds to each image's features the weighted features of the *other* (Eq. 4, `recalibration="cross"`); the
    code adds its own (`"self"`). The paper gives W to infrared and 1 - W to visible (Eq. 6); the code the other way
    round, which is the same family of functions, since 1 - sigmoid(a) = sigmoid(-a).
    """

    def __init__(self, channels_in: int, channels_out: int, recalibration: Recalibration = "self") -> None:
        super().__init__()
        self.recalibration = recalibration
        self.visible, self.infrared = (
            nn.Sequential(
                conv_norm_relu(channels_in, channels_out),
                conv_norm_relu(channels_out, channels_out),
                conv_norm_relu(channels_out, channels_out),
            )
            for _ in range(2)
        )
        self.recalibrate = pointwise_pair(2 * channels_out, pooled=True)
        self.aggregate = nn.Sequential(
            nn.Conv2d(2 * channels_out, channels_out, 1), nn.BatchNorm2d(channels_out), nn.ReLU()
        )
        self.spatial = pointwise_pair(channels_out)
        self.channel = pointwise_pair(channels_out, pooled=True)

    def recalibrated(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        """Both features reinforced, Eq. 4."""
        weight_visible, weight_infrared = torch.sigmoid(self.recalibrate(torch.cat((visible, infrared), dim=1))).chunk(
            2, dim=1
        )
        weighted = (visible * weight_visible, infrared * weight_infrared)
        if self.recalibration == "cross":
            weighted = weighted[::-1]
        return visible + weighted[0], infrared + weighted[1]

    def share(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """W of Eq. 5, in (0, 1): what the fused features take from the visible ones."""
        both = self.aggregate(torch.cat((visible, infrared), dim=1))
        return torch.sigmoid(self.channel(both) * self.spatial(both))

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        visible, infrared = self.recalibrated(self.visible(visible), self.infrared(infrared))
        share = self.share(visible, infrared)
        return share * visible + (1 - share) * infrared


class DenseEnhancement(nn.Module):
    """Deep features of one image, enhanced by densely connected convolutions: (N, C, H, W) -> (N, C', H, W)."""

    def __init__(self, channels_in: int, channels_out: int, growth: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels_in, growth, 1)
        self.dense = nn.ModuleList(conv_norm_relu(k * growth, growth) for k in range(1, 5))
        self.fuse = conv_norm_relu(channels_in + growth, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        down = self.down(x)
        dense: list[Tensor] = []
        for block in self.dense:
            dense.append(block(torch.cat((*dense, down), dim=1)))
        return self.fuse(torch.cat((x, dense[-1]), dim=1))


def attend(query: Tensor, key: Tensor, value: Tensor, attention: Attention = "code") -> Tensor:
    """Values gathered from all pixels, Eqs. 9 and 10; the scores are not divided by sqrt(C).

    Eq. 9 softmaxes Q K^T over the positions of the keys. The code exchanges both: row i belongs to key i and is
    softmaxed over the positions of the queries.

    Args:
        query, key, value: (N, C, H, W).

    Returns:
        (N, C, H, W).
    """
    rows, columns = (key, query) if attention == "code" else (query, key)
    # one head of all channels; the H W x H W matrix is never stored
    rows, columns, value_rows = (x.flatten(2).transpose(1, 2)[:, None] for x in (rows, columns, value))
    gathered = functional.scaled_dot_product_attention(rows, columns, value_rows, scale=1.0)
    return gathered[:, 0].transpose(1, 2).unflatten(2, value.shape[2:])


class CrossAttention(nn.Module):
    """Each image's context, asked for with a query of both and added to the other image, Eqs. 7 to 10.

    Two (N, C, H, W) -> (N, C, H, W). `gamma_visible` and `gamma_infrared` (not in the paper) scale the context and
    begin at 0, so that keys, values and query get no gradient in the very first step. Eq. 10 adds the context to the
    features from before the enhancement, whose channels do not fit; here, as in the code, to the enhanced ones.
    """

    def __init__(self, channels: int, attention: Attention = "code") -> None:
        super().__init__()
        self.attention = attention
        self.query = conv_norm_relu(2 * channels, channels)
        self.visible_key, self.visible_value = conv_norm_relu(channels, channels), conv_norm_relu(channels, channels)
        self.infrared_key, self.infrared_value = conv_norm_relu(channels, channels), conv_norm_relu(channels, channels)
        self.gamma_visible = nn.Parameter(torch.zeros(1))
        self.gamma_infrared = nn.Parameter(torch.zeros(1))
        self.join = conv_norm_relu(2 * channels, channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        query = self.query(torch.cat((visible, infrared), dim=1))
        context_visible = attend(query, self.visible_key(visible), self.visible_value(visible), self.attention)
        context_infrared = attend(query, self.infrared_key(infrared), self.infrared_value(infrared), self.attention)
        first = infrared + self.gamma_visible * context_visible
        second = visible + self.gamma_infrared * context_infrared
        return self.join(torch.cat((first, second), dim=1))


class ProfoundSemanticFusion(nn.Module):
    """PSFM: deep features of both images enhanced, then fused by cross-attention: two (N, C, H, W) -> (N, C', H, W)."""

    def __init__(self, channels_in: int, channels_out: int, attention: Attention = "code") -> None:
        super().__init__()
        growth = channels_out // 4
        self.visible = DenseEnhancement(channels_in, channels_out, growth)
        self.infrared = DenseEnhancement(channels_in, channels_out, growth)
        self.cross = CrossAttention(channels_out, attention)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return self.cross(self.visible(visible), self.infrared(infrared))


class SparseSemanticPerception(nn.Module):
    """S2PM: fused features of levels 3 to 6 brought to the size of level 3 and convolved, Eq. 11.

    Four (N, C, H/4.., W/4..), each half the size of the one before -> F_se (N, C, H/4, W/4).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(4))
        self.block1 = conv_twice_normed(4 * channels, channels)
        self.block2 = conv_twice_normed(channels, channels)
        self.block3 = conv_twice_normed(channels, channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        pairs = zip(self.lateral, features, strict=True)
        x = torch.cat([enlarged(conv(x), 2**i) for i, (conv, x) in enumerate(pairs)], dim=1)
        return self.block3(self.block2(self.block1(x)))


class SparseSemanticPath(nn.Module):
    """S2P2: logits of a semantic, a binary (object or not) and a boundary segmentation, Eqs. 12 to 14.

    F_se (N, C, H/4, W/4) -> (N, classes, H, W), (N, 2, H, W), (N, 2, H, W).

    As in the code, the binary prediction weights F_se and the boundary is predicted last from both features. The
    paper's Eqs. 12 to 14 have binary and boundary the other way round. `unused_*` is in the checkpoint and nothing
    applies it: 9,474 of the parameters.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()

        def conv_norm(channels_in: int, channels_out: int, bias: bool = False) -> list[nn.Module]:
            return [nn.Conv2d(channels_in, channels_out, 1, bias=bias), nn.BatchNorm2d(channels_out), nn.ReLU6()]

        def last(channels_in: int, channels_out: int) -> nn.Conv2d:
            return nn.Conv2d(channels_in, channels_out, 3, padding=1)

        self.binary = nn.Sequential(*conv_norm(channels, channels // 4), last(channels // 4, 2))
        self.weighted = nn.Sequential(*conv_norm(channels, channels))
        self.semantic = last(channels, classes)
        self.boundary = nn.Sequential(*conv_norm(2 * channels, channels, bias=True), last(channels, 2))
        self.unused = nn.Sequential(*conv_norm(2 * channels, channels), last(channels, 2))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        binary = self.binary(features)
        is_object = torch.softmax(binary, dim=1)[:, 1:]
        weighted = self.weighted(enlarged(features * is_object, 2))
        boundary = self.boundary(torch.cat((weighted, enlarged(features, 2)), dim=1))
        return enlarged(self.semantic(weighted), 2), enlarged(binary, 4), enlarged(boundary, 2)


class SemanticInjection(nn.Module):
    """SIM: features scaled and shifted, pixel by pixel, by what other features say, Eq. 15.

    x (N, C, H, W), condition (N, L, H', W') -> (N, C, H, W) = BN(IN(x) (1 + gamma)) + beta, gamma in (0, 1). The paper
    has gamma IN(Conv_BN(x)) + beta.
    """

    def __init__(self, channels: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(condition, hidden, 3, padding=1)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        condition = functional.interpolate(condition, x.shape[2:], mode="bilinear", align_corners=False)
        condition = functional.relu(self.shared(condition))
        gamma = torch.sigmoid(self.gamma(condition))
        return self.norm(functional.instance_norm(x) * (1 + gamma)) + self.beta(condition)


class DenseSceneReconstruction(nn.Module):
    """DSRM: four convolutions, each on the input and all before it; the fourth is the result: (N, C, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block1 = conv_twice_normed(channels, channels)
        self.block2 = conv_twice_normed(2 * channels, channels)
        self.block3 = conv_twice_normed(3 * channels, channels)
        self.block4 = conv_twice_normed(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for block in (self.block1, self.block2, self.block3, self.block4):
            maps.append(block(torch.cat(maps, dim=1)))
        return maps[-1]


class SceneFidelityPath(nn.Module):
    """SFP: one source image from the reconstruction features, screened by a mask for it.

    (N, C, H, W) -> (N, 1, H, W) in [0, 1].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

        def depthwise() -> list[nn.Module]:
            conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            return [conv, nn.BatchNorm2d(channels)]

        self.local = nn.Sequential(*depthwise(), nn.ReLU(), *depthwise(), nn.ReLU(), *depthwise())
        self.channel = pointwise_pair(channels, pooled=True)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.sigmoid(self.local(x) * self.channel(x))
        return to_unit(self.head(self.norm(x * mask)))
