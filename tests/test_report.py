"""The report of a run: what stands in it, that it needs nothing else, and that its images are those measured."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from conftest import make_outputs, make_tno, textured
from PIL import Image

import evalkit
from evalkit.cli import main
from evalkit.data.images import read_image, write_png
from evalkit.errors import DataError, EvalkitError, UnknownNameError
from evalkit.leaderboards.plots.zoom import Box
from evalkit.leaderboards.report.images import OTHER, ReportScene, Shot
from evalkit.leaderboards.report.page import SECTIONS
from evalkit.leaderboards.report.panels import scene as scene_html
from evalkit.leaderboards.report.pictures import BUDGET, SHARE, details, overviews, shrunk
from evalkit.leaderboards.report.scenes import Choice, choose
from evalkit.protocols.table.cells import Cell, Column
from evalkit.protocols.table.table import Table

HOSTILE = """<img src=x onerror="alert(1)">&'x"""
METHODS = ["CDDFuse", HOSTILE, "average", "maximum", "PMGI"]
VOID = {"meta", "img", "br", "link", "input"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """root/data, root/outputs, root/run: two methods of the user, two of evalkit, one that has no images."""
    root = tmp_path_factory.mktemp("report")
    make_tno(root / "data")
    make_outputs(root / "outputs")
    for i in range(1, 26):
        image = (textured(i).astype(int) + 2 * textured(1000 + i)) // 3
        write_png(root / "outputs" / HOSTILE / "TNO" / f"{i:02d}.png", image.astype(np.uint8))
    evalkit.reproduce(
        "smfnet-table1", root / "data", outputs=root / "outputs", datasets=["TNO"], methods=METHODS, workers=1,
        out=root / "run",
    )  # fmt: skip
    return root


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    assert evalkit.report(root / "run", root / "r.html", data_root=root / "data", outputs=root / "outputs") == []
    return (root / "r.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Every element with its attributes, whose ends fit; and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def run_command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def without_images(text: str) -> str:
    return re.sub(r"data:[a-z/+]+;base64,[^\"]*", "", text)


def images_in(text: str, alt: str) -> list[np.ndarray]:
    uris = re.findall(rf'<img[^>]*src="data:image/\w+;base64,([^"]*)" alt="{re.escape(alt)}"', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri)))) for uri in uris]


def test_it_needs_nothing_else(text: str) -> None:
    page = Elements(text)
    tags = {tag for tag, _ in page.found}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "button"}
    for tag, attributes in page.found:
        assert not [name for name in attributes if name.startswith("on")], attributes
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/")
            assert attributes["alt"]
        if "href" in attributes:
            assert re.fullmatch(r"#\w+", str(attributes["href"]))
    assert not re.search(r"url\(|@import", "".join(page.said))
    assert "default-src 'none'" in text


def test_everything_is_there(text: str) -> None:
    page = Elements(text)
    said = " ".join(page.said)
    assert [a["id"] for tag, a in page.found if tag == "section" and "id" in a] == list(SECTIONS)
    assert said.count(HOSTILE) > 5  # as text
    for part in (
        "25 pairs", "best in bold", "mean rank", "chi-square", "not differ significantly", "D = ", "worst of", "S = ",
        "worst here", "standard deviation of the metric over the methods", "JPEG of quality 92", "every pixel, PNG",
        "given images (outputs)", "in convention smfnet", "numpy", "A command line is not recorded",
    ):  # fmt: skip
        assert part in said, part
    assert said.count("PMGI:") == 1  # why its values are missing, once
    assert len(re.findall(r"data:image/svg", text)) == 8 + 1 + 8
    assert re.search(r'class="published (differs|close|equal|other data)', text)


def test_a_name_is_never_markup(text: str) -> None:
    assert HOSTILE not in text
    assert "alert(1)" in text
    assert "onerror=&quot;" in text


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(root: Path, text: str, tmp_path: Path) -> None:
    shutil.copytree(root / "run", tmp_path / "elsewhere")
    evalkit.report(tmp_path / "elsewhere", tmp_path / "b.html", data_root=root / "data", outputs=root / "outputs")
    assert (tmp_path / "b.html").read_text(encoding="utf-8") == text


