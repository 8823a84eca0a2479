"""Ranger: RAdam, Lookahead and centralised gradients together, with which EGFNet and LASNet were trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Ranger(torch.optim.RAdam):
    """RAdam on gradients without their mean, and every few steps back towards where the weights were.

    RAdam: Liu et al., ICLR 2020; Lookahead: Zhang et al., NeurIPS 2019; centralised gradients: Yong et al., ECCV 2020.
    The weights decay beside the gradient.

    Args:
        params: as of `torch.optim.RAdam`.
        lr: rate.
        betas, eps, weight_decay: as of `torch.optim.RAdam`; the defaults are those of the authors' program.
        steps: of RAdam between two looks back.
        share: of the way from where the weights were that is kept then.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        steps: int = 6,
        share: float = 0.5,
    ) -> None:
        self.steps, self.share = steps, share
        super().__init__(params, lr, (betas[0], betas[1]), eps, weight_decay, decoupled_weight_decay=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. Args: closure: as of `torch.optim.RAdam`."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        learning = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = {p: p.clone() for p in learning if p not in self.state}  # where Lookahead starts
        for p in learning:
            if p.ndim > 1:
                p.grad.sub_(p.grad.mean(dim=tuple(range(1, p.ndim)), keepdim=True))
        super().step()
        for p in learning:
            self._look_back(p, self.state[p], before.get(p))
        return result

    def _look_back(self, p: Tensor, state: dict[str, Any], start: Tensor | None) -> None:
        if start is not None:
            state["slow"] = start
        if int(state["step"]) % self.steps == 0:
            state["slow"].lerp_(p, self.share)
            p.copy_(state["slow"])
