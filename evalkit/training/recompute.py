"""Activations that are computed again for the gradient instead of being kept: less memory, one forward pass more.

Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174. The gradients are the same to the last
digit: the second pass draws the same random numbers and leaves the running statistics of normalisation alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(segments: Iterable[nn.Module]) -> None:
    """Keep only what goes into each segment and what comes out; what lies between is computed again when needed.

    Args:
        segments: modules; one within another is computed twice again, since the outer one keeps only what goes into it
            and comes out of it. Their parameters and the names of these stay what they are.
    """
    for segment in segments:
        segment.forward = partial(
            checkpoint, segment.forward, use_reentrant=False, context_fn=partial(_contexts, segment)
        )


def _contexts(segment: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _statistics_kept(segment)


@contextmanager
def _statistics_kept(segment: nn.Module) -> Iterator[None]:
    """Batches that were counted once are not counted again."""
    norms = [module for module in segment.modules() if isinstance(module, _BatchNorm)]
    before = [(module.momentum, module.num_batches_tracked) for module in norms]
    for module in norms:
        module.momentum, module.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for module, (momentum, count) in zip(norms, before, strict=True):
            module.momentum, module.num_batches_tracked = momentum, count
