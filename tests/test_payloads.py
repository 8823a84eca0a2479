"""Hostile files at every place that reads weights or states: one sentence each, and nothing else happens."""

from __future__ import annotations

import json
import os
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
    assert len({one["place"] for one in results}) == 11
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


def test_memory_and_time_are_bounded(matrix: dict) -> None:
    assert matrix["mb"] < 600
    slow = [one for one in matrix["results"] if one["seconds"] > 10]
    assert not slow, slow
