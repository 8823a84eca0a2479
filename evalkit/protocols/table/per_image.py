"""Values that were published image by image, beside the measured ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import DataError
from evalkit.files.names import file_name
from evalkit.files.read import read_text
from evalkit.records.per_image import read_per_image

PublishedImages = dict[tuple[str, str, str], float]  # (image, method, metric)
NEAR = 0.005  # relative difference up to which a value agrees: JPEG decoders differ by a level here and there


@dataclass(frozen=True)
class Agreement:
    """How many of a metric's published values come out. `worst` is the largest relative difference, at `worst_at`."""

    dataset: str
    metric: str
    published: int
    measured: int
    near: int
    worst: float
    worst_at: str

    @property
    def share(self) -> float:
        return self.near / self.published if self.published else 0.0


def published_per_image(path: Path, names: Mapping[str, str]) -> PublishedImages:
    """Read a file with the columns pair, method, metric, value; none where there is no such file.

    Raises:
        DataError: a column is missing, a metric has no name in `names`, or a value is not a number.
    """
    if not path.is_file():
        return {}
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
        return {(row["pair"], row["method"], names[row["metric"]]): float(row["value"]) for row in rows}
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}); expected the columns pair, method, metric, value.") from None


def agree(dataset: str, published: PublishedImages, scores: Path, metrics: list[str]) -> list[Agreement]:
    """Hold the published values against the scores that a run wrote, per metric.

    Args:
        dataset: named in the results.
        published: (image, method, metric) -> published value.
        scores: the folder of the score files, <method>.csv.
        metrics: the columns to compare.

    Returns:
        One per metric, relative differences; none where nothing is published.

    Raises:
        DataError: a score file is damaged.
    """
    measured: PublishedImages = {}
    for method in {method for _, method, _ in published}:
        file = scores / f"{file_name(method)}.csv"
        if file.is_file():
            file_scores = read_per_image(file)
            for m in metrics:
                values = file_scores.column(m).items() if m in file_scores.metrics else ()
                measured |= {(image, method, m): value for image, value in values if value is not None}
    agreements = []
    for metric in metrics:
        keys = [key for key in published if key[2] == metric]
        differences = {
            key: abs(measured[key] - published[key]) / max(abs(published[key]), 1e-12)
            for key in keys
            if key in measured
        }
        worst = max(differences, key=lambda key: differences[key], default=None)
        agreements.append(
            Agreement(
                dataset,
                metric,
                len(keys),
                len(differences),
                sum(difference <= NEAR for difference in differences.values()),
                differences[worst] if worst else 0.0,
                f"{worst[1]}, {worst[0]}" if worst else "",
            )
        )
    return agreements if published else []
