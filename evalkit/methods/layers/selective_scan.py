"""The selective scan of Mamba: a linear recurrence whose coefficients depend on the input.

Gu & Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, 2023, arXiv:2312.00752. For a channel c of
group g, with a state of n values that starts at 0:

    delta_t = softplus(dt_t + bias)
    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t
    y_t = <C_t, h_t> + D u_t

The states of all times would be the largest tensor of a network by far, so time is cut into segments: a segment's
coefficients are computed at once, its states one after the other within them, and only the state between two segments
is kept. The backward pass computes the states of a segment again. Nothing is ever divided by a product of decays:
exp(-sum of delta A) overflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# values of the state, over all times of a segment, that are computed at once
CPU_SEGMENT = 2**18  # what the caches hold
GPU_SEGMENT = 2**26


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
) -> Tensor:
    """The selective scan along the last axis, differentiable once, in float32 (float64 where u is).

    On CUDA the kernel of the package `mamba_ssm` does it where that is installed and agrees with this code.

    Args:
        u: input (N, channels, L).
        dt: step before softplus, the shape of u.
        A: (channels, n), negative.
        B, C: (N, groups, n, L); the channels of a group are neighbours and share them.
        D: (channels,), how much of the input is added to the output; None for none.
        dt_bias: (channels,), added to dt; None for none.

    Returns:
        (N, channels, L) in the dtype of u.
    """
    dtype = u.dtype
    wide = torch.promote_types(dtype, torch.float32)
    u, dt, A, B, C = (x.to(wide) for x in (u, dt, A, B, C))
    D, dt_bias = (None if x is None else x.to(wide) for x in (D, dt_bias))
    kernel = _vendor_kernel(u.device) if u.is_cuda and wide == torch.float32 else None
    return (kernel or _pure)(u, dt, A, B, C, D, dt_bias).to(dtype)


def scan_flops(batch: int, length: int, channels: int, states: int) -> int:
    """Cost of a scan by the convention of the Mamba literature: 9 operations per time, channel and state.

    Args:
        batch: sequences.
        length: times of a sequence.
        channels: of a sequence.
        states: values of the state per channel.
    """
    return 9 * batch * length * channels * states


def _pure(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, dt_bias: Tensor | None) -> Tensor:
    groups = B.shape[1]
    delta = functional.softplus(dt if dt_bias is None else dt + dt_bias[:, None])
    if u.is_meta:  # shapes only: nothing to step through
        y = torch.empty_like(u)
    else:
        u_first, delta_first = (x.unflatten(1, (groups, -1)).permute(3, 0, 1, 2).contiguous() for x in (u, delta))
        B_first, C_first = (x.permute(3, 0, 1, 2).contiguous() for x in (B, C))
        A_last = A.unflatten(0, (groups, -1)).transpose(1, 2).contiguous()
        scanned: Tensor = _Scan.apply(u_first, delta_first, A_last, B_first, C_first)
        y = scanned.permute(1, 2, 3, 0).flatten(1, 2)
    return y if D is None else y + D[:, None] * u


class _Scan(torch.autograd.Function):
    """y_t = <C_t, h_t>, time first: u, delta (L, N, G, d), A (G, n, d), B, C (L, N, G, n) -> (L, N, G, d)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        y = torch.empty_like(u)
        state = A.new_zeros((u.shape[1], *A.shape))
        starts = []
        for part in _segments(u, A):
            starts.append(state)
            _, states = _states(u[part], delta[part], A, B[part], state)
            torch.sum(states * C[part].unsqueeze(-1), dim=-2, out=y[part])
            state = states[-1].clone()
        ctx.save_for_backward(u, delta, A, B, C, *starts)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, *starts = ctx.saved_tensors
        grad_u, grad_delta, grad_B, grad_C = (torch.empty_like(x) for x in (u, delta, B, C))
        grad_A = torch.zeros_like(A)
        later = torch.zeros_like(starts[0])  # what the times after this segment pass back to its last state
        for part, start in reversed(list(zip(_segments(u, A), starts, strict=True))):
            decay, states = _states(u[part], delta[part], A, B[part], start)
            grad_C[part] = (states * grad[part].unsqueeze(-2)).sum(-1)
            grad_states = C[part].unsqueeze(-1) * grad[part].unsqueeze(-2)
            grad_states[-1] += later
            _accumulate_backwards(decay, grad_states)
            later = decay[0] * grad_states[0]
            # h_t = exp(delta A) h_{t-1} + delta B u
            grad_product = decay.mul_(grad_states)
            grad_product[1:] *= states[:-1]
            grad_product[0] *= start
            through_input = (grad_states * B[part].unsqueeze(-1)).sum(-2)
            grad_u[part] = through_input * delta[part]
            grad_delta[part] = through_input * u[part] + (grad_product * A).sum(-2)
            grad_B[part] = (grad_states * (delta[part] * u[part]).unsqueeze(-2)).sum(-1)
            grad_A += (grad_product * delta[part].unsqueeze(-2)).sum((0, 1))
        return grad_u, grad_delta, grad_A, grad_B, grad_C


