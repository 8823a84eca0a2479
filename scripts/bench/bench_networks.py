"""What fusion networks take: memory counted on shapes (`cli.py memory`), processor seconds (`cli.py networks`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import numpy as np
import torch

from evalkit.engine.processes import keeping_large_memory
from evalkit.methods.arithmetic import FLOAT32, Arithmetic
from evalkit.methods.memory import inference_memory
from evalkit.methods.registry import METHODS, method_cards
from evalkit.registry import SHIPPED

Progress = Callable[[Iterable, int, str], Iterable]
SIZES = {"480x640": (480, 640), "1024x1280": (1024, 1280)}
WAYS: dict[str, tuple[Callable[[], AbstractContextManager], Arithmetic]] = {
    "fresh memory": (nullcontext, FLOAT32),  # as PyTorch alone takes its memory
    "kept memory": (keeping_large_memory, FLOAT32),  # as `fuse` does, from pair to pair; all others, too
    "bf16": (keeping_large_memory, Arithmetic("bf16")),
    "channels last": (keeping_large_memory, Arithmetic(channels_last=True)),  # the channels of a pixel together
}


def shipped_networks() -> list[str]:
    """The fusion networks that evalkit has code for, as `evalkit list methods` has them."""
    return [card.name for card in method_cards().values() if card.module and METHODS.origin(card.name) is SHIPPED]


def bench_memory(names: Sequence[str], progress: Progress) -> list[dict[str, Any]]:
    """Per network the most GiB that one pair takes at each size, and the rows around a pixel that it depends on.

    Args:
        names: of networks.
        progress: wraps the networks, given their number and what is done.
    """
    rows = []
    for name in progress(names, len(names), "count"):
        network = METHODS[name].network
        assert network is not None
        method = network()
        counted = {size: inference_memory(method, *sides) / 2**30 for size, sides in SIZES.items()}
        rows.append({"network": name, **counted, "reach": method.reach})
    return rows


def bench_networks(names: Sequence[str], ways: Sequence[str], repeats: int, progress: Progress) -> list[dict[str, Any]]:
    """Per network the processor seconds of one 640x480 pair on one thread, with random weights: median of `repeats`.

    Args:
        names: of networks.
        ways: keys of `WAYS`.
        repeats: runs that are timed.
        progress: wraps the networks, given their number and what is done.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    gray = np.random.default_rng(0).integers(0, 256, (480, 640), dtype=np.uint8)
    rows = []
    try:
        for name in progress(names, len(names), "fuse"):
            network = METHODS[name].network
            assert network is not None
            method = network()
            model, pair = method.build().eval(), [(gray, gray)]
            row = {"network": name}
            for way in ways:
                memory, arithmetic = WAYS[way]
                model = method.placed(model, "cpu", arithmetic)
                with memory():
                    seconds = []
                    for _ in range(1 + repeats):
                        start = time.process_time()
                        list(method.run(model, pair, "cpu", arithmetic))
                        seconds.append(time.process_time() - start)
                row[way] = median(seconds[1:])  # the first one takes the memory
            rows.append(row)
    finally:
        torch.set_num_threads(before)
    return rows
