"""What is added from outside: one registry for every kind, plug-ins that are named, installed, broken or changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import forget_plugins, make_tno

import evalkit
from evalkit.catalogue import ENTRIES
from evalkit.cli import main
from evalkit.data.card import DATASETS, load_card
from evalkit.data.pairs import find_pairs
from evalkit.downstream.detection.recipe import DETECTORS
from evalkit.downstream.segmentation.networks import SEGMENTERS
from evalkit.engine.open import open_engine
from evalkit.errors import EvalkitError, PluginError, PluginWarning, UnknownNameError
from evalkit.methods.fuse import make_fuser
from evalkit.methods.registry import METHODS, method_card
from evalkit.metrics.card import CONVENTIONS, DEFINITIONS, METRICS
from evalkit.metrics.registry import definitions
from evalkit.protocols.schema import PROTOCOLS
from evalkit.protocols.tasks import TASKS
from evalkit.records.record import load
from evalkit.registry import SHIPPED, VARIABLE, Plugins, load_plugins, name_plugin, plugins
from evalkit.training.find_recipe import RECIPES
from evalkit.training.system import SYSTEMS

KINDS = {
    "data set": (DATASETS, "TNO"),
    "detector": (DETECTORS, "YOLOv5n"),
    "segmentation network": (SEGMENTERS, "SegFormer-B2"),
    "method": (METHODS, "CDDFuse"),
    "convention": (CONVENTIONS, "smfnet"),
    "metric": (METRICS, "SSIM"),
    "protocol": (PROTOCOLS, "smfnet-table1"),
    "task": (TASKS, "fusion"),
    "recipe": (RECIPES, "SMFNet-small"),
    "trainable network": (SYSTEMS, "SMFNet"),
}
MINE = '''
import click
import numpy as np
import evalkit

@evalkit.metric("QX", convention="mine", better="higher", range="0 .. 1", unit="1", source="Doe 2026")
def qx(pair):
    """Share of pixels that are as bright as the brighter source, or brighter."""
    return FACTOR * float((pair.fused.x >= np.maximum(pair.infrared.x, pair.visible.x)).mean())

def build(checkpoint):
    return lambda infrared, visible: np.minimum(infrared, visible) // FACTOR

evalkit.register_method({"name": "darker", "kind": "classical", "title": "The darker source"}, build)
'''
BENCH = """
title: Mine
convention: smfnet
metrics: [EN, "QX[mine]"]
datasets: {TNO: {pairs: 4}}
methods: [average, darker]
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A plug-in of one file."""
    path = tmp_path / "plugins" / "mine.py"
    path.parent.mkdir()
    path.write_text(MINE.replace("FACTOR", "1"))
    return path


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A benchmark of 4 pairs that needs the plug-in; below the same folder a data root and bench.yaml."""
    make_tno(tmp_path / "data", 4)
    (tmp_path / "bench.yaml").write_text(BENCH)
    return tmp_path


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and output of a command in this process, which then knows as little as before."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    forget_plugins()
    os.environ[VARIABLE] = ""
    return result.exit_code, result.output


def files(run: Path) -> dict[str, bytes]:
    """All but the records, which hold times."""
    paths = [path for path in sorted(run.rglob("*")) if path.is_file() and "records" not in path.parts]
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}


# look-up


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_found_in_any_case_and_unknown_ones_get_the_nearest(kind):
    registry, name = KINDS[kind]
    assert registry.find(name.upper()) == registry.find(name.lower()) == registry[name]
    with pytest.raises(UnknownNameError, match=rf"unknown {kind} '{name}x'.*Did you mean") as error:
        registry.find(f"{name}x")
    assert name in error.value.near
    assert len(error.value.near) <= 3


@pytest.mark.parametrize("kind", KINDS)
def test_what_ships_is_registered_the_same_way(kind):
    registry, name = KINDS[kind]
    assert {registry.origin(each) for each in registry} == {SHIPPED}
    with pytest.raises(EvalkitError, match=rf"this program registers the {kind} '{name.upper()}', which evalkit has"):
        registry.add(name.upper(), registry[name])
    registry.add(f"{name}-2", registry[name], aliases=("another name",))
    assert registry.find("ANOTHER name") == registry[name]
    assert list(registry)[-1] == f"{name}-2"
    assert registry.origin(f"{name}-2").name == "this program"


def test_aliases_are_names():
    assert method_card("lp").name == "laplacian"
    with pytest.raises(EvalkitError, match="registers the method 'LP', which evalkit has registered as 'laplacian'"):
        evalkit.register_method({"name": "LP", "kind": "classical", "title": "Mine"}, lambda checkpoint: min)


