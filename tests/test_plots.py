"""Plots: what stands on the axes, what is missing and said to be, files that are the same twice."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import make_outputs, make_tno, textured

from evalkit.cli import main
from evalkit.data.images import write_png
from evalkit.errors import DataError, EvalkitError, ImageError, UnknownNameError
from evalkit.leaderboards.plots.bars import bar, box
from evalkit.leaderboards.plots.common import INNER, corners, distribution, gather, number, radii
from evalkit.leaderboards.plots.critical import critical
from evalkit.leaderboards.plots.cumulative import cumulative
from evalkit.leaderboards.plots.curves import curves, read_maps
from evalkit.leaderboards.plots.grid import GridScene, grid
from evalkit.leaderboards.plots.pages import pages
from evalkit.leaderboards.plots.radar import radar
from evalkit.leaderboards.plots.scatter import read_cost, scatter
from evalkit.leaderboards.plots.scenes import load_scenes
from evalkit.leaderboards.plots.style import COLOURS, Drawing, check_suffix, line_style, style
from evalkit.leaderboards.plots.values import blocks
from evalkit.leaderboards.plots.zoom import Box, choose_boxes, parse_boxes, place_box
from evalkit.leaderboards.run_values import ValueBlock
from evalkit.leaderboards.significance import critical_difference
from evalkit.metrics.saliency import saliency_curves
from evalkit.protocols.run import reproduce
from evalkit.protocols.schema import protocols

MAGIC = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run on eight small pairs; the last of its methods, named in Chinese, lacks an image."""
    root = tmp_path_factory.mktemp("plots")
    make_tno(root / "data", 8)
    make_outputs(root / "outputs", "融合 net", 7)
    reproduce(
        "smfnet-table1", root / "data", outputs=root / "outputs", datasets=["TNO"], out=root / "run", workers=1,
        methods=["average", "maximum", "laplacian", "融合 net"],
    )  # fmt: skip
    return root / "run"


def block(values: dict[str, dict[str, float]], **better: str) -> ValueBlock:
    frame = pd.DataFrame.from_dict(values, orient="index")
    missing_values = {(m, c): "no weights" for m in frame.index for c in frame.columns if math.isnan(frame.loc[m, c])}
    return ValueBlock(
        "TNO", "smfnet", frame, {c: better.get(c, "higher") for c in frame.columns}, missing_values, left_out={}
    )


def lines(axes) -> dict:
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_child")}


def scores(run: Path, method: str, metric: str) -> list[float]:
    with open(run / "scores" / "TNO" / f"{method}.csv", encoding="utf-8") as file:
        return [float(row[metric]) for row in csv.DictReader(file)]


def test_cumulative_is_the_share_of_values_not_above() -> None:
    values = np.random.default_rng(0).normal(size=37).round(1)  # with ties
    x, y = distribution(values)
    assert x[0] == 1 / 37
    assert x[-1] == 1
    assert (np.diff(y) >= 0).all()
    for share, value in zip(x, y, strict=True):
        assert np.mean(values <= value) >= share - 1e-12 >= np.mean(values < value) - 1e-12


def test_cumulative_draws_the_scores_and_names_the_mean_and_the_missing(run) -> None:
    drawing = cumulative(blocks([run], metrics=["EN"]))
    (axes,) = drawing.figure.axes
    found = lines(axes)
    for method in ("average", "maximum", "laplacian"):
        expected = scores(run, method, "EN")
        line = found[f"{method}: {np.mean(expected):.4f}"]
        np.testing.assert_array_equal(line.get_ydata(), sorted(expected))
        np.testing.assert_allclose(line.get_xdata(), np.arange(1, 9) / 8)
    assert len(found) == 3
    assert "融合 net (missing)" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert list(drawing.missing) == ["融合 net"]
    assert "08" in drawing.missing["融合 net"]


