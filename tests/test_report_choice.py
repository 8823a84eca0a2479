"""Which images a report shows, against sums written out."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.leaderboards.report.choice import most_different, spreads, standings, worst_images

number = st.one_of(st.floats(-100, 100).map(lambda x: round(x, 3)), st.just(math.nan))


@st.composite
def tables(draw: st.DrawFn) -> dict[str, pd.DataFrame]:
    images = draw(st.integers(1, 5))
    methods = [f"m{i}" for i in range(draw(st.integers(1, 4)))]
    metrics = [f"x{i}" for i in range(draw(st.integers(1, 3)))]
    rows = st.lists(st.lists(number, min_size=len(methods), max_size=len(methods)), min_size=images, max_size=images)
    index = [f"{i:02d}" for i in range(images)]
    return {metric: pd.DataFrame(draw(rows), index=index, columns=methods) for metric in metrics}


def there(values: object) -> list[float]:
    return [float(v) for v in values if v == v]  # type: ignore[attr-defined]


def negligible(numbers: list[float], values: list[float]) -> bool:
    return not numbers or statistics.pstdev(numbers) <= 1e-9 * max(map(abs, values))


@given(tables())
def test_spreads_are_the_sums_written_out(scores: dict[str, pd.DataFrame]) -> None:
    expected: dict[str, dict[str, float]] = {}
    for metric, frame in scores.items():
        everything = there(frame.to_numpy().ravel())
        holders = [m for m in frame if there(frame[m])]
        if len(holders) < 2 or negligible(everything, everything):
            continue
        whole = statistics.pstdev(everything)
        for image, row in frame.iterrows():
            values = there(row)
            expected.setdefault(metric, {})[str(image)] = (
                statistics.pstdev(values) / whole if len(values) > 1 else math.nan
            )
    measured = spreads(scores)
    assert list(measured.columns) == list(expected)
    for metric, column in expected.items():
        assert measured[metric].to_dict() == pytest.approx(column, rel=1e-6, abs=1e-9, nan_ok=True)
    order = most_different(scores)
    images = [i for i in next(iter(scores.values())).index if all(c[i] == c[i] for c in expected.values())]
    means = {i: statistics.fmean(c[i] for c in expected.values()) for i in images if expected}
    assert order.to_dict() == pytest.approx(means, rel=1e-6, abs=1e-8)
    assert list(order) == sorted(order, reverse=True)


@given(tables(), st.lists(st.sampled_from(["higher", "lower"]), min_size=3, max_size=3))
def test_standings_are_the_sums_written_out(scores: dict[str, pd.DataFrame], ways: list[str]) -> None:
    better = dict(zip(scores, ways, strict=False))
    frames = list(scores.values())
    methods, images = list(frames[0].columns), list(frames[0].index)
    expected = {(m, i): [] for m in methods for i in images}
    used = False
    for metric, frame in scores.items():
        differences = {}
        for i in images:
            for m in methods:
                beside = there(frame[m]) if len(methods) == 1 else there(frame.loc[i])
                value = frame.loc[i, m]
                differences[m, i] = value - statistics.fmean(beside) if beside else math.nan
        if negligible(there(differences.values()), there(frame.to_numpy().ravel())):
            continue
        scale = math.sqrt(statistics.fmean(d * d for d in there(differences.values())))
        used = True
        for m in methods:
            if there(frame[m]):
                for i in images:
                    sign = 1 if better[metric] == "higher" else -1
                    expected[m, i].append(sign * differences[m, i] / scale)
    measured = standings(scores, better)  # type: ignore[arg-type]
    if not used:
        assert measured.empty
        return
    for (m, i), values in expected.items():
        value = statistics.fmean(values) if values and len(there(values)) == len(values) else math.nan
        assert measured.loc[i, m] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True)
    for m, image in worst_images(measured).items():
        assert measured.loc[image, m] <= measured[m].min() + 1e-8
    assert set(worst_images(measured)) == {m for m in methods if measured[m].notna().any()}


def test_what_is_worst_and_where_methods_differ() -> None:
    index = ["1", "2", "10"]
    scores = {
        "EN": pd.DataFrame({"a": [5.0, 6.0, 7.0], "b": [5.0, 3.0, 7.0]}, index=index),
        "MSE": pd.DataFrame({"a": [1.0, 1.0, 9.0], "b": [1.0, 4.0, 1.0]}, index=index),
    }
    assert list(most_different(scores).index)[-1] == "1"  # where both are equal
    assert worst_images(standings(scores, {"EN": "higher", "MSE": "lower"})) == {"a": "10", "b": "2"}
    alone = {metric: frame[["a"]] for metric, frame in scores.items()}
    assert most_different(alone).empty
    assert worst_images(standings(alone, {"EN": "higher", "MSE": "lower"})) == {"a": "1"}


def test_of_equal_images_the_first_is_taken_whatever_the_last_digits_are() -> None:
    noise = np.array([0, -1e-14, 1e-14])
    frame = pd.DataFrame({"a": 1 + noise, "b": 2 - noise}, index=["1", "2", "10"])
    assert list(most_different({"EN": frame}).index) == ["1", "2", "10"]
    assert worst_images(standings({"EN": frame}, {"EN": "higher"})) == {"a": "1", "b": "1"}
