"""What a network costs: parameters, multiply-adds, seconds per image."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from evalkit.methods.network import NetworkMethod, count_parameters

HEIGHT, WIDTH = 480, 640
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True)
class NetworkCost:
    """Cost of a network for one pair of 640x480.

    Attributes:
        parameters: trainable values, each once.
        parameters_by_call: as a widespread profiler counts, and with it SMFNet's Table V: parameters of PyTorch's own
            layers that run, without those that a network's own modules hold (norms over channels, temperatures, bias
            tables); parts that the authors call once per modality counted twice.
        multiply_adds: of convolutions and matrix products; PyTorch's counter, which takes a multiply-add for two.
        of_layers: those of convolutional and linear layers alone, which is what profilers print: products of features
            with features (attention) are not in it.
    """

    parameters: int
    parameters_by_call: int
    multiply_adds: int
    of_layers: int


def layer_multiply_adds(layer: Any, given: tuple[Tensor, ...], output: Tensor) -> int:
    """Of one call of a convolutional or linear layer, with what it was given and what it returned."""
    of_input = isinstance(layer, nn.ConvTranspose2d)  # each value of the input meets each value of a kernel
    positions = (given[0] if of_input else output).numel() // layer.weight.shape[0]
    return int(positions * layer.weight.numel())


def complexity(method: NetworkMethod, height: int = HEIGHT, width: int = WIDTH) -> NetworkCost:
    """Count without computing: shapes alone run through the network, on PyTorch's meta device.

    Args:
        method: the network, whose weights do not matter.
        height, width: of the pair, in pixels.
    """
    gray = np.zeros((height, width), np.uint8)
    inputs = [tensor[None].to("meta") for tensor in method.prepare(gray, gray)]
    network = method.build().to("meta").eval()
    ran: set[nn.Module] = set()
    layers: list[int] = []
    for module in network.modules():
        if type(module).__module__.startswith("torch.nn"):
            module.register_forward_hook(lambda module, *_: ran.add(module))
        if isinstance(module, LAYERS):
            module.register_forward_hook(lambda *call: layers.append(layer_multiply_adds(*call)))
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(*inputs)

    def counted(part: nn.Module) -> int:
        return sum(p.numel() for module in part.modules() if module in ran for p in module.parameters(recurse=False))

    parameters = count_parameters(network)
    # a network that takes its layers' weights without running the layers looks empty to such a profiler
    by_call = counted(network) + sum(counted(network.get_submodule(name)) for name in method.per_modality) or parameters
    return NetworkCost(parameters, by_call, counter.get_total_flops() // 2, sum(layers))


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

    Args:
        method: the network.
        device: cpu, cuda or cuda:N.
        threads: of the CPU.
        repeats: runs that are timed.
        height, width: of the pair, in pixels.
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
