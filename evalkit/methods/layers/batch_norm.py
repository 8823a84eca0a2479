"""Running statistics of BatchNorm where a batch is computed in parts."""

from __future__ import annotations

from torch import nn


def keep_pace(network: nn.Module, parts: int) -> None:
    """Let the running statistics move as far in a step of several parts as in one of a whole batch.

    Args:
        network: changed in place.
        parts: of a batch; each moves the statistics.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** (1 / parts)
