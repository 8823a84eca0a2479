"""Several seeds and few images: mean with spread, and the paired bootstrap of a difference of set-level scores."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import EvalkitError

Score = Callable[[NDArray[np.intp]], float]  # of the images with these indices, repeats included
RESAMPLES = 1000


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation (n - 1) over seeds; no spread of a single one.

    Raises:
        EvalkitError: no values, or one that is not finite: there is no mean over missing values.
    """
    if not values or not all(map(math.isfinite, values)):
        raise EvalkitError(f"no mean over {list(values)}: every seed needs a value.")
    return math.fsum(values) / len(values), statistics.stdev(values) if len(values) > 1 else None


def remembered(score: Score) -> Score:
    """A score that is computed once per draw: the row that all others are compared with meets the same draws again."""
    known: dict[bytes, float] = {}

    def look_up(draw: NDArray[np.intp]) -> float:
        key = draw.tobytes()
        if key not in known:
            known[key] = score(draw)
        return known[key]

    return look_up


@dataclass(frozen=True)
class Difference:
    """First minus second, on the same images.

    Attributes:
        value: on the test set as it is.
        low, high: the central 95 % of the resampled differences.
        p: two-sided, twice the smaller share of resampled differences on one side of zero, 1 at most. The test set
            itself counts as a draw on that side, so that p is never 0 (Phipson and Smyth 2010,
            doi:10.2202/1544-6115.1585).
        resamples: those in which both have a score.
    """

    value: float
    low: float
    high: float
    p: float
    resamples: int


def paired_bootstrap(first: Score, second: Score, images: int, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Bootstrap over images of the difference of two scores that are of the set, as AP and mIoU are.

    Both methods are scored on the same draw of images, with replacement (Efron and Tibshirani 1993, chapter 13;
    Koehn 2004 for the pairing). Images are taken as independent; frames of one video are not, so that intervals of
    such sets are too narrow. A draw in which a score is NaN (no object of a class) is left out and not counted.

    Args:
        first, second: index array (images,) -> score.
        images: size of the test set.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        EvalkitError: fewer than two images, or less than half of the draws have scores.
    """
    if images < 2:
        raise EvalkitError(f"a bootstrap over {images} image(s) says nothing: two or more are needed.")
    everything = np.arange(images)
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, images, images) for _ in range(resamples))
    differences = np.array([first(draw) - second(draw) for draw in drawn])
    differences = differences[np.isfinite(differences)]
    if 2 * len(differences) < max(resamples, 1):
        raise EvalkitError(f"only {len(differences)} of {resamples} draws of images have scores: the set is too small.")
    low, high = np.quantile(differences, [0.025, 0.975])
    side = (min(np.sum(differences <= 0), np.sum(differences >= 0)) + 1) / (len(differences) + 1)
    value = first(everything) - second(everything)
    return Difference(float(value), float(low), float(high), float(min(1.0, 2 * side)), len(differences))