# plug-ins that are named


def test_a_named_file_adds_what_it_registers(mine):
    name_plugin(str(mine))
    assert METRICS.find("qx").source == "Doe 2026"
    assert DEFINITIONS.origin("QX[mine]").name == "mine.py"
    assert method_card("DARKER").title == "The darker source"
    assert [plugin["name"] for plugin in plugins()] == ["mine.py"]
    image = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    assert evalkit.evaluate(image, image, image, ["QX[mine]"]) == {"QX[mine]": 1.0}


def test_relative_paths_and_modules_are_named(mine, monkeypatch):
    monkeypatch.chdir(mine.parent)
    name_plugin("mine.py")
    assert os.environ[VARIABLE] == str(mine)
    assert "QX" in METRICS
    forget_plugins()
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.syspath_prepend(str(mine.parent))
    name_plugin("mine")
    assert "QX" in METRICS
    with pytest.raises(PluginError, match="its path holds ':'"):
        name_plugin("a:b.py")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise RuntimeError('out of\\nluck')", r"mine\.py cannot be loaded: RuntimeError: out of luck\.$"),
        ("def f(:\n", r"mine\.py cannot be loaded: line 1 is not Python \(.+\)\.$"),
        ("import nothing_of_this_name", r"mine\.py cannot be loaded: ModuleNotFoundError: .*nothing_of_this_name'\.$"),
        ("import evalkit\nevalkit.metric('EN', convention='tang')(len)", r"'EN\[tang\]', which evalkit has registered"),
        ("import sys\nsys.exit(3)", None),
        (MINE.replace("FACTOR", "1") + "\n1 / 0", r"cannot be loaded: ZeroDivisionError: division by zero\.$"),
        (None, r"mine\.py cannot be loaded: cannot read .*mine\.py: No such file or directory\.$"),
    ],
    ids=["raises", "syntax", "import", "taken", "exits", "half", "missing"],
)
def test_a_named_file_that_cannot_be_loaded_is_one_sentence(mine, text, says):
    mine.unlink() if text is None else mine.write_text(text)
    code, output = run("list", "metrics", "--plugin", mine)
    if says is None:  # it ended the program, which is what it asked for
        assert code == 3
        return
    assert code == 2
    assert re.search(says, output.strip()), output
    assert output.count("\n") == 1
    assert "Traceback" not in output


def test_what_a_plugin_registered_before_it_failed_is_undone(mine):
    mine.write_text(MINE.replace("FACTOR", "1") + "\n1 / 0")
    name_plugin(str(mine))
    with pytest.raises(PluginError):
        load_plugins()
    os.environ[VARIABLE] = ""
    assert "QX" not in METRICS
    assert "mine" not in CONVENTIONS
    assert "QX[mine]" not in DEFINITIONS
    assert "darker" not in METHODS
    mine.write_text(MINE.replace("FACTOR", "1"))  # mended
    name_plugin(str(mine))
    assert "QX" in METRICS


def test_two_that_register_one_name_are_both_named(mine):
    other = mine.with_name("other.py")
    other.write_text(mine.read_text())
    name_plugin(str(mine))
    name_plugin(str(other))
    with pytest.raises(PluginError, match=r"other\.py registers the metric 'QX\[mine\]', which mine\.py has"):
        load_plugins()
    os.environ[VARIABLE] = str(mine)
    assert "QX" in METRICS  # the first stays whole
    assert "darker" in METHODS


def test_equal_files_in_two_folders_leave_the_first_whole(mine):
    copy = mine.parent / "copy" / "mine.py"
    copy.parent.mkdir()
    shutil.copy(mine, copy)
    name_plugin(str(mine))
    name_plugin(str(copy))
    with pytest.raises(PluginError, match=str(copy)):
        load_plugins()
    os.environ[VARIABLE] = str(mine)
    assert "QX" in METRICS


# installed plug-ins


def install(folder: Path, name: str, text: str) -> None:
    """A package of one module with its entry point, as pip leaves it."""
    (folder / f"{name}.py").write_text(text)
    about = folder / f"{name}-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(f"[evalkit]\n{name} = {name}\n")


