"""A benchmark file: data sets and methods by pattern or card, from outputs or code; and every later command."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import evalkit
from evalkit.cli import main
from evalkit.data.images import read_image, to_gray, write_png
from evalkit.data.labels import labelled
from evalkit.data.pairs import find_pairs
from evalkit.data.samples.samples import draw_scenes
from evalkit.downstream.segmentation.table import chosen_variants
from evalkit.errors import EvalkitError
from evalkit.methods.classical import FUSERS
from evalkit.protocols.run import recipe_of
from evalkit.protocols.schema import read_protocol
from evalkit.protocols.use import DatasetUse

STEMS = [f"{i:03}" for i in range(1, 5)]
METRICS = ["EN", "SD", "SSIM[tang]"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Four small scenes as DATA/{ir,vi}, and images of two methods as FUSED/{Avg,Max}."""
    folder = tmp_path_factory.mktemp("scenes")
    draw_scenes(folder / "drawn", 4, width=96, height=72)
    (drawn,) = [path for path in (folder / "drawn").iterdir() if path.is_dir()]
    roles = {"ir": sorted((drawn / "ir").iterdir()), "vi": sorted((drawn / "vi").iterdir())}
    for role, files in roles.items():
        for stem, file in zip(STEMS, files, strict=True):
            (folder / "DATA" / role).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / "DATA" / role / f"{stem}{file.suffix}")
    for method, code in (("Avg", "average"), ("Max", "maximum")):
        for stem in STEMS:
            pair = [to_gray(read_image(next((folder / "DATA" / role).glob(f"{stem}.*")))) for role in ("ir", "vi")]
            write_png(folder / "FUSED" / method / f"{stem}.png", FUSERS[code](*pair))
    return folder


def lay(scenes: Path, target: Path, infrared: str, visible: str) -> None:
    for stem in STEMS:
        for role, pattern in (("ir", infrared), ("vi", visible)):
            path = target / pattern.format(stem=stem)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(next((scenes / "DATA" / role).glob(f"{stem}.*")), path)


def lay_fused(scenes: Path, target: Path, pattern: str, methods=("Avg", "Max"), stems=STEMS) -> None:
    for method in methods:
        for stem in stems:
            path = target / pattern.format(method=method, stem=stem)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(scenes / "FUSED" / method / f"{stem}.png", path)


