"""Invertible coupling of two halves of the channels, which loses nothing of the features (CDDFuse, SMFNet)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.methods.layers.strips import by_strips


def inverted_residual(channels: int, expansion: int = 2) -> nn.Sequential:
    """1x1 to more channels, depthwise 3x3 with reflected border, 1x1 back, ReLU6 between, no bias, no residual.

    (N, C, H, W) -> the same shape; sides of at least 2.
    """
    hidden = expansion * channels
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=False),
        nn.ReLU6(),
        nn.Conv2d(hidden, hidden, 3, padding=1, padding_mode="reflect", groups=hidden, bias=False),
        nn.ReLU6(),
        nn.Conv2d(hidden, channels, 1, bias=False),
    )


class InvertibleNode(nn.Module):
    """A 1x1 convolution, then each half of its channels changed by a function of the other: (N, C, H, W) -> the same.

    second' = second + phi(first); first' = first * exp(rho(second')) + eta(second'). The exponent is not bounded.

    Args:
        channels: even; each half has its own three functions, `inverted_residual` of half the channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.shuffle = nn.Conv2d(channels, channels, 1)
        self.phi = inverted_residual(half)
        self.rho = inverted_residual(half)
        self.eta = inverted_residual(half)

    def forward(self, x: Tensor) -> Tensor:
        return by_strips(self._coupled, x, border=2)

    def _coupled(self, x: Tensor) -> Tensor:
        first, second = self.shuffle(x).chunk(2, dim=1)
        second = second + self.phi(first)
        first = first * self.rho(second).exp() + self.eta(second)
        return torch.cat((first, second), dim=1)

    def inverse(self, y: Tensor) -> Tensor:
        """What `forward` made `y` of, as exactly as the 1x1 convolution's matrix can be inverted."""
        first, second = y.chunk(2, dim=1)
        first = (first - self.eta(second)) * (-self.rho(second)).exp()
        second = second - self.phi(first)
        mixed = torch.cat((first, second), dim=1)
        if self.shuffle.bias is not None:
            mixed = mixed - self.shuffle.bias[:, None, None]
        matrix = torch.linalg.inv(self.shuffle.weight[:, :, 0, 0])
        return functional.conv2d(mixed, matrix[:, :, None, None])


class ClampedCoupling(nn.Module):
    """A 1x1 convolution, then the inverse of an affine coupling whose scales lie in (exp(-clamp), exp(clamp)).

    (N, C, H, W) -> the same shape. SMFNet's detail fusion (arXiv:2407.06159, Eqs. 19 and 20) runs it in this direction:
    second' = (second - y(first)) / e(r(first)); first' = (first - f(second')) / e(p(second')), where
    e(s) = exp(2 clamp (sigmoid(s) - 1/2)).

    Args:
        channels: even; each half has its own functions r, y, f, p, `inverted_residual` of half the channels.
        clamp: of the exponent.
    """

    def __init__(self, channels: int, clamp: float = 2.0) -> None:
        super().__init__()
        half = channels // 2
        self.clamp = clamp
        self.shuffle = nn.Conv2d(channels, channels, 1)
        self.r = inverted_residual(half)
        self.y = inverted_residual(half)
        self.f = inverted_residual(half)
        self.p = inverted_residual(half)

    def scale(self, s: Tensor) -> Tensor:
        """e(s), near 1 where s is near 0."""
        return (2 * self.clamp * (s.sigmoid() - 0.5)).exp()

    def couple(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """The direction that SMFNet does not use, which `decouple` undoes: first, then second with the new first."""
        first = self.scale(self.p(second)) * first + self.f(second)
        second = self.scale(self.r(first)) * second + self.y(first)
        return first, second

    def decouple(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Halves of `couple` -> the halves it began with."""
        second = (second - self.y(first)) / self.scale(self.r(first))
        first = (first - self.f(second)) / self.scale(self.p(second))
        return first, second

    def forward(self, x: Tensor) -> Tensor:
        return by_strips(lambda rows: torch.cat(self.decouple(*self.shuffle(rows).chunk(2, dim=1)), dim=1), x, border=2)
