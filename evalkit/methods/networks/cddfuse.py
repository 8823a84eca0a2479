"""CDDFuse: Restormer features split into a base branch of channel attention and an invertible detail branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import CheckpointError, State, as_state
from evalkit.methods.layers.invertible import InvertibleNode
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import stretched
from evalkit.methods.layers.restormer import PUBLISHED_KEYS, lite_transformer_block, restormer_block
from evalkit.methods.network import NetworkMethod, Pixels, rounded, unit_gray_pair

WIDTH = 64
HEADS = 8
BLOCKS = 4  # Restormer blocks of the encoder, and of the decoder


def restormer_blocks() -> nn.Sequential:
    """`BLOCKS` of them, (N, WIDTH, H, W) -> the same shape."""
    return nn.Sequential(*(restormer_block(WIDTH, HEADS) for _ in range(BLOCKS)))


class Encoder(nn.Module):
    """Image (N, 1, H, W) -> base and detail features, each (N, WIDTH, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, WIDTH, 3, padding=1, bias=False)
        self.shared = restormer_blocks()
        self.base = lite_transformer_block(WIDTH, HEADS)
        self.detail = nn.Sequential(*(InvertibleNode(WIDTH) for _ in range(3)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.shared(self.embed(image))
        return self.base(features), self.detail(features)


class Decoder(nn.Module):
    """Base and detail features -> what is added to the visible image before the sigmoid, (N, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.join = nn.Conv2d(2 * WIDTH, WIDTH, 1, bias=False)
        self.shared = restormer_blocks()
        self.output = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH // 2, 3, padding=1, bias=False),
            nn.LeakyReLU(0.01),
            nn.Conv2d(WIDTH // 2, 1, 3, padding=1, bias=False),
        )

    def forward(self, base: Tensor, detail: Tensor) -> Tensor:
        return self.output(self.shared(self.join(torch.cat((base, detail), dim=1))))


class CDDFuse(nn.Module):
    """Zhao et al., CDDFuse: Correlation-Driven Dual-Branch Feature Decomposition, CVPR 2023.

    doi:10.1109/CVPR52729.2023.00572. Two gray images (N, 1, H, W) in [0, 1], sides of at least 2, nothing is padded ->
    fused (N, 1, H, W) in (0, 1). One encoder serves both images; a block of each branch's kind fuses the sums.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.fuse_base = lite_transformer_block(WIDTH, HEADS)
        self.fuse_detail = InvertibleNode(WIDTH)
        self.decoder = Decoder()

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        (base, detail), (other_base, other_detail) = self.encoder(visible), self.encoder(infrared)
        fused = self.decoder(self.fuse_base(base + other_base), self.fuse_detail(detail + other_detail))
        return torch.sigmoid(fused + visible)


_NODE_KEYS = {
    r"\.shffleconv\.": ".shuffle.",
    r"\.theta_(phi|rho|eta)\.bottleneckBlock\.0\.": r".\1.0.",
    # the authors pad in a module of its own, so their numbers behind it are one higher
    r"\.theta_(phi|rho|eta)\.bottleneckBlock\.3\.": r".\1.2.",
    r"\.theta_(phi|rho|eta)\.bottleneckBlock\.5\.": r".\1.4.",
}
_PARTS = {  # entry of the checkpoint -> the names outside the blocks
    "DIDF_Encoder": {
        r"^patch_embed\.proj\.": "encoder.embed.",
        r"^encoder_level1\.": "encoder.shared.",
        r"^baseFeature\.": "encoder.base.",
        r"^detailFeature\.net\.": "encoder.detail.",
    },
    "DIDF_Decoder": {
        r"^reduce_channel\.": "decoder.join.",
        r"^encoder_level2\.": "decoder.shared.",
        r"^output\.": "decoder.output.",
    },
    "BaseFuseLayer": {r"^": "fuse_base."},
    "DetailFuseLayer": {r"^net\.0\.": "fuse_detail."},
}


def _convert(content: Any, path: Path) -> State:
    state: State = {}
    for part, names in _PARTS.items():
        # DataParallel, in which the authors wrap every part, puts a name before all others
        bare = renamed(as_state(content, path, part), path, {r"^module\.": ""})
        own = renamed(bare, path, names | _NODE_KEYS | PUBLISHED_KEYS)
        if twice := own.keys() & state.keys():
            raise CheckpointError(f"the checkpoint {path} holds {min(twice)} in two parts.")
        state |= own
    return state


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return rounded(stretched(output[0].numpy()) * 255)


METHODS = {"CDDFuse": NetworkMethod(CDDFuse, unit_gray_pair, _finish, ("CDDFuse_IVF.pth",), _convert, ("encoder",))}
