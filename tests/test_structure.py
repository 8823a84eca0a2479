"""The house: imports go down, none runs in a circle, those inside functions have a reason, a name is of one class."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "evalkit").rglob("*.py"))
INSIDE = 34  # imports inside functions outside commands/
# a paper's network and its training name their parts as the paper does; what they share with other modules:
OF_PAPERS = ("methods/networks/", "methods/saliency/systems/", "training/papers/", "downstream/segmentation/systems/")
SHARED = {"CrossAttention", "DenseBlock", "Fusion", "ResidualBlock"}


@pytest.fixture(scope="module")
def structure() -> str:
    """What scripts/structure.py says of this checkout."""
    command = [sys.executable, ROOT / "scripts" / "structure.py", ROOT]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def place(file: Path) -> str:
    return file.relative_to(ROOT / "evalkit").as_posix()


def test_no_circle_and_no_import_that_goes_up(structure: str) -> None:
    for title in ("import cycles", "packages that import each other", "arrows up"):
        assert re.search(rf"^{title} 0$", structure, re.MULTILINE), structure


def test_imports_inside_functions_are_few(structure: str) -> None:
    found = re.search(r"^imports inside functions \d+, outside commands/ (\d+) ", structure, re.MULTILINE)
    assert found is not None
    assert int(found[1]) <= INSIDE, structure


def inner_imports(file: Path) -> Iterator[int]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in (part for function in functions for part in ast.walk(function)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node.lineno


def test_imports_inside_functions_say_why() -> None:
    silent = []
    for file in MODULES:
        if place(file).startswith("commands/"):
            continue
        lines = file.read_text(encoding="utf-8").splitlines()
        for number in inner_imports(file):
            above, line = lines[number - 2].strip(), lines[number - 1]
            if not above.startswith("#") and "#" not in line:
                silent.append(f"{place(file)}:{number}: {line.strip()}")
    assert not silent, silent


def test_a_name_is_of_one_class() -> None:
    homes = defaultdict(set)
    for file in MODULES:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].add(place(file))
    twice = {
        name: sorted(files)
        for name, files in homes.items()
        if len(files) > 1 and name not in SHARED and not all(file.startswith(OF_PAPERS) for file in files)
    }
    assert not twice, twice
