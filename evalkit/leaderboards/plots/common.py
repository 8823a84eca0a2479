"""What all plots share and that needs neither matplotlib nor pandas: palette, geometry, numbers, captions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Okabe and Ito's palette for all kinds of colour vision, without its yellow, which is too light for a line on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
ARROWS = {"higher": "↑", "lower": "↓"}
Panel = tuple[str, str]  # data set, metric
INNER = 0.25  # radius of the worst value: at the centre all axes would meet and nothing could be told


def radii(values: NDArray[np.float64], higher: Sequence[bool]) -> NDArray[np.float64]:
    """Where each value lies on its axis: INNER for the axis' worst, 1 for its best, NaN for none.

    Linear between; where all methods are equal, 1.

    Args:
        values: (methods, metrics), NaN where a value is missing; none of the metrics without any value.
        higher: of each metric whether higher is better.

    Returns:
        (methods, metrics).
    """
    oriented = values * np.where(higher, 1, -1)
    low, high = np.nanmin(oriented, axis=0), np.nanmax(oriented, axis=0)
    spread = high - low
    share = np.where(
        spread > 0, (oriented - low) / np.where(spread > 0, spread, 1), np.where(np.isnan(values), np.nan, 1)
    )
    return INNER + (1 - INNER) * share


def corners(radius: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of a closed polygon: the first axis points up, the others follow clockwise."""
    angle = 2 * math.pi * np.arange(len(radius)) / len(radius)
    x, y = radius * np.sin(angle), radius * np.cos(angle)
    return np.append(x, x[:1]), np.append(y, y[:1])


def distribution(values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y such that 100 x % of the values are not above y: x = 1/n, 2/n .. 1, y sorted.

    Source: caption of Figure 11 of PSFusion (Information Fusion, 2023).
    """
    y = np.sort(np.asarray(values, dtype=float))
    return np.arange(1, y.size + 1) / y.size, y


def gather(reasons: Mapping[tuple[str, Panel], str], panels: Sequence[Panel]) -> dict[str, str]:
    """(method, panel) -> reason, as name -> reason: the method alone where one reason stands in all its panels."""
    panels_of: dict[tuple[str, str], list[Panel]] = {}
    for (method, panel), why in reasons.items():
        panels_of.setdefault((method, why), []).append(panel)
    names: dict[str, str] = {}
    for (method, why), where in panels_of.items():
        if len(where) == len(panels):
            names[method] = why
            continue
        for dataset in dict.fromkeys(dataset for dataset, _ in where):
            metrics = [metric for one, metric in where if one == dataset]
            every = len(metrics) == sum(one == dataset for one, _ in panels)
            name = method if every else f"{method} {', '.join(metrics)}"
            names[name + (f" on {dataset}" if len({one for one, _ in panels}) > 1 else "")] = why
    return names


def number(value: float, digits: int = 4) -> str:
    """With as many digits, trailing zeros kept: 46.00, 0.3830; with more where it counts thousands: 12345."""
    if 10**digits <= abs(value) < 1e7:
        return f"{value:.0f}"
    return f"{value:#.{digits}g}".rstrip(".") if 1e-3 <= abs(value) < 1e4 else f"{value:.{digits}g}"


def missing_lines(missing: Mapping[str, str]) -> list[str]:
    """`Missing: A, B (reason)`, methods of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in missing.items():
        by_reason.setdefault(reason, []).append(name)
    return [f"Missing: {', '.join(names)} ({reason})" for reason, names in by_reason.items()]
