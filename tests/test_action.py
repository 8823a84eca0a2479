"""action.yml on this machine: its shell steps are run with the variables that a runner gives, on examples/ci."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from evalkit.cli import main

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "ci"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
WORKFLOW = yaml.safe_load((EXAMPLE / ".github/workflows/metrics.yml").read_text(encoding="utf-8"))
STEPS = WORKFLOW["jobs"]["metrics"]["steps"]
INPUT = re.compile(r"\$\{\{ inputs\.(\w+) \}\}")
HOSTILE = ["$(touch x)", "`touch x`", '"; touch x; "', "'; touch x; '", "a\ntouch x", "--update", "*", "x && touch x"]


def python_on_path(folder: Path, evalkit: str) -> str:
    """A PATH on which `python` is this interpreter, and `evalkit` runs the given code in it."""
    folder.mkdir(exist_ok=True)
    for name, arguments in (("python", ""), ("evalkit", f"-c {shlex.quote(evalkit)}")):
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        (folder / name).chmod(0o755)
    return os.pathsep.join([str(folder), os.environ["PATH"]])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The example as its owner has it, fused as its workflow says."""
    repository = tmp_path / "my-fusion"
    shutil.copytree(EXAMPLE, repository, ignore=shutil.ignore_patterns("fused", "__pycache__"))
    fuse(repository)
    return repository


def fuse(repository: Path) -> None:
    (command,) = (step["run"] for step in STEPS if "fusion.py" in step.get("run", ""))
    path = python_on_path(repository.parent / "bin", "")
    subprocess.run(["bash", "-e", "-c", command], cwd=repository, env={**os.environ, "PATH": path}, check=True)


def run(
    repository: Path,
    inputs: dict[str, str],
    evalkit: str = "import sys; sys.path.pop(0); from evalkit.__main__ import main; main()",
) -> tuple[int, str, str]:
    """Exit code, output and job summary of the action, with the step that installs evalkit left out."""
    runner = repository.parent / "runner"
    shutil.rmtree(runner, ignore_errors=True)
    runner.mkdir()
    values = {name: str(about.get("default", "")) for name, about in ACTION["inputs"].items()}
    values |= {"install": "false"} | inputs
    code, output = 0, ""
    for step in ACTION["runs"]["steps"]:
        if step.get("if") == "${{ inputs.install == 'true' }}" and values["install"] != "true":
            continue
        assert "if" not in step
        script = runner / "script.sh"
        script.write_text(step["run"], encoding="utf-8")
        given = {name: INPUT.sub(lambda m: values[m[1]], text) for name, text in step.get("env", {}).items()}
        own = {
            "PATH": python_on_path(repository.parent / "bin", evalkit),
            "PYTHONPATH": str(ROOT),
            "RUNNER_TEMP": str(runner),
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_OUTPUT": str(runner / "output"),
            "GITHUB_STEP_SUMMARY": str(runner / "summary.md"),
        }
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]  # as `shell: bash` does
        done = subprocess.run(
            command, cwd=repository, env={**os.environ, **own, **given}, capture_output=True, text=True, check=False
        )
        output += done.stdout + done.stderr
        if code := done.returncode:
            break
    summary = runner / "summary.md"
    return code, output, summary.read_text(encoding="utf-8") if summary.is_file() else ""


def of_the_workflow() -> dict[str, str]:
    (step,) = (step for step in STEPS if "/evalkit@" in step.get("uses", ""))
    return step["with"]


def in_docs(summary: str) -> bool:
    """Whether docs/ci.md shows this summary, whatever the version."""
    text = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    plain = [re.sub(r"evalkit (\d+\.\d+\S*|unknown)", "evalkit VERSION", part) for part in (text, summary)]
    return f"```markdown\n{plain[1]}```" in plain[0]


def test_a_run_where_nothing_moved(repository: Path) -> None:
    code, output, summary = run(repository, of_the_workflow())
    assert code == 0, output
    assert "15 values checked, 0 moved" in output
    assert summary.startswith("### ✓ evalkit: none of 15 values moved\n")
    assert in_docs(summary), summary
    place = (repository.parent / "runner/output").read_text().removeprefix("summary=").strip()
    assert Path(place).read_text(encoding="utf-8") == summary  # what a comment is made of


def test_a_run_where_metrics_moved(repository: Path) -> None:
    method = repository / "fusion.py"
    text = method.read_text(encoding="utf-8")
    method.write_text(text.replace("(a + b + 1) // 2", "np.maximum(a, b)"), encoding="utf-8")
    fuse(repository)
    code, output, summary = run(repository, {**of_the_workflow(), "metrics": "EN, SSIM[tang]", "convention": "smfnet"})
    assert code == 1
    assert "6 values checked, 6 moved" in output
    assert summary.startswith("### ✗ evalkit: 6 of 6 values moved\n")
    assert in_docs(summary), summary


