"""torchvision beside a torch of another build: the operators that its Python code needs, in torch alone."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch
from torch import Tensor


@functools.cache
def add_operators() -> None:
    """Let torchvision be imported beside a torch of another build (a wheel for CUDA beside a CPU-only torch).

    Its compiled operators do not load then and importing it fails. The two that its Python code registers shapes for
    are declared here, non-maximum suppression with code of its own; the others are not available.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    libraries = sorted(Path(spec.origin).parent.glob("_C*"))
    try:
        for library in libraries:
            if library.suffix in (".so", ".pyd", ".dylib"):
                torch.ops.load_library(str(library))
        return
    except OSError:
        pass
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.library.impl(f"torchvision::{name}", ("CPU", "CUDA"), greedy_nms)
    import torchvision.extension  # cannot be imported before

    torchvision.extension._has_ops = lambda: True


def greedy_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that are kept, by falling score: a box goes when it overlaps a kept one by more.

    Args:
        boxes: (N, 4), x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: intersection over union above which the lower box goes.
    """
    x1, y1, x2, y2 = boxes.float().unbind(1)
    areas = (x2 - x1) * (y2 - y1)
    order = torch.argsort(scores, descending=True, stable=True)
    kept = []
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(best)
        width = (torch.minimum(x2[best], x2[rest]) - torch.maximum(x1[best], x1[rest])).clamp(min=0)
        height = (torch.minimum(y2[best], y2[rest]) - torch.maximum(y1[best], y1[rest])).clamp(min=0)
        common = width * height
        order = rest[common / (areas[best] + areas[rest] - common) <= iou_threshold]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long, device=boxes.device)
