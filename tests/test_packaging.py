"""What is shipped: versions that agree, extras and their licences, the sdist, the Dockerfile, docs/packaging.md."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
import check_extras

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
PAGE = (ROOT / "docs/packaging.md").read_text(encoding="utf-8")
FACTS = json.loads((ROOT / "docs/extras.json").read_text(encoding="utf-8"))
COPYLEFT = re.compile(r"AGPL|Affero")
NAME = re.compile(r"^[\w.-]+")


def name_of(requirement: str) -> str:
    return NAME.findall(requirement)[0].lower()


def needed(extra: str) -> set[str]:
    """The packages that an extra names, those of the extras that it takes in among them."""
    packages: set[str] = set()
    for requirement in EXTRAS[extra]:
        if name_of(requirement) == "evalkit":
            (inner,) = re.findall(r"\[(.*)\]", requirement)
            packages |= set().union(*map(needed, inner.split(",")))
        else:
            packages.add(name_of(requirement))
    return packages


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    heading = re.findall(r"^## (\S+) \(", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert PROJECT["project"]["version"] == str(citation["version"]) == heading[0]
    assert PROJECT["project"]["license"] == citation["license"]


def test_agpl_is_in_detection_and_all_alone() -> None:
    assert {extra for extra in EXTRAS if "ultralytics" in needed(extra)} == {"detection", "all"}
    assert "ultralytics" not in map(name_of, PROJECT["project"]["dependencies"])
    of_agpl = {
        (extra, one[0]) for extra, facts in FACTS.items() for one in facts["licences"] if COPYLEFT.search(one[2])
    }
    assert {extra for extra, _ in of_agpl} <= {"detection", "all"}
    assert all(name.startswith("ultralytics") for _, name in of_agpl)


def test_no_module_outside_detection_imports_ultralytics() -> None:
    homes: dict[str, list[bool]] = {}
    for file in sorted((ROOT / "evalkit").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if any(name.partition(".")[0] == "ultralytics" for name in names):
                at_top = node in tree.body
                homes.setdefault(file.relative_to(ROOT / "evalkit").as_posix(), []).append(at_top)
    assert homes.pop("downstream/environment.py") == [False, False]  # in the function that asks for it by name
    assert homes
    assert all(home.startswith("downstream/detection/") for home in homes)


def test_the_page_has_what_was_found() -> None:
    assert check_extras.PAGE.made() == PAGE
    assert set(FACTS) <= {"base", *EXTRAS} - {"test"}
    for extra, facts in FACTS.items():
        assert facts["pip_check"] == "No broken requirements found."
        installed = {name.lower().replace("_", "-") for name, *_ in facts["licences"]}
        assert extra == "base" or needed(extra) <= installed
    assert set(re.findall(r"^\| `(\w+)` \| [^|]*\|$", PAGE, re.MULTILINE)) == set(EXTRAS)  # what each is for


def test_facts_that_come_during_a_check_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = tmp_path / "extras.json"

    def check(extra: str, source: str) -> dict:
        facts.write_text('{"docs": {}}', encoding="utf-8")
        return {"packages": 1, "mb": 2, "evalkit_mb": 3, "pip_check": ""}

    monkeypatch.setattr(check_extras, "FACTS", facts)
    monkeypatch.setattr(check_extras, "check", check)
    monkeypatch.setattr(sys, "argv", ["check_extras.py", "xlsx"])
    check_extras.main()
    assert set(json.loads(facts.read_text(encoding="utf-8"))) == {"docs", "xlsx"}


def test_a_licence_is_what_the_package_says(tmp_path: Path) -> None:
    """An expression is kept whole; without a field it is the head of the file, without its notice of copyright."""
    expression = " AND ".join(["Apache-2.0", "BSD-3-Clause"] * 5)
    for name, field in (("one", f"License-Expression: {expression}"), ("two", "License-File: LICENSE")):
        folder = tmp_path / f"{name}-1.0.dist-info"
        (folder / "licenses").mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{field}\n")
        (folder / "licenses/LICENSE").write_text("Copyright 2020 A. Person\n\n     MIT License\n\nPermission ...\n")
    command = [sys.executable, "-c", check_extras.LICENCES]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    licences = {name: licence for name, _, licence in json.loads(done.stdout)}
    assert (licences["one"], licences["two"]) == (expression, "MIT License")


def test_the_lowest_versions_of_the_page_are_the_bounds() -> None:
    (line,) = re.findall(r"^pip install (numpy==.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
    tried = dict(part.split("==") for part in line.replace("\\\n", " ").split())
    bounds = dict(requirement.split(">=") for requirement in PROJECT["project"]["dependencies"])
    assert set(tried) == {name.lower() if name == "PyYAML" else name for name in bounds}
    for name, bound in bounds.items():
        assert (tried[name] + ".").startswith(bound + ".")


def test_the_module_is_the_program() -> None:
    command = [sys.executable, "-m", "evalkit", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"evalkit, version \d+\.\d+\.\d+\n", done.stdout)


def test_a_cluster_with_nothing_to_train_needs_no_pytorch() -> None:
    script = """
import sys
from types import SimpleNamespace
sys.modules["torch"] = None
from evalkit.protocols.training import train_ahead
train_ahead([], None, SimpleNamespace(engine=SimpleNamespace(remote=True), trained={}), None, False)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        pytest.skip("not a clone")
    return done.stdout.strip("\0").split("\0")


def test_the_sdist_takes_every_tracked_file() -> None:
    target = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]
    taken = {path.strip("/") for path in target["include"]}
    always = {"README.md", "LICENSE", "pyproject.toml", ".gitignore"}  # by hatchling itself
    assert {path.partition("/")[0] for path in tracked()} == taken | always


def test_the_dockerfile_gives_up_its_rights_and_names_no_address() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    instructions = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [line.split()[0] for line in instructions if line.startswith(("FROM", "USER"))] == ["FROM", "FROM", "USER"]
    assert "USER 1000" in instructions
    assert "//" not in "".join(instructions).replace("/var/lib/apt/lists/*", "")
    minor = re.findall(r"^FROM python:(\d+\.\d+)-slim", text, re.MULTILINE)
    assert f"Programming Language :: Python :: {minor[0]}" in PROJECT["project"]["classifiers"]
    kept = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    assert kept == {"evalkit", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE"}  # what a wheel is built from


@pytest.mark.slow
def test_the_wheel_of_the_sdist_is_the_wheel_of_the_tree(tmp_path: Path) -> None:
    pytest.importorskip("build")

    def build(source: Path, kind: str, out: str) -> Path:
        command = [sys.executable, "-m", "build", f"--{kind}", "--outdir", str(tmp_path / out), str(source)]
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        (made,) = (tmp_path / out).iterdir()
        return made

    sdist = build(ROOT, "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    names = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert names - {"PKG-INFO"} == set(tracked())
    ours, theirs = build(ROOT, "wheel", "tree"), build(source, "wheel", "again")
    assert ours.name == theirs.name
    with zipfile.ZipFile(ours) as a, zipfile.ZipFile(theirs) as b:
        assert {one.filename: one.CRC for one in a.infolist()} == {one.filename: one.CRC for one in b.infolist()}
        assert {name.partition("/")[0].partition("-")[0] for name in a.namelist()} == {"evalkit"}