def _segments(u: Tensor, A: Tensor) -> list[slice]:
    budget = CPU_SEGMENT if u.device.type == "cpu" else GPU_SEGMENT
    length = max(1, budget // (u.shape[1] * A.numel()))
    return [slice(start, min(start + length, len(u))) for start in range(0, len(u), length)]


def _states(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Decays exp(delta A) and states h of a segment, both (time, N, G, n, d)."""
    decay = (delta.unsqueeze(-2) * A).exp_()
    states = B.unsqueeze(-1) * (delta * u).unsqueeze(-2)
    _accumulate(decay, states, start)
    return decay, states


def _accumulate(decay: Tensor, values: Tensor, start: Tensor) -> None:
    """values_t += decay_t * values_{t-1} in place, from `start`; decay stays as it is."""
    chunks = _chunks(values)
    if chunks == 1:
        for factor, value in zip(decay.unbind(), values.unbind(), strict=True):
            start = value.addcmul_(factor, start)
        return
    # many chunks advance at the same time, each from 0; then each gets its share of the state it should have begun with
    whole = len(values) - len(values) % chunks
    local, product = (x[:whole].unflatten(0, (chunks, -1)) for x in (values, decay.clone()))
    for t in range(1, local.shape[1]):
        local[:, t].addcmul_(product[:, t], local[:, t - 1])
        product[:, t] *= product[:, t - 1]
    for values_of_chunk, decay_since_start in zip(local.unbind(), product.unbind(), strict=True):
        values_of_chunk.addcmul_(decay_since_start, start)
        start = values_of_chunk[-1]
    for factor, value in zip(decay[whole:].unbind(), values[whole:].unbind(), strict=True):
        start = value.addcmul_(factor, start)


def _accumulate_backwards(decay: Tensor, values: Tensor) -> None:
    """values_t += decay_{t+1} * values_{t+1} in place, from the last but one to the first."""
    if _chunks(values) == 1:
        factors, parts = decay.unbind(), values.unbind()
        for t in range(len(parts) - 2, -1, -1):
            parts[t].addcmul_(factors[t + 1], parts[t + 1])
        return
    flipped = values.flip(0)
    _accumulate(decay.roll(-1, 0).flip(0), flipped, torch.zeros_like(values[0]))
    values.copy_(flipped.flip(0))


def _chunks(values: Tensor) -> int:
    """How many parts of a segment advance at the same time: one on a CPU, where a single state keeps it busy."""
    return 1 if values.device.type == "cpu" else max(1, math.isqrt(len(values)))


@cache
def _vendor_kernel(device: torch.device) -> Callable[..., Tensor] | None:
    """The scan of `mamba_ssm`; None where it is not installed, fails on this GPU, or gives something else."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # optional
    except Exception:  # a package built for another PyTorch raises more than ImportError
        return None

    def kernel(
        u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, dt_bias: Tensor | None
    ) -> Tensor:
        u, dt, B, C = (x.contiguous() for x in (u, dt, B, C))
        return selective_scan_fn(u, dt, A, B, C, D, delta_bias=dt_bias, delta_softplus=True)

    return kernel if _agrees(kernel, device) else None


def _agrees(kernel: Callable[..., Tensor], device: torch.device) -> bool:
    """Whether a scan gives the values and gradients of this module's own for random input."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    def values_and_gradients(scan: Callable[..., Tensor]) -> list[Tensor]:
        leaves = [x.clone().requires_grad_() for x in inputs]
        y = scan(*leaves)
        return [y.detach(), *torch.autograd.grad((y * weight).sum(), leaves)]

    with torch.inference_mode(False), torch.enable_grad():  # asked for in the middle of fusing, too
        inputs = [noise(2, 8, 70), noise(2, 8, 70), -noise(8, 5).exp(), noise(2, 2, 5, 70), noise(2, 2, 5, 70)]
        inputs += [noise(8), noise(8)]
        weight = noise(2, 8, 70)
        expected = values_and_gradients(_pure)
        try:
            results = values_and_gradients(kernel)
        except Exception:  # a kernel built for another GPU raises whatever its launcher raises
            return False
    return all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))
        for a, b in zip(results, expected, strict=True)
    )
