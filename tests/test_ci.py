"""The fixture `evalkit_check` in a repository of a user: the example of docs/ci.md is run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from conftest import textured

from evalkit.data.images import write_png

ROOT = Path(__file__).resolve().parents[1]
FUSE = """
import numpy as np
from evalkit.data.images import read_image, write_png

def fuse_folder(infrared, visible, out):
    for path in sorted(infrared.iterdir()):
        a, b = (read_image(folder / path.name).astype(float) for folder in (infrared, visible))
        write_png(out / path.name, np.rint({weight} * a + (1 - {weight}) * b).astype(np.uint8))
"""


def block(language: str) -> str:
    """The first code block of that language in docs/ci.md."""
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "docs/ci.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The example of the docs: its layout, its test, and a method that takes the mean."""
    for i in range(1, 4):
        write_png(tmp_path / f"tests/pairs/ir/{i:02d}.png", textured(i))
        write_png(tmp_path / f"tests/pairs/vi/{i:02d}.png", textured(100 + i))
    (tmp_path / "my_fusion.py").write_text(FUSE.format(weight=0.5))
    (tmp_path / "tests/test_metrics.py").write_text(block("python"))
    return tmp_path


def run(repository: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "evalkit.testing.plugin"]
    command += arguments
    environment = {**os.environ, "PYTHONPATH": str(repository), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_example_of_the_docs(repository: Path) -> None:
    code, text = run(repository)
    assert code == 1
    assert "there is not a golden file" in text
    assert run(repository, "--evalkit-update")[0] == 0
    golden = repository / "tests/golden.csv"
    lines = golden.read_text().splitlines()
    assert len(lines) == 1 + 3 * 3
    assert run(repository)[0] == 0

    (repository / "my_fusion.py").write_text(FUSE.format(weight=0.51))  # another method now
    code, text = run(repository)
    assert code == 1
    assert "values of golden.csv moved:" in text
    moved = re.findall(
        r"0[123] (EN|SSIM|VIF)\[smfnet\]: was [\d.]+, is [\d.]+ \([\d.e-]+ relative, allowed 1e-06\)", text
    )
    assert set(moved) == {"EN", "SSIM", "VIF"}
    assert "test_metrics.py" in text
    assert "__tracebackhide__" not in text
    golden.write_text("\n".join([lines[0], *(line.rpartition(",")[0] + ",0.5" for line in lines[1:])]) + "\n")
    assert run(repository)[0] == 0  # within this tolerance nothing moved
    golden.write_text(lines[0] + "\n99,EN[smfnet],7.0,1e-6\n")
    assert "99 EN[smfnet]: was 7, is undefined (there is no fused image of this name)" in run(repository)[1]
    golden.write_text("a,b\n1,2\n")
    assert "is not a golden file" in run(repository)[1]


def test_the_workflow_of_the_docs_runs_the_test_of_the_docs() -> None:
    jobs = yaml.safe_load(block("yaml"))["jobs"]["metrics"]["steps"]
    commands = [step["run"] for step in jobs if "run" in step]
    assert commands[-1] == "pytest tests/test_metrics.py"
    assert "evalkit" in commands[0].split()


def test_pytest_finds_the_plugin_and_other_runs_stay_quick() -> None:
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]["evalkit"]
    assert callable(import_module(entry).pytest_addoption)
    script = f"import sys, pytest, {entry}; print([m for m in ('numpy', 'pandas', 'torch', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