def test_images_are_those_measured(root: Path, text: str) -> None:
    scores = pd.read_csv(root / "run" / "scores" / "TNO" / "average.csv", dtype={"image": str}, index_col="image")
    assert len(scores) == 25
    stem = re.findall(r'alt="Infrared, (\w+)"', text)[0]
    overview, detail = images_in(text, f"average, {stem}")[0], images_in(text, f"average, {stem}, detail")[0]
    whole = read_image(root / "run" / "fused" / "average" / "TNO" / f"{stem}.png")
    assert overview.shape == whole.shape
    assert np.abs(overview.astype(int) - whole).mean() < 3  # JPEG
    x, y = map(int, re.search(r"at column (\d+), row (\d+)", text).groups())  # type: ignore[union-attr]
    assert np.array_equal(detail, whole[y : y + detail.shape[0], x : x + detail.shape[1]])


@pytest.mark.parametrize("changed", ["fused", "infrared"])
def test_other_images_are_not_shown(root: Path, tmp_path: Path, changed: str) -> None:
    shutil.copytree(root, tmp_path / "copy")
    copy = tmp_path / "copy"
    folder = copy / ("run/fused/average/TNO" if changed == "fused" else "data/TNO/ir")
    for path in folder.iterdir():
        write_png(path, textured(77))
    result = run_command(
        copy / "run", "--data-root", copy / "data", "--outputs", copy / "outputs", "--out", tmp_path / "a.html",
        "--sections", "images",
    )  # fmt: skip
    assert result.exit_code == 0
    made = (tmp_path / "a.html").read_text(encoding="utf-8")
    name = "average" if changed == "fused" else "Infrared"
    assert OTHER in made
    assert re.search(rf"images of [^\n]*{name}[^\n]*: {re.escape(OTHER)}", result.stderr)
    assert not re.search(rf'alt="{name}, \d+"', made)
    other = "Infrared" if changed == "fused" else "average"
    assert re.search(rf'alt="{other}, \d+"', made)


