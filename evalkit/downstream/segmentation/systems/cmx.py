"""CMX (Zhang et al. 2023, doi:10.1109/TITS.2023.3300537): two Mix Transformers that rectify each other at four scales.

The published program reads images with their channels in the order blue, green, red and normalises them with
ImageNet's statistics of red, green, blue; its weights were trained so, and `prepare` does so, too. The infrared image
is repeated three times and gets the same statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.downstream.segmentation.system import SegmentationSystem, Tensors, imagenet
from evalkit.methods.checkpoints import State, as_state
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.mit import MIT_B2, MIT_B4, MIT_HEADS, MIT_WIDTHS, MixTransformer, as_map, start, tokens
from evalkit.methods.layers.mit_names import AUTHORS_FIRST, in_form_of

HEAD = 512  # channels of the decoder


class Rectification(nn.Module):
    """Each modality gets half of the other one, weighed by channel, and half weighed by place (FRM)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        both = 2 * channels
        self.channel = nn.Sequential(nn.Linear(2 * both, 2 * both), nn.ReLU(), nn.Linear(2 * both, both), nn.Sigmoid())
        self.place = nn.Sequential(nn.Conv2d(both, channels, 1), nn.ReLU(), nn.Conv2d(channels, 2, 1), nn.Sigmoid())

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([visible, infrared], dim=1)
        weights = self.channel(torch.cat([both.mean(dim=(2, 3)), both.amax(dim=(2, 3))], dim=1))
        of_visible, of_infrared = weights[..., None, None].chunk(2, dim=1)
        at_visible, at_infrared = self.place(both).chunk(2, dim=1)
        return (
            visible + 0.5 * of_infrared * infrared + 0.5 * at_infrared * infrared,
            infrared + 0.5 * of_visible * visible + 0.5 * at_visible * visible,
        )


