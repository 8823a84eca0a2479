"""SwinFusion: Swin transformers within each image and across both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.checkpoints import CheckpointError, State, as_state
from evalkit.methods.layers.attention import Mlp
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.pixels import unit_opencv_gray
from evalkit.methods.layers.windows import WindowAttention, WindowShift, relative_positions, swin_blocks
from evalkit.methods.network import NetworkMethod, Pixels, rounded

WIDTH = 60
HEADS = 6
SIDE = 8  # of a window
HIDDEN = 2 * WIDTH


def conv3(channels_in: int, channels_out: int) -> nn.Conv2d:
    """3x3 convolution, zeros around the border."""
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


def lrelu(x: Tensor) -> Tensor:
    """Leaky ReLU with a slope of 0.2."""
    return functional.leaky_relu(x, 0.2)


class CrossHalf(nn.Module):
    """What one image has of its own in a `CrossBlock`."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = WindowAttention(WIDTH, HEADS, SIDE, cross=True)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = Mlp(WIDTH, HIDDEN)


class CrossBlock(nn.Module):
    """A Swin block for each image whose keys and values come from the other image."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.a, self.b = CrossHalf(), CrossHalf()

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Both (N, H, W, WIDTH) -> the same shapes."""
        shift = WindowShift(a, SIDE, self.shift)
        windows_a, windows_b = shift.split(self.a.norm1(a)), shift.split(self.b.norm1(b))
        a = a + shift.join(self.a.attn(windows_a, windows_b, shift.mask))
        b = b + shift.join(self.b.attn(windows_b, windows_a, shift.mask))
        return a + self.a.mlp(self.a.norm2(a)), b + self.b.mlp(self.b.norm2(b))


