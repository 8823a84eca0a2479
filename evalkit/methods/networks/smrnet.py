"""SMR-Net: a fusion network (PCI) and a salient-object network (BPS) in a row, trained in turns.

The authors' code is not public. PCI's width and activations, and what the classes below name as a decision, are not in
the paper.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from evalkit.data.images import merge_colour
from evalkit.methods.layers.blocks import conv_leaky
from evalkit.methods.layers.dense import DenseBlock
from evalkit.methods.layers.luminance import luminance, with_luminance
from evalkit.methods.layers.msgd import SaliencyMaps
from evalkit.methods.layers.resnet import RESNET18
from evalkit.methods.network import NetworkMethod, Pixels, rounded, unit_gray_pair
from evalkit.methods.networks.smrnet_saliency import BPS

Gate = Literal["sigmoid", "none"]
SALIENCY_SIZE = 352  # side of the images that IRFS's detector sees; the paper gives none


class LocalInteraction(nn.Module):
    """Eqs. 2-5: features of both images (N, C, H, W) -> both, each enhanced by what the two have in common.

    `S` in the equations is a split: one convolution serves both images and each takes its half. Decision: the channel
    weights of Eqs. 2 and 3 go through a sigmoid ("none" leaves them as printed, unbounded).
    """

    def __init__(self, channels: int, gate: Gate = "sigmoid") -> None:
        super().__init__()
        self.gate = gate
        self.channel = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.spatial = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat((visible, infrared), dim=1)
        weights = self.channel(both.mean(dim=(2, 3), keepdim=True))
        if self.gate == "sigmoid":
            weights = torch.sigmoid(weights)
        visible, infrared = (both * weights + self.spatial(both)).chunk(2, dim=1)
        return visible, infrared


class SpatialAttention(nn.Module):
    """SA: a weight in (0, 1) for each pixel from the channels' maximum and mean: (N, C, H, W) -> (N, 1, H, W)."""

    def __init__(self, size: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)
        return torch.sigmoid(self.conv(summary))


class ChannelAttention(nn.Module):
    """CA: a weight in (0, 1) for each channel from the means of all: (N, C, H, W) -> (N, C, 1, 1)."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = channels // reduction
        self.weigh = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.weigh(x.mean(dim=(2, 3), keepdim=True)))


class GlobalInteraction(nn.Module):
    """Eqs. 6 and 7: each image's features weighted, in space and over channels, by what the other image shows.

    Decision: each direction has its own weights. (N, C, H, W) twice -> the same shapes.
    """

    def __init__(self, channels: int, spatial_kernel: int = 7) -> None:
        super().__init__()
        self.spatial_visible, self.channel_visible = SpatialAttention(spatial_kernel), ChannelAttention(channels)
        self.spatial_infrared, self.channel_infrared = SpatialAttention(spatial_kernel), ChannelAttention(channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        return (
            visible * self.spatial_infrared(infrared) + visible * self.channel_infrared(infrared),
            infrared * self.spatial_visible(visible) + infrared * self.channel_visible(visible),
        )


class PCI(nn.Module):
    """Progressive cross-modality interaction fusion network.

    Xiao et al., SMR-Net: Semantic-Guided Mutually Reinforcing Network for Cross-Modal Image Fusion and Salient Object
    Detection, AAAI 39(8), 2025. Infrared and visible luminance (N, 1, H, W) in [0, 1], any size -> fused luminance
    (N, 1, H, W) in [0, 1].

    Decisions: luminance, because Eq. 1 applies one extractor to both images; its two blocks, the dense block of three
    convolutions and the last convolution are 3x3 with leaky ReLU .2, a sigmoid at the end, no normalisation.

    Args:
        channels: of the features.
        growth: of the dense block.
        local_gate: see `LocalInteraction`.
        spatial_kernel: of the spatial attention.
    """

    def __init__(
        self, channels: int = 64, growth: int = 32, local_gate: Gate = "sigmoid", spatial_kernel: int = 7
    ) -> None:
        super().__init__()
        self.extractor = nn.Sequential(conv_leaky(1, channels), conv_leaky(channels, channels))
        self.local = LocalInteraction(channels, local_gate)
        self.across = GlobalInteraction(channels, spatial_kernel)
        self.reconstruct = nn.Sequential(
            DenseBlock(channels, growth, convolutions=3),
            nn.Conv2d(channels + 3 * growth, 1, 3, padding=1),
            nn.Sigmoid(),
        )

    def interact(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Eqs. 1-7: the features of the visible, then of the infrared image after both interactions."""
        features = self.extractor(visible), self.extractor(infrared)  # Eq. 1
        return self.across(*self.local(*features))

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        of_visible, of_infrared = self.interact(infrared, visible)
        return self.reconstruct(of_visible + of_infrared)  # Eq. 8