def test_an_installed_package_is_found_and_a_broken_one_is_left_out(tmp_path, monkeypatch):
    install(tmp_path, "abroken", "raise RuntimeError('no luck')")
    install(tmp_path, "harbour_tools", MINE.replace("FACTOR", "1"))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(PluginWarning, match=r"plug-in abroken 1\.2 cannot be loaded: RuntimeError: no luck\. The rest"):
        assert "QX" in METRICS
    assert [(plugin["name"], plugin["version"]) for plugin in plugins()] == [("harbour_tools", "1.2")]
    forget_plugins()
    code, output = run("list", "metrics")
    assert code == 0
    assert "QX" in output
    assert output.count("Warning: the plug-in abroken 1.2 cannot be loaded") == 1


def test_a_package_that_registers_in_its_init_is_its_own(tmp_path, monkeypatch):
    package = tmp_path / "harbour_pack"
    package.mkdir()
    (package / "__init__.py").write_text(MINE.replace("FACTOR", "1"))
    (package / "register.py").write_text("")
    (package / "data.txt").write_text("1")
    about = tmp_path / "harbour_pack-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: harbour-pack\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[evalkit]\nx = harbour_pack.register\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert METRICS.origin("QX").name == "harbour-pack"
    before = plugins()[0]["hash"]
    forget_plugins()
    sys.modules.pop("harbour_pack")
    (package / "data.txt").write_text("2")  # its weights, say
    assert plugins()[0]["hash"] != before


# runs


def reproduce(bench: Path, out: Path, *more: object) -> tuple[int, str]:
    return run("reproduce", bench / "bench.yaml", "--data-root", bench / "data", "--out", out, *more)


def test_a_run_from_any_folder_with_any_number_of_workers(mine, bench, tmp_path, monkeypatch):
    monkeypatch.chdir(bench)
    code, output = reproduce(Path(), Path("one"), "--plugin", "plugins/mine.py", "--workers", 1)
    assert code == 0, output
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert reproduce(bench, bench / "two", "--plugin", mine, "--workers", 2)[0] == 0
    assert files(bench / "one") == files(bench / "two")
    monkeypatch.setenv(VARIABLE, str(mine))
    assert evalkit.benchmark(bench / "bench.yaml", data_root=bench / "data", out=bench / "three", workers=1).complete
    assert files(bench / "one") == files(bench / "three")
    forget_plugins()
    monkeypatch.setenv(VARIABLE, "")
    code, output = reproduce(bench, bench / "four")  # without it
    assert code == 3
    assert "unknown convention 'mine'" in output
    assert "no fused images, and evalkit knows no network of this name" in output


def test_a_cluster_gives_the_same_bytes(mine, bench):
    pytest.importorskip("distributed")
    assert reproduce(bench, bench / "one", "--plugin", mine, "--workers", 1)[0] == 0
    code, output = reproduce(bench, bench / "two", "--plugin", mine, "--workers", 2, "--engine", "dask")
    assert code == 0, output
    assert files(bench / "one") == files(bench / "two")


def test_records_name_plugins_with_version_and_hash(mine, bench):
    reproduce(bench, bench / "run", "--plugin", mine)
    record = load(bench / "run" / "records" / "TNO__darker.json")
    digest = hashlib.sha256(mine.read_bytes()).hexdigest()
    assert record.provenance["plugins"] == [{"name": "mine.py", "version": "", "hash": digest}]
    assert record.metrics == ["EN[smfnet]", "QX[mine]"]


def test_what_a_changed_plugin_made_is_made_again(mine, bench):
    reproduce(bench, bench / "run", "--plugin", mine)
    before = files(bench / "run")
    reproduce(bench, bench / "run", "--plugin", mine)
    assert files(bench / "run") == before
    mine.write_text(MINE.replace("FACTOR", "2"))
    reproduce(bench, bench / "run", "--plugin", mine)
    reproduce(bench, bench / "new", "--plugin", mine)
    changed = files(bench / "run")
    assert changed == files(bench / "new")
    for name in ("scores/TNO/average.csv", "scores/TNO/darker.csv", "fused/darker/TNO/01.png"):
        assert changed[name] != before[name]
    assert changed["fused/average/TNO/01.png"] == before["fused/average/TNO/01.png"]


