"""Which images to look at: where the methods differ most, and where each of them is worst."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalkit.leaderboards.rank import Better

Scores = Mapping[str, pd.DataFrame]  # metric -> a row per image, a column per method, NaN for a missing value
DIGITS = 9  # beyond them a difference is rounding, which must not decide
SPREAD = (
    "spread(image, metric) = standard deviation of the metric over the methods on this image / its standard deviation "
    "over all methods and images; D(image) = mean of the spreads over the metrics"
)
STANDING = (
    "S(method, image) = mean over the metrics of (value − mean of the methods on this image) / the standard deviation "
    "of all such differences, with the sign turned where lower is better; worst is the image with the lowest S"
)
STANDING_ALONE = (
    "S(image) = mean over the metrics of (value − mean over the images) / standard deviation over the images, with the "
    "sign turned where lower is better; worst is the image with the lowest S"
)


def spreads(scores: Scores) -> pd.DataFrame:
    """How much the methods differ, a row per image and a column per metric: `SPREAD`.

    Args:
        scores: all with the same images. A missing value counts as not there; a metric in which all values are equal,
            or that fewer than two methods have, is left out.

    Returns:
        At least 0; NaN where fewer than two methods have a value.
    """
    columns = {}
    for metric, frame in scores.items():
        values = frame.to_numpy(dtype=float)
        whole = _deviation(values, values)
        if whole > 0 and frame.notna().any().sum() > 1:
            own = [_deviation(row, values) if np.isfinite(row).sum() > 1 else np.nan for row in values]
            columns[metric] = pd.Series(own, frame.index) / whole
    return pd.DataFrame(columns)


def most_different(scores: Scores) -> pd.Series:
    """Image -> D, the largest first: `SPREAD`. Images without a spread in every metric are left out."""
    whole = spreads(scores).dropna()
    return _sorted(whole.mean(axis=1), ascending=False) if len(whole.columns) else pd.Series(dtype=float)


def standings(scores: Scores, better: Mapping[str, Better]) -> pd.DataFrame:
    """How a method stands on an image against the others there, a row per image and a column per method: `STANDING`.

    A method that is alone is held against its own mean: `STANDING_ALONE`.

    Args:
        scores: all with the same images and methods. A metric in which nothing differs is left out, and of a method
            one in which it has no value at all.
        better: which way is better, per metric.

    Returns:
        NaN where the method lacks a value on the image in one of its metrics.
    """
    oriented = []
    for metric, frame in scores.items():
        values = frame.to_numpy(dtype=float)
        alone = values.shape[1] == 1
        centre = pd.DataFrame(values).mean(axis=0 if alone else 1).to_numpy()  # of the values that are there
        differences = values - (centre[None, :] if alone else centre[:, None])
        scale = _deviation(differences, values)
        if scale > 0:
            sign = 1 if better[metric] == "higher" else -1
            oriented.append(pd.DataFrame(sign * differences / scale, frame.index, frame.columns))
    if not oriented:
        return pd.DataFrame()
    stands = {}
    for method in oriented[0].columns:
        own = pd.DataFrame({i: frame[method] for i, frame in enumerate(oriented) if frame[method].notna().any()})
        stands[method] = own.mean(axis=1, skipna=False) if len(own.columns) else pd.Series(np.nan, own.index)
    return pd.DataFrame(stands)


def worst_images(stands: pd.DataFrame) -> dict[str, str]:
    """Method -> the image on which it stands lowest, of equal ones the first; without those that stand nowhere."""
    return {str(m): str(_sorted(stands[m].dropna()).index[0]) for m in stands if stands[m].notna().any()}


def _deviation(numbers: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Standard deviation of those that are there; 0 where it is rounding beside the size of the values."""
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return 0.0
    deviation = float(np.std(finite))
    return deviation if deviation > 10.0**-DIGITS * np.nanmax(np.abs(values)) else 0.0


def _sorted(values: pd.Series, ascending: bool = True) -> pd.Series:
    return values.round(DIGITS).sort_values(ascending=ascending, kind="stable")