def test_radar_puts_the_best_outside_whichever_way_is_better() -> None:
    values = {"a": (5, 0.1, 1), "b": (7, 0.3, 1), "c": (6, 0.2, 1)}
    one = block({name: dict(zip(("EN", "MSE", "VIF"), row, strict=True)) for name, row in values.items()}, MSE="lower")
    middle = (INNER + 1) / 2
    np.testing.assert_allclose(
        radii(one.values.to_numpy(), [True, False, True]), [[INNER, 1, 1], [1, INNER, 1], [middle, middle, 1]]
    )
    found = {line.get_gid(): line for line in radar([one]).figure.axes[0].lines if line.get_gid()}
    third = 2 * math.pi / 3  # from the top, clockwise
    expected = [(0, INNER), (math.sin(third), math.cos(third)), (math.sin(2 * third), math.cos(2 * third)), (0, INNER)]
    np.testing.assert_allclose(np.transpose(found["a"].get_data()), expected, atol=1e-12)


def test_radar_leaves_a_missing_value_open_and_names_it() -> None:
    nan = math.nan
    values = {"a": (5, 1, 1), "b": (7, nan, 2), "c": (nan, nan, nan)}
    one = block({name: dict(zip(("EN", "SD", "VIF"), row, strict=True)) for name, row in values.items()})
    drawing = radar([one])
    found = {line.get_gid(): line for line in drawing.figure.axes[0].lines if line.get_gid()}
    assert set(found) == {"a", "b"}
    assert np.isnan(found["b"].get_ydata()).tolist() == [False, True, False, False]
    assert drawing.missing == {"b SD": "no weights", "c": "no weights"}
    assert "c (missing)" in [text.get_text() for text in drawing.figure.legends[0].get_texts()]


def test_radar_of_two_metrics_is_refused() -> None:
    with pytest.raises(DataError, match="three metrics"):
        radar([block({"a": {"EN": 5, "SD": 1}, "b": {"EN": 7, "SD": 2}})])


def test_corners_close() -> None:
    x, y = corners(np.array([1.0, 0.5, 0.5, 0.5]))
    np.testing.assert_allclose(np.transpose([x, y]), [(0, 1), (0.5, 0), (0, -0.5), (-0.5, 0), (0, 1)], atol=1e-12)


def test_bars_end_at_the_means_and_a_missing_value_has_none() -> None:
    drawing = bar([block({"a": {"EN": 5}, "b": {"EN": math.nan}, "c": {"EN": 6}})])
    (axes,) = drawing.figure.axes
    assert [(p.get_width(), p.get_y() + p.get_height() / 2) for p in axes.patches] == [(5, 0), (6, 2)]
    assert axes.get_xlim()[0] == 0
    assert "missing" in [text.get_text() for text in axes.texts]
    assert drawing.missing == {"b": "no weights"}


def test_boxes_stand_at_the_quartiles(run) -> None:
    drawing = box(blocks([run], metrics=["VIF"], methods=["laplacian", "融合 net"]))
    (patch,) = drawing.figure.axes[0].patches
    expected = np.quantile(scores(run, "laplacian", "VIF"), [0.25, 0.75])
    ends = patch.get_path().vertices[:, 0]
    np.testing.assert_allclose([ends.min(), ends.max()], expected)
    assert list(drawing.missing) == ["融合 net"]


def test_critical_joins_the_groups_of_the_test(run) -> None:
    one = blocks([run], metrics=["VIF"])
    drawing = critical(one)
    frame = pd.DataFrame({method: scores(run, method, "VIF") for method in ("average", "maximum", "laplacian")})
    expected = critical_difference(frame)
    bars = [line.get_xdata() for line in drawing.figure.axes[0].lines if line.get_linewidth() == 2.2]
    ends = [(expected.ranks[group[0]], expected.ranks[group[-1]]) for group in expected.groups]
    np.testing.assert_allclose(bars, ends, atol=0.03)
    texts = " ".join(text.get_text() for text in drawing.figure.axes[0].texts)
    assert f"CD = {expected.cd:.2f}" in texts
    assert all(f"{rank:.2f}" in texts for rank in expected.ranks.values())
    with pytest.raises(DataError, match="three"):
        critical(blocks([run], metrics=["VIF"], methods=["average", "maximum"]))


