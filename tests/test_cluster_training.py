"""Trainings by the workers of a cluster: the weights that this process would have learned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import contents, make_tno

pytest.importorskip("lightning_fabric")
torch = pytest.importorskip("torch")
pytest.importorskip("distributed")

from clusters import Head, head  # noqa: E402

from evalkit.cli import main  # noqa: E402

TINY = {
    "method": "SMFNet",
    "name": "tiny",
    "source": "a test",
    "data": {"datasets": {"TNO": None}, "holdout": 2},
    "augment": {"crop": 24},
    "network": {"width": 8, "heads": 2, "base_blocks": 1, "bottleneck": 2, "dilations": [1, 2, 3]},
    "batch": 2,
    "steps": 2,
    "stages": [{"name": "fuse", "epochs": 2}],
    "optimiser": {"lr": 1e-3},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """Two workers; each trains on one thread, as dask starts them."""
    with head(tmp_path_factory.mktemp("head")) as cluster:
        for _ in range(2):
            cluster.add_worker()
        cluster.wait_for(2)
        yield cluster


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A data root of six pairs, and tiny.yaml beside it, which learns from them."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(TINY))
    return make_tno(tmp_path / "data", 6)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def invoke(*arguments: object, code: int = 0) -> None:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output


def weights(folder: Path) -> dict[str, bytes]:
    files = sorted(folder.rglob("best.safetensors"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_worker_learns_the_same_weights(cluster, pairs, tmp_path):
    command = ["train", "SMFNet", "--recipe", tmp_path / "tiny.yaml", "--data-root", pairs, "--device", "cpu"]
    invoke(*command, "--out", tmp_path / "here")
    invoke(*command, "--out", tmp_path / "there", "--engine", "dask", "--scheduler-file", cluster.file)
    here, there = weights(tmp_path / "here"), weights(tmp_path / "there")
    assert list(here) == ["best.safetensors"]
    assert here == there


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_rows_of_a_table_are_trained_side_by_side(cluster, pairs, tmp_path):
    """Two rows, one by each worker: weights, scores and tables are those of this process."""
    bench = {"title": "Twice", "convention": "smfnet", "metrics": ["EN", "SD"], "datasets": {"TNO": {"pairs": 6}}}
    bench |= {"methods": {"One": "trained", "Two": "trained"}, "rows": {"One": "SMFNet", "Two": "SMFNet"}}
    (tmp_path / "bench.yaml").write_text(json.dumps(bench | {"recipe": "tiny.yaml", "data_root": "data"}))
    command = ["reproduce", tmp_path / "bench.yaml", "--device", "cpu"]
    invoke(*command, "--workers", 1, "--out", tmp_path / "here")
    before = cluster.units_done()
    invoke(*command, "--out", tmp_path / "there", "--engine", "dask", "--scheduler-file", cluster.file)
    here, there = weights(tmp_path / "here"), weights(tmp_path / "there")
    assert len(here) == 2
    assert here == there
    one, two = (
        {name: data for name, data in contents(tmp_path / run).items() if name.startswith(("scores", "table", "fused"))}
        for run in ("here", "there")
    )
    assert one == two
    assert all(count > before[worker] for worker, count in cluster.units_done().items())
