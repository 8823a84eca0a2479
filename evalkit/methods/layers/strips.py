"""What depends on a few rows alone, computed strip by strip: the same values in less memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LARGE = 2**19  # pixels of a batch from which on maps are computed in strips; 1024x512
STRIP = 2**16  # pixels of a strip, unless its border would be more than half of it
STEP = 4  # strips begin at a multiple, so that two poolings fall on the same pixels as in the whole map


def by_strips(function: Callable[..., Tensor], *maps: Tensor, border: int = 0, out: Tensor | None = None) -> Tensor:
    """`function(*maps)`, by strips of rows where the maps are large and no gradient is asked for.

    Args:
        function: of maps (N, C, H, W), all of one height and width -> (N, C', H, W).
        maps: what it takes.
        border: rows above and below a row that its result depends on.
        out: may hold the result, (N, C', H, W); one of the maps only if there is no border.
    """
    n, _, height, width = maps[0].shape
    if torch.is_grad_enabled() or n * height * width < LARGE:
        return function(*maps)
    before = -(-border // STEP) * STEP
    rows = max(STEP, 2 * before, STRIP // (n * width) // STEP * STEP)
    for top in range(0, height, rows):
        bottom, first = min(top + rows, height), max(0, top - before)
        strip = function(*(x[:, :, first : bottom + before] for x in maps))[:, :, top - first : bottom - first]
        if out is None:
            out = strip.new_empty(n, strip.shape[1], height, width)
        out[:, :, top:bottom] = strip
    assert out is not None
    return out