def run(*arguments, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def bench(scenes, tmp_path) -> Path:
    """A file with an inline data set, methods by pattern, from outputs and of evalkit's own."""
    lay(scenes, tmp_path / "harbour", "thermal/{stem}_ir.png", "rgb/{stem}.png")
    lay_fused(scenes, tmp_path / "results", "ours/{method}/{stem}_fused.png", ["Avg"])
    lay_fused(scenes, tmp_path / "OUT", "{method}/Harbour/{stem}.png", ["Max"])
    fields = {
        "title": "Harbour at night",
        "convention": "smfnet",
        "metrics": METRICS,
        "datasets": {"Harbour": {"infrared": "thermal/{stem}_ir", "visible": "rgb/{stem}.png", "root": "../harbour"}},
        "methods": {"Ours": "../results/ours/avg/{stem}_fused", "Max": "outputs", "average": None},
        "outputs": "../OUT",
    }
    (tmp_path / "files").mkdir()
    (tmp_path / "files/bench.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    return tmp_path / "files/bench.yaml"


def values(table) -> dict:
    return {(c.dataset, c.method, c.metric): c.value for c in table.cells}


def test_the_numbers_are_those_of_the_images(bench, scenes, tmp_path):
    table = evalkit.benchmark(bench, out=tmp_path / "run", workers=1)
    assert table.complete
    assert table.pairs == {"Harbour": 4}
    measured = values(table)
    for method, own in (("Ours", "Avg"), ("Max", "Max"), ("average", "Avg")):
        frame = evalkit.evaluate_folder(
            scenes / "FUSED" / own, scenes / "DATA/ir", scenes / "DATA/vi", METRICS, "smfnet", workers=1
        )
        for metric in METRICS:
            assert measured["Harbour", method, metric] == pytest.approx(frame[metric].mean(), rel=1e-12)


def test_every_later_command_works_on_the_run(bench, tmp_path):
    out = tmp_path / "run"
    run("reproduce", bench, "--out", out, "--workers", "1")
    assert "Ours" in run("table", out)
    assert "Ours" in run("rank", out)
    run("compare", "Ours", "Max", "--run", out)
    verified = json.loads(run("leaderboard", "verify", out, "--remeasure", "all", "--json"))
    assert sum("measured again" in verdict["checked"] for verdict in verified) == 3
    run("plot", "grid", out, "--out", tmp_path / "grid.png")
    run("plot", "radar", out, "--out", tmp_path / "radar.png")
    run("report", out, "--out", tmp_path / "report.html")
    shown = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "not shown" not in shown  # its images are found by the patterns of the file
    assert 'class="detail"' in shown
    assert run("audit", "--table", out / "table.csv")
    run("leaderboard", "build", tmp_path / "site", "--records", out)


def test_a_moved_bench_and_run_still_find_each_other(bench, tmp_path):
    run("reproduce", bench, "--out", bench.parent / "run", "--workers", "1")
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    shutil.move(tmp_path, moved)
    assert "Problem" not in run("leaderboard", "verify", moved / "files/run", "--remeasure", "all")
    tmp_path.mkdir()


def test_a_changed_image_is_found(bench, tmp_path):
    run("reproduce", bench, "--out", tmp_path / "run", "--workers", "1")
    shutil.copy(tmp_path / "results/ours/Avg/001_fused.png", tmp_path / "results/ours/Avg/002_fused.png")
    assert "not those that were measured" in run("leaderboard", "verify", tmp_path / "run", code=1)


def test_a_row_without_images_is_no_problem_to_verify(bench, tmp_path):
    shutil.rmtree(tmp_path / "OUT/Max")
    run("reproduce", bench, "--out", tmp_path / "run", "--workers", "1", code=3)
    verified = json.loads(run("leaderboard", "verify", tmp_path / "run", "--remeasure", "all", "--json"))
    assert not any(verdict["problems"] for verdict in verified)


def test_the_plan_says_where_images_come_from(bench):
    report = json.loads(run("reproduce", bench, "--plan", "--json"))
    assert {row["method"]: row["from"] for row in report["rows"]} == {
        "Ours": "outputs",
        "Max": "outputs",
        "average": "classical",
    }
    assert report["cells"]["would_run"] == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {"Ours": "results"}}, "has no {stem}"),
        ({"methods": {"Ours": {"Elsewhere": "{stem}"}}}, "Elsewhere, which is not one of the data sets"),
        ({"datasets": {"Harbour": {"infrared": "{stem}"}}}, "infrared: and visible:, both"),
        ({"datasets": {"TNO": {"root": ".."}}}, "root: is of a data set with infrared"),
        ({"datasets": {"Harbour": {"infrared": "a/{x}{stem}", "visible": "b"}}}, "'{x}' is not understood"),
        ({"datasets": {"a/b": {"infrared": "a", "visible": "b"}}}, "no slashes"),
        ({"sources": {"Max": "outputs"}}, "leave one out"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(bench, change, message):
    fields = yaml.safe_load(bench.read_text()) | change
    bench.write_text(yaml.safe_dump(fields))
    output = run("reproduce", bench, code=2)
    assert message in " ".join(output.split())


def test_the_folder_of_a_data_set_that_is_not_there_is_named(bench, tmp_path):
    shutil.rmtree(tmp_path / "harbour")
    assert "the folder of Harbour, does not exist" in " ".join(
        run("reproduce", bench, "--out", tmp_path / "r", code=3).split()
    )


def test_a_method_says_from_where_and_nothing_else_is_taken(bench, tmp_path, scenes):
    lay_fused(scenes, tmp_path / "OUT", "average/Harbour/{stem}.png".replace("{method}", ""), ["Max"])
    table = evalkit.benchmark(bench, out=tmp_path / "run", workers=1)
    assert values(table)["Harbour", "average", "EN"] == values(table)["Harbour", "Ours", "EN"]
    fields = yaml.safe_load(bench.read_text())
    fields["methods"]["average"] = "outputs"
    bench.write_text(yaml.safe_dump(fields))
    table = evalkit.benchmark(bench, out=tmp_path / "other", workers=1)
    assert values(table)["Harbour", "average", "EN"] == values(table)["Harbour", "Max", "EN"]


def test_labels_of_a_data_set_without_a_card(scenes, tmp_path):
    lay(scenes, tmp_path, "{stem}_ir.png", "{stem}_vi.png")
    (tmp_path / "boxes").mkdir()
    for stem in STEMS[:3]:
        write_png(tmp_path / f"masks/{stem}_mask.png", np.ones((72, 96), np.uint8))
        (tmp_path / f"boxes/{stem}.txt").write_text("0 .5 .5 .1 .1\n")
    use = DatasetUse(
        infrared="{stem}_ir",
        visible="{stem}_vi",
        labels={"classes": "masks/{stem}_mask", "boxes": "boxes"},
        segmentation=[{"id": 1, "name": "car"}],
        detection=[{"id": 0, "name": "car"}],
    )
    card = use.card("Mine", tmp_path)
    assert [label.name for label in (*card.segmentation, *card.detection)] == ["car", "car"]
    pairs = find_pairs(card, tmp_path)
    assert [set(pair.labels) for pair in pairs.pairs] == [{"classes", "boxes"}] * 3 + [set()]
    assert len(labelled(pairs, "classes").pairs) == 3


def test_seeds_and_recipes_of_a_file(tmp_path):
    fields = {"title": "x", "convention": "set", "metrics": ["IoU"], "methods": ["average"], "task": "segmentation"}
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump(fields | {"recipe": "mine.yaml", "seeds": 5}))
    protocol = read_protocol(tmp_path / "bench.yaml")
    assert recipe_of(protocol) == str(tmp_path / "mine.yaml")
    job = SimpleNamespace(protocol=protocol, settings=SimpleNamespace(recipe="small"), methods=["average"])
    (variant,), _ = chosen_variants(job)
    assert variant.schedule.seeds == 5
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(fields))
    plain = read_protocol(tmp_path / "plain.yaml")
    assert recipe_of(plain) == "small"
    job.protocol = plain
    (variant,), _ = chosen_variants(job)
    assert variant.schedule.seeds == 2  # as its recipe says


