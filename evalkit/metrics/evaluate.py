"""All metrics of a fused image in one pass; of one image, or of a folder."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evalkit.data.images import read_image
from evalkit.metrics.image import Image, Pair, UndefinedError
from evalkit.metrics.registry import Definition, definitions

if TYPE_CHECKING:
    import pandas as pd

REVISION = 1  # raised whenever a metric's value changes: stored scores of another revision are measured again

ImageLike = NDArray[np.uint8] | str | os.PathLike[str]


class Scores(dict[str, float]):
    """Metric -> value. What has no value is NaN here and has its reason in `holes`."""

    def __init__(
        self, values: Mapping[str, float] = MappingProxyType({}), holes: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(values)
        self.holes = dict(holes)


def load(image: ImageLike, name: str) -> Image:
    """An array or a file as an Image. Raises ImageError."""
    return Image(image if isinstance(image, np.ndarray) else read_image(image), name)


def measure(pair: Pair, wanted: Mapping[str, Definition]) -> Scores:
    """Every wanted metric of a pair, sharing what they have in common."""
    scores = Scores()
    for column, definition in wanted.items():
        try:
            value = float(definition.function(pair))
            if not math.isfinite(value):
                raise UndefinedError(f"{column} is {value}")
        except UndefinedError as reason:
            scores[column], scores.holes[column] = math.nan, str(reason)
        else:
            scores[column] = value
    return scores


def evaluate(
    fused: ImageLike,
    infrared: ImageLike,
    visible: ImageLike,
    metrics: Iterable[str] | None = None,
    convention: str = "textbook",
) -> Scores:
    """Measure one fused image against its two sources.

    Args:
        fused, infrared, visible: uint8 arrays, (H, W) or (H, W, 3) RGB, or paths of PNG, JPEG, BMP or TIFF images;
            all of one height and width.
        metrics: names such as "EN" (in `convention`) or "SSIM[smfnet]"; None for all of the convention.
        convention: see `evalkit.list_metrics()`.

    Returns:
        A dict metric -> value; an undefined metric (0/0, infinite) is NaN, and `.holes[metric]` says why.

    Raises:
        UnknownNameError: metric or convention, with the nearest names.
        ImageError: an image that cannot be read, is not 8-bit, or differs in size.

    Example:
        >>> image = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
        >>> evaluate(image, image, image[::-1].copy(), metrics=["EN"])
        {'EN': 8.0}
    """
    wanted = definitions(metrics, convention)
    return measure(Pair(load(fused, "fused"), load(infrared, "infrared"), load(visible, "visible")), wanted)


def evaluate_folder(
    fused_dir: str | os.PathLike[str],
    infrared_dir: str | os.PathLike[str],
    visible_dir: str | os.PathLike[str],
    metrics: Iterable[str] | None = None,
    convention: str = "textbook",
    workers: int | None = None,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
) -> pd.DataFrame:
    """Measure every fused image of a folder against the sources of the same stem.

    Args:
        fused_dir, infrared_dir, visible_dir: folders of images, paired by file name without suffix.
        metrics, convention: as in `evaluate`.
        workers: processes; None for one per processor. The numbers do not depend on it.
        progress: wraps the images while they are measured, called with (items, count, text).

    Returns:
        One row per fused image (index "image", natural order), one column per metric. NaN where a value is undefined
        or an image could not be measured; `.attrs["holes"]` maps (image, metric) to the reason.

    Raises:
        UnknownNameError: metric or convention.
        DataError: a folder is missing or empty.
    """
    import pandas as pd

    from evalkit.data.pairs import image_files
    from evalkit.engine.processes import MeasureJob, in_processes, measure_job, names_of

    wanted = definitions(metrics, convention)
    fused, infrared, visible = (image_files(folder) for folder in (fused_dir, infrared_dir, visible_dir))
    jobs = [MeasureJob(stem, infrared.get(stem), visible.get(stem), {"": path}) for stem, path in fused.items()]
    run = functools.partial(measure_job, names=names_of(wanted))
    results = (scores[""] for scores in in_processes(run, jobs, workers))
    rows = dict(progress(zip(fused, results, strict=True), len(fused), "measure"))
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(wanted))
    frame.index.name = "image"
    frame.attrs["holes"] = {(stem, column): why for stem, row in rows.items() for column, why in row.holes.items()}
    return frame
