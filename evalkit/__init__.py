"""Regenerate the tables of infrared-visible image fusion papers, and see where they hold."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalkit.catalogue import list_datasets, list_methods, list_metrics, list_protocols
    from evalkit.data.card import register_dataset
    from evalkit.downstream.detection.recipe import register_detector
    from evalkit.downstream.segmentation.networks import register_segmenter
    from evalkit.errors import EvalkitError
    from evalkit.leaderboards.audit import audit
    from evalkit.leaderboards.paired import compare
    from evalkit.leaderboards.report.write import report
    from evalkit.leaderboards.run_values import rank
    from evalkit.methods.registry import register_method
    from evalkit.methods.saliency.registry import register_saliency
    from evalkit.metrics.evaluate import evaluate
    from evalkit.metrics.folders import evaluate_folder
    from evalkit.metrics.image import UndefinedError
    from evalkit.metrics.registry import metric, register_convention
    from evalkit.metrics.saliency import saliency
    from evalkit.protocols.run import benchmark, reproduce
    from evalkit.protocols.schema import register_protocol
    from evalkit.protocols.table.table import Table, read_table
    from evalkit.protocols.tasks import Task, register_task
    from evalkit.training.find_recipe import register_recipe
    from evalkit.training.system import register_system

_HOME = {
    "EvalkitError": "evalkit.errors",
    "Table": "evalkit.protocols.table.table",
    "Task": "evalkit.protocols.tasks",
    "UndefinedError": "evalkit.metrics.image",
    "audit": "evalkit.leaderboards.audit",
    "benchmark": "evalkit.protocols.run",
    "compare": "evalkit.leaderboards.paired",
    "evaluate": "evalkit.metrics.evaluate",
    "evaluate_folder": "evalkit.metrics.folders",
    "list_datasets": "evalkit.catalogue",
    "list_methods": "evalkit.catalogue",
    "list_metrics": "evalkit.catalogue",
    "list_protocols": "evalkit.catalogue",
    "metric": "evalkit.metrics.registry",
    "rank": "evalkit.leaderboards.run_values",
    "read_table": "evalkit.protocols.table.table",
    "register_convention": "evalkit.metrics.registry",
    "register_dataset": "evalkit.data.card",
    "register_detector": "evalkit.downstream.detection.recipe",
    "register_method": "evalkit.methods.registry",
    "register_protocol": "evalkit.protocols.schema",
    "register_recipe": "evalkit.training.find_recipe",
    "register_saliency": "evalkit.methods.saliency.registry",
    "register_segmenter": "evalkit.downstream.segmentation.networks",
    "register_system": "evalkit.training.system",
    "register_task": "evalkit.protocols.tasks",
    "report": "evalkit.leaderboards.report.write",
    "reproduce": "evalkit.protocols.run",
    "saliency": "evalkit.metrics.saliency",
}

__all__ = [
    "EvalkitError",
    "Table",
    "Task",
    "UndefinedError",
    "audit",
    "benchmark",
    "compare",
    "evaluate",
    "evaluate_folder",
    "list_datasets",
    "list_methods",
    "list_metrics",
    "list_protocols",
    "metric",
    "rank",
    "read_table",
    "register_convention",
    "register_dataset",
    "register_detector",
    "register_method",
    "register_protocol",
    "register_recipe",
    "register_saliency",
    "register_segmenter",
    "register_system",
    "register_task",
    "report",
    "reproduce",
    "saliency",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import evalkit` stays quick."""
    if name == "__version__":
        return import_module("evalkit.provenance").version()
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'evalkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
