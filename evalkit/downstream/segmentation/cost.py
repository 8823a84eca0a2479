"""What a network of evalkit's own costs: parameters, multiply-adds of its layers, and of features with features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from evalkit.downstream.segmentation.networks import segmenter
from evalkit.errors import EvalkitError
from evalkit.methods.complexity import HEIGHT, LAYERS, WIDTH, layer_multiply_adds
from evalkit.methods.network import count_parameters


@dataclass(frozen=True)
class SegmenterCost:
    """Cost of a class map.

    Attributes:
        parameters: trainable values, each once, those that serve training alone included.
        layers: multiply-adds of convolutions and linear layers, which is what profilers print.
        products: multiply-adds of features with features (attention, correlations), which profilers leave out.
    """

    parameters: int
    layers: int
    products: int


def segmenter_cost(
    name: str, classes: int = 9, height: int = HEIGHT, width: int = WIDTH, training: bool = False
) -> SegmenterCost:
    """Count without computing, on PyTorch's meta device.

    Args:
        name: of a network in evalkit's own code.
        classes: how many, the background included.
        height, width: of the images, in pixels.
        training: whether what serves training alone runs, too.

    Raises:
        UnknownNameError: no such network.
        EvalkitError: mmsegmentation builds it.
    """
    entry = segmenter(name)
    if entry.network is None:
        raise EvalkitError(f"{name} is built by mmsegmentation: evalkit counts networks in its own code only.")
    system, calls = entry.network(), list[int]()
    with torch.device("meta"):
        network = system.build(classes).eval()
        network.training = training  # of the whole alone: BatchNorm learns nothing from one image
        images = torch.zeros(1, 4 if entry.streams == 2 else 3, height, width)
        inputs = system.prepare(images) if system.prepare else (images,)
    for module in network.modules():
        if isinstance(module, LAYERS):
            module.register_forward_hook(lambda *call: calls.append(layer_multiply_adds(*call)))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(*inputs)
    layers = sum(calls)
    return SegmenterCost(count_parameters(network), layers, counter.get_total_flops() // 2 - layers)
