"""The convention `vifb`: the benchmark's published values, its evaluator's gray values, its treatment of colour."""

from __future__ import annotations

import csv
import functools
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from evalkit.data.images import read_image, to_gray
from evalkit.metrics.fusion.vifb import VIFB, channel, channel_pairs
from evalkit.metrics.image import Image, Pair, UndefinedError
from evalkit.protocols.schema import protocol

SHARED = Path(__file__).parents[2] / "shared"
SPECS = SHARED / "specs"
BENCHMARK = SHARED / "data" / "VIFB"

REPRODUCED = 6e-5  # five printed digits; SwinFusion's published images are not quite those that were measured


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pair_of(fused: np.ndarray, infrared: np.ndarray, visible: np.ndarray) -> Pair:
    return Pair(Image(fused, "fused"), Image(infrared, "infrared"), Image(visible, "visible"))


def value(metric: str, *arrays: np.ndarray) -> float:
    return VIFB[metric][0](pair_of(*arrays))


# --- the evaluator's values of gray images ------------------------------------------------------------------------


def gray_reference() -> list[dict[str, str]]:
    if not (SPECS / "reference_values.csv").exists():
        return []
    with open(SPECS / "reference_values.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["dialect"].startswith("vifb_")]


@functools.cache
def reference_pair(dataset: str, image: str, fusion: str) -> Pair:
    stem = f"{dataset}_{image}_"
    return pair_of(
        *(read_image(SPECS / "reference_images" / f"{stem}{part}.png") for part in (f"F_{fusion}", "ir", "vi"))
    )


@pytest.mark.skipif(not gray_reference(), reason="reference values are not beside the project")
@pytest.mark.parametrize(
    "row", gray_reference(), ids=lambda row: "-".join(row[key] for key in ("dataset", "image", "fusion", "metric"))
)
def test_gray_values_of_the_benchmarks_evaluator(row):
    measured = VIFB[row["metric"]][0](reference_pair(row["dataset"], row["image"], row["fusion"]))
    assert measured == pytest.approx(float(row["value"]), rel=1e-9)


# --- the published values -----------------------------------------------------------------------------------------

needs_benchmark = pytest.mark.skipif(not BENCHMARK.exists(), reason="the benchmark's images are not beside the project")


def differences(pairs: list[str] | None = None) -> dict[tuple[str, str, str], float]:
    """(pair, method, metric) -> relative difference of the measured value from the published one."""
    names = protocol("vifb").published_names
    published: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    with open(BENCHMARK / "values.csv", newline="") as file:
        for row in csv.DictReader(file):
            published[row["pair"]][row["method"]][names[row["metric"]]] = float(row["value"])
    found = {}
    for name in pairs or published:
        sources = [Image(read_image(BENCHMARK / kind / f"{name}.jpg"), kind) for kind in ("ir", "vi")]
        for method, values in published[name].items():
            pair = Pair(Image(read_image(BENCHMARK / "fused" / method / f"{name}.jpg"), "fused"), *sources)
            for metric, printed in values.items():
                found[name, method, metric] = abs(VIFB[metric][0](pair) / printed - 1)
    return found


@needs_benchmark
def test_published_values_of_small_pairs():
    found = differences(["running", "walking", "walkingnight"])  # infrared stored gray, as RGB, gray
    assert len(found) == 3 * 12 * 13
    worst = {key: difference for key, difference in found.items() if key[1] != "SwinFusion"}
    assert max(worst.values()) < REPRODUCED, max(worst, key=worst.get)


@needs_benchmark
@pytest.mark.slow
def test_all_published_values():
    found = differences()
    assert len(found) == 3276
    near = Counter(metric for (_, _, metric), difference in found.items() if difference <= 0.005)
    assert sum(near.values()) / len(found) >= 0.97
    assert {metric: near[metric] for metric in VIFB if near[metric] < 0.9 * 252} == {}
    # eleven methods to the last digit; SwinFusion's files differ a little from those that were measured
    others = {key: difference for key, difference in found.items() if key[1] != "SwinFusion"}
    assert max(others.values()) < REPRODUCED, max(others, key=others.get)
    assert max(found.values()) < 0.03


def test_every_published_metric_has_a_definition():
    assert sorted(protocol("vifb").published_names.values()) == sorted(VIFB)


# --- colour: dense references -------------------------------------------------------------------------------------

COLOUR_METRICS = sorted(set(VIFB) - {"SF"})
F, A, B = noise(1, 34, 37, 3), noise(2, 34, 37), noise(3, 34, 37, 3)


@pytest.mark.parametrize("metric", COLOUR_METRICS)
def test_a_colour_value_is_the_mean_of_its_channels_values(metric):
    by_channel = [value(metric, F[..., k].copy(), A, B[..., k].copy()) for k in range(3)]
    assert len(set(by_channel)) == 3
    assert value(metric, F, A, B) == pytest.approx(math.fsum(by_channel) / 3, rel=1e-14)


@pytest.mark.parametrize("metric", sorted(VIFB))
def test_a_gray_image_stored_with_three_channels_is_that_gray_image(metric):
    gray_b, rgb = noise(4, 34, 37), np.repeat(A[..., None], 3, axis=2)
    assert value(metric, F, rgb, B) == value(metric, F, A, B)
    assert value(metric, F, rgb, np.repeat(gray_b[..., None], 3, axis=2)) == value(metric, F, A, gray_b)


@pytest.mark.parametrize("metric", sorted(VIFB))
def test_a_gray_fused_image_meets_the_gray_version_of_its_sources(metric):
    assert value(metric, F[..., 0].copy(), A, B) == value(metric, F[..., 0].copy(), A, to_gray(B))


@pytest.mark.parametrize("metric", sorted(VIFB))
def test_the_order_of_the_sources_does_not_matter(metric):
    assert value(metric, F, B, A) == pytest.approx(value(metric, F, A, B), rel=1e-12)


def dense_sf(fused: np.ndarray) -> float:
    x = np.hstack([fused[..., k] for k in range(3)]).astype(float)
    m, n = x.shape
    total = sum((x[i, j] - x[i, j - 1]) ** 2 for i in range(m) for j in range(1, n))
    total += sum((x[i, j] - x[i - 1, j]) ** 2 for i in range(1, m) for j in range(n))
    return math.sqrt(total / (m * n))


def dense_root(fused: np.ndarray, source: np.ndarray) -> float:
    d = (fused.astype(float) - source).ravel().tolist()
    return math.sqrt(math.fsum(x * x for x in d)) / len(d)


def dense_ce(fused: np.ndarray, source: np.ndarray) -> float:
    p, q = Counter(source.ravel().tolist()), Counter(fused.ravel().tolist())
    return math.fsum(p[x] / source.size * math.log2(p[x] / q[x]) for x in p.keys() & q.keys())


def dense_mi(fused: np.ndarray, source: np.ndarray) -> float:
    def levels(x: np.ndarray) -> list[int]:
        low, high = int(x.min()), int(x.max())
        return [math.floor((int(v) - low) / (high - low) * 255 + 0.5) for v in x.ravel()]

    def entropy(values: list) -> float:
        return -math.fsum(n / len(values) * math.log(n / len(values)) for n in Counter(values).values())

    f, s = levels(fused), levels(source)
    return entropy(f) + entropy(s) - entropy(list(zip(f, s, strict=True)))


def dense_ei(fused: np.ndarray) -> float:
    x = np.pad(fused.astype(float), 1, mode="edge")
    m, n = fused.shape
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    windows = [x[i : i + 3, j : j + 3] for i in range(m) for j in range(n)]
    return math.fsum(math.hypot((w * kernel).sum(), (w * kernel.T).sum()) for w in windows) / (m * n)


def dense_ag(fused: np.ndarray) -> float:
    gy, gx = np.gradient(fused.astype(float))
    m, n = fused.shape
    return float(np.sqrt((gx**2 + gy**2) / 2).sum()) / ((m - 1) * (n - 1))


def dense_ssim(fused: np.ndarray, source: np.ndarray) -> float:
    g = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    w = np.outer(g, g) / np.outer(g, g).sum()
    values = []
    for i in range(fused.shape[0] - 10):
        for j in range(fused.shape[1] - 10):
            x, y = (image[i : i + 11, j : j + 11].astype(float) for image in (fused, source))
            mx, my = (w * x).sum(), (w * y).sum()
            vx, vy = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum()
            c = (w * (x - mx) * (y - my)).sum()
            values.append(
                (2 * mx * my + 2.55**2) * (2 * c + 7.65**2) / ((mx**2 + my**2 + 2.55**2) * (vx + vy + 7.65**2))
            )
    return math.fsum(values) / len(values)


def per_channel(function, weight: float = 1) -> float:
    """Mean over the channels of weight x the sum over the sources."""
    return sum(weight * (function(F[..., k], A) + function(F[..., k], B[..., k])) for k in range(3)) / 3


DENSE = {
    "SF": lambda: dense_sf(F),
    "RMSE": lambda: per_channel(dense_root, 0.5),
    "PSNR": lambda: (
        sum(
            20 * math.log10(255 / math.sqrt((dense_root(F[..., k], A) + dense_root(F[..., k], B[..., k])) / 2))
            for k in range(3)
        )
        / 3
    ),
    "CE": lambda: per_channel(dense_ce, 0.5),
    "MI": lambda: per_channel(dense_mi),
    "SSIM": lambda: per_channel(dense_ssim),
    "EI": lambda: sum(dense_ei(F[..., k]) for k in range(3)) / 3,
    "AG": lambda: sum(dense_ag(F[..., k]) for k in range(3)) / 3,
    "SD": lambda: sum(F[..., k].astype(float).std() for k in range(3)) / 3,
}


@pytest.mark.parametrize("metric", DENSE)
def test_colour_value_is_the_dense_sum(metric):
    assert value(metric, F, A, B) == pytest.approx(DENSE[metric](), rel=1e-12)


def test_cross_entropy_skips_levels_of_one_image_only():
    fused, source = np.uint8([[0, 0, 1, 1]] * 2), np.uint8([[0, 0, 0, 7]] * 2)
    assert value("CE", fused, source, source) == pytest.approx(0.75 * math.log2(1.5), rel=1e-14)


def test_sf_counts_the_jump_between_channels():
    flat = np.zeros((4, 5, 3), np.uint8) + np.uint8([10, 40, 80])
    assert value("SF", flat, flat, flat) == pytest.approx(math.sqrt(4 * (30**2 + 40**2) / (4 * 15)), rel=1e-14)


# --- channels and their memo --------------------------------------------------------------------------------------


def test_channels_of_a_source_are_made_once_and_those_of_a_gray_one_are_itself():
    colour, gray, gray_as_rgb = Image(B), Image(A), Image(np.repeat(A[..., None], 3, axis=2))
    assert [channel(colour, k) is channel(colour, k) for k in range(3)] == [True] * 3
    assert [np.array_equal(channel(colour, k).pixels, B[..., k]) for k in range(3)] == [True] * 3
    assert {id(channel(gray, k)) for k in range(3)} == {id(gray)}
    assert {id(channel(gray_as_rgb, k)) for k in range(3)} == {id(gray_as_rgb)}
    assert np.array_equal(gray_as_rgb.pixels, A)


def test_channel_pairs_keep_each_image_in_its_place():
    for k, pair in enumerate(channel_pairs(pair_of(F, A, B))):
        assert np.array_equal(pair.fused.pixels, F[..., k])
        assert np.array_equal(pair.infrared.pixels, A)
        assert np.array_equal(pair.visible.pixels, B[..., k])


def test_values_do_not_depend_on_which_metrics_or_fused_images_came_before():
    alone = {metric: value(metric, F, A, B) for metric in VIFB}
    infrared, visible = Image(A, "infrared"), Image(B, "visible")
    other = Pair(Image(noise(9, 34, 37, 3), "fused"), infrared, visible)
    pair = Pair(Image(F, "fused"), infrared, visible)
    for metric in reversed(VIFB):
        VIFB[metric][0](other)
        assert VIFB[metric][0](pair) == alone[metric]


# --- undefined ----------------------------------------------------------------------------------------------------

FLAT = np.full((34, 37, 3), 90, np.uint8)


@pytest.mark.parametrize(
    ("metric", "arrays"),
    [
        ("PSNR", (FLAT, FLAT, FLAT)),
        ("Qabf", (FLAT * 0, FLAT * 0, FLAT * 0)),
        ("CB", (FLAT, FLAT, FLAT)),
        ("CV", (FLAT, FLAT, FLAT)),
        ("CV", (FLAT, A, B)),
        ("SSIM", (F[:10], A[:10], B[:10])),
        ("SF", (F[:1], A[:1], B[:1])),
        ("AG", (F[:1], A[:1], B[:1])),
    ],
)
def test_undefined(metric, arrays):
    with pytest.raises(UndefinedError):
        value(metric, *arrays)


def test_one_equal_channel_makes_psnr_infinite():
    fused = F.copy()
    fused[..., 1] = A
    with pytest.raises(UndefinedError, match="infinite"):
        value("PSNR", fused, A, np.dstack([B[..., 0], A, B[..., 2]]))


@pytest.mark.parametrize(("metric", "expected"), [("EN", 0), ("CE", 0), ("MI", 0), ("SD", 0), ("SF", 0), ("AG", 0)])
def test_constant_images_have_nothing_in_them(metric, expected):
    assert value(metric, FLAT, FLAT, FLAT) == pytest.approx(expected, abs=1e-12)


def test_three_identical_images():
    same = (F, F, F)
    assert value("SSIM", *same) == pytest.approx(2, rel=1e-12)
    assert value("RMSE", *same) == value("CE", *same) == 0