def test_scatter_takes_quality_and_cost_of_the_same_method() -> None:
    quality = blocks(published="smfnet-table1", datasets=["TNO"], metrics=["VIF"])
    drawing = scatter(quality, read_cost("smfnet-table5", "Params"))
    (axes,) = drawing.figure.axes
    points = {label: tuple(line.get_xydata()[0]) for label, line in lines(axes).items()}
    assert points["CDDFuse"][1] == 0.7682
    rows = {row["method"]: row for row in published("smfnet-table5") if row["metric"] == "Params"}
    assert {name: x for name, (x, _) in points.items()} == {m: float(rows[m]["printed"]) for m in points}
    assert len(points) + len(drawing.missing) == 12
    names = [text for text in axes.texts if text.get_text() in points]
    boxes = [text.get_window_extent() for text in names]
    assert len(boxes) == len(points)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def published(name: str) -> list[dict[str, str]]:
    import evalkit.protocols as home

    with open(Path(home.__path__[0]) / "published" / f"{name}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scatter_names_what_has_no_cost() -> None:
    drawing = scatter([block({"CDDFuse": {"EN": 5}, "mine": {"EN": 6}})], read_cost("cards", "Params"))
    assert list(drawing.missing) == ["mine"]
    assert lines(drawing.figure.axes[0])["CDDFuse"].get_xdata() == [pytest.approx(1.188272)]
    with pytest.raises(EvalkitError, match="FLOPs"):
        read_cost("cards", "FLOPs")


def test_curves_are_the_mean_over_the_maps(tmp_path) -> None:
    expected = []
    for i in range(3):
        mask, image = (textured(i) > 120).astype(np.uint8) * 255, textured(i + 9)
        write_png(tmp_path / "truth" / f"{i}.png", mask)
        write_png(tmp_path / "maps" / "one" / f"{i}.png", image)
        expected.append(saliency_curves(image, mask))
        if i:
            write_png(tmp_path / "maps" / "two" / f"{i}.png", image)
    found, missing = read_maps(tmp_path / "maps", tmp_path / "truth")
    for kind, x, y in (("pr", "recall", "precision"), ("f", None, "f")):
        drawing = curves(kind, found, missing)
        (line,) = drawing.figure.axes[0].lines
        np.testing.assert_allclose(line.get_ydata(), np.mean([getattr(c, y) for c in expected], axis=0))
        want = np.mean([getattr(c, x) for c in expected], axis=0) if x else np.arange(256)
        np.testing.assert_allclose(line.get_xdata(), want)
        assert list(drawing.missing) == ["two"]
        assert "two (missing)" in [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    with pytest.raises(UnknownNameError, match="'one'"):
        read_maps(tmp_path / "maps", tmp_path / "truth", ["on"])
    with pytest.raises(DataError, match="does not exist"):
        read_maps(tmp_path / "none", tmp_path / "truth")


def test_grid_shows_the_pixels_and_their_crops(run) -> None:
    scenes, missing = load_scenes(
        run, stems=["08"], boxes=["6,4,12,9", "0.5,0.5,0.25,0.25"], data_root=run.parent / "data"
    )
    drawing = grid(scenes, missing)
    panels = {axes.get_gid(): axes for axes in drawing.figure.axes}
    image = scenes[0].images["laplacian"]
    np.testing.assert_array_equal(panels["08|laplacian"].images[0].get_array(), image)
    np.testing.assert_array_equal(panels["08|laplacian|0"].images[0].get_array(), image[4:13, 6:18])
    np.testing.assert_array_equal(panels["08|laplacian|1"].images[0].get_array(), image[24:36, 32:48])
    for gid, axes in panels.items():  # the pixels stay square
        if axes.images:
            height, width = axes.images[0].get_array().shape[:2]
            extent = axes.get_window_extent()
            assert extent.width / extent.height == pytest.approx(width / height, rel=1e-6), gid
    assert not panels["08|融合 net"].images
    assert "融合 net" in drawing.missing


@pytest.mark.parametrize("options", [{}, {"methods_down": True}, {"per_line": 2}, {"width": "column"}])
def test_grid_stays_inside_the_figure_and_nothing_overlaps(run, options) -> None:
    scenes, missing = load_scenes(run, stems=["01", "08"], data_root=run.parent / "data")
    figure = grid(scenes, missing, **options).figure
    with style():
        figure.draw_without_rendering()
    page = figure.bbox
    boxes = [axes.get_window_extent() for axes in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts if text.get_text()]
    for i, one in enumerate(boxes):
        assert one.x0 >= page.x0 - 0.5
        assert one.x1 <= page.x1 + 0.5
        assert one.y0 >= page.y0 - 0.5
        assert one.y1 <= page.y1 + 0.5
        for other in boxes[:i]:
            wide = min(one.x1, other.x1) - max(one.x0, other.x0)
            high = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert min(wide, high) < 0.5


def test_boxes_lie_where_details_differ_and_apart() -> None:
    images = [np.full((100, 200), level, np.uint8) for level in (60, 90, 180)]  # brighter as a whole: decides nothing
    noise = np.random.default_rng(1).integers(-40, 40, (16, 30))
    images[1][70:86, 150:180] += noise.astype(np.uint8)
    images[2][10:26, 20:50] += (noise // 2).astype(np.uint8)
    first, second = choose_boxes(images)
    assert (first.w, first.h) == (40, 20)
    assert 140 <= first.x <= 150
    assert 66 <= first.y <= 70
    assert 10 <= second.x <= 20
    assert 6 <= second.y <= 10
    assert choose_boxes(images[:1]) == []


def test_boxes_as_written() -> None:
    assert place_box((0.5, 0.25, 0.1, 0.2), 200, 100) == Box(100, 25, 20, 20)
    assert place_box((10, 20, 30, 40), 200, 100) == Box(10, 20, 30, 40)
    both = parse_boxes(["1,2,3,4", "b:5,6,7,8", "b:0,0,9,9"], ["a", "b"])
    assert both == {"a": [(1, 2, 3, 4)], "b": [(5, 6, 7, 8), (0, 0, 9, 9)]}
    for text, match in (("1,2,3", "x,y,w,h"), ("1,2,0,4", "x,y,w,h"), ("c:1,2,3,4", "'c' is not drawn")):
        with pytest.raises(EvalkitError, match=match):
            parse_boxes([text], ["a"])
    with pytest.raises(EvalkitError, match="200x100"):
        place_box((190, 0, 30, 10), 200, 100)


def test_sizes_that_differ_are_named() -> None:
    with pytest.raises(ImageError, match="scene x: mine is 5x4 pixels, Infrared 6x4"):
        GridScene("x", {"Infrared": np.zeros((4, 6), np.uint8), "mine": np.zeros((4, 5), np.uint8)})


def test_reasons_are_gathered() -> None:
    panels = [("TNO", "EN"), ("TNO", "SD"), ("MSRS", "EN")]
    reasons = {("a", panel): "x" for panel in panels}
    reasons |= {("b", panels[0]): "y", ("b", panels[1]): "y", ("c", panels[1]): "z"}
    assert gather(reasons, panels) == {"a": "x", "b on TNO": "y", "c SD on TNO": "z"}


def test_twelve_looks_differ_without_colour_and_with_it() -> None:
    looks = [line_style(i) for i in range(84)]
    assert len({look["marker"] for look in looks[:12]}) == 12
    assert len({(look["color"], look["marker"]) for look in looks}) == 84
    assert len(set(COLOURS)) == len(COLOURS)


KINDS = {
    "radar": ["RUN", "--metrics", "EN,SD,VIF"],
    "cumulative": ["RUN", "--metrics", "EN"],
    "bar": ["RUN", "--metrics", "EN"],
    "box": ["RUN", "--metrics", "EN"],
    "critical": ["RUN", "--metrics", "EN"],
    "scatter": ["--published", "smfnet-table1", "--datasets", "TNO", "--metrics", "EN", "--cost", "smfnet-table5"],
    "grid": ["RUN", "--data-root", "RUN/../data", "--scenes", "08", "--width", "column"],
    "f": ["MAPS", "--truth", "MAPS/average"],
    "pr": ["MAPS", "--truth", "MAPS/average"],
}


@pytest.fixture(scope="module")
def maps(run, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("maps")
    for method in ("average", "laplacian"):
        for i in range(2):
            image = textured(i) if method == "laplacian" else (textured(i + 5) > 99).astype(np.uint8) * 255
            write_png(root / method / f"{i}.png", image)
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_bytes_twice_in_every_format(kind, run, maps, tmp_path, monkeypatch) -> None:
    """Two runs of the command; each figure, as it is saved, is written in the other formats as well."""
    arguments = [a.replace("RUN", str(run)).replace("MAPS", str(maps)) for a in KINDS[kind]]
    drawn: list[Drawing] = []
    save = Drawing.save
    monkeypatch.setattr(Drawing, "save", lambda self, path: drawn.append(self) or save(self, path))
    for _ in range(2):
        file = tmp_path / "plot.png"
        result = CliRunner().invoke(main, ["plot", kind, *arguments, "--out", str(file)], catch_exceptions=False)
        assert result.exit_code == (0 if kind in ("scatter", "f", "pr") else 3), result.output
        assert file.read_bytes().startswith(MAGIC["png"])
    for form, magic in MAGIC.items():
        first, second = (drawing.data(form) for drawing in drawn)
        assert first == second
        assert first.startswith(magic)
        assert b"/Type3" not in first  # publishers refuse it
        assert b"CreationDate" not in first
        assert b"<dc:date>" not in first


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["radr", "RUN", "--out", "a.pdf"], "'radar'"),
        (["radar", "RUN", "--out", "a.jpg"], ".pdf, .svg or .png"),
        (["radar", "RUN", "--methods", "averge", "--out", "a.pdf"], "'average'"),
        (["radar", "RUN", "--metrics", "ENN", "--out", "a.pdf"], "'EN'"),
        (["radar", "RUN", "--datasets", "TNOO", "--out", "a.pdf"], "'TNO'"),
        (["radar", "--published", "smfnet-table", "--out", "a.pdf"], "smfnet-table"),
        (["radar", "RUN", "--published", "smfnet-table1", "--out", "a.pdf"], "one of both"),
        (["radar", "--out", "a.pdf"], "one of both"),
        (["radar", "RUN/none", "--out", "a.pdf"], "table.json"),
        (["cumulative", "RUN", "--methods", "融合 net", "--out", "a.pdf"], "nothing to draw"),
        (["grid", "RUN", "--data-root", "RUN/../data", "--scenes", "011", "--out", "a.pdf"], "'01'"),
        (["grid", "RUN", "--data-root", "RUN/../data", "--box", "700,0,10,10", "--out", "a.pdf"], "leaves the image"),
    ],
)
def test_mistakes_are_one_paragraph(arguments, match, run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["plot", *(a.replace("RUN", str(run)) for a in arguments)])
    assert result.exit_code == 2, result.output
    assert match in result.output
    assert not list(tmp_path.iterdir())


def test_suffix() -> None:
    assert check_suffix("A.PDF") == "pdf"


def test_text_stays_inside_and_apart(run) -> None:
    one = blocks([run])[0]
    for drawing in (radar([one]), radar([one], width="page")):
        drawing.figure.draw_without_rendering()
        page = drawing.figure.bbox
        (axes,) = drawing.figure.axes
        extents = [text.get_window_extent() for text in [*axes.texts, axes.title]]
        assert all(page.x0 <= e.x0 and e.x1 <= page.x1 and page.y0 <= e.y0 and e.y1 <= page.y1 + 1 for e in extents)
        assert not any(a.overlaps(b) for i, a in enumerate(extents) for b in extents[:i])


class Measured(ValueBlock):
    """Values per image that are drawn from a generator instead of read from a run."""

    def scores(self, methods, metric):
        rng = np.random.default_rng(len(metric))
        return pd.DataFrame({m: rng.normal(self.values.loc[m, metric], 1, 30) for m in methods})


def measured(dataset: str, methods: list[str], metrics: list[str]) -> Measured:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(5, 2, (len(methods), len(metrics))), methods, metrics)
    homes = dict.fromkeys(methods, None)
    return Measured(dataset, "vifb", frame, dict.fromkeys(metrics, "higher"), {}, {}, homes)


