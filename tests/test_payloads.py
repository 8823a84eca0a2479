"""Hostile files at every place that reads weights or states: one sentence each, and nothing else happens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning_fabric")

PROGRAM = Path(__file__).with_name("payloads.py")


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Each place with each payload, in a process of its own whose memory is limited and whose acts are watched."""
    folder = tmp_path_factory.mktemp("payloads")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROGRAM.parents[1]), *sys.path])}
    command = [sys.executable, str(PROGRAM), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_place_meets_every_payload(matrix: dict) -> None:
    results = matrix["results"]
    assert len({one["place"] for one in results}) == 12
    assert len({(one["place"], one["payload"]) for one in results}) == len(results) > 1000


def test_each_gives_one_sentence(matrix: dict) -> None:
    bad = [one for one in matrix["results"] if one["said"] == "READ" or one["said"].startswith("UNCAUGHT")]
    assert not bad, bad[:10]
    for one in matrix["results"]:
        assert "\n" not in one["said"], one
        assert one["said"].rstrip().endswith("."), one
        assert len(one["said"]) < 700, one


def test_nothing_is_done(matrix: dict) -> None:
    """No program, no import, no connection, no file."""
    acts = [one for one in matrix["results"] if one["did"]]
    assert not acts, acts[:10]


def test_there_is_no_other_reader() -> None:
    """No loader of another package is called anywhere: those of PyTorch, safetensors, pickle, joblib and NumPy.

    But one, which takes the place of PyTorch's while a stranger's package reads its own weights: as numbers alone.
    """
    loaders = r"\b(torch\.load|(c?pickle|dill|joblib|marshal|shelve)\.(load|loads|open)|load_checkpoint|safe_open"
    loaders += r"|load_file|Unpickler|torch\.jit\.load|torch\.hub|load_url|allow_pickle=True)\b"
    texts = {path: path.read_text(encoding="utf-8") for path in (PROGRAM.parents[1] / "evalkit").rglob("*.py")}
    assert len(texts) > 200
    kept = PROGRAM.parents[1] / "evalkit/metrics/torch/packages.py"
    only = 'load(*arguments, **options | {"weights_only": True})'
    assert only in texts[kept]
    taken = "load, connect, download = torch.load, socket.socket.connect, torch.hub.download_url_to_file\n"
    texts[kept] = texts[kept].replace(taken, "", 1)
    assert {str(path): found[0] for path, text in texts.items() if (found := re.findall(loaders, text))} == {}
    plain = [call for text in texts.values() for call in re.findall(r"\bnp\.load\([^)]*\)", text)]
    assert all("allow_pickle=False" in call for call in plain), plain


def test_memory_and_time_are_bounded(matrix: dict) -> None:
    assert matrix["mb"] < 600
    slow = [one for one in matrix["results"] if one["seconds"] > 10]
    assert not slow, slow
