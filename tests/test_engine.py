"""Engines: a dask cluster gives the bytes of one local worker, whatever dies, hangs or is missing."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import contents, make_tno, textured

from evalkit.cli import main
from evalkit.data.images import write_png
from evalkit.engine.base import Local, chunks
from evalkit.engine.open import open_engine
from evalkit.engine.processes import in_processes
from evalkit.errors import EvalkitError
from evalkit.metrics.jobs import units_of

with suppress(ImportError):  # without distributed; the tests of it are skipped
    from evalkit.engine.dask import Dask, environment

TABLE = ["reproduce", "smfnet-table1", "--datasets", "TNO", "--methods", "average,maximum,laplacian"]


def square(x: int) -> int:
    return x * x


def once(mark: Path, x: int, *, hang: bool = False) -> int:
    """The square; at 3, and the first time only, the process dies or hangs."""
    if x == 3 and not mark.exists():
        mark.touch()
        if hang:
            time.sleep(600)
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def always(x: int, *, hang: bool = False) -> int:
    if hang:
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL)
    return x


def process_id(_: object) -> int:
    return os.getpid()


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2)
        yield client


# --- without dask


def test_local_gives_results_in_order():
    with open_engine("local", 2) as engine:
        assert list(engine.map(square, range(9))) == [x * x for x in range(9)]
        assert not engine.remote


def test_units_share_sources_where_pairs_suffice_and_methods_spread_where_not():
    from evalkit.metrics.evaluate import MeasureJob

    methods = {"a": Path("a.png"), "b": Path("b.png")}
    jobs = [MeasureJob(str(i), Path("i.png"), Path("v.png"), methods) for i in range(100)]
    for slots, units, together in ((1, 25, 4), (2, 25, 4), (10, 100, 1)):
        found = units_of(jobs, slots)
        assert len(found) == units
        assert max(map(len, found)) == together
        assert [job for unit in found for job in unit] == jobs
    found = units_of(jobs[:3], 2)
    assert [[(job.stem, list(job.fused)) for job in unit] for unit in found] == [
        [(stem, [method])] for stem in "012" for method in "ab"
    ]
    assert units_of([], 4) == []
    assert chunks([1, 2, 3], 2) == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--address", "tcp://nowhere:1"], "are of --engine dask"),
        (["--scheduler-file", "head.json"], "are of --engine dask"),
        (["--engine", "dask", "--address", "tcp://127.0.0.1:9", "--scheduler-file", "head.json"], "not both"),
        (["--engine", "dask", "--scheduler-file", "nowhere.json"], "nowhere.json"),
        (["--engine", "dask", "--scheduler-file", "/dev/null"], "/dev/null"),
        (["--engine", "dask", "--address", "tcp://127.0.0.1:9"], "no dask scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_wrong_engines_say_so(options, says, tmp_path, monkeypatch):
    if "dask" in options:
        pytest.importorskip("distributed")
        monkeypatch.setattr("evalkit.engine.dask.CONNECT", 1)
    root = make_tno(tmp_path / "data", 2)
    result = CliRunner().invoke(main, [*TABLE, "--data-root", str(root), "--out", str(tmp_path / "run"), *options])
    assert result.exit_code == 2
    assert says in result.stderr
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == []


def test_dask_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "evalkit.engine.dask", raising=False)
    monkeypatch.delattr("evalkit.engine.dask", raising=False)
    with pytest.raises(EvalkitError, match=r"pip install 'evalkit\[cluster\]'"), open_engine("dask"):
        pass


# --- with dask


def test_a_scheduler_is_where_address_file_or_dasks_configuration_say(tmp_path):
    pytest.importorskip("distributed")
    import dask

    from evalkit.engine.dask import find_address

    file = tmp_path / "head.json"
    file.write_text('{"type": "Scheduler", "address": "tcp://head:1"}')
    with dask.config.set({"scheduler-address": "tcp://head:2"}):
        assert find_address("tcp://head:3", None) == "tcp://head:3"
        assert find_address(None, file) == "tcp://head:1"
        assert find_address(None, None) == "tcp://head:2"
    assert find_address(None, None) is None
    file.write_text('{"type": "Scheduler"}')
    with pytest.raises(EvalkitError, match="does not say where a scheduler is"):
        find_address(None, file)


def test_a_cluster_gives_the_bytes_of_one_worker(cluster, tmp_path):
    root = make_tno(tmp_path / "data", 25)
    (root / "TNO" / "ir" / "04.png").write_bytes(b"no image")  # a missing value and its reason are the same too
    engines = {"local": ["--workers", "1"], "dask": ["--engine", "dask", "--address", cluster.scheduler_address]}
    for name, options in engines.items():
        arguments = [*TABLE, "--data-root", str(root), "--out", str(tmp_path / name), *options]
        assert CliRunner().invoke(main, arguments).exit_code == 3
    one, two = contents(tmp_path / "local"), contents(tmp_path / "dask")
    assert len(one) == 24 * 3 + 3 + 5  # images, scores, tables
    assert one == two
    # and what one engine has done, the other takes over
    arguments = [*TABLE, "--data-root", str(root), "--out", str(tmp_path / "dask"), *engines["local"]]
    assert CliRunner().invoke(main, arguments).exit_code == 3
    assert contents(tmp_path / "dask") == one


def test_relative_folders_reach_the_workers(cluster, tmp_path, monkeypatch):
    make_tno(tmp_path / "data", 2)
    monkeypatch.chdir(tmp_path)
    arguments = [*TABLE, "--data-root", "data", "--out", "run", "--engine", "dask"]
    result = CliRunner().invoke(main, [*arguments, "--address", cluster.scheduler_address])
    assert result.exit_code == 0, result.stderr
    assert len(list((tmp_path / "run" / "fused").rglob("*.png"))) == 6


def test_a_worker_that_dies_or_hangs_once_changes_nothing(client, tmp_path):
    died = Dask(client).map(partial(once, tmp_path / "died"), range(8))
    assert list(died) == [x * x for x in range(8)]
    hung = Dask(client, timeout=2).map(partial(once, tmp_path / "hung", hang=True), range(8))
    assert list(hung) == [x * x for x in range(8)]
    assert (tmp_path / "died").exists()
    assert (tmp_path / "hung").exists()


def test_a_unit_that_kills_every_worker_ends_the_run(client):
    with pytest.raises(EvalkitError, match="workers died again and again on the same unit"):
        list(Dask(client).map(always, [1]))
    client.wait_for_workers(2, timeout=60)
    assert list(Dask(client).map(square, [5])) == [25]


def test_trainings_have_no_limit_of_time(client):
    assert list(Dask(client, timeout=0.2).map(time.sleep, [1], limited=False)) == [None]


def test_workers_with_other_versions_or_folders_are_refused(client, tmp_path, monkeypatch):
    real = environment()
    monkeypatch.setattr("evalkit.engine.dask.environment", lambda: real | {"numpy": "1.0"})
    with pytest.raises(EvalkitError, match=rf"has numpy {real['numpy']} \(here 1.0\)"):
        list(Dask(client).map(square, [1]))
    monkeypatch.undo()
    client.run(lambda: setattr(importlib.import_module("evalkit.engine.dask"), "VISIBLE", 0))
    with pytest.raises(EvalkitError, match=r"does not see .*nowhere"):
        list(Dask(client, must_see=(tmp_path / "nowhere",)).map(square, [1]))
    assert list(Dask(client, must_see=(tmp_path,)).map(square, [3])) == [9]


@pytest.mark.skipif(not Path("/proc/self/cwd").is_dir(), reason="each process sees its own folder in /proc/self/cwd")
@pytest.mark.parametrize("missing", [False, True])
def test_a_worker_that_sees_other_files_stops_the_run(cluster, client, tmp_path, monkeypatch, missing):
    """Under the same path, one of two workers has other infrared images, or none."""
    make_tno(tmp_path / "head" / "data", 6)
    shutil.copytree(tmp_path / "head", tmp_path / "other")
    for i, path in enumerate((tmp_path / "other/data/TNO/ir").iterdir()):
        path.unlink() if missing else write_png(path, textured(500 + i))
    monkeypatch.chdir(tmp_path / "head")
    addresses = sorted(client.run(os.getcwd))
    before = client.run(os.getcwd)
    for address, view in zip(addresses, ("head", "other"), strict=True):
        client.run(os.chdir, str(tmp_path / view), workers=[address])
    client.run(shorten_waits)
    arguments = [*TABLE, "--data-root", "/proc/self/cwd/data", "--out", str(tmp_path / "run")]
    try:
        result = CliRunner().invoke(main, [*arguments, "--engine", "dask", "--address", cluster.scheduler_address])
    finally:
        for address, folder in before.items():
            client.run(os.chdir, folder, workers=[address])
    assert result.exit_code == 2
    says = "does not see" if missing else "sees other bytes in"
    assert f"the worker {addresses[1]} on {os.uname().nodename} {says} /proc/self/cwd/data/TNO/ir/" in result.stderr
    # what the others did is kept, and right
    assert CliRunner().invoke(main, [*arguments, "--workers", "1"]).exit_code == 0
    arguments[-1] = str(tmp_path / "whole")
    assert CliRunner().invoke(main, [*arguments, "--workers", "1"]).exit_code == 0
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def shorten_waits() -> None:
    from evalkit.data import expected

    expected.FAR_WAITS = (0.1, 0.1)


def test_gpu_workers_take_what_wants_a_gpu():
    distributed = pytest.importorskip("distributed")
    plain = {"cls": distributed.Nanny, "options": {"nthreads": 1}}
    gpu = {"cls": distributed.Nanny, "options": {"nthreads": 1, "resources": {"GPU": 1}}}
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard_address": ":0", "port": 0}}
    with (
        distributed.SpecCluster({"plain": plain, "gpu": gpu}, scheduler) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(2)
        owner = cluster.workers["gpu"].pid
        assert set(Dask(client).map(process_id, range(6), gpu=True)) == {owner}


def test_networks_fuse_on_workers(client, shared, tmp_path):
    """The worker loads the weights itself; the images are those of this process with one thread."""
    pytest.importorskip("torch")
    from evalkit.data.pairs import ImagePair
    from evalkit.methods.fuse import FuseJob, fuse_jobs, make_fuser
    from evalkit.methods.registry import method_card

    write_png(tmp_path / "i.png", textured(1, 40, 56))
    write_png(tmp_path / "v.png", textured(2, 40, 56))
    pair = ImagePair("a", tmp_path / "i.png", tmp_path / "v.png")
    fuser = make_fuser(method_card("DenseFuse"), shared / "checkpoints", device="cpu", elsewhere="cpu")
    for name, engine in (("here", Local()), ("there", Dask(client))):
        assert [reason for _, reason in fuse_jobs(fuser, [FuseJob(pair, tmp_path / f"{name}.png")], engine)] == [""]
    assert (tmp_path / "here.png").read_bytes() == (tmp_path / "there.png").read_bytes()


def test_the_number_of_workers_follows_the_memory_at_hand(monkeypatch, tmp_path):
    from evalkit.engine import processes
    from evalkit.metrics.jobs import memory_for

    monkeypatch.setattr(processes, "default_workers", lambda: 8)
    for memory, workers in ((None, 8), (100 * 2**30, 8), (10 * 2**30, 2), (2**20, 1)):
        monkeypatch.setattr(processes, "memory_at_hand", lambda memory=memory: memory)
        assert processes.affordable_workers(4 * 2**30) == workers
    write_png(tmp_path / "small.png", np.zeros((30, 40), np.uint8))
    write_png(tmp_path / "large.png", np.zeros((300, 400), np.uint8))
    (tmp_path / "none.png").write_bytes(b"")
    small, large, none = (memory_for([tmp_path / name]) for name in ("small.png", "large.png", "none.png"))
    assert none < small < large == memory_for(tmp_path / name for name in ("small.png", "large.png", "none.png"))


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system does not tell")
def test_memory_at_hand_is_told():
    from evalkit.engine.processes import memory_at_hand

    memory = memory_at_hand()
    assert memory is not None
    assert 2**20 < memory < 2**50


def test_workers_follow_their_parent_into_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for level, name in enumerate(("first", "second")):
        (tmp_path / name).mkdir()
        for job in "ab":
            (tmp_path / name / job).write_text(f"{name} {job} {level}", encoding="utf-8")
    for name in ("first", "second"):  # the processes of the first are used again
        monkeypatch.chdir(tmp_path / name)
        assert list(in_processes(Path.read_text, [Path("a"), Path("b")], 2)) == [
            (tmp_path / name / job).read_text(encoding="utf-8") for job in "ab"
        ]
