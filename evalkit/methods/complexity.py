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

from evalkit.methods.layers.windows import WindowAttention
from evalkit.methods.network import NetworkMethod, count_parameters

HEIGHT, WIDTH = 480, 640
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
NORMS = (nn.BatchNorm2d, nn.InstanceNorm2d, nn.LayerNorm)
COUNTED = (*NORMS, nn.PReLU, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Softmax, nn.Upsample, WindowAttention)


@dataclass(frozen=True)
class NetworkCost:
    """Cost of a network for one pair of 640x480.

    Attributes:
        parameters: trainable values, each once.
        parameters_by_call: as a widespread profiler counts, and with it SMFNet's Table V: parameters of PyTorch's own
            layers that run, without those that a network's own modules hold (norms over channels, temperatures, bias
            tables); parts that the authors call once per modality counted twice.
        multiply_adds: of convolutions and matrix products; PyTorch's counter, which takes a multiply-add for two.
        profiled: as the same profiler (thop 0.1.1) counts, and with it SMFNet's Table V: PyTorch's own layers alone, so
            products of features with features (attention) are not in it; see `layer_operations`.
    """

    parameters: int
    parameters_by_call: int
    multiply_adds: int
    profiled: int


def layer_multiply_adds(layer: Any, given: tuple[Tensor, ...], output: Tensor) -> int:
    """Of one call of a convolutional or linear layer, with what it was given and what it returned."""
    of_input = isinstance(layer, nn.ConvTranspose2d)  # each value of the input meets each value of a kernel
    positions = (given[0] if of_input else output).numel() // layer.weight.shape[0]
    return int(positions * layer.weight.numel())


def layer_operations(layer: Any, given: tuple[Tensor, ...], output: Tensor) -> int:
    """Of one call of a layer, as thop counts: a multiply-add is one, and so are other steps on a value.

    Convolutional and linear layers their multiply-adds; a norm two per value, four where it learns a factor; PReLU and
    a mean of fixed size one; a mean over everything one per value of the input and one per value of the output; a
    softmax two and a division per value but for one; a bilinear enlargement eleven; other layers nothing. A transposed
    convolution, which thop takes for a convolution of its output, counts what it computes.

    Args:
        layer: a layer of PyTorch.
        given: its arguments.
        output: its result.
    """
    if isinstance(layer, LAYERS):
        return layer_multiply_adds(layer, given, output)
    if not isinstance(layer, COUNTED):
        return 0
    values = output.numel()
    if isinstance(layer, NORMS):
        learns = layer.elementwise_affine if isinstance(layer, nn.LayerNorm) else layer.affine
        return values * (4 if learns else 2)
    if isinstance(layer, nn.PReLU | nn.AvgPool2d):
        return values
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return given[0].numel() + values
    if isinstance(layer, nn.Softmax):
        return 3 * values - values // output.shape[-1]
    if isinstance(layer, WindowAttention):  # its authors' has a softmax as a layer, ours is fused with the products
        windows, places, _ = given[0].shape
        return windows * layer.heads * places * (3 * places - 1)
    return 11 * values if layer.mode == "bilinear" else 0  # of an enlargement


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
    operations: list[int] = []
    for module in network.modules():
        if type(module).__module__.startswith("torch.nn"):
            module.register_forward_hook(lambda module, *_: ran.add(module))
        module.register_forward_hook(lambda *call: operations.append(layer_operations(*call)))
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(*inputs)

    def counted(part: nn.Module) -> int:
        return sum(p.numel() for module in part.modules() if module in ran for p in module.parameters(recurse=False))

    parameters = count_parameters(network)
    # a network that takes its layers' weights without running the layers looks empty to such a profiler
    by_call = counted(network) + sum(counted(network.get_submodule(name)) for name in method.per_modality) or parameters
    return NetworkCost(parameters, by_call, counter.get_total_flops() // 2, sum(operations))


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
