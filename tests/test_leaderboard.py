"""Records with their per-image scores, `leaderboard verify`, and the site as files."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import finished_run, textured
from hypothesis import given
from hypothesis import strategies as st

from evalkit.cli import main
from evalkit.data.images import write_png
from evalkit.errors import DataError, OutputError
from evalkit.files.folder import replace_folder
from evalkit.files.names import to_cell
from evalkit.leaderboards.site import build as site_build
from evalkit.leaderboards.site.build import build
from evalkit.leaderboards.site.entries import measured_folder, record_files, shipped_entries
from evalkit.leaderboards.site.markup import data_script
from evalkit.leaderboards.verify import UNPROVEN, verify
from evalkit.protocols.schema import protocol, protocols, rows_of
from evalkit.records.per_image import ImageRow, PerImage, parse_per_image, read_per_image
from evalkit.records.record import load

HOSTILE = """<script>alert(1)</script><img src=x onerror="alert(2)">'&"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on generated pairs: root/data, root/outputs, root/run."""
    return finished_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run's records and scores that a test may damage."""
    for name in ("records", "scores"):
        shutil.copytree(run / "run" / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "out"
    build(out, plots=False)
    return out


def problems(path: Path, **where: object) -> list[str]:
    return [problem for verdict in verify(path, **where) for problem in verdict.problems]  # type: ignore[arg-type]


def change(path: Path, **fields: object) -> None:
    """Write fields into a record; a dotted name reaches into one of its mappings."""
    record = json.loads(path.read_text())
    for name, value in fields.items():
        inner = record
        *parents, last = name.split("__")
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    path.write_text(json.dumps(record))
    with contextlib.suppress(DataError):  # as somebody would who knows how the hash is made
        path.write_text(json.dumps(record | {"record_hash": load(path).hash()}))


# per-image scores


rows = st.dictionaries(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
    min_size=1,
    max_size=5,
)


def as_csv(content: dict[str, list[float]], columns: tuple[str, ...] = ("EN", "SD"), end: str = "\n") -> bytes:
    frame = pd.DataFrame(
        [
            [to_cell(image), "k", *(dict(zip(("EN", "SD"), values, strict=False))[c] for c in columns), ""]
            for image, values in content.items()
        ],
        columns=["image", "key", *columns, "missing"],
    )
    return frame.to_csv(index=False, lineterminator=end).encode()


@given(rows, st.randoms())
def test_hash_is_of_the_content_alone(content: dict[str, list[float]], random) -> None:
    shuffled = list(content.items())
    random.shuffle(shuffled)
    first = parse_per_image(as_csv(content), "a")
    other = parse_per_image(as_csv(dict(shuffled), ("SD", "EN"), "\r\n"), "b")
    assert first.hash() == other.hash()
    assert {image: list(row.values.values()) for image, row in first.rows.items()} == content


@given(rows, st.data())
def test_hash_changes_with_every_part(content: dict[str, list[float]], data: st.DataObject) -> None:
    image = data.draw(st.sampled_from(sorted(content)))
    before = parse_per_image(as_csv(content), "a")
    row = before.rows[image]
    others = [
        ImageRow("other", row.values, row.missing),
        ImageRow(row.key, row.values | {"EN": 1e300 if row.values["EN"] != 1e300 else 0.0}, row.missing),
        ImageRow(row.key, row.values | {"EN": None}, {"EN": "no reason"}),
    ]
    changed = [PerImage(before.metrics, before.rows | {image: other}) for other in others]
    changed.append(PerImage(before.metrics, {k: v for k, v in before.rows.items() if k != image}))
    assert len({before.hash(), *(one.hash() for one in changed)}) == 5


def test_no_mean_over_missing_values() -> None:
    text = b'image,key,EN,missing\n1,a,2.5,\n2,b,,"{""EN"": ""flat""}"\n'
    assert parse_per_image(text, "x").mean("EN") is None
    assert parse_per_image(text.replace(b',,"{""EN"": ""flat""}"', b",3.5,"), "x").mean("EN") == 3.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"image,EN,missing\n", "its header is 'image,EN,missing'"),
        (b"image,key,EN,missing\n1,a,2\n", "line 2: 3 cells, expected 4"),
        (b"image,key,EN,missing\n1,a,two,\n", "line 2: could not convert"),
        (b"image,key,EN,missing\n1,a,nan,\n", "line 2: 'nan' is not a number"),
        (b"image,key,EN,missing\n1,a,,\n", "line 2: empty cells are ['EN'], reasons are given for []"),
        (b"image,key,EN,missing\n1,a,2,\n1,a,2,\n", "line 3: the image '1' is already there"),
        (b"\xff", "cannot read x"),
        (b"", "its header is ''"),
    ],
)
def test_damaged_scores_are_named(text: bytes, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)):
        parse_per_image(text, "x")