class FusionLayer(nn.Module):
    """Two Swin blocks within each image, then two across them: both (N, H, W, WIDTH) -> the same shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.within_a = swin_blocks(2, WIDTH, HEADS, SIDE, HIDDEN)
        self.within_b = swin_blocks(2, WIDTH, HEADS, SIDE, HIDDEN)
        self.across = nn.ModuleList(CrossBlock(shift) for shift in (0, SIDE // 2))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.within_a(a), self.within_b(b)
        for block in self.across:
            a, b = block(a, b)
        return a, b


class SwinFusion(nn.Module):
    """Ma et al., SwinFusion, IEEE/CAA Journal of Automatica Sinica 9(7), 2022, doi:10.1109/JAS.2022.105686.

    Two gray images (N, 1, H, W) in [0, 1] -> fused (N, 1, H, W), not bounded. Right and bottom are reflected up to a
    multiple of 8 and cut off again, which needs sides of at least 5.

    As in the published code, both images pass the first two convolutions of A (`unused` holds those of B, which the
    checkpoint has and nothing applies), and one normalisation serves at five places. The stochastic depth with which
    the authors train (up to 0.1) is left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ModuleList((conv3(1, WIDTH // 2), conv3(WIDTH // 2, WIDTH)))
        self.unused = nn.ModuleList((conv3(1, WIDTH // 2), conv3(WIDTH // 2, WIDTH // 2)))
        self.norm = nn.LayerNorm(WIDTH)
        self.extract_a = swin_blocks(4, WIDTH, HEADS, SIDE, HIDDEN)
        self.extract_b = swin_blocks(4, WIDTH, HEADS, SIDE, HIDDEN)
        self.extract_norm_a, self.extract_norm_b = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.fuse = nn.ModuleList(FusionLayer() for _ in range(2))
        self.fuse_norm_a, self.fuse_norm_b = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.join = conv3(2 * WIDTH, WIDTH)
        self.reconstruct = swin_blocks(4, WIDTH, HEADS, SIDE, HIDDEN)
        self.reconstruct_norm = nn.LayerNorm(WIDTH)
        self.last = nn.ModuleList((conv3(WIDTH, WIDTH // 2), conv3(WIDTH // 2, WIDTH // 4), conv3(WIDTH // 4, 1)))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def shallow(self, image: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, H, W, WIDTH)."""
        for conv in self.first:
            image = lrelu(conv(image))
        return self.norm(image.movedim(1, -1))

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        height, width = infrared.shape[-2:]
        border = (0, -width % SIDE, 0, -height % SIDE)
        a, b = (functional.pad(image, border, mode="reflect") for image in (infrared, visible))

        a = self.extract_norm_a(self.extract_a(self.shallow(a)))
        b = self.extract_norm_b(self.extract_b(self.shallow(b)))
        a, b = self.norm(a), self.norm(b)
        for layer in self.fuse:
            a, b = layer(a, b)
        both = torch.cat((self.fuse_norm_a(a), self.fuse_norm_b(b)), dim=-1)
        x = lrelu(self.join(both.movedim(-1, 1)))

        x = self.reconstruct_norm(self.reconstruct(self.norm(x.movedim(1, -1)))).movedim(-1, 1)
        for conv in self.last[:-1]:
            x = lrelu(conv(x))
        return self.last[-1](x)[..., :height, :width]


_KEYS = {
    r"^conv_first1_A\.": "first.0.",
    r"^conv_first2_A\.": "first.1.",
    r"^conv_first1_B\.": "unused.0.",
    r"^conv_first2_B\.": "unused.1.",
    r"^patch_embed\.norm\.": "norm.",
    r"^layers_Ex_A\.0\.residual_group\.blocks\.": "extract_a.",
    r"^layers_Ex_B\.0\.residual_group\.blocks\.": "extract_b.",
    r"^layers_Re\.0\.residual_group\.blocks\.": "reconstruct.",
    r"^layers_Fusion\.(\d)\.residual_group_A\.blocks\.": r"fuse.\1.within_a.",
    r"^layers_Fusion\.(\d)\.residual_group_B\.blocks\.": r"fuse.\1.within_b.",
    r"^layers_Fusion\.(\d)\.residual_group\.blocks\.": r"fuse.\1.across.",
    r"\.(norm1|norm2|attn|mlp)_A\.": r".a.\1.",
    r"\.(norm1|norm2|attn|mlp)_B\.": r".b.\1.",
    r"\.relative_position_bias_table$": ".bias_table",
    r"^norm_Ex_A\.": "extract_norm_a.",
    r"^norm_Ex_B\.": "extract_norm_b.",
    r"^norm_Fusion_A\.": "fuse_norm_a.",
    r"^norm_Fusion_B\.": "fuse_norm_b.",
    r"^norm_Re\.": "reconstruct_norm.",
    r"^conv_after_body_Fusion\.": "join.",
    r"^conv_last1\.": "last.0.",
    r"^conv_last2\.": "last.1.",
    r"^conv_last3\.": "last.2.",
}


def _convert(content: Any, path: Path) -> State:
    # the authors' script takes the weights with this wrapper or without
    wrappers = ("params",) if isinstance(content, Mapping) and "params" in content else ()
    state = renamed(as_state(content, path, *wrappers), path, _KEYS)
    # what follows from the window is stored too: it must fit, but is not loaded
    positions = relative_positions(SIDE)
    for table in [key for key in state if key.endswith(".bias_table")]:
        stored = state.pop(table.removesuffix("bias_table") + "relative_position_index", torch.empty(0))
        if stored.shape != positions.shape or (stored != positions).any():
            raise CheckpointError(f"the checkpoint {path} has other windows than {SIDE}x{SIDE} at {table}.")
    for mask in [key for key in state if key.endswith(".attn_mask")]:
        # for the patches of the training; those for other sizes are computed in any case
        if state.pop(mask).shape[1:] != positions.shape:
            raise CheckpointError(f"the checkpoint {path} has other windows than {SIDE}x{SIDE} at {mask}.")
    return state


def mirrored(image: Tensor) -> Tensor:
    """(C, H, W) continued to the right and below by its mirror image, 1 to 8 pixels, up to a multiple of 8."""
    for axis in (1, 2):
        length = image.shape[axis]
        place = torch.arange((length // SIDE + 1) * SIDE) % (2 * length)
        image = image.index_select(axis, torch.minimum(place, 2 * length - 1 - place))
    return image


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    return mirrored(unit_opencv_gray(infrared)), mirrored(unit_opencv_gray(visible))


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    height, width = infrared.shape[:2]
    return rounded(output[0, :height, :width].numpy() * 255)


METHODS = {"SwinFusion": NetworkMethod(SwinFusion, _prepare, _finish, ("10000_E.pth",), _convert)}
