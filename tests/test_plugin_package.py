"""examples/: a package that adds one thing of every kind, and its twin in one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import forget_plugins

from evalkit.cli import main
from evalkit.downstream.segmentation import networks
from evalkit.records.record import load
from evalkit.registry import VARIABLE

ROOT = Path(__file__).parents[1]
PACKAGE, SINGLE, DATA = ROOT / "examples/plugin", ROOT / "examples/harbour.py", ROOT / "examples/plugin/data"
THINGS = {
    "metrics": "HC", "conventions": "harbour", "methods": "TinyFuse", "datasets": "Harbour",
    "protocols": "harbour-bench", "segmenters": "Harbour-FCN",
}  # fmt: skip


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    forget_plugins()
    os.environ[VARIABLE] = ""
    return result.exit_code, result.output


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package as pip leaves it, without pip: on the path, with the entry point of its pyproject.toml."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    about = tmp_path / "site" / "evalkit_harbour-0.1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (points,) = project["entry-points"]["evalkit"].items()
    (about / "entry_points.txt").write_text("[evalkit]\n{} = {}\n".format(*points))
    for folder in (about.parent, PACKAGE):
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(about.parent), str(PACKAGE), str(ROOT)]))  # of workers


def reproduce(out: Path, *more: object) -> tuple[int, str]:
    return run("reproduce", "harbour-bench", "--data-root", DATA, "--out", out, *more)


def values(run: Path) -> list:
    return json.loads((run / "table.json").read_text())["cells"]


@pytest.mark.usefixtures("installed")
def test_what_the_package_adds_is_listed_and_shown():
    for kind, name in THINGS.items():
        entries = {entry["name"]: entry for entry in json.loads(run("list", kind, "--json")[1])}
        assert entries[name]["from"] == "evalkit-harbour 0.1.0"
    for name in ("HC", "hotspot", "harbour-bench", "Harbour"):
        assert run("show", name)[0] == 0
    assert Path(networks.segmenter("harbour-fcn").config).is_file()
    compile(Path(networks.segmenter("harbour-fcn").config).read_text(), "config", "exec")


@pytest.mark.usefixtures("installed")
def test_the_published_values_come_out_with_any_number_of_workers(tmp_path):
    pytest.importorskip("torch")
    code, output = reproduce(tmp_path / "one", "--workers", 1)
    assert code == 0, output
    assert "of 16 with a published value 16 equal" in output
    assert reproduce(tmp_path / "two", "--workers", 2)[0] == 0
    assert values(tmp_path / "one") == values(tmp_path / "two")
    record = load(tmp_path / "one" / "records" / "Harbour__TinyFuse.json")
    assert list(record.method["weights"]) == ["tinyfuse.safetensors"]
    assert record.provenance["plugins"][0]["name"] == "evalkit-harbour"
    assert run("leaderboard", "verify", tmp_path / "one", "--data-root", DATA)[0] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_scheduler_gives_the_same_values(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("distributed")
    assert reproduce(tmp_path / "one", "--workers", 1)[0] == 0
    code, output = reproduce(tmp_path / "two", "--workers", 2, "--engine", "dask")
    assert code == 0, output
    assert values(tmp_path / "one") == values(tmp_path / "two")


def test_without_the_package_they_are_unknown_names(tmp_path):
    code, output = reproduce(tmp_path / "run")
    assert code == 2
    assert output.startswith("Error: unknown protocol 'harbour-bench'.")
    code, output = run("show", "hotspott", "--plugin", SINGLE)
    assert code == 2
    assert "Did you mean 'hotspot'?" in output


def test_the_twin_in_one_file_works_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output = reproduce(tmp_path / "run", "--plugin", SINGLE, "--workers", 1)
    assert code == 0, output
    published = (PACKAGE / "evalkit_harbour/harbour-bench.csv").read_text()
    for cell in values(tmp_path / "run"):
        assert f"Harbour,{cell['method']},{cell['metric']},{cell['value']:.4f}\n" in published


@pytest.mark.slow
def test_installed_with_pip_its_own_tests_pass(tmp_path):
    """In an environment of its own; what evalkit needs is that of this one."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "around.pth").write_text("\n".join([str(ROOT), *(p for p in sys.path if p.endswith("site-packages"))]))
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", VARIABLE)}
    for command in (
        ["-m", "pip", "install", "--quiet", "--no-deps", str(PACKAGE)],
        ["-m", "evalkit", "reproduce", "harbour-bench", "--data-root", str(DATA), "--out", str(tmp_path / "run")],
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE / "tests")],
    ):
        done = subprocess.run(
            [str(python), *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode and "No matching distribution found for hatchling" in done.stderr:
            pytest.skip("needs the network, for hatchling")
        assert done.returncode == 0, done.stdout + done.stderr
