"""What a new user gets wrong: one sentence with a cure, never a traceback, a library's words or a number."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import textured
from test_reproduce import run

from evalkit.data.images import write_png
from evalkit.errors import DataError
from evalkit.files.read import model_from_yaml
from evalkit.protocols.schema import Protocol

PYDANTIC = re.compile(
    r"permitted|required|validation error|Input should|Value error|type=|valid (tuple|integer|string)"
)


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DATA/Pier/{ir,vi} and OUT/{Ours,Theirs}, three pairs with careless names; in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVALKIT_DATA", raising=False)
    for i in (1, 2, 3):
        infrared, visible = textured(i), textured(100 + i)
        write_png(Path(f"DATA/Pier/ir/IR_{i:03}.png"), infrared)
        write_png(Path(f"DATA/Pier/vi/VIS_{i:03}.png"), visible)
        write_png(Path(f"OUT/Ours/fused_{i:03}.png"), infrared // 2 + visible // 2)
        if i != 3:
            write_png(Path(f"OUT/Theirs/fused_{i:03}.png"), visible)
    return tmp_path


SOURCES = ("--infrared", "DATA/Pier/ir", "--visible", "DATA/Pier/vi", "--metrics", "EN")
NAMES = ("--name", "fused_{stem}", "--infrared-name", "IR_{stem}", "--visible-name", "VIS_{stem}")


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (["rank", ""], "an argument of `evalkit rank`"),
        (["table", ""], "an argument of `evalkit table`"),
        (["reproduce", ""], "an argument of `evalkit reproduce`"),
        (["evaluate", "", *SOURCES], "an argument of `evalkit evaluate`"),
        (["evaluate", "OUT/Ours", *SOURCES, "--out", ""], "--out"),
        (["evaluate", "OUT/Ours", *SOURCES, "--images="], "--images"),
        (["evaluate", "OUT/Ours", *SOURCES, "--plugin", ""], "--plugin"),
        (["evaluate", "OUT/Ours", "--infrared", "", "--visible", "DATA/Pier/vi"], "--infrared"),
        (["leaderboard", "verify", ""], "an argument of `evalkit verify`"),
        (["plot", "radar", "", "--out", "r.pdf"], "an argument of `evalkit radar`"),
    ],
)
def test_an_empty_value_is_not_the_current_folder(scenes, command, names):
    before = sorted(scenes.rglob("*"))
    code, _, told = run(*command)
    assert code == 2
    assert f"{names} is empty. Give it a value" in told
    assert sorted(scenes.rglob("*")) == before


def test_empty_values_that_mean_the_default_stay(scenes):
    assert run("evaluate", "OUT/Ours", *SOURCES, *NAMES, "--crop", "", "--gray", "")[0] == 0


def test_a_home_folder_is_found_behind_an_equals_sign(scenes, monkeypatch):
    monkeypatch.setenv("HOME", str(scenes))
    sources = ("--infrared=~/DATA/Pier/ir", "--visible=~/DATA/Pier/vi", "--metrics=EN")
    assert run("evaluate", "OUT/Ours", *sources, *NAMES)[0] == 0
    assert run("evaluate", "Mine=~/OUT/Ours", *sources, *NAMES, "--out", "runs/mine")[0] == 0


def test_sources_that_are_one_folder_or_look_swapped(scenes):
    same = ("--infrared", "DATA/Pier/ir", "--visible", "DATA/Pier/../Pier/ir", "--metrics", "EN")
    code, _, told = run("evaluate", "OUT/Ours", *same)
    assert code == 2
    assert "are both DATA/Pier/ir" in told
    swapped = ("--infrared", "DATA/Pier/vi", "--visible", "DATA/Pier/ir", "--metrics", "EN")
    patterns = ("--name", "fused_{stem}", "--infrared-name", "VIS_{stem}", "--visible-name", "IR_{stem}")
    code, _, told = run("evaluate", "OUT/Ours", *swapped, *patterns)
    assert code == 0
    assert "swapped" in told
    assert "swapped" not in run("evaluate", "OUT/Ours", *SOURCES, *NAMES)[2]


def test_several_folders_whose_names_do_not_pair_get_the_hint_that_one_gets(scenes):
    code, several, _ = run("evaluate", "OUT", *SOURCES)
    assert code == 3
    for option, pattern in zip(NAMES[::2], NAMES[1::2], strict=True):
        assert f"{option} '{pattern}'" in " ".join(several.split())


def test_patterns_that_were_given_are_no_hint_and_a_missing_image_has_a_cure(scenes):
    (scenes / "DATA/Pier/ir/IR_003.png").unlink()
    code, told, _ = run("evaluate", "OUT/Ours", *SOURCES, *NAMES)
    assert code == 3
    assert "Hint" not in told
    code, told, _ = run("evaluate", "OUT", *SOURCES, *NAMES)
    assert code == 3
    assert "--images common" in told
    assert "Hint" not in told
    assert run("evaluate", "OUT", *SOURCES, *NAMES, "--images", "common")[0] in (0, 3)


def test_folders_and_files_in_each_other_s_place(scenes):
    code, _, told = run("evaluate", "OUT/Ours/fused_001.png", *SOURCES)
    assert code == 2
    assert "DATA/Pier/ir is a folder, OUT/Ours/fused_001.png one image" in told
    write_png(scenes / "DEEP/a/b/1.png", textured(1))
    assert "It holds the folders a: name one of them" in run("evaluate", "DEEP", *SOURCES)[2]
    assert "Give common, or a text file" in run("evaluate", "OUT", *SOURCES, "--images", "comon")[2]


BENCH = {
    "title": "Pier",
    "convention": "smfnet",
    "metrics": ["EN", "SD"],
    "datasets": {"Pier": {"infrared": "ir/IR_{stem}", "visible": "vi/VIS_{stem}"}},
    "methods": ["average"],
}


def test_a_benchmark_s_own_data_set_is_found_below_the_data_root(scenes, monkeypatch):
    Path("bench.yaml").write_text(yaml.safe_dump(BENCH))
    code, told, _ = run("reproduce", "bench.yaml", "--out", "runs/none")
    assert code == 3
    assert "there are no images called ir/IR_{stem} and vi/VIS_{stem}" in " ".join(told.split())
    assert run("reproduce", "bench.yaml", "--out", "runs/named", "--data-root", "DATA/Pier")[0] == 0
    monkeypatch.setenv("EVALKIT_DATA", "DATA/Pier")
    assert run("reproduce", "bench.yaml", "--out", "runs/set")[0] == 0
    monkeypatch.delenv("EVALKIT_DATA")
    assert run("leaderboard", "verify", "runs/set")[0] == 0  # the run knows where they lie
    shutil.copytree("DATA/Pier", ".", dirs_exist_ok=True)  # beside the file they go before
    assert run("reproduce", "bench.yaml", "--out", "runs/beside", "--data-root", "OUT")[0] == 0


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"metric": ["EN"]}, "metric: this is not a field, did you mean metrics?"),
        ({"methods": 3}, "methods: expected a list, not 3"),
        ({"seeds": "many"}, "seeds: expected a whole number, not 'many'"),
        ({"seeds": 0}, "seeds: expected 1 or more, not 0"),
        ({"recolour": "perhaps"}, "recolour: expected true or false, not 'perhaps'"),
        ({"metrics": None}, "metrics: expected"),
        ({"draws": "pie"}, "draws: expected 'radar'"),
        ({"datasets": {"Pier": {"infrared": "ir"}}}, "datasets.Pier: a data set of its own has infrared"),
        ({"datasets": {"Pier": {"infrared": "ir", "visible": "ir"}}}, "datasets.Pier: infrared: and visible: are both"),
        ({"methods": {"Ours": "x.png"}}, "the method Ours comes from"),
    ],
)
def test_mistakes_in_a_file_are_told_in_words(scenes, change, line):
    Path("bench.yaml").write_text(yaml.safe_dump(BENCH | change))
    code, _, told = run("reproduce", "bench.yaml", "--data-root", "DATA")
    assert code == 2
    assert line in told
    assert not PYDANTIC.search(told), told


@pytest.mark.parametrize(("text", "told"), [("", "it is nothing"), ("x", "it is 'x'"), ("[1]", "it is a list")])
def test_a_file_without_fields(text, told):
    with pytest.raises(DataError, match=f"is not a YAML mapping of fields: {re.escape(told)}"):
        model_from_yaml(Protocol, text, "bench.yaml")


def test_a_damaged_table_is_told_in_words(scenes):
    assert run("evaluate", "OUT/Ours", *SOURCES, *NAMES, "--out", "runs/mine")[0] == 0
    file = scenes / "runs/mine/table.json"
    good = json.loads(file.read_text())
    wrong = good | {"columns": [good["columns"][0] | {"better": "up"}]}
    for text, told in (
        ('{"a": 1}', "protocol: this field is missing"),
        (json.dumps(wrong), "columns.0.better: expected 'higher' or 'lower', not 'up'"),
        ('{"a": 1', "not readable JSON"),
    ):
        file.write_text(text)
        for command in (["table", "runs/mine"], ["rank", "runs/mine"]):
            code, _, error = run(*command)
            assert code == 2
            assert told in " ".join(error.split()), error
            assert "Run `evalkit reproduce` into that folder again" in " ".join(error.split())
            assert not PYDANTIC.search(error), error


def test_a_comparison_needs_two_and_knows_what_is_missing(scenes):
    assert "compared with itself" in run("compare", "Ours", "Ours")[2]
    assert "two methods and --run" in run("compare", "Ours", "Theirs")[2]


def test_a_mistyped_row_of_the_file_is_told_before_all_other_methods(scenes):
    rows = {"Ours": "OUT/Ours/fused_{stem}", "Theirs": "OUT/Theirs/fused_{stem}"}
    Path("bench.yaml").write_text(yaml.safe_dump(BENCH | {"methods": rows}))
    told = run("reproduce", "bench.yaml", "--data-root", "DATA/Pier", "--methods", "Thiers")[2]
    assert "unknown method 'Thiers'. Did you mean 'Theirs'?" in " ".join(told.split())


def test_a_terminated_trial_leaves_no_folder_behind(tmp_path):
    script = """
