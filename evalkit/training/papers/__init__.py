"""The networks that evalkit trains, one file a paper: its losses, its ablations, and its system."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from evalkit.training.system import register_system


def register_shipped() -> None:
    """Register the `SYSTEM` of every module here."""
    for module in iter_modules(__path__):
        register_system(import_module(f"{__name__}.{module.name}").SYSTEM)
