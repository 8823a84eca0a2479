"""What goes wrong on a cluster, with a scheduler and workers in processes of their own: a sentence that says what to
do and nothing stored that is not right, or the bytes of a run in one process.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import contents, forget_plugins, make_tno

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")

from clusters import SOURCE, Head, head  # noqa: E402

from evalkit.cli import main  # noqa: E402
from evalkit.registry import VARIABLE  # noqa: E402

TABLE = ["reproduce", "smfnet-table1", "--datasets", "TNO"]
THREE = ["--methods", "average,maximum,laplacian"]
PLUGIN = """
import numpy as np
import evalkit

def build(checkpoint):
    return lambda infrared, visible: np.minimum(infrared, visible) // FACTOR

evalkit.register_method({"name": "NAME", "kind": "classical", "title": "The darker source"}, build)
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root whose run takes a while: there is time to kill something."""
    return make_tno(tmp_path_factory.mktemp("faults"), 20, 96, 128)


@pytest.fixture(scope="module")
def alone(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert run(pairs, out, *THREE, "--workers", "1").exit_code == 0
    return contents(out)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """One scheduler for the tests that do not kill it."""
    with head(tmp_path_factory.mktemp("head")) as cluster:
        yield cluster


@pytest.fixture
def cluster(scheduler: Head) -> Iterator[Head]:
    """The scheduler without workers; those of a test are taken away again."""
    yield scheduler
    scheduler.stop_workers()


def run(root: Path, out: Path, *options: str) -> Result:
    """A run in this process, which then knows as little as before."""
    with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
        result = CliRunner().invoke(main, [*TABLE, "--data-root", str(root), "--out", str(out), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    forget_plugins()
    os.environ[VARIABLE] = ""
    return result


def on(cluster: Head) -> list[str]:
    return ["--engine", "dask", "--scheduler-file", str(cluster.file)]


def when_rows_come(out: Path, act: Callable[[], None]) -> threading.Thread:
    """Do something once the first scores are written."""

    def wait() -> None:
        deadline = time.monotonic() + 120
        while not (out / "scores" / "TNO" / "average.csv.partial").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def refused(result: Result, out: Path, *says: str) -> None:
    """Ended with one sentence, without a traceback, and nothing that was measured is stored."""
    assert result.exit_code == 2, result.output
    for part in says:
        assert part in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not [path for path in out.rglob("*") if path.is_file() and path.name not in ("protocol.yaml", "run.lock")]


def test_a_lost_scheduler_is_told_and_the_run_goes_on_later(pairs, alone, tmp_path):
    out = tmp_path / "run"
    with head(tmp_path / "head") as cluster:
        cluster.add_worker()
        killing = when_rows_come(out, cluster.scheduler.kill)
        result = run(pairs, out, *THREE, *on(cluster))
        killing.join()
    assert result.exit_code == 2, result.output
    assert "the connection to the scheduler at tcp://127.0.0.1:" in result.stderr
    assert "Run the same command again when it is back: what was done is kept." in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    stored = (out / "scores" / "TNO" / "average.csv.partial").read_bytes()
    assert stored
    assert run(pairs, out, *THREE, "--workers", "1").exit_code == 0
    assert contents(out) == alone


def test_a_worker_that_is_killed_changes_nothing(pairs, alone, cluster, tmp_path):
    first, _ = cluster.add_worker(), cluster.add_worker()
    killing = when_rows_come(tmp_path / "run", first.kill)
    result = run(pairs, tmp_path / "run", *THREE, *on(cluster))
    killing.join()
    assert result.exit_code == 0, result.output
    assert first.wait(10) == -signal.SIGKILL
    assert contents(tmp_path / "run") == alone


@pytest.mark.slow
def test_the_last_worker_that_is_killed_is_told(pairs, alone, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("evalkit.engine.dask.LOOK", 0.2)
    monkeypatch.setattr("evalkit.engine.dask.NO_WORKERS", 0.5)
    out, worker = tmp_path / "run", cluster.add_worker()
    killing = when_rows_come(out, worker.kill)
    result = run(pairs, out, *THREE, *on(cluster))
    killing.join()
    assert result.exit_code == 2, result.output
    assert "has had no worker for 0.5 seconds" in result.stderr
    cluster.add_worker()
    assert run(pairs, out, *THREE, *on(cluster)).exit_code == 0
    assert contents(out) == alone


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped for a while")
def test_a_slow_worker_changes_nothing_and_does_little(pairs, alone, cluster, tmp_path):
    """One of two is stopped for 95 of every 100 milliseconds: it takes 20 times as long."""
    slow = cluster.add_worker("--name", "slow", "--preload", "evalkit.metrics.jobs")
    cluster.add_worker("--name", "quick")
    cluster.wait_for(2)
    ended = threading.Event()

    def hold() -> None:
        while not ended.is_set():
            slow.send_signal(signal.SIGSTOP)
            time.sleep(0.095)
            slow.send_signal(signal.SIGCONT)
            time.sleep(0.005)

    holding = threading.Thread(target=hold)
    holding.start()
    try:
        result = run(pairs, tmp_path / "run", *THREE, *on(cluster))
    finally:
        ended.set()
        holding.join()
    assert result.exit_code == 0, result.output
    assert contents(tmp_path / "run") == alone
    done = cluster.units_done()
    assert done["slow"] < done["quick"] / 2


def test_a_worker_with_another_version_is_refused(pairs, alone, cluster, tmp_path):
    about = tmp_path / "site" / "evalkit-9.9.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: evalkit\nVersion: 9.9\n")
    cluster.add_worker(PYTHONPATH=os.pathsep.join([str(tmp_path / "site"), str(SOURCE)]))
    out = tmp_path / "run"
    refused(
        run(pairs, out, *THREE, *on(cluster)), out, "has evalkit 9.9 (here ", "Install the same versions everywhere."
    )
    cluster.stop_workers()
    cluster.add_worker()
    assert run(pairs, out, *THREE, *on(cluster)).exit_code == 0
    assert contents(out) == alone


def copied(folder: Path, file: str, old: str, new: str) -> str:
    """evalkit's code with one change, as a worker of another day might have it."""
    shutil.copytree(SOURCE / "evalkit", folder / "evalkit", ignore=shutil.ignore_patterns("__pycache__", "measured"))
    changed = folder / "evalkit" / file
    text = changed.read_text(encoding="utf-8")
    assert old in text
    changed.write_text(text.replace(old, new), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("kind", ["other code", pytest.param("other engine", marks=pytest.mark.slow), "no evalkit"])
def test_a_worker_with_other_code_is_refused(kind, pairs, cluster, tmp_path):
    """Under the same version: a checkout of another day, or one that cannot even take a unit of this one."""
    if kind == "other code":
        path = copied(tmp_path / "other", "metrics/fusion/information.py", "import", "import  ")
        says = "has evalkit's code "
    elif kind == "other engine":
        path = copied(tmp_path / "other", "engine/dask.py", "def _do(\n    work: bytes, ", "def _do(\n    ")
        says = "cannot run evalkit as it is here"
    else:
        (tmp_path / "evalkit").mkdir()
        (tmp_path / "evalkit" / "__init__.py").write_text("raise ModuleNotFoundError('there is none')\n")
        path, says = str(tmp_path), "cannot import evalkit (there is none)"
    cluster.add_worker(PYTHONPATH=path)
    out = tmp_path / "run"
    refused(run(pairs, out, *THREE, *on(cluster)), out, says, "Install the same version")


@pytest.mark.parametrize("there", ["none", pytest.param("another", marks=pytest.mark.slow), "one more"])
def test_plug_ins_of_a_worker(there, pairs, cluster, tmp_path, monkeypatch):
    """Without the plug-in of the run, or with other code under its name, it is refused; one more does no harm."""
    for folder, factor in (("here", "1"), ("there", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "duskplugin.py").write_text(PLUGIN.replace("FACTOR", factor).replace("NAME", "darker"))
    (tmp_path / "there" / "moreplugin.py").write_text(PLUGIN.replace("FACTOR", "3").replace("NAME", "darkest"))
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    paths = {"none": [], "another": [tmp_path / "there"], "one more": [tmp_path / "here", tmp_path / "there"]}[there]
    more = {"EVALKIT_PLUGINS": "moreplugin"} if there == "one more" else {}
    cluster.add_worker(PYTHONPATH=os.pathsep.join(map(str, [*paths, SOURCE])), **more)
    out, options = tmp_path / "run", ["--methods", "average,darker", "--plugin", "duskplugin"]
    result = run(pairs, out, *options, *on(cluster))
    if there == "one more":
        assert result.exit_code == 0, result.output
        assert run(pairs, tmp_path / "alone", *options, "--workers", "1").exit_code == 0
        assert contents(out) == contents(tmp_path / "alone")
    else:
        says = {"none": "there is no module duskplugin", "another": "start run and workers anew"}[there]
        refused(result, out, "duskplugin", says)


def test_evaluate_and_fuse_on_workers_give_the_same_bytes(pairs, cluster, tmp_path):
    cluster.add_worker()
    for name, options in (("alone", ["--workers", "1"]), ("cluster", on(cluster))):
        out = tmp_path / name
        fuse = ["fuse", "laplacian", "--dataset", "TNO", "--data-root", str(pairs), "--out", str(out / "fused")]
        assert CliRunner().invoke(main, [*fuse, *options]).exit_code == 0
        sources = ["--infrared", str(pairs / "TNO" / "ir"), "--visible", str(pairs / "TNO" / "vi")]
        folder = str(out / "fused" / "laplacian" / "TNO")
        evaluate = ["evaluate", folder, *sources, "--metrics", "EN,SSIM", "--convention", "smfnet"]
        assert CliRunner().invoke(main, [*evaluate, "--out", str(out / "scores.csv"), *options]).exit_code == 0
        assert CliRunner().invoke(main, [*evaluate, "--out", str(out / "run"), *options]).exit_code == 0
    one, two = contents(tmp_path / "alone"), contents(tmp_path / "cluster")
    assert one.pop("run/protocol.yaml") != two.pop("run/protocol.yaml")  # which names the folder of the fused images
    assert one == two
    assert "scores.csv" in one


@pytest.mark.slow
def test_certificates_are_those_of_dasks_configuration(pairs, alone, tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    files = ["--tls-ca-file", str(certificate), "--tls-cert", str(certificate), "--tls-key", str(key)]
    out = tmp_path / "run"
    with head(tmp_path / "head", "--protocol", "tls", *files) as cluster:
        cluster.add_worker("--protocol", "tls", *files)
        refused(run(pairs, out, *THREE, *on(cluster)), out, "needs certificates", "distributed.comm.tls")
        tls = {"ca-file": str(certificate), "client.cert": str(certificate), "client.key": str(key)}
        with dask.config.set({f"distributed.comm.tls.{name}": file for name, file in tls.items()}):
            result = run(pairs, out, *THREE, *on(cluster))
        assert result.exit_code == 0, result.output
    assert contents(out) == alone