def test_later_commands_take_the_run(mine, bench, tmp_path):
    (bench / "numbers.csv").write_text("dataset,method,metric,printed\nTNO,average,EN,5.5\nTNO,darker,QX[mine],0.01\n")
    (bench / "bench.yaml").write_text(BENCH + "published: numbers.csv\n")
    out = bench / "run"
    code, output = reproduce(bench, out, "--plugin", mine)
    assert code == 0, output
    assert (out / "protocol.yaml").is_file()
    table = {(cell.method, cell.metric): cell for cell in evalkit.read_table(out).cells}
    assert table["average", "EN"].published == "5.5"
    assert table["darker", "QX[mine]"].published == "0.01"
    for command in (
        ["table", out, "--format", "latex"],
        ["rank", out],
        ["compare", "average", "darker", "--run", out, "--test", "wilcoxon"],
        ["plot", "box", out, "--out", tmp_path / "box.png"],
        ["leaderboard", "verify", out, "--data-root", bench / "data"],
    ):
        code, output = run(*command, "--plugin", mine)
        assert code == 0, f"{command}: {output}"
        if command[0] in ("table", "rank", "compare"):
            assert "QX" in output, command
    code, output = run("leaderboard", "verify", out, "--data-root", bench / "data")  # without the plug-in
    assert code == 1
    assert "QX[mine]" in output
    mine.write_text(MINE.replace("FACTOR", "2"))
    code, output = run("leaderboard", "verify", out, "--data-root", bench / "data", "--plugin", mine)
    assert code == 1
    assert "of other code for the metrics" in output


@pytest.mark.slow
def test_the_site_shows_the_run(mine, bench, tmp_path):
    reproduce(bench, bench / "run", "--plugin", mine)
    site = tmp_path / "site"
    code, output = run("leaderboard", "build", site, "--records", bench / "run", "--plugin", mine)
    assert code == 0, output
    assert "QX[mine]" in (site / "bench.html").read_text()
    assert "Benchmarks" in (site / "index.html").read_text()


def test_a_worker_with_another_file_is_refused(mine):
    name_plugin(str(mine))
    plugins = Plugins.here()
    mine.write_text(MINE.replace("FACTOR", "2"))
    forget_plugins()
    with pytest.raises(PluginError, match=r"a worker on .* has the plug-in mine\.py with the hash .*; where the run"):
        plugins.need()
    forget_plugins()
    with pytest.raises(PluginError, match="has the plug-in elsewhere 1 not; where the run was started"):
        Plugins((), (type(plugins.loaded[0])("elsewhere", "1", "0"),)).need()


def test_workers_with_another_file_are_refused(mine):
    name_plugin(str(mine))
    load_plugins()
    mine.write_text(MINE.replace("FACTOR", "2"))  # while the run goes on
    with open_engine("local", 2) as engine, pytest.raises(PluginError, match="start run and workers anew"):
        list(engine.map(abs, [1, 2, 3]))


# what the running program registers


def register(factor: float) -> None:
    @evalkit.metric("QP", convention="mine", range="any")
    def qp(pair: object) -> float:
        return factor * float(pair.fused.x.mean())


def test_what_the_program_registers_works_with_any_number_of_workers(bench):
    register(1)
    evalkit.register_method({"name": "inverse", "kind": "classical", "title": "."}, lambda checkpoint: inverse)
    fields = {"title": "Mine", "convention": "mine", "metrics": ["QP"], "datasets": {"TNO": {}}}
    fields |= {"methods": ["average", "inverse"]}
    one, two = (
        evalkit.benchmark(fields, data_root=bench / "data", out=bench / str(count), workers=count) for count in (1, 2)
    )
    assert one.complete
    assert one.cells == two.cells
    register(2)  # the cell runs again
    again = evalkit.benchmark(fields, data_root=bench / "data", out=bench / "2", workers=2)
    assert [cell.value for cell in again.cells] == [2 * cell.value for cell in one.cells]


def inverse(infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
    return 255 - infrared


def failing(pair: object) -> float:
    """Fails."""
    raise KeyError("no such key")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (failing, "QF failed with KeyError: 'no such key'"),
        (lambda pair: "a text", "QF failed with ValueError: could not convert"),
        (lambda pair: None, "QF failed with TypeError"),
        (lambda pair: float("nan"), "QF is nan"),
    ],
)
def test_a_metric_that_fails_is_a_missing_value_with_its_reason(function: Callable, reason: str, bench):
    function.__name__ = "fails"
    evalkit.metric("QF", convention="mine", title="Fails")(function)
    image = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    scores = evalkit.evaluate(image, image, image, ["QF[mine]", "EN"])
    assert scores["EN"] == 8
    assert np.isnan(scores["QF[mine]"])
    assert reason.removeprefix("QF") in scores.missing["QF[mine]"]


def test_a_method_that_fails_is_a_missing_value_with_its_reason(bench):
    def build(checkpoint: Path | None) -> Callable:
        return lambda infrared, visible: infrared[:-1]

    evalkit.register_method({"name": "cut", "kind": "classical", "title": "."}, build)
    fields = {"title": "Mine", "convention": "smfnet", "metrics": ["EN"], "datasets": {"TNO": {}}, "methods": ["cut"]}
    table = evalkit.benchmark(fields, data_root=bench / "data", out=bench / "run", workers=1)
    assert "cut gave uint8 (47, 64), expected uint8" in table.cells[0].reason