class Exchange(nn.Module):
    """Half of each modality's tokens is seen through what the other half of the other one holds, and added."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.split = nn.ModuleList(nn.Linear(channels, 2 * channels) for _ in range(2))
        self.kv = nn.ModuleList(nn.Linear(channels, 2 * channels, bias=False) for _ in range(2))
        self.end = nn.ModuleList(nn.Linear(2 * channels, channels) for _ in range(2))
        self.norm = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, H W, C) of both modalities -> the same."""
        (kept1, seen1), (kept2, seen2) = (
            functional.relu(split(x)).chunk(2, dim=-1) for split, x in zip(self.split, (visible, infrared), strict=True)
        )
        context1, context2 = self._context(0, seen1), self._context(1, seen2)
        seen1, seen2 = self._through(seen1, context2), self._through(seen2, context1)
        return (
            self.norm[0](visible + self.end[0](torch.cat([kept1, seen1], dim=-1))),
            self.norm[1](infrared + self.end[1](torch.cat([kept2, seen2], dim=-1))),
        )

    def _context(self, modality: int, x: Tensor) -> Tensor:
        key, value = (self._by_head(part) for part in self.kv[modality](x).chunk(2, dim=-1))
        return (key.transpose(-2, -1) @ value * key.shape[-1] ** -0.5).softmax(dim=-2)

    def _through(self, x: Tensor, context: Tensor) -> Tensor:
        return (self._by_head(x) @ context).transpose(1, 2).flatten(2)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeatureFusion(nn.Module):
    """Both modalities' maps, exchanged, as one map of as many channels (FFM)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.exchange = Exchange(channels, heads)
        self.residual = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.embed = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        both = torch.cat(self.exchange(tokens(visible), tokens(infrared)), dim=-1)
        x = as_map(both, visible.shape[-2:])
        return self.norm(self.residual(x) + self.embed(x))


class MlpDecoder(nn.Module):
    """SegFormer's head: four maps, each through a linear layer, at the size of the first one -> logits there."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Conv2d(width, HEAD, 1) for width in widths)
        self.fuse = nn.Sequential(nn.Conv2d(len(widths) * HEAD, HEAD, 1), nn.BatchNorm2d(HEAD), nn.ReLU())
        self.dropout = nn.Dropout2d(0.1)
        self.classify = nn.Conv2d(HEAD, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        maps = [linear(x) for linear, x in zip(self.linear, features, strict=True)]
        size = maps[0].shape[-2:]
        maps = [functional.interpolate(x, size, mode="bilinear", align_corners=False) for x in maps]
        return self.classify(self.dropout(self.fuse(torch.cat(maps[::-1], dim=1))))


class CMX(nn.Module):
    """(N, 3, H, W) visible and (N, 3, H, W) infrared, as `prepare` gives them -> logits (N, classes, H, W)."""

    def __init__(self, classes: int, depths: Sequence[int] = MIT_B2, widths: Sequence[int] = MIT_WIDTHS) -> None:
        super().__init__()
        self.rectify = nn.ModuleList(Rectification(width) for width in widths)
        self.fusion = nn.ModuleList(FeatureFusion(*pair) for pair in zip(widths, MIT_HEADS, strict=True))
        self.head = MlpDecoder(widths, classes)
        start(self)
        nn.init.normal_(self.head.classify.weight, std=0.01)  # logits start near zero
        self.visible, self.infrared = MixTransformer(depths, widths), MixTransformer(depths, widths)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        size, fused = visible.shape[-2:], []
        for i, (rectify, fusion) in enumerate(zip(self.rectify, self.fusion, strict=True)):
            visible, infrared = rectify(self.visible.stage(i, visible), self.infrared.stage(i, infrared))
            fused.append(fusion(visible, infrared))
        return functional.interpolate(self.head(fused), size, mode="bilinear", align_corners=False)


def prepare(images: Tensor) -> Tensors:
    """(N, 4, H, W) in 0..255 -> blue, green, red and the infrared image three times, both by ImageNet's statistics."""
    return imagenet(images[:, :3].flip(1)), imagenet(images[:, 3:].expand(-1, 3, -1, -1))


CHANGES = {
    r"^backbone\.extra_(patch_embed|block|norm)": r"infrared.\1",
    r"^backbone\.(patch_embed|block|norm)": r"visible.\1",
    r"^backbone\.FRMs\.(\d)\.channel_weights\.mlp\.": r"rectify.\1.channel.",
    r"^backbone\.FRMs\.(\d)\.spatial_weights\.mlp\.": r"rectify.\1.place.",
    r"^backbone\.FFMs\.(\d)\.cross\.": r"fusion.\1.exchange.",
    r"^backbone\.FFMs\.(\d)\.channel_emb\.channel_embed\.": r"fusion.\1.embed.",
    r"^backbone\.FFMs\.(\d)\.channel_emb\.": r"fusion.\1.",
    r"\.channel_proj1\.": ".split.0.",
    r"\.channel_proj2\.": ".split.1.",
    r"\.cross_attn\.kv1\.": ".kv.0.",
    r"\.cross_attn\.kv2\.": ".kv.1.",
    r"\.end_proj1\.": ".end.0.",
    r"\.end_proj2\.": ".end.1.",
    r"\.exchange\.norm1\.": ".exchange.norm.0.",
    r"\.exchange\.norm2\.": ".exchange.norm.1.",
    **{rf"^decode_head\.linear_c{i + 1}\.proj\.": f"head.linear.{i}." for i in range(4)},
    r"^decode_head\.linear_fuse\.": "head.fuse.",
    r"^decode_head\.linear_pred\.": "head.classify.",
}


def convert(content: Any, path: Path) -> State:
    """The published names as those of `CMX`; linear layers of the head become 1x1 kernels. Raises CheckpointError."""
    state = renamed(content, path, CHANGES)
    linear = {key for key in state if key.startswith("head.linear.") and state[key].ndim == 2}
    return {key: value[..., None, None] if key in linear else value for key, value in state.items()}


def pretrained(content: Any, path: Path) -> State:
    """SegFormer's weights of ImageNet, in either published form, for both encoders; the classifier is left out.

    Raises:
        CheckpointError: not a state dict, or tensors of other shapes.
    """
    state = in_form_of(AUTHORS_FIRST, as_state(content, path), path)
    return {f"{part}.{key}": value for key, value in state.items() for part in ("visible", "infrared")}


ENCODERS = ("visible.", "infrared.")
SYSTEMS = {
    "CMX-B2": SegmentationSystem(partial(CMX, depths=MIT_B2), prepare, 32, convert, ENCODERS, pretrained),
    "CMX-B4": SegmentationSystem(partial(CMX, depths=MIT_B4), prepare, 32, convert, ENCODERS, pretrained),
}