class Joint(NamedTuple):
    """What SMR-Net makes of a pair.

    Attributes:
        fused: luminance (N, 1, H, W) in [0, 1].
        colour: the same with the chroma of the visible image, (N, 3, H, W) in [0, 1].
        saliency: logits.
    """

    fused: Tensor
    colour: Tensor
    saliency: SaliencyMaps


class SMRNet(nn.Module):
    """Both networks: infrared (N, 1, H, W) and visible RGB (N, 3, H, W) in [0, 1], multiples of 32 -> `Joint`.

    The detector's loss reaches the fusion network through `fused`.
    """

    def __init__(self, fusion: PCI | None = None, detection: BPS | None = None) -> None:
        super().__init__()
        self.fusion = fusion or PCI()
        self.detection = detection or BPS()

    def forward(self, infrared: Tensor, visible: Tensor) -> Joint:
        fused, colour = self.fuse(infrared, visible)
        return Joint(fused, colour, self.detection(visible, infrared.expand_as(visible), colour))

    def fuse(self, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Fused luminance and fused colour image, any size."""
        fused = self.fusion(infrared, luminance(visible))
        return fused, with_luminance(fused, visible)


def small() -> SMRNet:
    """A network to train on a CPU (1.6 M parameters): PCI of 16 channels, ResNet-18 of a quarter of its width."""
    return SMRNet(PCI(16, 16), BPS(blocks=RESNET18, width=16, heads=32, channels=16))


@torch.inference_mode()
def salient_objects(network: SMRNet, infrared: Tensor, visible: Tensor, size: int = SALIENCY_SIZE) -> Tensor:
    """Where the salient objects are: probabilities (N, 1, H, W) in [0, 1].

    The pair is fused in its own size; the three images are resized (bilinear, smoothed where they shrink) to the square
    that the detector sees, and its map is resized back.

    Args:
        network: in evaluation mode.
        infrared: (N, 1, H, W) in [0, 1], any size.
        visible: (N, 3, H, W) in [0, 1].
        size: side of the square, a multiple of 32.
    """
    _, colour = network.fuse(infrared, visible)
    images = (visible, infrared.expand_as(visible), colour)
    squares = (interpolate(image, (size, size), mode="bilinear", antialias=True) for image in images)
    return interpolate(torch.sigmoid(network.detection(*squares).total), infrared.shape[-2:], mode="bilinear")


class SalientObjects(nn.Module):
    """`salient_objects` as a network: infrared (N, 1, H, W), visible (N, 3, H, W) -> probabilities (N, 1, H, W)."""

    def __init__(self, network: SMRNet, size: int = SALIENCY_SIZE) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        return salient_objects(self.network, infrared, visible, self.size)


# Tables 3 and 4 of the paper; "DC" is also the row of Table 4 without a plane, "BS+DC" its row of plane 4 alone
def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return merge_colour(rounded(output[0].numpy() * 255), visible)


METHODS = {"SMR-Net": NetworkMethod(PCI, unit_gray_pair, _finish, per_modality=("extractor",))}
