"""What makes a network a method: how to build it, which files hold its weights, what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evalkit.data.gray import ROUNDED
from evalkit.data.images import to_gray
from evalkit.methods.arithmetic import FLOAT32, Arithmetic
from evalkit.methods.checkpoints import State
from evalkit.methods.tiling import in_parts

Pixels = NDArray[np.uint8]  # (H, W) gray or (H, W, 3) RGB


@dataclass(frozen=True)
class NetworkMethod:
    """A network as a fusion method.

    Attributes:
        build: the network with untrained weights; its forward takes what `prepare` gives, batched, and returns
            (N, C, H, W).
        prepare: (infrared, visible) as stored -> float32 tensors (C, H, W), as the authors' script feeds them.
        finish: (one output (C, H, W), infrared, visible) -> 8-bit fused image, by the authors' rule of rounding,
            stretching and colour.
        files: the names under which the weights are published, all of them needed.
        convert: (content, path) of each of these files, one after the other -> state dict of `build()`.
        per_modality: parts that the authors call once per modality, which some tables therefore count twice.
        reach: rows and columns around a fused pixel that it depends on at most, so that an image that does not fit into
            the memory can be fused in parts; None where that is the whole image, or not known.
        step: the network's largest stride; parts begin at its multiples.
        levels: of networks of gray images whose `finish` only rounds: one output -> gray levels (H, W) before that.
            With it a recoloured result is rounded once, after its colour has come back, and `prepare` is given the
            visible image's luminance as floats.
        revision: raised when the same weights come to give other images: those of another one are made again.
    """

    build: Callable[[], nn.Module]
    prepare: Callable[[Pixels, Pixels], tuple[Tensor, ...]]
    finish: Callable[[Tensor, Pixels, Pixels], Pixels]
    files: tuple[str, ...] = ()
    convert: Callable[..., State] | None = None
    per_modality: tuple[str, ...] = ()
    reach: int | None = None
    step: int = 1
    levels: Callable[[Tensor], NDArray[np.floating]] | None = None
    revision: int = 0

    def placed(self, network: nn.Module, device: str, arithmetic: Arithmetic = FLOAT32) -> nn.Module:
        """The network on a device, its weights in the order that is asked for."""
        layout = {"memory_format": torch.channels_last} if arithmetic.channels_last else {}
        return network.to(device, **layout)  # type: ignore[call-overload]

    def run(
        self,
        network: nn.Module,
        images: Sequence[tuple[Pixels, Pixels]],
        device: str,
        arithmetic: Arithmetic = FLOAT32,
    ) -> Iterator[tuple[Tensor, bool]]:
        """The output of each pair (infrared, visible), all of one size, and whether it is finite.

        Args:
            network: of `build`, with its weights, on `device`.
            images: pairs as stored, uint8 (H, W) or (H, W, 3) RGB.
            device: for the inputs, e.g. "cpu" or "cuda:0".
            arithmetic: how it computes.

        Returns:
            Per pair its output, float32 (C, H, W) on the CPU, for `finish`, and whether all of it is finite.
        """
        prepared = [self.prepare(*pair) for pair in images]
        with torch.inference_mode(), computed_in(arithmetic, device):
            inputs = [laid_out(torch.stack(tensors).to(device), arithmetic) for tensors in zip(*prepared, strict=True)]
            outputs = network(*inputs).float().cpu().contiguous()
        for output in outputs:
            yield output, bool(torch.isfinite(output).all())

    def run_in_parts(
        self, network: nn.Module, pair: tuple[Pixels, Pixels], device: str, arithmetic: Arithmetic = FLOAT32
    ) -> tuple[tuple[Tensor, bool], int]:
        """As `run`, of one pair that does not fit into the memory as a whole; only with a `reach`.

        Args:
            network, device, arithmetic: as for `run`.
            pair: as stored.

        Returns:
            What `run` gives of a pair, and the number of parts.

        Raises:
            RuntimeError: memory ran out for parts that are hardly larger than their border.
        """
        assert self.reach is not None

        def part(*cut: Tensor) -> Tensor:
            return network(*(laid_out(x.to(device), arithmetic) for x in cut)).float()

        with torch.inference_mode(), computed_in(arithmetic, device):
            inputs = [tensor[None] for tensor in self.prepare(*pair)]
            output, parts = in_parts(part, inputs, self.reach, self.step)
        return (output[0], bool(torch.isfinite(output).all())), parts


@contextmanager
def computed_in(arithmetic: Arithmetic, device: str) -> Iterator[None]:
    """Products in this precision, on this device; PyTorch by itself takes TF32 for convolutions."""
    kinds: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [kind.allow_tf32 for kind in kinds]
    try:
        for kind in kinds:
            kind.allow_tf32 = arithmetic.precision == "tf32"
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=arithmetic.precision == "bf16"):
            yield
    finally:
        for kind, allowed in zip(kinds, before, strict=True):
            kind.allow_tf32 = allowed


def laid_out(images: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Images (N, C, H, W) in the order of values in memory that is asked for; other tensors as they are."""
    ordered = arithmetic.channels_last and images.ndim == 4
    return images.contiguous(memory_format=torch.channels_last) if ordered else images


def unit_gray(image: Pixels | NDArray[np.floating], gray: str = ROUNDED) -> Tensor:
    """Gray image as (1, H, W) float32 in [0, 1]; a luminance of floats is not rounded."""
    levels = image if np.issubdtype(image.dtype, np.floating) else to_gray(image, gray)
    return torch.from_numpy(levels.astype(np.float32) / 255)[None]


def unit_gray_pair(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    """Both images as `unit_gray`."""
    return unit_gray(infrared), unit_gray(visible)


def gray_levels(output: Tensor) -> NDArray[np.floating]:
    """(1, H, W) in [0, 1] -> (H, W) in [0, 255], as floats."""
    return output[0].numpy() * 255


def round_levels(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    """`gray_levels`, clipped and rounded to nearest: what many authors' scripts make of one channel in [0, 1]."""
    return rounded(gray_levels(output))


def rounded(values: NDArray) -> Pixels:
    """0..255 floats to bytes: clipped, then rounded to nearest."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def truncated(values: NDArray) -> Pixels:
    """0..255 floats to bytes: clipped, then the fraction cut off."""
    return np.clip(values, 0, 255).astype(np.uint8)


def count_parameters(network: nn.Module) -> int:
    """Trainable values, each tensor once however often it is used."""
    return sum(p.numel() for p in {id(p): p for p in network.parameters()}.values())
