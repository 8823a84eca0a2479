"""reference/python.md and formulas.md: every public function and class, filled by mkdocstrings."""

from __future__ import annotations

import pkgutil

import evalkit
from evalkit.metrics import fusion, noreference

MODULES = {  # what plug-ins and programs of one's own import beside `evalkit` itself
    "evalkit.errors": "Errors",
    "evalkit.metrics.image": "What a metric gets",
    "evalkit.metrics.torch": "Batches of tensors",
    "evalkit.data.images": "Images",
    "evalkit.data.samples.samples": "Sample scenes",
    "evalkit.methods.network": "Networks as methods",
    "evalkit.methods.layers.luminance": "Colour around networks",
    "evalkit.training.system": "Trainings",
    "evalkit.training.terms": "Terms of losses",
    "evalkit.testing.plugin": "In pytest",
    "evalkit.leaderboards.plots.values": "Values to plot",
    "evalkit.leaderboards.plots.radar": "Radar",
    "evalkit.leaderboards.plots.bars": "Bars and boxes",
    "evalkit.leaderboards.plots.critical": "Critical differences",
    "evalkit.leaderboards.plots.cumulative": "Cumulative distributions",
    "evalkit.leaderboards.plots.curves": "Curves of saliency maps",
    "evalkit.leaderboards.plots.scatter": "Quality against cost",
    "evalkit.leaderboards.plots.grid": "Qualitative comparison",
}

HEAD = """\
# Python

`import evalkit` gives what stands in the first part, and imports nothing heavy until it is used. The other parts are
modules that plug-ins and programs of your own may import; what is in neither may change without notice.

## evalkit
"""


FORMULAS = """\
# Formulas of fusion metrics

The functions behind the metrics, for conventions of your own (`evalkit.register_convention`). Which convention takes
which, with which parameters, stands in `evalkit/metrics/conventions.py` and with each metric.
"""


def page() -> str:
    """reference/python.md as Markdown."""
    names = [f"::: {evalkit._HOME[name]}.{name}\n" for name in evalkit.__all__]
    return "\n".join([HEAD, *names, *(_module(name, title) for name, title in MODULES.items())])


def formulas() -> str:
    """reference/formulas.md as Markdown: every module of `evalkit.metrics.fusion` and `evalkit.metrics.noreference`."""
    packages = (fusion, noreference)
    modules = [m.name for p in packages for m in sorted(pkgutil.iter_modules(p.__path__, f"{p.__name__}."))]
    return "\n".join([FORMULAS, *(_module(name, name.rpartition(".")[2].replace("_", " ")) for name in modules)])


def _module(name: str, title: str) -> str:
    return f"## {title}\n\n::: {name}\n    options:\n      show_root_full_path: true\n"