import sys, tempfile, time
from evalkit.cli import main
from evalkit.protocols import trial

def long(*arguments, **options):
    with tempfile.TemporaryDirectory(prefix="evalkit-steps-"):
        print("begun", flush=True)
        time.sleep(60)

trial.try_protocol = long
main(["reproduce", "smfnet-table2", "--sample", "--steps", "1"])
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout.readline() == "begun\n"
        assert list(tmp_path.iterdir())
        started.terminate()
        _, told = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "Nothing of it is kept" in told
    assert not list(tmp_path.iterdir())


def test_a_radar_leaves_out_the_data_set_that_has_no_values(scenes):
    fields = BENCH | {"metrics": ["EN", "SD", "AG"]}
    empty = {"infrared": "nowhere/{stem}", "visible": "nobody/{stem}"}
    fields["datasets"] = {"Pier": BENCH["datasets"]["Pier"], "Gone": empty}
    Path("bench.yaml").write_text(yaml.safe_dump(fields))
    assert run("reproduce", "bench.yaml", "--out", "runs/two", "--data-root", "DATA/Pier")[0] == 3
    code, told, error = run("plot", "radar", "runs/two", "--out", "radar.svg")
    assert code == 3, error
    assert Path("radar.svg").stat().st_size
    assert "Missing" in told
    assert run("plot", "radar", "runs/two", "--datasets", "Gone", "--out", "gone.svg")[0] == 2


