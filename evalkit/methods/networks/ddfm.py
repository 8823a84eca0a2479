"""DDFM: images sampled from a diffusion model, whose luminance is drawn to both sources at every step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from evalkit.data.images import to_gray
from evalkit.methods.checkpoints import State
from evalkit.methods.layers.borders import padded
from evalkit.methods.layers.keys import renamed
from evalkit.methods.layers.luminance import luminance
from evalkit.methods.layers.pixels import stretched
from evalkit.methods.network import NetworkMethod, Pixels, rounded
from evalkit.methods.networks.ddfm_unet import DiffusionUNet

TRAINED_STEPS, STEPS, SEED = 1000, 100, 3407
MULTIPLE = 32  # of both sides, in pixels
WEIGHT, PENALTY = 0.5, 0.001  # lambda and rho of the paper
# scikit-image's YCbCr: luminance in 16..235 where red, green and blue are in 0..1
TO_YCBCR = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
OFFSETS = (16.0, 128.0, 128.0)


class Hidden(NamedTuple):
    """What one likelihood step leaves to the next."""

    horizontal: Tensor | float = 0.0  # gradients of the smooth difference, (N, 1, H, W)
    vertical: Tensor | float = 0.0
    first: Tensor | float = 1.0  # scales of the two Laplace distributions, (N, 1, 1, 1)
    second: Tensor | float = 1.0


class Likelihood(NamedTuple):
    """The result of an expectation-maximisation step, its weights and its smooth difference, (N, 1, H, W) each."""

    fused: Tensor
    first: Tensor
    second: Tensor
    smooth: Tensor
    hidden: Hidden


def likelihood(a: Tensor, b: Tensor, estimate: Tensor, hidden: Hidden) -> Likelihood:
    """One step of the hierarchical Bayesian model (section 3.4 of the paper), as the published code has it.

    With x = f - b one expects b + x as the result; the code gives a - x, which mirrors f between the sources.

    Args:
        a, b: the sources, (N, 1, H, W) in -1..1.
        estimate: f, the luminance that is to be drawn to them, (N, 1, H, W).
        hidden: of the step before; `Hidden()` at first.
    """
    y, x = a - b, estimate - b
    second = (2 / (hidden.second * (x**2 + 1e-6))).sqrt()
    first = (2 / (hidden.first * (y - x + 1e-6) ** 2)).sqrt()
    second = torch.minimum(second, 2 * first)
    scales = [
        (1 / (weights + 1e-10) + scale / 2).mean(dim=(1, 2, 3), keepdim=True)
        for weights, scale in ((first, hidden.first), (second, hidden.second))
    ]
    smooth = _smooth(y - x, hidden)
    shrink = PENALTY / (2 * WEIGHT + PENALTY)
    horizontal = shrink * (smooth - functional.pad(smooth[..., 1:], (0, 1)))  # 0 beyond the border
    vertical = shrink * (smooth - functional.pad(smooth[..., 1:, :], (0, 0, 0, 1)))
    x = (2 * first * y + PENALTY * (y - smooth)) / (2 * first + 2 * second + PENALTY)
    return Likelihood(a - x, first, second, smooth, Hidden(horizontal, vertical, *scales))


def _smooth(target: Tensor, hidden: Hidden) -> Tensor:
    """argmin_h ||h - target||^2 + ||dh - gradients||^2, differences that go round."""
    spectrum, power = torch.fft.fft2(target), torch.ones((), dtype=target.dtype, device=target.device)
    for axis, gradients in ((-1, hidden.horizontal), (-2, hidden.vertical)):
        size = target.shape[axis]
        kernel = torch.zeros(size, dtype=target.dtype, device=target.device)
        kernel[0] -= 1
        kernel[-1] += 1
        transfer = torch.fft.fft(kernel).reshape((1, size) if axis == -1 else (size, 1))
        power = power + transfer.abs() ** 2
        if isinstance(gradients, Tensor):
            spectrum = spectrum + transfer.conj() * torch.fft.fft2(gradients)
    return torch.fft.ifft2(spectrum / power).real


def with_likelihood(rgb: Tensor, a: Tensor, b: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
    """Images (N, 3, H, W) in -1..1 with their luminance drawn to the sources; what comes back is not clamped.

    The conversion is meant for 0..1, so this luminance is in -.80 .. .92, and has an offset of 16 / 255.
    """
    matrix = torch.tensor(TO_YCBCR, dtype=torch.float64, device=rgb.device)
    offsets = torch.tensor(OFFSETS, dtype=torch.float64, device=rgb.device)[:, None, None]
    ycbcr = (torch.einsum("ij,njhw->nihw", matrix, rgb.double()) + offsets) / 255
    step = likelihood(a, b, ycbcr[:, :1].to(rgb.dtype), hidden)
    ycbcr = torch.cat((step.fused.double(), ycbcr[:, 1:].to(rgb.dtype).double()), dim=1)
    return torch.einsum("ij,njhw->nihw", matrix.inverse(), 255 * ycbcr - offsets).to(rgb.dtype), step.hidden


def schedule(steps: int) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """The steps kept of the 1000 trained ones, and the share of the image's variance that is left at each, (steps,)."""
    left = np.cumprod(1 - np.linspace(1e-4, 0.02, TRAINED_STEPS, dtype=np.float64))
    kept = np.rint(np.arange(steps) * (TRAINED_STEPS - 1) / max(1, steps - 1)).astype(np.int64)
    return kept, left[kept]


