"""The plots of the site: what is drawn lies where its values say, and everything fits into the drawing."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.leaderboards.site.drawings import box, cumulative, quartiles, radar
from evalkit.leaderboards.site.pages import PageBlock, PageCell, PageColumn, PageRow
from evalkit.leaderboards.site.plotted import Plotted
from evalkit.leaderboards.site.svg import WIDTH, coordinate, scale
from evalkit.records.per_image import ImageRow, PerImage

KINDS = (radar, box, cumulative)
SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["CDDFuse", "a method with a name that is far longer than its place", "方法", "<b>&\x01", "DenseFuse"]


def plotted(
    values: dict[str, np.ndarray], metrics: int = 4, missing: dict[tuple[str, int], str] | None = None
) -> Plotted:
    """Rows with the given values per image, the same in every metric but for those that are missing."""
    missing = missing or {}
    columns = [PageColumn(f"M{i}", "higher" if i % 2 else "lower") for i in range(metrics)]
    rows, images = [], {}
    for method, scores in values.items():
        cells = {
            c.name: PageCell("missing", reason=why)
            if (why := missing.get((method, i)))
            else PageCell("equal", float(scores.mean()))
            for i, c in enumerate(columns)
        }
        rows.append(PageRow(method, None, "", "", cells))
        names = tuple(c.name for c in columns)
        images[method] = PerImage(
            names, {str(k): ImageRow("", dict.fromkeys(names, float(v)), {}) for k, v in enumerate(scores)}
        )
    one = Plotted(PageBlock("TNO", "TNO", "smfnet", columns, rows), rows)
    one.__dict__["images"] = images  # as if read from the records
    return one


def random_values(names: list[str], count: int = 30) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(i, 1, count) for i, name in enumerate(names)}


def texts(data: bytes) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(data).iter(f"{SVG}text")]


@pytest.mark.parametrize("draw", KINDS)
@pytest.mark.parametrize("metrics", [3, 8, 13])
@pytest.mark.parametrize("names", [NAMES, [f"method {i}" for i in range(12)], NAMES[:2]])
def test_a_drawing_is_xml_whatever_names_hold_and_nothing_leaves_it(draw, metrics, names) -> None:
    data = draw(plotted(random_values(names), metrics), "TNO <plot>")
    root = ElementTree.fromstring(data)
    height = float(root.attrib["height"])
    assert float(root.attrib["width"]) == WIDTH
    for element in root.iter():
        for across, down in (("x", "y"), ("cx", "cy")):
            if across in element.attrib:
                assert 0 <= float(element.attrib[across]) <= WIDTH, element.attrib
                assert 0 <= float(element.attrib[down]) <= height, element.attrib
    for element in root.iter(f"{SVG}path"):
        if "id" not in element.attrib and "l" not in element.attrib["d"]:
            points = np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", element.attrib["d"]), float)
            assert (points >= 0).all()
            assert (points <= [WIDTH, height]).all()
    shown = " ".join(texts(data))
    assert all(name.replace("\x01", "\ufffd") in shown for name in names)


def test_a_missing_value_is_named_with_its_reason_once_and_never_drawn() -> None:
    missing = {("b", 0): "no weights", ("c", 0): "no weights", ("b", 1): "no weights"}
    one = plotted(random_values(["a", "b", "c"]), 4, missing)
    for draw in KINDS:
        caption = " ".join(texts(draw(one, "t")))
        assert "Missing: b M0, M1, c M0 (no weights)" in caption
    assert [sorted(values) for _, values in one.panels] == [["a"], ["a", "c"], ["a", "b", "c"], ["a", "b", "c"]]
    assert " ".join(texts(box(one, "t"))).count("missing") == 3
    assert " ".join(texts(cumulative(one, "t"))).count("(missing)") == 3


def test_images_without_a_value_or_other_images_are_reasons() -> None:
    one = plotted(random_values(["a", "b", "c"]))
    images = one.images
    one.images["b"].rows["3"].values["M0"] = None
    images["c"] = PerImage(images["c"].metrics, {f"{k}x": row for k, row in images["c"].rows.items()})
    lines = one.missing()
    assert lines == ["Missing: b M0 (no value for 1 of 30 images)", "Missing: c (measured on other images than a)"]


def test_too_little_is_not_drawn() -> None:
    assert radar(plotted(random_values(["a", "b"]), 2), "t") is None
    nothing = {(name, i): "no weights" for name in ("a", "b") for i in range(4)}
    one = plotted(random_values(["a", "b"]), 4, nothing)
    assert [draw(one, "t") for draw in KINDS] == [None, None, None]


def test_cumulative_gives_means_and_few_points_of_many_images() -> None:
    data = cumulative(plotted(random_values(["a", "b"], 5000), 1), "t")
    assert len(data) < 30_000
    values = random_values(["a", "b"], 5000)
    assert {f"{name}: {scores.mean():.4f}" for name, scores in values.items()} <= set(texts(data))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_quartiles_are_those_of_a_box_plot(values: list[float]) -> None:
    stats = pytest.importorskip("matplotlib.cbook").boxplot_stats(values)[0]
    expected = [stats[key] for key in ("whislo", "q1", "med", "q3", "whishi")]
    np.testing.assert_allclose(quartiles(np.array(values)), expected)


@given(st.lists(st.floats(-1e9, 1e9).map(lambda v: round(v, 6)), min_size=1, max_size=9))
def test_a_scale_holds_its_values_and_has_round_ticks(values: list[float]) -> None:
    one = scale(values, 10, 90)
    assert all(10 <= one(value) <= 90 for value in values)
    ticks = one.ticks()
    assert 1 <= len(ticks) <= 6
    assert all(one.low - 1e-6 * abs(one.low) <= tick <= one.high + 1e-6 * abs(one.high) for tick in ticks)


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (-0.001, "0"), (100, "100"), (1.5, "1.5"), (-2.254, "-2.25")])
def test_coordinates(value: float, shown: str) -> None:
    assert coordinate(value) == shown


def test_a_point_that_is_not_a_number_opens_the_polygon() -> None:
    values = random_values(["a", "b"])
    data = radar(plotted(values, 4, {("b", 1): "no weights"}), "t")
    dashless = [
        e.attrib["d"] for e in ElementTree.fromstring(data).iter(f"{SVG}path") if e.attrib.get("stroke") == "#D55E00"
    ]
    assert dashless[0].count("M") == 2
    assert not math.isnan(len(dashless))
