"""SemLA: objects lead registration and fusion; the fusion itself is a small auto-encoder and a rule of weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evalkit.methods.checkpoints import CheckpointError, State, as_state
from evalkit.methods.layers.borders import padded
from evalkit.methods.layers.colour import gray_and_luminance, recoloured
from evalkit.methods.layers.keys import renamed
from evalkit.methods.network import NetworkMethod
from evalkit.methods.networks import semla_registration as registration


def _conv_leaky(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), nn.LeakyReLU(0.2))


class SemLA(nn.Module):
    """Xie et al., Semantics lead all: Towards unified image registration and fusion, Information Fusion 98, 2023.

    doi:10.1016/j.inffus.2023.101835. The fusion network: infrared image and luminance of the visible one, aligned, both
    (N, 1, H, W) in [0, 1] -> fused luminance (N, 1, H, W) in [0, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList((_conv_leaky(1, 8), _conv_leaky(8, 8), _conv_leaky(8, 16), _conv_leaky(16, 16)))
        self.decoder = registration.JointBlock(48, 1)
        registration.start_kaiming(self)

    def features(self, image: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 48, H, W), what all four layers give."""
        outputs = [image]
        for layer in self.encoder:
            outputs.append(layer(outputs[-1]))
        return torch.cat(outputs[1:], dim=1)

    def decode(self, features: Tensor) -> Tensor:
        """(N, 48, H, W) -> (N, 1, H, W) in [0, 1]; in training the features of one image."""
        return torch.tanh(self.decoder(features)) / 2 + 0.5

    def forward(self, infrared: Tensor, visible: Tensor, objects: Tensor | None = None) -> Tensor:
        """Both images -> fused.

        Args:
            infrared, visible: (N, 1, H, W) in [0, 1].
            objects: (N, 1, H, W) in [0, 1], where objects are: the infrared image counts there alone. Without it
                both count everywhere, by weights whose sum is 1.2.
        """
        infrared, visible = self.features(infrared), self.features(visible)
        if objects is None:
            return self.decode(0.6 * infrared + 0.6 * visible)
        return self.decode(objects * (0.7 * infrared + 0.6 * visible) + (1 - objects) * visible)


class SemanticSemLA(nn.Module):
    """Both networks on aligned images: the infrared one counts where the registration network sees objects in it.

    Infrared image and luminance of the visible one, both (N, 1, H, W) in [0, 1] -> fused luminance (N, 1, H, W). Sides
    that are not of 8 n, which the published code refuses, are padded by repeating the border.
    """

    def __init__(self) -> None:
        super().__init__()
        self.registration, self.fusion = registration.SemlaRegistration(), SemLA()

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        described = self.describe(infrared, visible)
        objects = registration.enlarged_map(described.infrared_semantic)
        return self.fusion(infrared, visible, objects[..., : infrared.shape[2], : infrared.shape[3]])

    def describe(self, infrared: Tensor, visible: Tensor) -> registration.Described:
        return self.registration(*(padded(image, registration.STRIDE) for image in (visible, infrared)))


class RegisteredSemLA(SemanticSemLA):
    """The authors' whole program: the infrared image is warped to the visible one, then both are fused.

    Args:
        mode: "scene" or "semantic", in matching and in fusion.

    Raises (when run):
        ImageError: too few matches.
    """

    def __init__(self, mode: registration.Mode = "scene") -> None:
        super().__init__()
        self.mode = mode

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        described = self.describe(infrared, visible)
        objects = registration.enlarged_map(described.infrared_semantic)[..., : infrared.shape[2], : infrared.shape[3]]
        if not infrared.is_meta:  # where shapes alone run, to count what the network costs, there is nothing to match
            infrared, objects = self.aligned(described, infrared, objects)
        return self.fusion(infrared, visible, objects if self.mode == "semantic" else None)

    def aligned(self, described: registration.Described, infrared: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Infrared images and their maps of objects, both (N, 1, H, W) in [0, 1], warped to the visible images."""
        moved, moved_objects = torch.empty_like(infrared), torch.empty_like(objects)
        for i in range(len(infrared)):
            one = registration.Described(*(tensor[i : i + 1] for tensor in described))
            plate = registration.ThinPlate(*registration.matches(one, self.mode))
            levels = (infrared[i, 0].cpu().numpy() * 255).round().astype(np.uint8)  # bytes are warped, as published
            moved[i, 0] = torch.from_numpy(plate.warp(levels)).to(infrared) / 255
            moved_objects[i, 0] = torch.from_numpy(plate.warp(objects[i, 0].cpu().numpy())).to(objects)
        return moved, moved_objects


_KEYS = {
    **registration.BLOCK_KEYS,
    **{rf"^fuse{i + 1}\.conv\.": f"encoder.{i}.0." for i in range(4)},
    r"^fuse5\.": "decoder.",
}
HAAR = {"ll": (1, 1, 1, 1), "lh": (1, 1, -1, -1), "hl": (1, -1, 1, -1), "hh": (1, -1, -1, 1)}


def _part(content: Any, path: Path, part: str) -> State:
    """The weights of one of both networks, in a file that may hold both. Raises CheckpointError."""
    state = as_state(content, path)
    if strange := [key for key in state if not key.startswith(("backbone.", "fusion."))]:
        raise CheckpointError(f"the checkpoint {path} holds {strange[0]!r}, which SemLA has not.")
    state = {key.removeprefix(part): value for key, value in state.items() if key.startswith(part)}
    for name, signs in HAAR.items():
        kernel = state.pop(f"dwt.w_{name}", None)
        expected = torch.tensor(signs).reshape(1, 1, 2, 2) / 2
        if kernel is not None and not (kernel.shape == expected.shape and torch.allclose(kernel, expected)):
            raise CheckpointError(f"the checkpoint {path} holds another filter than Haar's, {part}dwt.w_{name}.")
    return state


def _convert(content: Any, path: Path) -> State:
    return renamed(_part(content, path, "fusion."), path, _KEYS)


def _convert_both(content: Any, path: Path, fusion: Any, fusion_path: Path) -> State:
    parts = {
        "registration": renamed(_part(content, path, "backbone."), path, registration.KEYS),
        "fusion": _convert(fusion, fusion_path),
    }
    return {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}


_FUSION = ("SemLA/fusion.ckpt",)
_BOTH = ("SemLA/reg.ckpt", *_FUSION)
METHODS = {
    "SemLA": NetworkMethod(SemLA, gray_and_luminance, recoloured, _FUSION, _convert, reach=6),
    "SemLA-semantic": NetworkMethod(SemanticSemLA, gray_and_luminance, recoloured, _BOTH, _convert_both),
    "SemLA-registered": NetworkMethod(RegisteredSemLA, gray_and_luminance, recoloured, _BOTH, _convert_both),
    "SemLA-registered-semantic": NetworkMethod(
        partial(RegisteredSemLA, "semantic"), gray_and_luminance, recoloured, _BOTH, _convert_both
    ),
}
