"""Costs of networks: of fusion, and of segmentation from both images, which feature-level fusion is."""

from __future__ import annotations

import importlib.util

from evalkit.downstream.segmentation.networks import network_of_row
from evalkit.protocols.cost import Complexity
from evalkit.protocols.tasks import Job


class NetworkCosts(Complexity):
    """Cost tables whose rows are fusion networks or segmentation networks of two streams, in evalkit's own code."""

    def missing(self, job: Job, method: str) -> str:
        """Why a row's network cannot be counted here; empty where it can."""
        if super().missing(job, method) and network_of_row(method):
            torch = importlib.util.find_spec("torch")
            return "" if torch else "needs PyTorch: pip install 'evalkit[networks]'"
        return super().missing(job, method)

    def costs(self, job: Job, method: str) -> tuple[dict[str, float], str]:
        """Multiply-adds and parameters of a row's network, of fusion networks seconds; or why there are none."""
        name = network_of_row(method)
        if not name or not super().missing(job, method):
            return super().costs(job, method)
        if reason := self.missing(job, method):
            return {}, reason
        from evalkit.downstream.segmentation.cost import segmenter_cost  # PyTorch, without which other tables are made

        cost = segmenter_cost(name)
        return {"FLOPs": cost.layers + cost.products, "Params": cost.parameters}, "seconds are of fusion networks alone"
