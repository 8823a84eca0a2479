"""Normalisation by what is in front of the layer, never by what was stored in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CurrentNorm(nn.Module):
    """TensorFlow's `contrib.layers.batch_norm` as it runs where nobody told it that training is over.

    In training mode the statistics are the batch's. In evaluation mode they are those of each image by itself: the
    authors' scripts fuse one image at a time, so to them both are the same. Nothing is stored.

    Args:
        channels: channels of the features.
        affine: learn a scale and an offset per channel.
        epsilon: added to the variance.
        overwrite: without a gradient, the result takes the place of the features, which nobody else reads.
    """

    def __init__(self, channels: int, affine: bool = True, epsilon: float = 1e-5, overwrite: bool = False) -> None:
        super().__init__()
        self.overwrite = overwrite
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape; a single pixel becomes the offset."""
        variance, mean = torch.var_mean(x, (0, 2, 3) if self.training else (2, 3), correction=0, keepdim=True)
        scale = torch.rsqrt(variance + self.epsilon)
        if self.weight is not None:
            scale = scale * self.weight[:, None, None]
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias[:, None, None]
        out = x if self.overwrite and not torch.is_grad_enabled() else None
        return torch.addcmul(shift, x, scale, out=out)  # one copy of the features instead of three


def conv_current_norm(
    channels_in: int, channels_out: int, size: int, padding: int, affine: bool = True
) -> nn.Sequential:
    """Convolution, `CurrentNorm`, leaky ReLU of slope .2.

    The norm subtracts whatever the convolution's bias adds, so that bias has no effect. It stays because the authors'
    networks have it.

    Args:
        channels_in, channels_out: C and C' of the features.
        size: of the kernel.
        padding: zeros around the features, in pixels.
        affine: the norm has a factor and a summand per channel.
    """
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, padding=padding),
        CurrentNorm(channels_out, affine, overwrite=True),
        nn.LeakyReLU(0.2),
    )
