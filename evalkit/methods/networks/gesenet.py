"""GeSeNet: two branches whose inner convolutions are masked per pixel and channel, merged under the MRI's edges."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import State
from evalkit.methods.layers.blocks import conv_leaky
from evalkit.methods.layers.borders import padded
from evalkit.methods.layers.colour import gray_and_luminance, recoloured_and_stretched
from evalkit.methods.layers.keys import renamed
from evalkit.methods.network import NetworkMethod

Masks = Literal["soft", "sampled", "hard"]
SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
WIDTH, LAYERS = 32, 4


class Uniforms(NamedTuple):
    """Random numbers in (0, 1) that one branch's masks are drawn with."""

    spatial: Tensor  # (N, 2, H, W)
    channels: Tensor  # (N or 1, 32, 4, 2)


def uniform(shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """Random numbers, drawn again while an exact 0 is among them, whose logarithm would be infinite."""
    values = torch.rand(shape, generator=generator)
    while (values == 0).any():
        values = torch.rand(shape, generator=generator)
    return values


def gumbel_softmax(logits: Tensor, dim: int, values: Tensor | None) -> Tensor:
    """Softmax of logits with Gumbel noise -log(-log(u)) (temperature 1); without noise where `values` is None.

    Args:
        logits: of any shape.
        dim: over which the softmax goes.
        values: u in (0, 1), broadcast to the logits.
    """
    if values is not None:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # in bfloat16 a u may be 1
        logits = logits - (-values.to(logits).log()).log()
    return logits.softmax(dim)


class EdgeEnhancement(nn.Module):
    """Two dense layers, and a path through the absolute derivatives of every channel: (N, 16, H, W) -> (N, 32, H, W).

    The derivatives' kernels start as Sobel's and are trained.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.ModuleList((conv_leaky(16, 16), conv_leaky(32, 16)))
        self.join = nn.Conv2d(48, WIDTH, 1)
        self.horizontal = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.vertical = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.edges = nn.Conv2d(16, WIDTH, 1)
        with torch.no_grad():
            self.horizontal.weight.copy_(torch.tensor(SOBEL).expand(16, 1, 3, 3))
            self.vertical.weight.copy_(torch.tensor(SOBEL).T.expand(16, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for layer in self.dense:
            features = torch.cat((features, layer(features)), dim=1)
        edges = self.edges(self.horizontal(x).abs() + self.vertical(x).abs())
        return functional.leaky_relu(self.join(features) + edges, 0.1)


class SpatialMask(nn.Module):
    """Features (N, 32, H, W), even sides -> logits (N, 2, H, W): leave out a pixel, or take it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(WIDTH, 8, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 2, 3, stride=2, padding=1, output_padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class RegionMask(nn.Module):
    """Four convolutions of which a part of the channels counts only where the spatial mask is: (N, 32, H, W) -> same.

    Sparse mask convolutions after Wang et al., CVPR 2021, doi:10.1109/CVPR46437.2021.00488; behind them channel
    attention and the input.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spatial = SpatialMask()
        self.channels = nn.Parameter(torch.rand(1, WIDTH, LAYERS, 2))
        self.body = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False) for _ in range(LAYERS))
        self.collect = nn.Conv2d(LAYERS * WIDTH, WIDTH, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(WIDTH, 2, 1), nn.ReLU(), nn.Conv2d(2, WIDTH, 1), nn.Sigmoid()
        )

    def masks(self, x: Tensor, uniforms: Uniforms | None, hard: bool) -> tuple[Tensor, Tensor]:
        """Spatial mask (N, 1, H, W) and shares of the channels (N or 1, 32, 4, 2): always counted, counted in the mask.

        Args:
            x: (N, 32, H, W).
            uniforms: what the masks are drawn with; without noise when None.
            hard: 0 or 1 instead, without noise.
        """
        logits = self.spatial(x)
        if hard:
            return (logits[:, 1:] > logits[:, :1]).to(x), self.channels.softmax(3).round()
        spatial, channels = uniforms or (None, None)
        return gumbel_softmax(logits, 1, spatial)[:, 1:], gumbel_softmax(self.channels, 3, channels)

    def forward(self, x: Tensor, uniforms: Uniforms | None = None, hard: bool = False) -> Tensor:
        mask, channels = self.masks(x, uniforms, hard)
        dense, sparse = (channels[..., i, None] for i in (0, 1))  # (N or 1, 32, 4, 1)
        kept = [dense[:, :, i, None] + sparse[:, :, i, None] * mask for i in range(LAYERS)]
        features = [torch.relu(self.body[0](x) * kept[0])]
        for i in range(1, LAYERS):
            before = features[-1]
            always = self.body[i](before * dense[:, :, i - 1, None]) * kept[i]
            # what the mask has cut before is cut again: here the dense share is masked, too
            masked = self.body[i](before * sparse[:, :, i - 1, None]) * mask
            masked = masked * (sparse[:, :, i, None] + dense[:, :, i, None])
            features.append(torch.relu(always + masked))
        collected = self.collect(torch.cat(features, dim=1))
        return collected * self.attention(collected) + x


class Modulation(nn.Module):
    """Features of both branches under a condition: (N, 64, H, W), (N, 32, H, W) -> (N, 64, H, W).

    A spatial feature transform whose scale is joined to the features instead of multiplied.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1)
        )
        self.shift = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.LeakyReLU(0.1), nn.Conv2d(WIDTH, 2 * WIDTH, 1))
        self.join = nn.Sequential(nn.Conv2d(4 * WIDTH, 2 * WIDTH, 3, padding=1), nn.LeakyReLU())

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.join(torch.cat((x, self.scale(condition)), dim=1)) + self.shift(condition)