def sample(noise: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, x: Tensor, steps: int) -> list[Tensor]:
    """The image (N, 3, H, W) after every step, the last one fused. DDIM (Song et al. 2021, arXiv:2010.02502), eta 0.

    Args:
        noise: (x, step numbers (N,)) -> at least three channels, the first three the noise in x.
        a, b: the sources, (N, 1, H, W) in -1..1.
        x: the start, (N, 3, H, W), standard normal.
        steps: how many of the trained ones are taken.
    """
    numbers, left = schedule(steps)
    before, hidden, images = np.append(1.0, left[:-1]), Hidden(), []
    for index in range(steps - 1, -1, -1):
        grown, ratio = float(np.sqrt(1 / left[index])), float(np.sqrt(1 / left[index] - 1))
        number = torch.full((len(x),), int(numbers[index]), device=x.device)
        clean = (grown * x - ratio * noise(x, number)[:, :3]).clamp(-1, 1)
        clean, hidden = with_likelihood(clean, a, b, hidden)
        again = (grown * x - clean) / ratio
        x = float(np.sqrt(before[index])) * clean + float(np.sqrt(1 - before[index])) * again
        images.append(x)
    return images


class DDFM(nn.Module):
    """Zhao et al., DDFM: Denoising Diffusion Model for Multi-Modality Image Fusion, ICCV 2023, arXiv:2303.06840.

    The visible image first and the infrared one, (N, 1, H, W) in -1..1 -> the sample (N, 3, H, W), nominally in -1..1.
    Nothing is trained: the weights are a diffusion model's. Every image starts from the same random numbers, drawn on
    the processor. Sides that are no multiples of 32, at which the published code cuts off the rest, are padded by
    repeating the border.

    Args:
        steps: of sampling.
        unet: of `DiffusionUNet`; OpenAI's 256x256 model unless others are given.
    """

    def __init__(self, steps: int = STEPS, **unet: Any) -> None:
        super().__init__()
        self.steps, self.denoiser = steps, DiffusionUNet(**unet)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        height, width = visible.shape[2:]
        a, b = padded(visible, MULTIPLE), padded(infrared, MULTIPLE)
        start = torch.randn((1, 3, *a.shape[2:]), generator=torch.Generator().manual_seed(SEED))
        x = start.to(a).expand(len(a), -1, -1, -1)
        return sample(self.denoiser, a, b, x, self.steps)[-1][..., :height, :width]


def _prepare(infrared: Pixels, visible: Pixels) -> tuple[Tensor, Tensor]:
    a, b = (torch.from_numpy(to_gray(image).astype(np.float32) / 255)[None] * 2 - 1 for image in (visible, infrared))
    return a, b


def stretched_luminance(output: Tensor) -> NDArray:
    """The luminance of a sample (3, H, W), from its minimum to its maximum stretched to 0..255, (H, W)."""
    return 255 * stretched(luminance(output[None])[0, 0].numpy())


def _finish(output: Tensor, infrared: Pixels, visible: Pixels) -> Pixels:
    return rounded(stretched_luminance(output))


_KEYS = {
    r"^time_embed\.": "denoiser.time.",
    r"^input_blocks\.0\.0\.": "denoiser.first.",
    r"^middle_block\.": "denoiser.middle.",
    r"^output_blocks\.": "denoiser.decoder.",
    r"^out\.": "denoiser.finish.",
    r"\.in_layers\.0\.": ".norm_in.",
    r"\.in_layers\.2\.": ".conv_in.",
    r"\.emb_layers\.1\.": ".embed.",
    r"\.out_layers\.0\.": ".norm_out.",
    r"\.out_layers\.3\.": ".conv_out.",
    r"\.skip_connection\.": ".skip.",
    r"\.proj_out\.": ".project.",
    **{rf"^input_blocks\.{i}\.": f"denoiser.encoder.{i - 1}." for i in range(1, 40)},
}


def _convert(content: Any, path: Path) -> State:
    return renamed(content, path, _KEYS)


def method(steps: int = STEPS, **unet: Any) -> NetworkMethod:
    """DDFM with a diffusion model of OpenAI's form, of any size.

    Args:
        steps, unet: as `DDFM` takes them.
    """
    files = ("256x256_diffusion_uncond.pt",)
    return NetworkMethod(partial(DDFM, steps, **unet), _prepare, _finish, files, _convert)


METHODS = {"DDFM": method()}