LARGEST = max(protocols().values(), key=lambda p: len(p.methods) * len(p.metrics) * len(p.datasets))


@pytest.mark.parametrize(
    ("kind", "width"),
    [(bar, None), (box, None), (critical, None), (critical, "column"), (cumulative, None), (radar, None)],
)
def test_default_sizes_fit_a_page_and_nothing_is_left_out(kind, width) -> None:
    largest = [measured(name, LARGEST.methods, list(LARGEST.metrics)) for name in LARGEST.datasets]
    if kind is bar:
        largest = [replace(one, homes={}) for one in largest]  # without intervals, which take long
    drawings = pages(kind, largest, width, by_dataset=kind is radar)
    assert len(drawings) > 1 or kind is radar
    for drawing in drawings:
        wide, high = drawing.figure.get_size_inches() * 300
        assert wide <= 2400
        assert high <= 3000
        assert not drawing.missing
    shown = [axes for drawing in drawings for axes in drawing.figure.axes]
    assert len(shown) == len(largest) * (1 if kind is radar else len(LARGEST.metrics))


def test_a_few_panels_stay_in_a_column_and_many_fill_pages_evenly() -> None:
    metrics = [f"M{i}" for i in range(13)]
    (column,) = pages(cumulative, [measured("TNO", ["a", "b"], metrics[:2])])
    assert column.figure.get_size_inches()[0] == 3.5
    sizes = [len(d.figure.axes) for d in pages(critical, [measured("TNO", [f"m{i}" for i in range(12)], metrics)])]
    assert sum(sizes) == 13
    assert max(sizes) - min(sizes) <= 1


