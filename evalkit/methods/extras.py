"""Optional packages: one sentence with the cure where one is missing."""

from __future__ import annotations

import importlib.util

from evalkit.errors import EvalkitError


def need(package: str, user: str, extra: str) -> None:
    """Raises EvalkitError where a package that an extra brings is not installed.

    Args:
        package: as it is imported.
        user: what needs it, for the message.
        extra: of evalkit, which brings it.
    """
    if importlib.util.find_spec(package) is None:
        raise EvalkitError(f"{user} needs {package}: pip install 'evalkit[{extra}]'")


def need_torch() -> None:
    """Raises EvalkitError where what training needs is not installed."""
    need("torch", "training", "training")
    need("lightning_fabric", "training", "training")