class ModalityBranch(nn.Module):
    """One image (N, 1, H, W) -> its edges and its masked features, both (N, 32, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv_leaky(1, 16)
        self.edge = EdgeEnhancement()
        self.region = RegionMask()

    def forward(self, image: Tensor, uniforms: Uniforms | None, hard: bool) -> tuple[Tensor, Tensor]:
        edges = self.edge(self.first(image))
        return edges, self.region(edges, uniforms, hard)


class GeSeNet(nn.Module):
    """Li et al., GeSeNet: A General Semantic-Guided Network With Couple Mask Ensemble for Medical Image Fusion, TNNLS.

    doi:10.1109/TNNLS.2023.3293274. MRI and the luminance of CT, PET or SPECT, each (N, 1, H, W) in [0, 1] -> fused
    (N, 1, H, W) in [0, 1]. Odd sides, which the published code refuses, are padded by repeating the border.

    Args:
        masks: in evaluation mode: "soft" without noise; "sampled" with noise, as the published script runs, the same
            for every image of a size (`seed`); "hard" 0 or 1, what the masks are meant to be after training. In
            training mode they are always sampled, from PyTorch's own random numbers.
        seed: of "sampled".
    """

    def __init__(self, masks: Masks = "soft", seed: int = 0) -> None:
        super().__init__()
        self.masks, self.seed = masks, seed
        self.functional, self.anatomical = ModalityBranch(), ModalityBranch()
        self.modulation = Modulation()
        self.decoder = nn.Sequential(conv_leaky(3 * WIDTH, WIDTH), nn.Conv2d(WIDTH, 1, 3, padding=1))

    def forward(self, anatomical: Tensor, functional_image: Tensor) -> Tensor:
        height, width = anatomical.shape[2:]
        a, b = (padded(image, 2) for image in (functional_image, anatomical))
        first, second = self.draw(a.shape)
        hard = self.masks == "hard" and not self.training
        return self.fuse(b, a, first, second, hard)[..., :height, :width]

    def draw(self, shape: torch.Size) -> tuple[Uniforms | None, Uniforms | None]:
        """What the masks of both branches are drawn with, the functional one's first; (None, None) without noise."""
        if not self.training and self.masks != "sampled":
            return None, None
        generator = None if self.training else torch.Generator().manual_seed(self.seed)
        count = shape[0] if self.training else 1  # the published script fuses one image at a time
        shapes = (count, 2, *shape[2:]), (1, WIDTH, LAYERS, 2)
        first, second = (Uniforms(*(uniform(s, generator) for s in shapes)) for _ in range(2))
        return first, second

    def fuse(
        self,
        anatomical: Tensor,
        functional_image: Tensor,
        first: Uniforms | None = None,
        second: Uniforms | None = None,
        hard: bool = False,
    ) -> Tensor:
        """Both images of even sides -> fused.

        Args:
            anatomical, functional_image: (N, 1, H, W) in [0, 1].
            first, second: what the masks of the functional and of the anatomical branch are drawn with.
            hard: masks of 0 and 1 instead.
        """
        functional_edges, functional_features = self.functional(functional_image, first, hard)
        edges, features = self.anatomical(anatomical, second, hard)
        x = self.modulation(torch.cat((functional_features, features), dim=1), edges)
        return torch.tanh(self.decoder(torch.cat((x, functional_edges), dim=1))) / 2 + 0.5


DEAD = re.compile(r"^(decoder1\.bn\.|(vis|inf)_rmm\.body\.bias$)")  # in the file, without effect
_KEYS = {
    r"^vis_": "functional.",
    r"^inf_": "anatomical.",
    r"^(\w+)\.conv\.conv\.": r"\1.first.0.",
    r"^(\w+)\.eem\.dense\.conv1\.conv\.": r"\1.edge.dense.0.0.",
    r"^(\w+)\.eem\.dense\.conv2\.conv\.": r"\1.edge.dense.1.0.",
    r"^(\w+)\.eem\.convdown\.conv\.": r"\1.edge.join.",
    r"^(\w+)\.eem\.sobelconv\.convx\.": r"\1.edge.horizontal.",
    r"^(\w+)\.eem\.sobelconv\.convy\.": r"\1.edge.vertical.",
    r"^(\w+)\.eem\.convup\.conv\.": r"\1.edge.edges.",
    r"^(\w+)\.rmm\.spa_mask\.": r"\1.region.spatial.layers.",
    r"^(\w+)\.rmm\.body\.ch_mask$": r"\1.region.channels",
    r"^(\w+)\.rmm\.body\.": r"\1.region.",
    r"^(\w+)\.rmm\.ca\.conv_du\.0\.": r"\1.region.attention.1.",
    r"^(\w+)\.rmm\.ca\.conv_du\.2\.": r"\1.region.attention.3.",
    r"^sft\.SFT_(scale|shift)_conv0\.": r"modulation.\1.0.",
    r"^sft\.SFT_(scale|shift)_conv1\.": r"modulation.\1.2.",
    r"^sft\.SFT2\.": "modulation.join.0.",
    r"^decoder2\.conv\.": "decoder.0.0.",
    r"^decoder1\.conv\.": "decoder.1.",
}


def _convert(content: Any, path: Path) -> State:
    state = renamed(content, path, {})
    return renamed({key: value for key, value in state.items() if not DEAD.match(key)}, path, _KEYS)


def _method(masks: Masks) -> NetworkMethod:
    build = partial(GeSeNet, masks)
    return NetworkMethod(build, gray_and_luminance, recoloured_and_stretched, ("GeSeNet.pth",), _convert)


METHODS = {"GeSeNet": _method("soft"), "GeSeNet-sampled": _method("sampled"), "GeSeNet-hard": _method("hard")}