def test_images_of_one_changed_file_alone_are_left_out(root: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(root, tmp_path / "copy")
    stems = sorted(set(re.findall(r'alt="average, (\w+)"', text)))
    write_png(tmp_path / "copy" / "run" / "fused" / "average" / "TNO" / f"{stems[0]}.png", textured(77))
    evalkit.report(
        tmp_path / "copy" / "run", tmp_path / "a.html", data_root=tmp_path / "copy" / "data",
        outputs=tmp_path / "copy" / "outputs", only="images",
    )  # fmt: skip
    made = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert sorted(set(re.findall(r'alt="average, (\w+)"', made))) == stems[1:]


def test_where_images_cannot_be_found_the_report_says_so(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVALKIT_DATA", raising=False)
    result = run_command(root / "run", "--sections", "images", "--out", tmp_path / "a.html")
    assert result.exit_code == 0
    assert "no data root is named" in result.stderr
    made = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "no data root is named" in without_images(made)
    assert made.count('class="none">not shown') > 4
    assert re.search(r'alt="average, \d+"', made)  # whose hash as a whole is that of the record
    assert not re.search(r'alt="(Infrared|CDDFuse), \d+"', made)
    Elements(made)


def test_mistakes_are_said_in_a_sentence(root: Path, tmp_path: Path) -> None:
    with pytest.raises(EvalkitError, match=r"\.html"):
        evalkit.report(root / "run", tmp_path / "a.pdf")
    with pytest.raises(DataError, match=r"table\.json"):
        evalkit.report(root / "data", tmp_path / "a.html")
    with pytest.raises(UnknownNameError, match="tables"):
        evalkit.report(root / "run", tmp_path / "a.html", only=["table"])
    with pytest.raises(DataError, match="outputs"):
        evalkit.report(root / "run", tmp_path / "a.html", outputs=tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_sections_are_chosen(root: Path, tmp_path: Path) -> None:
    result = run_command(root / "run", "--sections", "tables,versions", "--out", tmp_path / "a.html")
    assert result.exit_code == 0, result.output
    page = Elements((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert [a["id"] for tag, a in page.found if tag == "section"] == ["tables", "versions"]


def test_a_run_without_scores_per_image(tmp_path: Path) -> None:
    """As those of detection, segmentation and cost: means over a test set, and none per image."""
    names, rows = ["IoU", "Acc"], ["a", "b", "c"]
    columns = [Column(name, "higher", "set") for name in names]
    cells = [
        Cell("MSRS · N", m, c, i + j, None, 4, "unpublished") for i, m in enumerate(rows) for j, c in enumerate(names)
    ]
    table = Table("mine", "Own <table>", "", "set", "", columns, cells=cells, blocks={"MSRS · N": ["MSRS", "N"]})
    table.write(tmp_path / "run")
    assert evalkit.report(tmp_path / "run", tmp_path / "a.html") == []
    page = Elements((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert [a["id"] for tag, a in page.found if tag == "section"] == ["tables", "ranks", "setup", "versions"]
    assert "there are none per image" in " ".join(page.said)


def test_what_was_cut_off_and_left_out_is_not_shown(root: Path, tmp_path: Path) -> None:
    for path in sorted((root / "outputs/CDDFuse/TNO").iterdir())[:10]:
        padded = np.pad(read_image(path), ((0, 3), (0, 5)), mode="edge")
        write_png(tmp_path / "outputs/CDDFuse/TNO" / path.name, padded)
    options = {"datasets": ["TNO"], "methods": ["CDDFuse", "average"], "workers": 1, "out": tmp_path / "run"}
    evalkit.reproduce(
        "smfnet-table1", root / "data", outputs=tmp_path / "outputs", crop="end", images="common", **options
    )
    folders = {"data_root": root / "data", "outputs": tmp_path / "outputs"}
    assert evalkit.report(tmp_path / "run", tmp_path / "a.html", **folders, only=["images", "setup"]) == []
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    (stem, *_) = re.findall(r'alt="CDDFuse, (\w+)"', text)
    assert images_in(text, f"CDDFuse, {stem}")[0].shape == images_in(text, f"Visible, {stem}")[0].shape == (48, 64)
    assert images_in(text, f"CDDFuse, {stem}, detail")
    assert "crop: end" in text
    assert re.search("selected: [^<]*10", text)


def test_a_metric_in_two_conventions_is_ranked_in_one_and_drawn_in_both(root: Path, tmp_path: Path) -> None:
    fields = {
        "title": "two", "convention": "smfnet", "metrics": ["SSIM[tang]", "EN", "SSIM", "SSIM[tsjnet]"],
        "datasets": {"TNO": {}}, "methods": ["average", "maximum", "laplacian"],
    }  # fmt: skip
    evalkit.benchmark(fields, data_root=root / "data", out=tmp_path / "run", workers=1)
    assert evalkit.report(tmp_path / "run", tmp_path / "a.html", data_root=root / "data") == []
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    page = Elements(text)
    assert "Not among the ranks: SSIM[tang], SSIM[tsjnet], whose" in " ".join(page.said)
    titles = [a["alt"] for tag, a in page.found if tag == "img" and str(a["alt"]).startswith("Values per image")]
    assert titles == [f"Values per image: TNO, {m}" for m in ("SSIM[tang]", "EN", "SSIM", "SSIM[tsjnet]")]
    ranks = text.partition('id="ranks"')[2].partition("<table>")[2].partition("</thead>")[0]
    assert re.findall(r'<th scope="col">([^<]*)', ranks) == ["method", "EN", "SSIM", "mean rank", "Borda"]


def test_a_run_of_one_method(root: Path, tmp_path: Path) -> None:
    options = {"datasets": ["TNO"], "methods": ["average"], "workers": 1, "out": tmp_path / "run"}
    evalkit.reproduce("smfnet-table1", root / "data", **options)
    assert evalkit.report(tmp_path / "run", tmp_path / "a.html", data_root=root / "data") == []
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "mean over the images" in text
    assert "worst of average" in text
    assert "differ most here" not in text
    assert re.search(r'class="detail"', text)


def test_saliency_maps_are_shown_with_their_masks(tmp_path: Path) -> None:
    for i in range(5):
        mask = np.zeros((40, 48), np.uint8)
        mask[8 : 20 + i, 10 : 30 + i] = 255
        write_png(tmp_path / f"data/VT821/GT/{i}.png", mask)
        write_png(tmp_path / f"data/VT821/RGB/{i}.png", np.dstack([textured(i, 40, 48)] * 3))
        write_png(tmp_path / f"data/VT821/T/{i}.png", textured(50 + i, 40, 48))
        for method, seed in (("DCNet", 1), ("SMR-Net", 2), ("MIDD", 3)):
            write_png(tmp_path / f"maps/{method}/VT821/{i}.png", mask // 2 + textured(seed + i, 40, 48) // 3)
    evalkit.reproduce(
        "smrnet-table2", tmp_path / "data", outputs=tmp_path / "maps", methods=["DCNet", "SMR-Net", "MIDD"],
        datasets=["VT821"], out=tmp_path / "run", workers=1,
    )  # fmt: skip
    notes = evalkit.report(
        tmp_path / "run", tmp_path / "a.html", data_root=tmp_path / "data", outputs=tmp_path / "maps"
    )
    assert notes == []
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    (ranking,) = evalkit.rank(tmp_path / "run")
    assert {*ranking.friedman, *ranking.no_friedman} == {"S", "F", "E", "MAE"}
    assert ranking.friedman["MAE"].n == 5
    for name in ("Infrared", "Visible", "Mask", "DCNet", "SMR-Net"):
        assert re.search(rf'alt="{name}, \d"', text), name


def test_a_hyphen_in_a_name_stays_one() -> None:
    frame = pd.DataFrame({"RFN-Nest": [1.0, 5.0, 5.0], "b": [2.0, 5.0, 4.0], "c": [2.0, 5.0, 5.0]}, ["1", "2", "3"])
    choices = choose({"EN": frame}, {"EN": "higher"})
    assert [c.stem for c in choices.different] == ["1", "3"]
    assert choices.above["RFN-Nest"] == "1"
    many = {f"m-{i}": [float(i), 3.0, 0.0, 1.0] for i in range(12)}
    many["m-3"] = [3.0, -9.0, 0.0, 1.0]
    choices = choose({"EN": pd.DataFrame(many, ["1", "2", "3", "4"])}, {"EN": "higher"})
    for choice in choices.worst:
        assert "m-" in choice.why
        assert set(choice.methods) == set(choice.notes)
        assert len(choice.methods) < 12


def test_images_fit_their_share() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (600, 800, 3), dtype=np.uint8) for _ in range(3)]
    for kind in (overviews, details):
        fitted = kind(noise, 120_000)
        assert sum(len(base64.b64decode(uri.partition(",")[2])) for uri in fitted.uris) <= 120_000
        assert "shrunk to a width of" in fitted.how
    assert overviews([textured(1)], 60_000).how == "every pixel, JPEG of quality 92"
    assert np.array_equal(shrunk(noise[0], 800), noise[0])
    assert shrunk(noise[0], 200).shape == (150, 200, 3)
    flat = np.kron(np.array([[0, 100], [200, 40]], np.uint8), np.ones((30, 40), np.uint8))
    assert np.array_equal(shrunk(flat, 2), [[0, 100], [200, 40]])


def test_a_report_of_20_methods_on_3_data_sets_stays_small() -> None:
    """The images of a scene with the share that it has in such a report, of real sizes, in colour."""
    count = 3 * (2 * 22 + 20 * 4)
    share = min(SHARE, BUDGET // count)
    shots = [Shot(f"m{i}", np.dstack([textured(i + k, 480, 640) for k in range(3)])) for i in range(22)]
    shown = ReportScene("1", shots, Box(10, 20, 128, 96), (480, 640))
    text = scene_html(shown, Choice("1", [], "", {}), share * len(shots))
    assert len(text) < 1.4 * share * len(shots) + 10_000
    assert count * share * 1.4 < 9e6


def test_an_image_of_another_size_is_shown_without_a_detail() -> None:
    shots = [
        Shot("a", textured(1)),
        Shot("b", textured(2)),
        Shot("cut", textured(3, 40, 60)),
        Shot("none", None, "why"),
    ]
    text = scene_html(ReportScene("1", shots, Box(1, 2, 12, 9), (48, 64)), Choice("1", [], "", {}), 100_000)
    assert re.findall(r'alt="(\w+), 1, detail"', text) == ["a", "b"]
    assert "60×40 pixels" in text
    assert "<b>none</b>: why" in text


def test_numbers_of_the_table_are_those_of_the_run(root: Path, text: str) -> None:
    cells = json.loads((root / "run" / "table.json").read_text())["cells"]
    shown = {f"{cell['value']:.4f}" for cell in cells if cell["value"] is not None}
    assert all(re.search(rf">{re.escape(value)}[†‡]?<", text) for value in shown)
