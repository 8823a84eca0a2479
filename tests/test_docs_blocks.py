"""The code blocks of README.md and of the tutorials run from top to bottom, as a reader would run them.

The blocks of a page run in one new folder, `sh` and `python` ones; a line `<!-- file: NAME -->` above a block makes it
a file, `<!-- exit: N -->` says how it ends, `<!-- not run: REASON -->` that its commands are planned only. A `text`
block has lines that the block before it prints. What nobody has in a clone is generated under the names that it uses.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from conftest import make_outputs, make_tno, textured

from evalkit.data.images import write_png

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^(?:<!-- (file|exit|not run): ([^>]*) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    kind: str  # sh, python, text, yaml, ...
    text: str
    file: str = ""
    exit: int = 0
    planned: bool = False


def blocks(page: Path) -> Iterator[Block]:
    for key, value, kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        ends = int(value) if key == "exit" else 0
        yield Block(kind, text, value if key == "file" else "", ends, key == "not run")


def commands(block: Block) -> str:
    """What is run of a block: installing is the environment's business."""
    lines = []
    for line in block.text.splitlines():
        line = re.sub(r"^pip install \. && ", "", line)
        if line.startswith(("pip ", "git ")):
            continue
        if block.planned:
            line = line.replace("--sample", "--plan")
        lines.append(line)
    return "\n".join(lines)


class Reader:
    """One who does what a page says, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = ""
        programs = folder / ".programs"
        programs.mkdir()
        for name, module in {"evalkit": "-m evalkit", "python": "", "pytest": "-m pytest"}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
            (programs / name).chmod(0o755)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
        self.environment |= {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(self, script: str, allowed: tuple[int, ...]) -> None:
        """A script that stops at its first command with another exit code."""
        codes = " ".join(map(str, allowed))
        head = f"check() {{ code=$?; for one in {codes}; do [ $code -eq $one ] && return; done; exit $code; }}\n"
        done = subprocess.run(
            ["bash", "-c", f"{head}trap check ERR\n{script}"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.output = done.stdout
        said = f"{script}\nexit code {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
        assert done.returncode in allowed, said

    def follow(self, block: Block, allowed: tuple[int, ...] = (0,), before: str = "") -> None:
        if block.file:
            (self.folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.kind == "sh":
            self.run(commands(block), (*allowed, block.exit))
        elif block.kind == "python":
            (self.folder / ".block.py").write_text(before + block.text, encoding="utf-8")
            self.run("python .block.py", (0,))
        elif block.kind == "text":
            printed = [" ".join(line.split()) for line in self.output.splitlines()]
            for line in block.text.splitlines():
                assert " ".join(line.split()) in printed, f"{line!r} was not printed, but\n{self.output}"


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    return Reader(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page: Path, reader: Reader) -> None:
    allowed = (0,)
    if page.stem == "paper-table":  # images that are nobody's: 25 small pairs in TNO's place, which are other data
        make_tno(reader.folder / "DATA", 25)
        make_outputs(reader.folder / "OUTPUTS")
    for block in blocks(page):
        reader.follow(block, allowed)


# of the README: what takes a training or hours is tried or planned; whether an extra is here does not matter then
SHORTER = {
    "--outputs OUTPUTS --out runs/t1": "--outputs OUTPUTS --out runs/t1 --datasets TNO",
    "--recipe small --data-root DATA --out runs/smfnet": "--recipe small --sample --steps 1",
    "--sample --train ": "--sample --train --steps 1 ",
    "smfnet-table2 --sample ": "smfnet-table2 --plan ",
    "psfusion-table1 --data-root DATA --recipe paper": "psfusion-table1 --data-root DATA --recipe paper --plan",
}
ARRAYS = """
import numpy as np
fused, infrared, visible = (np.random.default_rng(i).integers(0, 256, (48, 64), np.uint8) for i in range(3))
"""


def bring_what_the_readme_names(folder: Path) -> None:
    make_tno(folder / "DATA")
    for method in ("CDDFuse", "MyFusion"):
        make_outputs(folder / "OUTPUTS", method)
    (folder / "CHECKPOINTS").mkdir()
    for i, names in enumerate((("FUSED", "fused"), ("IR", "ir"), ("VI", "vi"))):
        image = textured(i)
        for name in names:
            write_png(folder / name / "01.png", image)
        write_png(folder / f"{names[1]}.png", image)
    write_png(folder / "FUSED" / "01_fused.png", textured(9))
    for name in ("VT821", "VT1000", "VT5000"):
        write_png(folder / "MAPS" / "mine" / name / "1.png", textured(1))
    (folder / "my.csv").write_text("method,EN,SD\nA,6.5,30.1\nB,6.7,33.2\n", encoding="utf-8")


@pytest.mark.slow
def test_the_readme_runs(reader: Reader) -> None:
    """Every block; a command may end with 3 here, for most of the papers' data and weights are not there."""
    bring_what_the_readme_names(reader.folder)
    for block in blocks(ROOT / "README.md"):
        text = block.text
        for whole, shorter in SHORTER.items():
            text = text.replace(whole, shorter)
        file = "mine.py" if block.kind == "python" and "@evalkit.metric(" in text else ""
        reader.follow(replace(block, text=text, file=file), (0, 3), ARRAYS)


def test_tutorials_have_blocks_that_run() -> None:
    assert len(TUTORIALS) == 6
    for page in TUTORIALS:
        assert sum(block.kind in ("sh", "python") for block in blocks(page)) >= 3, page
