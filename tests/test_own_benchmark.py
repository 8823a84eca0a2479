"""A benchmark of one's own, on data sets that cards know, and every command that takes its run."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import evalkit
from evalkit.cli import main
from evalkit.data.samples.samples import write_scenes
from evalkit.errors import DataError
from evalkit.leaderboards.site.build import build
from evalkit.protocols.schema import parse

BENCH = """
title: Harbour at night
convention: smfnet
metrics: [EN, SD, "SSIM[tang]"]
datasets: {TNO: {pairs: 4}, RoadScene: {}}
methods: [average, laplacian, maximum]
published: numbers.csv
"""
NUMBERS = """dataset,method,metric,printed
TNO,average,EN,6.1
TNO,laplacian,EN,6.5
TNO,maximum,EN,6.4
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bench.yaml, its run below run/, and a data root with sample scenes in the layouts of TNO and RoadScene."""
    root = tmp_path_factory.mktemp("bench")
    for dataset, count in {"TNO": 4, "RoadScene": 3}.items():
        folder = write_scenes(root / dataset, count, seed=count, width=96, height=64)
        for modality in ("ir", "vi"):
            shutil.copytree(folder / modality, root / "data" / dataset / modality)
    (root / "bench.yaml").write_text(BENCH)
    (root / "numbers.csv").write_text(NUMBERS)
    table = evalkit.benchmark(root / "bench.yaml", data_root=root / "data", out=root / "run", workers=1)
    assert table.complete
    return root


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and output; a traceback fails the test."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


def test_a_set_smaller_than_its_card_says_is_the_benchmarks_own(bench):
    table = evalkit.read_table(bench / "run")
    assert table.pairs == {"TNO": 4, "RoadScene": 3}
    assert table.counts()["other data"] == 0
    code, output = run("leaderboard", "verify", bench / "run", "--data-root", bench / "data", "--remeasure", "all")
    assert code == 0, output
    assert "0 with problems" in output
    assert "measured again" in output


def test_a_count_that_the_file_states_is_checked(bench, tmp_path):
    (tmp_path / "bench.yaml").write_text(BENCH.replace("RoadScene: {}", "RoadScene: {pairs: 5}"))
    (tmp_path / "numbers.csv").write_text(NUMBERS)
    table = evalkit.benchmark(tmp_path / "bench.yaml", data_root=bench / "data", out=tmp_path / "run", workers=1)
    assert {cell.status for cell in table.cells if cell.dataset == "RoadScene"} == {"other data"}
    code, output = run("leaderboard", "verify", tmp_path / "run")
    assert code == 0  # the record holds, and says that it is of other data
    assert "not the same data" in output


ROWS = """
title: Rows with names of their own
convention: smfnet
metrics: EN
datasets: {TNO: {pairs: 4}}
methods: [average†, GeSeNet†, IFCNN†]
rows: {average†: average, GeSeNet†: GeSeNet}
retrained: IFCNN†
"""


def test_a_row_is_filled_by_the_method_that_the_protocol_says(bench, tmp_path):
    (tmp_path / "bench.yaml").write_text(ROWS, encoding="utf-8")
    out = tmp_path / "run"
    table = evalkit.benchmark(tmp_path / "bench.yaml", data_root=bench / "data", out=out, workers=1)
    own = evalkit.read_table(bench / "run").cell("TNO", "average", "EN").value
    assert table.cell("TNO", "average†", "EN").value == own is not None
    needs = "its weights GeSeNet.pth" if importlib.util.find_spec("torch") else "PyTorch"
    assert f"needs {needs}" in table.cell("TNO", "GeSeNet†", "EN").reason
    assert "trained anew for this table" in table.cell("TNO", "IFCNN†", "EN").reason  # though IFCNN has weights
    assert json.loads((out / "records/TNO__average†.json").read_text(encoding="utf-8"))["method"]["card"] == "average"
    code, output = run("leaderboard", "verify", out, "--data-root", bench / "data", "--remeasure", "all")
    assert code == 0, output
    assert evalkit.benchmark(
        tmp_path / "bench.yaml", data_root=bench / "data", methods="AVERAGE†", out=tmp_path / "two", workers=1
    ).complete


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("rows: {MATR†: MATR}", "'MATR†' is not among the methods"),
        ("retrained: MATR†", "'MATR†' is not among the methods"),
        ("rows: {average†: average}\nretrained: average†", "'average†' is retrained"),
    ],
)
def test_a_row_that_is_filled_must_be_there_and_not_retrained(lines, message):
    with pytest.raises(DataError, match=message):
        parse(ROWS.partition("rows:")[0] + lines, "bench.yaml")


@pytest.mark.parametrize(
    "command",
    [
        ["rank", "run"],
        ["rank", "bench.yaml", "--published"],
        ["compare", "average", "laplacian", "--run", "run"],
        ["audit", "run"],
        ["audit", "--table", "run"],
        ["audit", "--table", "run/table.csv"],
        ["audit", "bench.yaml"],
        ["leaderboard", "verify", "run"],
        ["leaderboard", "build", "site", "--records", "run", "--no-plots"],
        ["table", "run", "--significance", "wilcoxon"],
        ["show", "bench.yaml"],
        *(["plot", kind, "run", "--out", f"{kind}.png"] for kind in ("radar", "bar", "box", "critical", "cumulative")),
        ["plot", "bar", "--published", "bench.yaml", "--out", "printed.png"],
        ["plot", "grid", "run", "--datasets", "TNO", "--data-root", "data", "--out", "grid.png"],
    ],
    ids=" ".join,
)
def test_every_later_command_takes_it(bench, tmp_path, monkeypatch, command):
    if command[0] == "plot":
        pytest.importorskip("matplotlib")
    for name in ("run", "data", "bench.yaml", "numbers.csv"):
        (tmp_path / name).symlink_to(bench / name)
    monkeypatch.chdir(tmp_path)
    code, output = run(*command)
    assert code == 0, output


def test_the_site_has_every_number_whatever_its_convention(bench, tmp_path):
    (page,) = (p for p in build(tmp_path / "site", [bench / "run"], plots=False) if p.protocol.name == "bench")
    values = {
        (block.name, row.method, column): cell.value
        for block in page.blocks
        for row in block.rows
        for column, cell in row.cells.items()
    }
    cells = evalkit.read_table(bench / "run").cells
    assert values == {(cell.dataset, cell.method, cell.metric): cell.value for cell in cells}


def test_the_audit_of_a_run_is_of_what_it_measured(bench, tmp_path, monkeypatch):
    code, output = run("audit", bench / "run", "--json")
    (table,) = json.loads(output)["tables"]
    assert (code, table["cells"]) == (0, 2 * 3 * 3)
    assert evalkit.audit(bench / "run").summary() == json.loads(output)["summary"]
    code, output = run("audit", bench / "bench.yaml")
    assert output.startswith("bench · Harbour at night\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vifb").mkdir()  # a folder beside a protocol of its name: the protocol is meant
    with pytest.raises(DataError, match="vifb has no published numbers"):
        evalkit.audit("vifb")
    (tmp_path / "empty").mkdir()
    code, output = run("audit", "empty")
    assert code == 2
    assert "table.csv" in output


def test_a_copied_row_is_named_in_a_run_too(bench, tmp_path):
    (tmp_path / "run").mkdir()
    lines = (bench / "run" / "table.csv").read_text().splitlines()
    copied = [line.replace("laplacian", "copied") for line in lines if ",laplacian," in line]
    (tmp_path / "run" / "table.csv").write_text("\n".join([*lines, *copied]) + "\n")
    findings = evalkit.audit(tmp_path / "run").findings
    assert any(finding.check == "repeated row" and "copied" in finding.where for finding in findings)