def test_a_mapping_is_a_benchmark_too(scenes, tmp_path, monkeypatch):
    lay(scenes, tmp_path, "{stem}_ir.png", "{stem}_vi.png")
    monkeypatch.chdir(tmp_path)
    fields = {
        "title": "x",
        "convention": "smfnet",
        "metrics": ["EN"],
        "datasets": {"Mine": {"infrared": "{stem}_ir", "visible": "{stem}_vi"}},
        "methods": {"average": None},
    }
    assert evalkit.benchmark(fields, out="run", workers=1).complete


# --name, folders of OUTPUTS


LAYOUTS = {
    "suffix": ("{method}/Harbour/{stem}_fused.png", "{stem}_fused"),
    "prefix": ("{method}/Harbour/fused_{stem}.png", "fused_{stem}"),
    "method prefix": ("Harbour/{method}_{stem}.png", "{dataset}/{method}_{stem}"),
    "nested": ("{method}/Harbour/results/epoch100/{stem}.png", "{method}/{dataset}/**/{stem}"),
    "swapped": ("Harbour/{method}/{stem}.png", "{dataset}/{method}/{stem}"),
    "joined": ("{method}_Harbour/{stem}.png", "{method}_{dataset}/{stem}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_of_fused_images_in_other_layouts(bench, tmp_path, scenes, layout):
    written, name = LAYOUTS[layout]
    lay_fused(scenes, tmp_path / "OTHER", written)
    fields = yaml.safe_load(bench.read_text()) | {"methods": ["Avg", "Max"]}
    del fields["outputs"]
    bench.write_text(yaml.safe_dump(fields))
    table = evalkit.benchmark(
        bench, outputs=tmp_path / "OTHER", image_name=name, out=tmp_path / "run", workers=1, methods=["avg", "MAX"]
    )
    assert table.complete
    average = evalkit.evaluate_folder(scenes / "FUSED/Avg", scenes / "DATA/ir", scenes / "DATA/vi", METRICS, "smfnet")
    assert values(table)["Harbour", "Avg", "EN"] == pytest.approx(average["EN"].mean(), rel=1e-12)
    run("leaderboard", "verify", tmp_path / "run", "--fused", tmp_path / "OTHER", "--remeasure", "all")


def test_folders_of_outputs_are_rows_unless_the_file_states_its_methods(bench, tmp_path, scenes):
    lay_fused(scenes, tmp_path / "OUT", "{method}/harbour/{stem}.png", ["Avg"])
    (tmp_path / "OUT/empty/Harbour").mkdir(parents=True)
    (tmp_path / "OUT/Other/Elsewhere").mkdir(parents=True)
    stated = evalkit.benchmark(bench, out=tmp_path / "run", workers=1)
    assert stated.methods("Harbour") == ["Ours", "Max", "average"]
    fields = yaml.safe_load(bench.read_text())
    del fields["methods"]
    bench.write_text(yaml.safe_dump(fields))
    assert evalkit.benchmark(bench, out=tmp_path / "all", workers=1).methods("Harbour") == ["Avg", "Max"]


def test_names_that_do_not_pair_are_told_with_the_pattern_that_would(bench, tmp_path, scenes):
    lay_fused(scenes, tmp_path / "OUT", "Odd/Harbour/{stem}_fused.png".replace("{method}", ""), ["Max"])
    fields = yaml.safe_load(bench.read_text()) | {"methods": ["Odd"]}
    bench.write_text(yaml.safe_dump(fields))
    output = " ".join(run("reproduce", bench, "--out", tmp_path / "run", "--workers", "1", code=3).split())
    assert "4 of them look like {stem}_fused" in output
    assert "001_fused.png" in output
    run("reproduce", bench, "--out", tmp_path / "run", "--workers", "1", "--name", "{stem}_fused")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_row_says_which_pattern_would_find_its_images(bench, tmp_path, scenes, layout):
    written, name = LAYOUTS[layout]
    lay_fused(scenes, tmp_path / "OTHER", written)
    fields = yaml.safe_load(bench.read_text()) | {"methods": ["Avg", "Max"], "outputs": "../OTHER"}
    bench.write_text(yaml.safe_dump(fields))
    output = "".join(run("reproduce", bench, "--out", tmp_path / "run", "--workers", "1", code=3).split())
    assert name.rpartition("/")[2] in output
    assert "--name" in output


def test_a_pattern_that_gives_all_methods_the_same_images_is_refused(bench, tmp_path):
    with pytest.raises(EvalkitError, match=r"has no \{method\}"):
        evalkit.benchmark(bench, outputs=tmp_path / "OUT", image_name="x/{stem}", out=tmp_path / "run")


# evaluate with several folders; which images; images of other sizes


@pytest.fixture
def folders(scenes, tmp_path) -> Path:
    lay(scenes, tmp_path / "SET", "ir/{stem}.png", "vi/{stem}.png")
    lay_fused(scenes, tmp_path / "FUSED", "{method}/{stem}.png")
    return tmp_path


def sources(folders) -> list:
    return ["--infrared", folders / "SET/ir", "--visible", folders / "SET/vi", "--workers", "1"]


def mean(scenes, method: str, metric: str = "EN", stems=STEMS) -> float:
    frame = evalkit.evaluate_folder(
        scenes / "FUSED" / method, scenes / "DATA/ir", scenes / "DATA/vi", [metric], "smfnet", workers=1
    )
    return frame[metric][stems].mean()


def cells(output: str) -> dict:
    return {(c["method"], c["metric"]): c["value"] for c in json.loads(output)["cells"]}


@pytest.mark.parametrize("way", ["folders", "one folder of folders", "names"])
def test_several_folders_are_one_table(folders, scenes, way):
    fused = {
        "folders": ["FUSED/Avg", "FUSED/Max"],
        "one folder of folders": ["FUSED"],
        "names": [f"Max={folders / 'FUSED/Max'}", "FUSED/Avg"],
    }[way]
    fused = [text if "=" in text else folders / text for text in fused]
    output = run("evaluate", *fused, *sources(folders), "--convention", "smfnet", "--metrics", "EN,SD", "--json")
    assert cells(output)["Avg", "EN"] == pytest.approx(mean(scenes, "Avg"), rel=1e-12)
    assert cells(output)["Max", "SD"] == pytest.approx(mean(scenes, "Max", "SD"), rel=1e-12)
    assert json.loads(output)["pairs"] == {"SET": 4}


def test_a_results_folder_is_a_run_like_any_other(folders):
    out = folders / "run"
    run("evaluate", folders / "FUSED", *sources(folders), "--metrics", "EN,SD", "--out", out)
    assert "Avg" in run("rank", out)
    run("compare", "Avg", "Max", "--run", out)
    run("plot", "grid", out, "--out", folders / "grid.png")
    assert "Max" in run("table", out, "--format", "latex")
    run("audit", "--table", out / "table.csv")
    verified = json.loads(run("leaderboard", "verify", out, "--remeasure", "all", "--json"))
    assert sum("measured again" in verdict["checked"] for verdict in verified) == 2
    run("leaderboard", "build", folders / "site", "--records", out)


def test_one_folder_into_a_results_folder_and_into_a_file(folders):
    run("evaluate", folders / "FUSED/Avg", *sources(folders), "--metrics", "EN", "--out", folders / "scores.csv")
    assert (folders / "scores.csv").read_text().startswith("image,EN[textbook]")
    run("evaluate", folders / "FUSED/Avg", *sources(folders), "--metrics", "EN", "--out", folders / "run")
    assert (folders / "run/table.csv").is_file()
    output = run("evaluate", folders / "FUSED", *sources(folders), "--out", folders / "all.csv", code=2)
    assert "Name a results folder" in " ".join(output.split())


@pytest.mark.parametrize(
    ("fused", "message"),
    [
        (["FUSED/Avg", "SET/Avg"], "both called Avg"),
        (["FUSED/Avg", "FUSED/None"], "is not a folder"),
        (["EMPTY"], "holds no images"),
    ],
)
def test_folders_that_cannot_be_a_table_are_named(folders, fused, message):
    (folders / "SET/Avg").mkdir()
    (folders / "EMPTY/sub").mkdir(parents=True)
    output = run("evaluate", *(folders / path for path in fused), *sources(folders), code=2)
    assert message in " ".join(output.split())


def test_a_missing_image_is_a_missing_value_unless_common_images_are_asked_for(folders, scenes):
    (folders / "FUSED/Max/002.png").unlink()
    arguments = ["evaluate", folders / "FUSED", *sources(folders), "--convention", "smfnet", "--metrics", "EN"]
    assert cells(run(*arguments, "--json", code=3))["Max", "EN"] is None
    rest = [stem for stem in STEMS if stem != "002"]
    output = run(*arguments, "--images", "common", "--json", "--out", folders / "run")
    assert cells(output) == {
        ("Avg", "EN"): pytest.approx(mean(scenes, "Avg", stems=rest), rel=1e-12),
        ("Max", "EN"): pytest.approx(mean(scenes, "Max", stems=rest), rel=1e-12),
    }
    said = "3 of 4 pairs: those that all methods have"
    assert said in run(*arguments, "--images", "common")
    for suffix in ("tex", "md", "html", "json"):
        assert said in (folders / f"run/table.{suffix}").read_text()
    assert all(said in path.read_text() for path in (folders / "run/records").iterdir())
    assert said in run("leaderboard", "verify", folders / "run", "--remeasure", "all")


def test_the_images_of_a_list(folders, scenes):
    arguments = [
        "evaluate",
        folders / "FUSED",
        *sources(folders),
        "--convention",
        "smfnet",
        "--metrics",
        "EN",
        "--json",
    ]
    (folders / "mine.txt").write_text("# mine\n001.png\nSET/003\n")
    output = run(*arguments, "--images", folders / "mine.txt", "--out", folders / "run")
    assert cells(output)["Avg", "EN"] == pytest.approx(mean(scenes, "Avg", stems=["001", "003"]), rel=1e-12)
    assert "2 of 4 pairs: those of the list mine.txt" in output
    run("leaderboard", "verify", folders / "run", "--remeasure", "all")
    (folders / "mine.txt").write_text("001\n999\nOther/001\n")
    output = run(*arguments, "--images", folders / "mine.txt", code=2)
    assert "names 2 images that SET does not have: 999, Other/001" in " ".join(output.split())


@pytest.mark.parametrize("crop", ["end", "centre"])
def test_padded_images_are_cropped_when_asked(folders, scenes, crop):
    import numpy as np

    pad = (0, 8) if crop == "end" else (4, 4)
    for path in (folders / "FUSED/Avg").iterdir():
        write_png(path, np.pad(read_image(path), (pad, pad), mode="edge"))
    arguments = [
        "evaluate",
        folders / "FUSED",
        *sources(folders),
        "--convention",
        "smfnet",
        "--metrics",
        "EN",
        "--json",
    ]
    output = run(*arguments, code=3)
    assert "--crop" in output
    output = run(*arguments, "--crop", crop, "--out", folders / "run")
    assert cells(output)["Avg", "EN"] == pytest.approx(mean(scenes, "Avg"), rel=1e-12)
    assert "are cropped" in json.loads(output)["note"]
    record = json.loads((folders / "run/records/SET__Avg.json").read_text())
    assert record["method"]["cropped"] == 4
    assert "cropped" not in json.loads((folders / "run/records/SET__Max.json").read_text())["method"]
    verified = json.loads(run("leaderboard", "verify", folders / "run", "--remeasure", "all", "--json"))
    assert sum("measured again" in verdict["checked"] for verdict in verified) == 2
    other = "centre" if crop == "end" else "end"
    again = run(*arguments, "--crop", other, "--out", folders / "run")  # nothing of the other crop is reused
    assert cells(again)["Avg", "EN"] != cells(output)["Avg", "EN"]


def test_images_and_crop_are_of_tables_of_fused_images():
    with pytest.raises(EvalkitError, match="are of tables of fused images"):
        evalkit.reproduce("smfnet-table5", images="common")