# records


def test_a_run_records_the_hash_of_its_scores(run: Path) -> None:
    record = load(run / "run/records/TNO__CDDFuse.json")
    assert record.scores_hash == read_per_image(run / "run/scores/TNO/CDDFuse.csv").hash()
    frame = pd.read_csv(run / "run/scores/TNO/CDDFuse.csv")
    assert len(frame) == record.images == 25
    for metric, value in record.scores.items():
        assert value == pytest.approx(frame[metric].mean(), rel=1e-14)


def test_a_run_holds_against_its_images(run: Path) -> None:
    found = verify(run / "run", data_root=run / "data", fused=run / "outputs")
    assert [v.path.name for v in found] == ["TNO__CDDFuse.json", "TNO__average.json", "table.json"]
    assert found[0].ok
    assert found[0].checked == ["fields", "scores", "sources", "fused images", "keys", "measured again"]
    assert found[1].ok
    assert "fused again" in found[1].checked
    assert not problems(run / "run/records/TNO__average.json", fused=run / "run/fused")


def test_other_images_are_found(run: Path, tmp_path: Path) -> None:
    record = run / "run/records/TNO__CDDFuse.json"
    shutil.copytree(run / "outputs", tmp_path / "outputs")
    write_png(tmp_path / "outputs/CDDFuse/TNO/07.png", textured(99))
    found = problems(record, fused=tmp_path / "outputs", data_root=run / "data")
    assert found == [
        "the fused images of CDDFuse on TNO are not those that were measured",
        "07: its scores are of other images, or of other code for the metrics",
    ]
    shutil.copytree(run / "data", tmp_path / "data")
    write_png(tmp_path / "data/TNO/vi/03.png", textured(98))
    assert "the images of TNO are not those that were measured" in problems(record, data_root=tmp_path / "data")[0]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"scores__EN": 7.5}, "EN is 7.5, the mean of the per-image scores is "),
        ({"scores_hash": "0" * 64}, "their hash is another"),
        ({"scores_hash": "abc"}, "scores_hash is 'abc', expected a SHA-256"),
        ({"method__fused_hash": ""}, "method.fused_hash is '', expected a SHA-256"),
        ({"dataset__content_hash": None}, "dataset.content_hash is None"),
        ({"method__weights": {"a.pth": "x"}}, "method.weights.a.pth is 'x'"),
        ({"dataset__pairs": 24}, "25 of 24 images are measured, but means are given"),
        ({"dataset__pairs": 21, "dataset__expected": 21}, "expects 21 pairs, smfnet-table1 has 25"),
        ({"dataset__split": "test"}, "the split is test, that of smfnet-table1 is None"),
        ({"images": 24}, "24 of 25 images are measured, but means are given"),
        ({"status": "incomplete"}, "the status is incomplete with 0 missing values"),
        ({"missing__EN": "lost"}, "EN has a score and a reason for none"),
        ({"convention": "textbook"}, "the convention is textbook, that of smfnet-table1 is smfnet"),
        ({"protocol__name": "smfnet-table9"}, "unknown protocol 'smfnet-table9'. Did you mean"),
        ({"metrics": ["EN[smfnet]"]}, "SD is scored but not among the metrics"),
        ({"scores__XY": 1.0}, "XY is scored but not among the metrics"),
    ],
)
def test_verify_finds_a_changed_record(copy: Path, fields: dict, says: str) -> None:
    path = copy / "records/TNO__CDDFuse.json"
    assert problems(path) == []
    change(path, **fields)
    assert any(says in problem for problem in problems(path)), problems(path)


def test_verify_finds_a_score_that_is_no_number(copy: Path) -> None:
    path = copy / "records/TNO__CDDFuse.json"
    path.write_text(re.sub(r'"EN": [0-9.]+', '"EN": Infinity', path.read_text()))
    with pytest.raises(DataError, match="Infinity is not a number"):
        verify(path)


