"""The metrics' formulas, from formulas.yaml beside this file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

import yaml


@dataclass(frozen=True)
class Formula:
    """A metric as its primary source defines it.

    Attributes:
        formula: LaTeX.
        where: what its letters mean, with LaTeX between dollars.
    """

    formula: str
    where: str = ""


@functools.cache
def formulas() -> Mapping[str, Formula]:
    """Metric -> formula; what plug-ins add has none."""
    text = resources.files("evalkit.metrics").joinpath("formulas.yaml").read_text(encoding="utf-8")
    return MappingProxyType({name: Formula(**fields) for name, fields in yaml.safe_load(text).items()})
