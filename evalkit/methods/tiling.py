"""A pair that does not fit into the memory, computed in parts that overlap: the fused image is the same.

A convolution sees a bounded window. Where that holds for all of a network, each part with a border of that width gives
what the whole image gives in its place. A network with a mean, an attention or a state that runs over the whole image
has no such width, and is not computed in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from evalkit.errors import is_out_of_memory

Apply = Callable[..., Tensor]


class Part(NamedTuple):
    """Rows and columns, first and behind the last."""

    top: int
    bottom: int
    left: int
    right: int

    def halves(self, step: int) -> tuple[Part, Part]:
        """Both halves of the longer side, cut at a multiple of `step`."""
        top, bottom, left, right = self
        if bottom - top >= right - left:
            middle = top + (bottom - top) // 2 // step * step
            return Part(top, middle, left, right), Part(middle, bottom, left, right)
        middle = left + (right - left) // 2 // step * step
        return Part(top, bottom, left, middle), Part(top, bottom, middle, right)

    def widened(self, by: int, step: int, height: int, width: int) -> Part:
        """With a border of at least `by` on multiples of `step`, as far as the image reaches."""
        border = -(-by // step) * step
        return Part(
            max(0, self.top - border),
            min(height, -(-self.bottom // step) * step + border),
            max(0, self.left - border),
            min(width, -(-self.right // step) * step + border),
        )


def in_parts(apply: Apply, inputs: Sequence[Tensor], reach: int, step: int) -> tuple[Tensor, int]:
    """The output of a network that does not take the whole images at once: halves, quarters and so on, as they fit.

    Args:
        apply: the network: inputs (N, C, H, W) -> (N, C', H, W).
        inputs: all of one height and width.
        reach: rows and columns around an output pixel that it depends on at most.
        step: multiple at which parts begin, the largest stride within the network.

    Returns:
        The output on the CPU, and the number of parts.

    Raises:
        RuntimeError: memory ran out for a part that is not larger than its border, or the network's own error.
    """
    height, width = inputs[0].shape[-2:]
    waiting = list(reversed(Part(0, height, 0, width).halves(step)))
    output: Tensor | None = None
    count = 0
    while waiting:
        part = waiting.pop()
        try:
            values = _computed(apply, inputs, part, part.widened(reach, step, height, width))
        except (RuntimeError, MemoryError) as error:
            smaller = part.halves(step)
            if not is_out_of_memory(error) or min(_sides(smaller)) <= max(reach, step):
                raise
            waiting += reversed(smaller)
            continue
        if output is None:
            output = torch.empty(*values.shape[:-2], height, width)
        output[..., part.top : part.bottom, part.left : part.right] = values
        count += 1
    assert output is not None
    return output, count


def _sides(parts: Sequence[Part]) -> Iterator[int]:
    for part in parts:
        yield from (part.bottom - part.top, part.right - part.left)


def _computed(apply: Apply, inputs: Sequence[Tensor], part: Part, wide: Part) -> Tensor:
    values = apply(*(x[..., wide.top : wide.bottom, wide.left : wide.right] for x in inputs))
    rows = slice(part.top - wide.top, part.bottom - wide.top)
    return values[..., rows, part.left - wide.left : part.right - wide.left].float().cpu()