def test_verify_finds_every_changed_image(copy: Path) -> None:
    path, scores = copy / "records/TNO__CDDFuse.json", copy / "scores/TNO/CDDFuse.csv"
    lines = scores.read_text().splitlines(keepends=True)
    for i in range(1, len(lines)):
        cells = lines[i].split(",")
        cells[3] = repr(float(cells[3]) * (1 + 1e-12))
        scores.write_text("".join([*lines[:i], ",".join(cells), *lines[i + 1 :]]))
        assert any("its digest is not that of its cells" in problem for problem in problems(path))
        scores.write_text("".join(lines[:i] + lines[i + 1 :]))
        assert "the per-image scores have 24 images, the record 25" in problems(path)
    scores.write_text("".join([lines[0], *reversed(lines[1:])]))
    assert problems(path) == []  # the order of the images says nothing


def test_verify_finds_a_mean_over_a_missing_value(copy: Path) -> None:
    path, scores = copy / "records/TNO__CDDFuse.json", copy / "scores/TNO/CDDFuse.csv"
    frame = pd.read_csv(scores, dtype=str, keep_default_na=False)
    frame.loc[4, ["EN", "missing"]] = ["", '{"EN": "flat"}']
    frame.drop(columns="digest").to_csv(scores, index=False)
    change(path, scores_hash=read_per_image(scores).hash())
    found = problems(path)
    assert len(found) == 1
    assert re.fullmatch(r"EN is [\d.]+, but 05 has no value: a mean needs all", found[0])


def test_verify_takes_scores_from_anywhere(copy: Path, tmp_path: Path) -> None:
    path = copy / "records/TNO__CDDFuse.json"
    moved = tmp_path / "elsewhere.csv"
    shutil.move(copy / "scores/TNO/CDDFuse.csv", moved)
    assert problems(path) == ["the per-image scores are missing: put <record>.csv beside it or give --scores"]
    assert problems(path, scores=moved) == []
    shutil.move(moved, path.with_suffix(".csv"))
    assert problems(path) == []


def test_verify_command(copy: Path, tmp_path: Path) -> None:
    def call(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["leaderboard", "verify", *map(str, arguments)])
        return done.exit_code, done.output

    path = copy / "records/TNO__CDDFuse.json"
    code, text = call(path)
    assert code == 0
    assert f"note on 1 of 1: {UNPROVEN}" in text
    assert "its pairs are not those of TNO" in text  # they are generated
    assert text.endswith("1 checked (fields, scores), 0 with problems\n")
    assert call(copy)[0] == 0
    change(path, scores__EN=7.5)
    code, text = call(copy)
    assert code == 1
    assert text.splitlines()[0].startswith(f"{path}: EN is 7.5, the mean of the per-image scores is ")
    code, text = call(path, "--json")
    assert code == 1
    assert json.loads(text)[0]["ok"] is False
    assert call(path, "--scores", copy / "scores/TNO/average.csv")[0] == 1
    path.write_text("{}")
    code, text = call(path)
    assert code == 2
    assert "has schema version None" in text
    assert call(tmp_path / "nowhere.json")[0] == 2
    assert call(copy, "--scores", copy / "scores/TNO/average.csv")[0] == 2


# the shipped records


def test_shipped_records_hold() -> None:
    found = verify(measured_folder())
    assert len(found) >= 70
    assert {str(v.path): v.problems for v in found if not v.ok} == {}
    for verdict in found:
        of_a_set = verdict.path.parts[-3] in ("psfusion-table1", "smfnet-table2")  # networks trained on fused images
        scores = ["fields"] if of_a_set else ["fields", "scores"]
        if verdict.path.parts[-3] == "smfnet-table5" and importlib.util.find_spec("torch"):
            scores = ["fields", "scores", "counted again"]
        assert verdict.checked == (["table"] if verdict.path.name == "table.json" else scores)