def test_the_example_s_tests_run_by_pytest_alone(tmp_path):
    folder = tmp_path / "ci"
    shutil.copytree(Path(__file__).parents[1] / "examples/ci", folder)
    # -P: without the current folder on the path, as the program `pytest` runs
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_class_that_the_network_does_not_have_is_told_in_words():
    torch = pytest.importorskip("torch")
    from evalkit.training.terms import hard_cross_entropy  # needs torch

    labels = torch.tensor([[[0, 10], [255, 1]]])
    with pytest.raises(DataError, match="a mask holds the class 10, but the network has 9 classes, 0 to 8"):
        hard_cross_entropy(torch.zeros(1, 9, 2, 2), labels, minimum=1)


@pytest.mark.parametrize(
    ("command", "cure"),
    [
        (["evaluate", "OUT/Ours", "--ir", "DATA/Pier/ir"], "No such option '--ir'. Did you mean '--infrared'?"),
        (["evaluate", "OUT/Ours", "--vi", "DATA/Pier/vi"], "No such option '--vi'. Did you mean '--visible'?"),
        (["audit", "DATA"], "DATA is a folder without a table.csv, so not that of a run. Name the --out of"),
        (
            ["evaluate", "OUT/Ours", *SOURCES[:4], "--metrics", "Zoom9"],
            "What a plug-in adds is known with --plugin FILE.py",
        ),
        (["coverage", "smfnet-tabel1"], "unknown protocol 'smfnet-tabel1'. Did you mean 'smfnet-table1'"),
    ],
)
def test_what_is_not_there_has_a_cure(scenes, command, cure):
    code, _, error = run(*command)
    assert code == 2
    assert cure in " ".join(error.split())


def test_another_command_s_option_is_not_suggested():
    code, _, error = run("rank", "--ir", "x")
    assert code == 2
    assert "--infrared" not in error


def test_the_coverage_of_one_table_is_a_part_of_all():
    blocks = [json.loads(run("coverage", *names, "--json")[1])["blocks"] for names in ((), ("SMFNET-table5",))]
    assert blocks[1]
    assert blocks[1] == [block for block in blocks[0] if block["protocol"] == "smfnet-table5"]


def test_a_benchmark_called_as_its_title_is_named_once(scenes):
    Path("mine.yaml").write_text(yaml.safe_dump(BENCH | {"name": "mine", "title": "mine"}))
    code, told, error = run("reproduce", "mine.yaml", "--out", "runs/mine", "--data-root", "DATA")
    assert code in (0, 3), error
    assert "mine · Pier" in told
    assert "mine · mine" not in told


def test_an_image_without_a_partner_is_told_once(scenes):
    Path("DATA/Pier/vi/VIS_003.png").unlink()
    code, told, error = run("init", "bench.yaml", "--data", "DATA")
    assert code == 0, error
    assert told.count("003") == 1
    assert "one of the two images is missing" in told
    assert "not understood" not in told + error
