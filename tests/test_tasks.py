"""Tasks: objects with needs, plan and fill; a seventh one, from a plug-in: pixels above a threshold, per data set."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import forget_plugins, make_tno

import evalkit
from evalkit.cli import main
from evalkit.data.images import read_image
from evalkit.errors import UnknownNameError
from evalkit.protocols.schema import make_protocol
from evalkit.protocols.tasks import TASKS, Task, tasks_of
from evalkit.records.record import load
from evalkit.registry import VARIABLE

PLUGIN = """
from evalkit import Task, register_task
from evalkit.data.card import load_card
from evalkit.data.images import read_image, to_gray
from evalkit.data.pairs import find_pairs
from evalkit.files.names import file_name
from evalkit.protocols.measure import fuse_row, hash_files
from evalkit.protocols.plan import plan_row, use_of
from evalkit.protocols.summary import now, summarise
from evalkit.protocols.table.cells import Cell
from evalkit.metrics.evaluate import Scores
from evalkit.records.per_image import read_per_image
from evalkit.records.record import save
from evalkit.records.store import ScoreFile

THRESHOLD = 128


class Bright(Task):
    name, title = "bright", "Bright pixels"

    def fill(self, job, table):
        out = job.settings.out
        for dataset, use in job.uses.items():
            card, started = load_card(dataset), now()
            use = use_of(use, card)
            pairs = find_pairs(card, job.root, use.split)
            hashes = hash_files([p for pair in pairs.pairs for p in (pair.infrared, pair.visible)], job.settings)
            for method in job.methods:
                row = plan_row(method, card, pairs, use, job.settings)
                scores = {}
                if row.fuser is not None:
                    fuse_row(row, pairs, hashes, job.settings)
                hashes |= hash_files(row.fused.values(), job.settings)
                for stem, path in row.fused.items():
                    scores[stem] = Scores({"Bright": float((to_gray(read_image(path)) > THRESHOLD).sum())})
                record = summarise(job.protocol, pairs, use, row, {"Bright": "Bright"}, scores, hashes, started)
                if scores:
                    file = ScoreFile(job.settings.scores_file(dataset, method), ["Bright"])
                    file.finish(scores, {stem: hashes[path] for stem, path in row.fused.items()})
                    record.scores_hash = read_per_image(file.path).hash()
                save(record, out / "records" / f"{dataset}__{file_name(method)}.json")
                value, reason = record.scores.get("Bright"), record.missing.get("Bright", "")
                status = "missing" if value is None else "unpublished"
                table.pairs[dataset] = len(pairs.pairs)
                table.cells.append(Cell(dataset, method, "Bright", value, None, record.images, status, reason))


register_task(Bright())
"""
BENCH = """
title: Bright pixels
task: bright
convention: textbook
metrics: [Bright]
datasets: {TNO: {pairs: 3}}
methods: [average, maximum, absent]
"""


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    make_tno(tmp_path / "data", 3)
    (tmp_path / "bench.yaml").write_text(BENCH)
    (tmp_path / "bright.py").write_text(PLUGIN)
    return tmp_path


def run(bench: Path, *arguments: object) -> tuple[int, str]:
    options = [str(argument) for argument in arguments]
    result = CliRunner().invoke(main, [*options, "--plugin", str(bench / "bright.py")])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    forget_plugins()
    os.environ[VARIABLE] = ""
    return result.exit_code, result.output


def test_a_seventh_task_plans_fills_and_goes_on(bench):
    data = ["--data-root", bench / "data"]
    code, output = run(bench, "reproduce", bench / "bench.yaml", *data, "--plan", "--json")
    assert code == 0, output
    assert [row["from"] for row in json.loads(output)["rows"]] == ["classical", "classical", ""]
    code, output = run(bench, "reproduce", bench / "bench.yaml", *data, "--out", bench / "run", "--workers", 1)
    assert code == 3, output  # the row `absent`
    cells = {cell.method: cell for cell in evalkit.read_table(bench / "run").cells}
    images = [read_image(path) for path in sorted((bench / "run" / "fused" / "maximum" / "TNO").iterdir())]
    gray = [image if image.ndim == 2 else image[..., 0] for image in images]
    assert cells["maximum"].value == sum(int((image > 128).sum()) for image in gray) / 3
    assert "knows no network" in cells["absent"].reason
    assert load(bench / "run" / "records" / "TNO__average.json").provenance["plugins"][0]["name"] == "bright.py"
    times = {path: path.stat().st_mtime_ns for path in (bench / "run" / "fused").rglob("*.png")}
    before = (bench / "run" / "table.csv").read_bytes()
    assert run(bench, "reproduce", bench / "bench.yaml", *data, "--out", bench / "run")[0] == 3
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert (bench / "run" / "table.csv").read_bytes() == before


def test_later_commands_take_its_run(bench):
    run(bench, "reproduce", bench / "bench.yaml", "--data-root", bench / "data", "--out", bench / "run")
    assert "Bright" in run(bench, "table", bench / "run")[1]
    code, output = run(bench, "leaderboard", "verify", bench / "run")
    assert code == 0, output
    assert "Traceback" not in output
    assert "Bright" in run(bench, "list", "tasks")[1]


def test_without_the_plugin_its_name_is_unknown(bench):
    with pytest.raises(UnknownNameError, match="unknown task 'bright'"):
        evalkit.benchmark(bench / "bench.yaml", data_root=bench / "data", out=bench / "run")


def test_what_a_task_must_have():
    for task in TASKS.values():
        assert task.title
        assert task.needs.labels in (None, "classes", "boxes", "salient")
    fields = {"title": "x", "convention": "smfnet", "metrics": ["EN"], "methods": ["average"]}
    assert [task.name for task in tasks_of(make_protocol(fields))] == ["fusion"]

    class Other(Task):
        name, title = "other", "Other"

    evalkit.register_task(Other())
    assert tasks_of(make_protocol(fields | {"task": "OTHER"}))[0].title == "Other"
