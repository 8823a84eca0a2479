"""Damaged inputs for every reader, as `scripts/fuzz.py` makes and watches them; `--count 10000` is the full run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "fuzz.py"
LIGHT = ("images", "labels", "cards", "protocols", "records", "scores", "tables", "published", "golden")
CASES = 150


def fuzz(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("reader", LIGHT)
def test_a_reader_reads_or_refuses(reader: str) -> None:
    code, text = fuzz(reader, "--count", CASES)
    assert code == 0, text
    assert f"{reader}: {CASES} cases" in text


@pytest.mark.parametrize("reader", ["recipes", "checkpoints"])
def test_a_reader_of_networks_reads_or_refuses(reader: str) -> None:
    pytest.importorskip("lightning_fabric")
    code, text = fuzz(reader, "--count", CASES)
    assert code == 0, text


HARM = """
import os, sys
sys.path.insert(0, {scripts!r})
import fuzz, fuzz_inputs, fuzz_readers
from pathlib import Path

def reader(place):
    return fuzz_inputs.Reader([("a", b"x")], [lambda data, rng: rng.choice([b"w", b"e", b"s", b"r", b"l"])], [call])

def call(path):
    kind = path.read_bytes()
    if kind == b"w":
        open({other!r}, "w").close()
    elif kind == b"e":
        exec("1")
    elif kind == b"s":
        os.system("true")
    elif kind == b"r":
        raise KeyError("x")
    elif kind == b"l":
        bytearray(2**40)

fuzz_readers.READERS["harm"] = reader
print(*{{what.split(":")[0][:40] for _, what in fuzz.run("harm", 60, 0, 1)["found"]}}, sep="\\n")
"""


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    """A reader that does harm: each kind of it is told."""
    script = HARM.format(scripts=str(SCRIPT.parent), other=str(tmp_path / "elsewhere"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    found = set(done.stdout.splitlines())
    assert {"KeyError", "MemoryError"} <= found, done.stdout + done.stderr
    assert {line for line in found if line.startswith("did more than read")} == {"did more than read"}
    assert "did more than read" in found
