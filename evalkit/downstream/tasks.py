"""The tasks that evalkit has."""

from __future__ import annotations

from evalkit.downstream.costs import NetworkCosts
from evalkit.downstream.detection.table import Detection
from evalkit.downstream.saliency.table import Saliency
from evalkit.downstream.segmentation.table import Segmentation
from evalkit.protocols.fusion import Fusion
from evalkit.protocols.tasks import Curves, register_task


def register_shipped() -> None:
    """Register the tasks of the papers' tables and figures."""
    for task in (Fusion(), NetworkCosts(), Detection(), Segmentation(), Saliency(), Curves()):
        register_task(task)
