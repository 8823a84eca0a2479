"""What a network costs: parameters, multiply-adds, seconds per image."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from evalkit.methods.network import NetworkMethod, count_parameters

HEIGHT, WIDTH = 480, 640


@dataclass(frozen=True)
class Complexity:
    """Cost of a network for one pair of 640x480.

    Attributes:
        parameters: trainable values, each once.
        parameters_by_call: the same with parts that run once per modality counted twice, as some tables do.
        multiply_adds: of convolutions and matrix products; PyTorch's counter, which takes a multiply-add for two.
    """

    parameters: int
    parameters_by_call: int
    multiply_adds: int


def complexity(method: NetworkMethod, height: int = HEIGHT, width: int = WIDTH) -> Complexity:
    """Count without computing: shapes alone run through the network, on PyTorch's meta device."""
    gray = np.zeros((height, width), np.uint8)
    inputs = [tensor[None].to("meta") for tensor in method.prepare(gray, gray)]
    network = method.build().to("meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(*inputs)
    parameters = count_parameters(network)
    twice = sum(count_parameters(network.get_submodule(name)) for name in method.per_modality)
    return Complexity(parameters, parameters + twice, counter.get_total_flops() // 2)


def seconds_per_image(
    method: NetworkMethod,
    device: str = "cpu",
    threads: int = 1,
    repeats: int = 3,
    height: int = HEIGHT,
    width: int = WIDTH,
) -> float:
    """Median seconds of the network alone (no reading, no writing) for one pair, after one run to warm up.

    The weights are random: they do not change the time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(0)
        pixels = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
        inputs = [tensor[None].to(device) for tensor in method.prepare(pixels, pixels)]
        network = method.build().to(device).eval()
        times = []
        with torch.inference_mode():
            for _ in range(repeats + 1):
                start = time.perf_counter()
                network(*inputs)
                if device.startswith("cuda"):
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
        return median(times[1:])
    finally:
        torch.set_num_threads(before)
