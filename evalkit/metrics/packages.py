"""Learned measures through packages of the user's own, pyiqa and torchmetrics, with weights that are on this machine.

Their licences and what they download are why evalkit does not depend on them. Where one is installed, it is a
convention of its own: its name and version. `evalkit.metrics.torch.packages` calls them.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evalkit.errors import DataError
from evalkit.metrics.card import Better, MetricCard
from evalkit.metrics.image import Pair, UndefinedError
from evalkit.provenance import version_of

NO_WEIGHTS = "|no weights"
MADE_FOR = "Made for visible photographs, not validated on infrared or fused images."


def _card(name: str, title: str, better: Better, range: str, definition: str, source: str) -> MetricCard:
    through = "A network with learned weights, through the reader's own pyiqa or torchmetrics."
    return MetricCard(name, title, better, range, "1", f"{definition} {through} {MADE_FOR}", source)


CARDS = (
    _card(
        "MUSIQ",
        "Multi-scale image quality transformer",
        "higher",
        "0 .. 100",
        "Quality of the fused image as people judged photographs.",
        "Ke et al. 2021, doi:10.1109/ICCV48922.2021.00510",
    ),
    _card(
        "CLIP-IQA",
        "Quality by contrastive language-image pre-training",
        "higher",
        "0 .. 1",
        "How much nearer the fused image is to the words 'good photo' than to 'bad photo'.",
        "Wang, Chan and Loy 2023, doi:10.1609/aaai.v37i2.25353",
    ),
    _card(
        "LPIPS",
        "Learned perceptual image patch similarity",
        "lower",
        "0 .. about 1",
        "Distance of network features of the fused image and each source.",
        "Zhang et al. 2018, doi:10.1109/CVPR.2018.00068",
    ),
    _card(
        "DISTS",
        "Deep image structure and texture similarity",
        "lower",
        "0 .. 1",
        "Distance of structure and texture of the fused image and each source, in network features.",
        "Ding et al. 2022, doi:10.1109/TPAMI.2020.3045810",
    ),
)
MEASURES = {  # package -> metric -> its name there
    "pyiqa": {
        "MUSIQ": "musiq",
        "CLIP-IQA": "clipiqa",
        "LPIPS": "lpips",
        "DISTS": "dists",
        "NIQE": "niqe",
        "BRISQUE": "brisque",
        "PIQE": "piqe",
    },
    "torchmetrics": {"CLIP-IQA": "clip_iqa", "LPIPS": "lpips", "DISTS": "dists"},
}
OF_SOURCES = ("LPIPS", "DISTS")  # compare the fused image with each source


@dataclass(frozen=True)
class Packaged:
    """A metric that a package computes, of images as they are stored, in colour; gray ones in three equal channels."""

    package: str
    metric: str

    @property
    def choice(self) -> str:
        """What this convention chose, in a line."""
        over = ", mean over the two sources" if self.metric in OF_SOURCES else ""
        return f"{MEASURES[self.package][self.metric]} of {self.package} in its default form{over}; float32"

    def __call__(self, pair: Pair) -> float:
        """The value; raises UndefinedError where the package, its weights, or a value is missing."""
        measure = _made(self.package, MEASURES[self.package][self.metric])
        if isinstance(measure, str):
            raise UndefinedError(measure)
        try:
            if self.metric not in OF_SOURCES:
                return measure(pair.fused.array, None)
            return sum(measure(pair.fused.array, source.array) for source in pair.sources) / 2
        except DataError as error:
            raise UndefinedError(str(error)) from None

    @property
    def parameters(self) -> str:
        """For keys of stored scores: whether the weights are there, so that a later run with them measures again."""
        return NO_WEIGHTS if isinstance(_made(self.package, MEASURES[self.package][self.metric]), str) else ""


def conventions() -> dict[str, dict[str, Packaged]]:
    """Convention, a package with its version, -> metric -> its function; of what is installed."""
    found = {}
    for package, measures in MEASURES.items():
        version = version_of(package) if importlib.util.find_spec(package) is not None else None
        if version:
            name = f"{package}-{re.sub(r'[^0-9A-Za-z.]', '-', version)}"
            found[name] = {metric: Packaged(package, metric) for metric in measures}
    return found


@functools.cache
def _made(package: str, name: str) -> Callable[[Any, Any], float] | str:
    """The measure with its weights, or why there is none: said of every image, tried once in a process."""
    try:
        from evalkit.metrics.torch.packages import make  # PyTorch and the package: slow to import

        return make(package, name)
    except DataError as error:
        return str(error)
    except ImportError as error:
        return f"{package} cannot be used: {error}"
