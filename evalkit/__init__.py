"""Regenerate the tables of infrared-visible image fusion papers, and see where they hold."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalkit.catalogue import list_datasets, list_methods, list_metrics, list_protocols
    from evalkit.errors import EvalkitError
    from evalkit.leaderboards.audit import audit
    from evalkit.leaderboards.paired import compare
    from evalkit.leaderboards.run_values import rank
    from evalkit.metrics.evaluate import evaluate, evaluate_folder
    from evalkit.metrics.saliency import saliency
    from evalkit.protocols.run import reproduce
    from evalkit.protocols.table.table import Table, read_table

_HOME = {
    "audit": "evalkit.leaderboards.audit",
    "evaluate": "evalkit.metrics.evaluate",
    "evaluate_folder": "evalkit.metrics.evaluate",
    "reproduce": "evalkit.protocols.run",
    "saliency": "evalkit.metrics.saliency",
    "compare": "evalkit.leaderboards.paired",
    "rank": "evalkit.leaderboards.run_values",
    "Table": "evalkit.protocols.table.table",
    "read_table": "evalkit.protocols.table.table",
    "list_metrics": "evalkit.catalogue",
    "list_methods": "evalkit.catalogue",
    "list_datasets": "evalkit.catalogue",
    "list_protocols": "evalkit.catalogue",
    "EvalkitError": "evalkit.errors",
}

__all__ = [
    "EvalkitError",
    "Table",
    "audit",
    "compare",
    "evaluate",
    "evaluate_folder",
    "list_datasets",
    "list_methods",
    "list_metrics",
    "list_protocols",
    "rank",
    "read_table",
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
