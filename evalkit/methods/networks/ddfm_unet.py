"""The noise estimator of OpenAI's guided diffusion: a U-Net with attention, told how much noise there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Resize = Literal["", "down", "up"]
GROUPS = 32
LONGEST_PERIOD = 10_000


def _silu(x: Tensor) -> Tensor:
    """In the place of what nobody else reads, unless a gradient will ask for it."""
    return functional.silu(x, inplace=not torch.is_grad_enabled())


class ResidualUnit(nn.Module):
    """Two convolutions, the second's norm scaled and shifted by the embedded time; half or twice the size if asked.

    (N, C, H, W), (N, E) -> (N, C', H', W').
    """

    def __init__(self, channels: int, out: int, embedded: int, resize: Resize = "") -> None:
        super().__init__()
        self.resize = resize
        self.norm_in, self.conv_in = nn.GroupNorm(GROUPS, channels), nn.Conv2d(channels, out, 3, padding=1)
        self.embed = nn.Linear(embedded, 2 * out)
        self.norm_out, self.conv_out = nn.GroupNorm(GROUPS, out), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = self.conv_in(self.resized(_silu(self.norm_in(x))))
        scale, shift = self.embed(functional.silu(time))[..., None, None].chunk(2, dim=1)
        inner = self.conv_out(_silu(self.norm_out(inner) * (1 + scale) + shift))
        return self.skip(self.resized(x)) + inner

    def resized(self, x: Tensor) -> Tensor:
        if self.resize == "down":
            return functional.avg_pool2d(x, 2)
        return functional.interpolate(x, scale_factor=2, mode="nearest") if self.resize == "up" else x


class PixelAttention(nn.Module):
    """Self-attention of all pixels, added to them: (N, C, H, W) -> same; the time has no say."""

    def __init__(self, channels: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv, self.project = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        pixels = x.flatten(2)
        heads = (
            self.qkv(self.norm(pixels)).unflatten(1, (-1, 3, self.head)).transpose(3, 4)
        )  # N, heads, 3, pixels, head
        attended = functional.scaled_dot_product_attention(*heads.unbind(2))
        return x + self.project(attended.transpose(2, 3).flatten(1, 2)).view_as(x)


class Timed(nn.ModuleList):
    """Layers one after the other, all told the time."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, time)
        return x


class DiffusionUNet(nn.Module):
    """Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021, arXiv:2105.05233.

    Images (N, 3, H, W), nominally in -1..1, and step numbers (N,) -> (N, 6, H, W): the noise, then a part of its
    variance. Sides are multiples of 2 to the number of levels less one.

    Args:
        width: channels of the first level.
        multipliers: of the width, one a level.
        units: residual ones a level.
        attended: how many times smaller a level is that has attention.
        head: channels of a head of attention.
    """

    def __init__(
        self,
        width: int = 256,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4, 4),
        units: int = 2,
        attended: Sequence[int] = (8, 16, 32),
        head: int = 64,
    ) -> None:
        super().__init__()
        self.width, embedded = width, 4 * width
        self.time = nn.Sequential(nn.Linear(width, embedded), nn.SiLU(), nn.Linear(embedded, embedded))
        channels, last = width * multipliers[0], len(multipliers) - 1
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.encoder, self.decoder, kept = nn.ModuleList(), nn.ModuleList(), [channels]

        def stage(before: int, after: int, level: int, resize: Resize = "") -> Timed:
            layers: list[nn.Module] = [ResidualUnit(before, after, embedded)]
            if 2**level in attended:
                layers.append(PixelAttention(after, head))
            if resize:
                layers.append(ResidualUnit(after, after, embedded, resize))
            return Timed(layers)

        for level, multiplier in enumerate(multipliers):
            for _ in range(units):
                self.encoder.append(stage(channels, width * multiplier, level))
                channels = width * multiplier
                kept.append(channels)
            if level < last:
                self.encoder.append(Timed([ResidualUnit(channels, channels, embedded, "down")]))
                kept.append(channels)
        self.middle = Timed(
            (
                ResidualUnit(channels, channels, embedded),
                PixelAttention(channels, head),
                ResidualUnit(channels, channels, embedded),
            )
        )
        for level in range(last, -1, -1):
            for unit in range(units + 1):
                resize: Resize = "up" if level and unit == units else ""
                self.decoder.append(stage(channels + kept.pop(), width * multipliers[level], level, resize))
                channels = width * multipliers[level]
        self.finish = nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, 6, 3, padding=1))

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        time = self.time(self.embedding(step))
        x = self.first(x)
        kept = [x]
        for layers in self.encoder:
            x = layers(x, time)
            kept.append(x)
        x = self.middle(x, time)
        for layers in self.decoder:
            x = torch.cat((x, kept.pop()), dim=1)  # the smaller of both are gone before the layers begin
            x = layers(x, time)
        return self.finish(x)

    def embedding(self, step: Tensor) -> Tensor:
        """Step numbers (N,) as cosines, then sines, of geometrically growing periods, (N, width)."""
        half = self.width // 2
        places = torch.arange(half, dtype=torch.float32, device=step.device)
        angles = step[:, None].float() * torch.exp(-math.log(LONGEST_PERIOD) * places / half)
        return torch.cat((angles.cos(), angles.sin()), dim=1).to(self.first.weight.dtype)
