"""Visual information fidelity, VIFP and VIFF: `evalkit.metrics.fusion.vif` and `viff` for batches."""

from __future__ import annotations

import torch
from torch import Tensor

from evalkit.metrics.fusion.vif import EPSILON, MIDDLE, NOISE, SCALES, SMALLEST
from evalkit.metrics.fusion.viff import NOISE as VIFF_NOISE
from evalkit.metrics.fusion.viff import OFFSET, SCALE_WEIGHTS, USED
from evalkit.metrics.image import once
from evalkit.metrics.torch.batch import Batch, BatchPair, Values, added, total
from evalkit.metrics.torch.filters import gaussian_weights, inside

KERNELS = {scale: gaussian_weights(side, side / 5) for scale in SCALES for side in (2 ** (5 - scale) + 1,)}


@once
def at_scale(batch: Batch, scale: int) -> Tensor:
    """The images at a scale: smoothed with that scale's window and halved, from the scale before."""
    if scale == 1:
        return batch.x - MIDDLE
    return inside(at_scale(batch, scale - 1), KERNELS[scale])[:, ::2, ::2].contiguous()


@once
def moments(batch: Batch, scale: int) -> tuple[Tensor, Tensor]:
    """Local mean and variance (never negative, 0 below 1e-10) at a scale."""
    x = at_scale(batch, scale)
    mean = inside(x, KERNELS[scale])
    variance = inside(x.square(), KERNELS[scale]).addcmul_(mean, mean, value=-1)
    return mean, torch.nn.functional.threshold(variance, EPSILON, 0, inplace=True)


def _covariance(fused: Batch, source: Batch, scale: int) -> Tensor:
    product = inside(at_scale(fused, scale) * at_scale(source, scale), KERNELS[scale])
    return product.addcmul_(moments(fused, scale)[0], moments(source, scale)[0], value=-1)


@once
def _source_parts(source: Batch, scale: int) -> tuple[Tensor, Tensor]:
    """1 / (v + 1e-10) of the local variance v (0 where v is 0), and sum ln(1 + v / sigma_n^2)."""
    variance = moments(source, scale)[1]
    inverse = (variance + EPSILON).reciprocal_().masked_fill_(variance == 0, 0)
    return inverse, total((variance / NOISE).log1p_())


@once
def vifp(fused: Batch, source: Batch) -> Values:
    """VIFP of the fused images against one source; undefined where the source is constant."""
    fused.need(SMALLEST, "VIF needs")
    information = added(_source_parts(source, scale)[1] for scale in SCALES)
    kept = added(_kept(fused, source, scale) for scale in SCALES)
    return Values(kept / information, ((source.constant, f"VIF is 0/0: the {source.name} image is constant"),))


def _kept(fused: Batch, source: Batch, scale: int) -> Tensor:
    """sum ln(1 + g^2 v_s / (v + sigma_n^2)), g the local gain and v what the gain leaves unexplained of the fused."""
    variance_f = moments(fused, scale)[1]
    inverse, _ = _source_parts(source, scale)
    covariance = _covariance(fused, source, scale).clamp_(min=0)  # a negative gain keeps nothing
    covariance.masked_fill_(variance_f == 0, 0)
    explained = covariance.square_().mul_(inverse)  # g times the covariance
    unexplained = (variance_f - explained).clamp_(min=EPSILON).add_(NOISE)
    # v_s / (v_s + 1e-10) = 1 - 1e-10 / (v_s + 1e-10): g^2 v_s
    explained.addcmul_(inverse, explained, value=-EPSILON).div_(unexplained)
    return total(explained.log1p_())


# --- VIFF -------------------------------------------------------------------------------------------------------


@once
def source_information(source: Batch, scale: int) -> Tensor:
    """Information of the source that reaches the eye, per window, in decimal digits."""
    return torch.log10(1 + moments(source, scale)[1] / VIFF_NOISE)


def gain_and_kept_information(fused: Batch, source: Batch, scale: int) -> tuple[Tensor, Tensor]:
    """Local gain g >= 0 of fused = g source + noise, and the source's information that the fused image keeps."""
    variance_f, variance_s = moments(fused, scale)[1], moments(source, scale)[1]
    covariance = _covariance(fused, source, scale)
    gain = covariance / (variance_s + EPSILON)
    gain.masked_fill_((variance_s == 0) | (variance_f == 0) | (gain < 0), 0)
    unexplained = (variance_f - gain * covariance).clamp_(min=EPSILON)
    return gain, torch.log10(1 + gain * gain * variance_s / (unexplained + VIFF_NOISE))


def viff(pair: BatchPair) -> Values:
    """VIFF; undefined where a source is constant."""
    pair.fused.need(SMALLEST, "VIFF needs")
    value = torch.zeros(len(pair.fused.pixels), dtype=torch.float64, device=pair.fused.pixels.device)
    for scale in USED:
        gain_a, kept_a = gain_and_kept_information(pair.fused, pair.infrared, scale)
        gain_b, kept_b = gain_and_kept_information(pair.fused, pair.visible, scale)
        follows_a_less = gain_a < gain_b
        kept = torch.where(follows_a_less, kept_a, kept_b)
        information_a, information_b = (source_information(source, scale) for source in pair.sources)
        present = torch.where(follows_a_less, information_a, information_b)
        offset = OFFSET * kept[0].numel()
        value += SCALE_WEIGHTS[scale] * (total(kept) + offset) / (total(present) + offset)
    constant = [(source.constant, f"VIFF is 0/0: the {source.name} image is constant") for source in pair.sources]
    return Values(value, tuple(constant))