def test_a_panel_that_cannot_be_drawn_is_named_beside_those_that_can(monkeypatch) -> None:
    def draw(blocks, width):
        if "M1" in blocks[0].values:
            raise DataError("nothing to draw: no weights.")
        return bar(blocks, width)

    monkeypatch.setattr("evalkit.leaderboards.plots.pages.MANY", 1)
    (drawing,) = pages(draw, [measured("TNO", ["a", "b"], ["M0", "M1"])], "page")
    assert drawing.missing == {"M1 on TNO": "nothing to draw: no weights"}
    with pytest.raises(DataError, match="no weights"):
        pages(draw, [measured("TNO", ["a", "b"], ["M1"])], "page")


def test_pages_are_numbered_files_and_the_command_says_so(tmp_path) -> None:
    arguments = ["plot", "bar", "--published", "tsjnet-table1", "--out", str(tmp_path / "bar.svg")]
    done = CliRunner().invoke(main, arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bar-2.svg", "bar.svg"]
    assert "2 pages" in done.output
    assert "--metrics" in done.output


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize("count", [3, 30])
def test_a_grid_with_methods_down_is_one_page_at_most(width, count) -> None:
    images = {f"method {i}": textured(i) for i in range(count)}
    scenes = [GridScene(name, images, choose_boxes(list(images.values()))) for name in ("a", "b")]
    drawing = grid(scenes, {}, width, methods_down=True)
    wide, high = drawing.figure.get_size_inches()
    assert wide <= 7.16 + 1e-9
    assert high <= 9.25 or count == 3
    for axes in drawing.figure.axes:
        x0, y0, x1, y1 = axes.get_position().extents
        assert min(x0, y0) >= 0
        assert max(x1, y1) <= 1


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (46.0, 4, "46.00"),
        (0.383, 4, "0.3830"),
        (9610.4, 3, "9610"),
        (12345.6, 4, "12346"),
        (2.5e7, 4, "2.5e+07"),
        (0, 3, "0"),
    ],
)
def test_numbers_of_plots(value, digits, shown) -> None:
    assert number(value, digits) == shown