def test_shipped_records_name_no_place_of_the_machine_they_were_made_on() -> None:
    files = [path for path in measured_folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 5_000_000
    for path in files:
        assert not re.search(r"/(work|tmp|home|root|mnt|Users)/", path.read_text()), path


def test_shipped_records_hold_against_the_images(shared: Path) -> None:
    folder = measured_folder()
    for method in ("ADF", "SwinFusion"):
        assert problems(folder / f"vifb/records/VIFB__{method}.json", data_root=shared / "data") == []
    record = folder / "smfnet-table1/records/TNO__CDDFuse.json"
    assert problems(record, data_root=shared / "data", fused=shared / "outputs") == []


# the site


class Reader(HTMLParser):
    """What a browser would make of a page: elements with attributes, the text of cells, the data blocks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, str] = {}
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = dict(attrs).get("id") or "" if tag == "script" else self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == "script" else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.data[self.inside] = self.data.get(self.inside, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def pages(site: Path) -> dict[str, Reader]:
    return {path.name: Reader(path.read_text(encoding="utf-8")) for path in sorted(site.glob("*.html"))}


def test_every_published_number_and_every_record_is_on_the_site(site: Path) -> None:
    entries = shipped_entries()
    for name in protocols():
        printed = [row.printed for row in rows_of(protocol(name)) if row.printed]
        measured = [entry for entry in entries if entry.record.protocol["name"] == name]
        path = site / f"{name}.html"
        assert path.is_file() == bool(printed or measured)
        if not path.is_file():
            continue
        page = Reader(path.read_text(encoding="utf-8"))
        details = json.loads(page.data["rows"])
        first = {(d["where"], d["method"]): d for d in reversed(details.values())}.values()
        assert sorted(c["printed"] for d in first for c in d["cells"] if c["printed"]) == sorted(printed)
        records = json.loads(page.data["records"])
        assert sorted(records) == sorted(entry.stem for entry in measured)
        for entry in measured:
            assert records[entry.stem]["record"] == entry.record.model_dump()
            row = next(d for d in details.values() if d["record"] == entry.stem)
            assert {c["column"]: c["value"] for c in row["cells"] if c["value"] is not None} == entry.record.scores
        shown = [a.get("data-m") for a in page.all("td") if "data-m" in a]
        assert len(shown) == sum(len(entry.record.scores) for entry in measured)


def test_known_cells_stand_as_docs_say(site: Path) -> None:
    details = json.loads(Reader((site / "smfnet-table1.html").read_text(encoding="utf-8")).data["rows"])

    def statuses(dataset: str, method: str) -> list[list[str]]:
        wanted = f"{dataset} · smfnet", method
        return [[c["status"] for c in d["cells"]] for d in details.values() if (d["where"], d["method"]) == wanted]

    assert statuses("TNO", "DenseFuse") == [["equal"] * 8]  # docs/baselines.md: 8 of 8
    assert statuses("TNO", "SHIP")[0].count("equal") == 3
    assert len(statuses("RoadScene", "DIDFuse")) == 2  # gray, and recoloured
    assert statuses("TNO", "SMFNet") == [["published"] * 8]
    assert statuses("TNO", "average") == [["unpublished"] * 8]


def test_links_lead_somewhere_and_nothing_comes_from_outside(site: Path) -> None:
    for name, page in pages(site).items():
        policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
        assert policy is not None
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for tag, attributes in page.elements:
            assert "style" not in attributes
            assert not [a for a in attributes if a.startswith("on")]
            for key in ("href", "src"):
                target = attributes.get(key)
                if target and not target.startswith("#"):
                    assert (site / unquote(target)).is_file(), (name, tag, target)
        assert [a.get("src") for a in page.all("script") if a.get("type") != "application/json"] == ["assets/site.js"]
        identities = [a["id"] for _, a in page.elements if "id" in a]
        assert len(identities) == len(set(identities))
    for asset in (site / "assets").iterdir():
        assert not re.search(r"https?:|//[a-z]|@import|url\(|eval\(|innerHTML|fetch\(", asset.read_text())


def test_the_same_records_give_the_same_bytes(site: Path, tmp_path: Path) -> None:
    build(tmp_path / "again", plots=False)
    manifest = json.loads((site / "site.json").read_text())
    assert manifest == json.loads((tmp_path / "again/site.json").read_text())
    on_disk = {str(p.relative_to(site)) for p in site.rglob("*") if p.is_file()} - {"site.json"}
    assert on_disk == set(manifest["files"])


def test_names_from_outside_are_only_text(copy: Path, tmp_path: Path) -> None:
    path = copy / "records/TNO__CDDFuse.json"
    change(path, method__name=HOSTILE, dataset__layout="</script><script>alert(3)</script>", finished=HOSTILE)
    shutil.move(copy / "scores/TNO/CDDFuse.csv", path.with_suffix(".csv"))
    build(tmp_path / "site", [copy], plots=False)
    for name in ("index.html", "smfnet-table1.html", "records.html"):
        page = Reader((tmp_path / "site" / name).read_text(encoding="utf-8"))
        assert all(a.get("src") == "assets/site.js" for a in page.all("script") if a.get("type") != "application/json")
        assert not [a for a in page.all("img") if a.get("src") == "x"]
        assert not [k for _, a in page.elements for k in a if k.startswith("on")]
    page = Reader((tmp_path / "site/smfnet-table1.html").read_text(encoding="utf-8"))
    assert HOSTILE in [d["method"] for d in json.loads(page.data["rows"]).values()]
    for file in (tmp_path / "site/records").iterdir():
        assert re.fullmatch(r"[A-Za-z0-9.-]+", file.name)


@given(st.text())
def test_data_in_a_page_cannot_end_its_element(text: str) -> None:
    script = data_script("x", {"key": text + "</script><!--"})
    assert script.count("<") == 2
    assert json.loads(Reader(script).data["x"]) == {"key": text + "</script><!--"}


def test_another_convention_is_another_table(copy: Path, tmp_path: Path) -> None:
    path = copy / "records/TNO__average.json"
    scores = copy / "scores/TNO/average.csv"
    images = read_per_image(scores).rows
    scores.write_bytes(as_csv({image: [9.0] for image in images}, ("EN",)))
    hashed = read_per_image(scores).hash()
    change(path, convention="textbook", metrics=["EN[textbook]"], scores={"EN": 9.0}, scores_hash=hashed)
    build(tmp_path / "site", [copy], plots=False)
    details = json.loads(Reader((tmp_path / "site/smfnet-table1.html").read_text(encoding="utf-8")).data["rows"])
    values = {
        d["where"]: [c["value"] for c in d["cells"]]
        for d in details.values()
        if 9.0 in [c["value"] for c in d["cells"]]
    }
    assert values == {"TNO · textbook": [9.0]}
    assert [d["method"] for d in details.values() if d["where"] == "TNO · textbook"] == ["average"]


def test_other_pairs_are_not_compared(copy: Path, tmp_path: Path) -> None:
    change(copy / "records/TNO__CDDFuse.json", dataset__pairs=24)
    build(tmp_path / "site", [copy], plots=False)
    details = json.loads(Reader((tmp_path / "site/smfnet-table1.html").read_text(encoding="utf-8")).data["rows"])
    stem = next(d["record"] for d in details.values() if {c["status"] for c in d["cells"]} == {"other data"})
    cells = next(d["cells"] for d in details.values() if d["record"] == stem)
    assert {(c["difference"], c["note"]) for c in cells} == {(None, "measured on 24 pairs, the paper's table on 25")}


def test_other_image_files_are_neither_compared_nor_ranked(run: Path, tmp_path: Path) -> None:
    build(tmp_path / "site", [run / "run"], plots=False)  # generated pairs under the name of a data set
    page = Reader((tmp_path / "site/smfnet-table1.html").read_text(encoding="utf-8"))
    own = [d for d in json.loads(page.data["rows"]).values() if {c["status"] for c in d["cells"]} == {"other data"}]
    assert [d["method"] for d in own] == ["CDDFuse", "average"]
    assert {c["difference"] for d in own for c in d["cells"]} == {None}
    assert all("its pairs are not those of TNO" in c["note"] for d in own for c in d["cells"])


def test_plots_are_drawn_from_the_records_alone(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_build, "shipped_entries", list)
    again = [build(tmp_path / name, [run / "run"]) and tmp_path / name for name in ("a", "b")]
    drawn = sorted(path.name for path in (again[0] / "plots").iterdir())
    assert drawn == [f"smfnet-table1-tno-smfnet-{kind}.svg" for kind in ("box", "cumulative", "radar")]
    assert (again[0] / "site.json").read_bytes() == (again[1] / "site.json").read_bytes()
    page = Reader((again[0] / "smfnet-table1.html").read_text(encoding="utf-8"))
    assert sorted(Path(str(a["src"])).name for a in page.all("img")) == drawn


def test_matplotlib_and_pandas_are_not_needed_for_the_site(tmp_path: Path) -> None:
    code = f"""import sys
sys.modules.update(dict.fromkeys(["matplotlib", "pandas", "torch"]))
from evalkit.leaderboards.site.build import build
build({str(tmp_path / "site")!r})"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(list((tmp_path / "site/plots").iterdir())) == 24


def test_only_my_runs(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Name their --out folders"):
        build(tmp_path / "site", only_mine=True)
    build(tmp_path / "all", [run / "run"], plots=False)
    (page,) = build(tmp_path / "site", [run / "run"], only_mine=True)
    assert page.protocol.name == "smfnet-table1"
    assert len(page.entries) == 2
    assert all(entry.own for entry in page.entries)
    names = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.*")}
    assert {name for name in names if name.endswith(".html")} == {
        "index.html",
        "coverage.html",
        "records.html",
        "smfnet-table1.html",
    }
    assert len([name for name in names if name.startswith("records/") and name.endswith(".json")]) == 2
    for name in ("index.html", "coverage.html", "records.html", "smfnet-table1.html"):
        reader = Reader((tmp_path / "site" / name).read_text(encoding="utf-8"))
        for link in [str(a["href"]) for a in reader.all("a")] + [str(a["src"]) for a in reader.all("img")]:
            if "#" not in link:
                assert unquote(link) in names, f"{name} leads to {link}"

    def own(folder: str) -> list[dict]:
        reader = Reader((tmp_path / folder / "smfnet-table1.html").read_text(encoding="utf-8"))
        rows, records = (json.loads(reader.data[name]) for name in ("rows", "records"))
        mine = {stem for stem in records if (tmp_path / "site/records" / f"{stem}.json").is_file()}
        return sorted((row for row in rows.values() if row["record"] in mine), key=lambda row: row["record"])

    assert own("site") == own("all")  # other image files than the shipped records': not compared there or here
    done = CliRunner().invoke(main, ["leaderboard", "build", str(tmp_path / "x"), "--only-mine"])
    assert done.exit_code == 2
    assert "--records RUN" in done.output


def test_only_a_site_is_replaced(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="holds no evalkit site"):
        build(target, plots=False)
    assert [p.name for p in target.iterdir()] == ["thesis.tex"]
    with pytest.raises(OutputError, match="is not a folder"):
        build(target / "thesis.tex", plots=False)
    old = tmp_path / "old"
    shutil.copytree(site, old)
    (old / "index.html").write_text("mine")
    with pytest.raises(OutputError, match="was changed since evalkit wrote it"):
        build(old, plots=False)
    assert (old / "index.html").read_text() == "mine"
    replace_folder(tmp_path / "new", {"index.html": b"old"}, "site.json")
    shutil.rmtree(old)
    (tmp_path / "new").rename(old)
    with pytest.raises(DataError, match="holds no records"):
        build(old, [target], plots=False)
    assert (old / "index.html").read_text() == "old"

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="No space left on device"):
            replace_folder(old, {"index.html": b"new"}, "site.json")
    assert (old / "index.html").read_text() == "old"
    build(old, plots=False)
    assert (old / "index.html").read_bytes() == (site / "index.html").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old", "target"]


def test_build_command(run: Path, tmp_path: Path) -> None:
    arguments = ["leaderboard", "build", str(tmp_path / "site"), "--no-plots"]
    done = CliRunner().invoke(main, [*arguments, "--records", str(run / "run"), "--json"])
    assert done.exit_code == 0
    summary = json.loads(done.output)
    assert summary["records"] == len(record_files(measured_folder())) + 2
    assert 'class="badge">own run' in (tmp_path / "site/smfnet-table1.html").read_text()
    done = CliRunner().invoke(main, [*arguments, "--records", str(tmp_path / "nowhere")])
    assert done.exit_code == 2
    assert "nowhere does not exist" in done.output


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_in_both_themes(site: Path) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    style = (site / "assets/style.css").read_text()
    themes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r"\{([^{}]*--paper:[^{}]*)\}", style)
    ]
    assert len(themes) == 3
    assert themes[1] == themes[2]  # dark by the system, and by the button
    for theme in themes:
        for text in ("ink", "soft", "accent", "equal", "close", "differs", "missing"):
            for ground in ("paper", "sheet", "stripe"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        assert contrast(theme["accent"], theme["wash"]) >= 4.5
