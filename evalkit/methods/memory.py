"""The most memory that a computation holds, counted on shapes: on PyTorch's meta device nothing is computed."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evalkit.methods.network import NetworkMethod


class MemoryCounter(TorchDispatchMode):
    """Counts the bytes of all tensors that are made within it, as long as they live.

    What an operator needs within itself, for unfolding an image say, is not seen. Fused operators of a device that the
    one at hand does not have take less than what is counted.

    Attributes:
        now: bytes that live.
        peak: the most that ever lived at once.
        largest: the operator and shape at which they did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.largest = ""
        self._living: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for output in tree_leaves(outputs):
            if isinstance(output, Tensor):
                self._add(output, str(func))
        return outputs

    def _add(self, tensor: Tensor, made_by: str) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._living:  # a view, or changed in place
            return

        def free(_: object) -> None:
            del self._living[key]
            self.now -= size

        self._living[key] = weakref.ref(storage, free)
        self.now += size
        if self.now > self.peak:
            self.peak, self.largest = self.now, f"{made_by} {tuple(tensor.shape)}"


def inference_memory(method: NetworkMethod, height: int, width: int) -> int:
    """Bytes that one pair takes at most on its way through a network in float32, inputs included, weights not.

    Args:
        method: the network, whose weights do not matter.
        height, width: of the pair, in pixels.
    """
    gray = np.zeros((height, width), np.uint8)
    shapes = [tensor[None].shape for tensor in method.prepare(gray, gray)]
    network = method.build().to("meta").eval()
    counter = MemoryCounter()
    with torch.inference_mode(), counter:
        network(*(torch.empty(shape, device="meta") for shape in shapes))
    return counter.peak