@pytest.mark.parametrize("kind", ["network", "classical"])
def test_build_takes_every_weights_file_of_the_card_in_its_order(kind, tmp_path, bench):
    for name, text in (("a.bin", "1"), ("b.bin", "2")):
        (tmp_path / name).write_text(text)
    card = evalkit.register_method(
        {"name": "two", "kind": kind, "title": ".", "checkpoint": ["b.bin", "a.bin"]},
        lambda first, second: lambda infrared, visible: infrared * 0 + int(first.read_text() + second.read_text()),
    )
    with pytest.raises(EvalkitError, match=r"needs its weights b.bin and a.bin: give --checkpoints DIR"):
        make_fuser(card)
    with pytest.raises(EvalkitError, match=r"takes 2 checkpoint files: b.bin, a.bin"):
        make_fuser(card, files=[tmp_path / "a.bin"])
    fuser = make_fuser(card, tmp_path)
    pair = find_pairs(load_card("TNO"), bench / "data").pairs[0]
    assert all((np.asarray(image) == 21).all() for image in fuser.fuse([pair]))
    assert list(fuser.weights) == ["b.bin", "a.bin"]


def test_a_direction_is_of_the_metric_not_of_a_convention():
    with pytest.raises(EvalkitError, match="registered with better='higher', not 'lower'"):
        evalkit.metric("EN", convention="mine", better="lower")(failing)
    with pytest.raises(EvalkitError, match=r"'Q X' cannot be a name"):
        evalkit.metric("Q X", convention="mine")(failing)
    with pytest.raises(EvalkitError, match="better of the metric QZ is 'up'"):
        evalkit.metric("QZ", convention="mine", better="up")(failing)


def test_a_convention_takes_over_what_others_define():
    evalkit.register_convention("lab", "Our lab's", metrics={"en": "EN[tang]", "SSIM": (failing, "fails")})
    lab = definitions(None, "LAB")
    assert list(lab) == ["EN", "SSIM"]
    assert lab["EN"].function is DEFINITIONS["EN[tang]"].function
    assert "(as EN[tang])" in lab["EN"].choice
    with pytest.raises(UnknownNameError, match="unknown metric 'EN"):
        evalkit.register_convention("lab2", metrics={"EN": "EN[tong]"})


# what can be listed


@pytest.mark.parametrize("kind", ENTRIES)
def test_everything_can_be_listed(kind, mine):
    code, output = run("list", kind, "--json", "--plugin", mine)
    assert code == 0, output
    entries = json.loads(output)
    assert entries
    assert len({tuple(entry) for entry in entries}) == 1
    assert run("list", kind, "--plugin", mine)[0] == 0


def test_lists_say_who_registered(mine):
    for kind, name in (("metrics", "QX"), ("conventions", "mine"), ("methods", "darker"), ("plugins", "mine.py")):
        entries = json.loads(run("list", kind, "--json", "--plugin", mine)[1])
        assert entries[-1]["name"] == name
        assert kind == "plugins" or entries[-1]["from"] == "mine.py"
    assert "Doe 2026" in run("show", "QX", "--plugin", mine)[1]
    assert run("list", "plugins")[1].strip() == "none"


def test_a_process_of_its_own_needs_nothing_else(mine, tmp_path):
    """Through the program itself: --plugin before and behind the command, and the environment variable."""
    command = [sys.executable, "-m", "evalkit"]
    root = str(Path(evalkit.__file__).parents[1])
    for arguments, value in (
        (["--plugin", "mine.py", "show", "QX"], ""),
        (["show", "QX", "--plugin", str(mine)], ""),
        (["show", "QX"], str(mine)),
    ):
        environment = os.environ | {VARIABLE: value, "PYTHONPATH": root}
        result = subprocess.run(
            command + arguments, cwd=mine.parent, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        assert "Doe 2026" in result.stdout


def test_every_command_takes_plugins():
    def walk(command: click.Command, path: str) -> None:
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                walk(inner, f"{path} {name}")
        else:
            assert sum("--plugin" in parameter.opts for parameter in command.params) == 1, path

    walk(main, "evalkit")


def test_a_process_that_measures_imports_little():
    code = (
        "import sys; from evalkit.metrics.registry import definitions; definitions(['EN', 'VIF'], 'smfnet');"
        "print({'scipy.fft', 'pydantic', 'pandas', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