def test_the_command_of_the_summary_writes_the_file_anew(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    golden = repository / "tests/golden.csv"
    lines = golden.read_text().splitlines()
    edited = [lines[0], lines[1].replace("1e-06", "0.5"), *lines[2:]]
    golden.write_text("\n".join(edited).replace("6.535", "6.5") + "\n")
    (command,) = re.findall(r"writes: `evalkit (check .*)`", (ROOT / "docs/ci.md").read_text(encoding="utf-8"))
    arguments = [part for part in shlex.split(command) if part != "--update"]
    assert call(*arguments) == (1, 15)
    assert call(*arguments[:-2], "--tolerance", "0.01", *arguments[-2:]) == (0, 15)
    assert call(*arguments[:-2], "--metrics", "VIF,SSIM[tang]", "--convention", "smfnet", *arguments[-2:]) == (0, 6)
    assert call(*shlex.split(command)) == (0, 15)
    assert golden.read_text().splitlines() == edited  # its metrics and its tolerances
    (repository / "notes.csv").write_text("a,b\n1,2\n")
    assert call(*shlex.split(command)[:-1], "notes.csv") == (2, 0)
    assert (repository / "notes.csv").read_text() == "a,b\n1,2\n"


def call(*arguments: str) -> tuple[int, int]:
    """Exit code of a command, and the number that it says first in its last line; 0 where that says none."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    number = result.output.splitlines()[-1].partition(" ")[0]
    return result.exit_code, int(number) if number.isdecimal() else 0


def test_trouble_is_said_in_the_summary(repository: Path) -> None:
    code, output, summary = run(repository, {**of_the_workflow(), "golden": "tests/other.csv"})
    assert code == 2
    assert summary.startswith("### ✗ evalkit: nothing was checked\n")
    assert "other.csv" in summary
    assert "Traceback" not in output
    code, _, summary = run(repository, {**of_the_workflow(), "tolerance": "much"}, "raise SystemExit(2)")
    assert (code, summary) == (2, "### ✗ evalkit: nothing was checked, the log says why\n")
    code, output, _ = run(repository, {**of_the_workflow(), "fused": ""}, "raise SystemExit(0)")
    assert code == 2  # not the current folder
    assert "the input FUSED is empty" in output


def test_no_input_is_a_part_of_a_script() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"
        assert all(INPUT.fullmatch(value) for value in step.get("env", {}).values())


@pytest.mark.parametrize("hostile", HOSTILE)
def test_an_input_arrives_as_it_is(repository: Path, hostile: str) -> None:
    names = ("golden", "fused", "infrared", "visible", "metrics", "convention", "tolerance")
    before = sorted(repository.rglob("*"))
    told = "import json, sys; print('told', json.dumps(sys.argv[1:])); raise SystemExit(1)"
    code, output, _ = run(repository, dict.fromkeys(names, hostile), told)
    assert code == 1
    (arguments,) = (json.loads(line[5:]) for line in output.splitlines() if line.startswith("told "))
    options = {argument for argument in arguments[1:-2] if not argument.startswith("--summary=")}
    assert options == {f"--{name}={hostile}" for name in names[1:]}
    assert [arguments[0], *arguments[-2:]] == ["check", "--", hostile]
    assert sorted(repository.rglob("*")) == before


def test_hostile_inputs_end_in_one_sentence(repository: Path) -> None:
    before = sorted(repository.rglob("*"))
    code, output, summary = run(repository, {**of_the_workflow(), "fused": "$(touch x)", "metrics": "`touch x`"})
    assert code == 2
    assert "Traceback" not in output
    assert "nothing was checked" in summary
    assert "touch x" in summary
    assert sorted(repository.rglob("*")) == before


def test_names_of_files_are_text_in_log_and_summary(repository: Path) -> None:
    strange = "::error::@owner <b>`|[x](y)"
    (repository / "fused/000_day.png").rename(repository / "fused" / f"{strange}.png")
    code, output, summary = run(repository, of_the_workflow())
    assert code == 1
    assert "| `` " not in summary
    assert r"| ``::error::@owner <b>`\|[x](y)`` | | | | | | the golden file has no value of this fused image" in summary
    lines = output.splitlines()
    token = next(line for line in lines if line.startswith("::stop-commands::")).rpartition("::")[2]
    (told,) = (i for i, line in enumerate(lines) if line.startswith("::error::"))
    assert lines.index(f"::stop-commands::{token}") < told < lines.index(f"::{token}::")
    assert len(token) == 32


def test_the_docs_name_every_input() -> None:
    text = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \| [^|]* \|$", text, re.MULTILINE))
    assert rows == {name: about["description"] for name, about in ACTION["inputs"].items()}
    assert all(name in ACTION["inputs"] for name in of_the_workflow())


def test_the_hook_of_pre_commit_runs_on_the_example(repository: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    local, own = yaml.safe_load((EXAMPLE / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (told,) = own["hooks"]
    assert told["id"] == hook["id"]
    (command,) = (step["run"] for step in STEPS if "fusion.py" in step.get("run", ""))
    assert local["hooks"][0]["entry"] == command
    program, *arguments = shlex.split(hook["entry"]) + told["args"]
    assert program == "evalkit"
    command = [sys.executable, "-m", "evalkit", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "15 values checked, 0 moved\n")


def test_the_test_of_the_example_passes(repository: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "evalkit.testing.plugin", "tests"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
