"""What happens to a run when something dies, hangs, fills up, is locked, or was written by another version."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import make_tno
from test_engine import always, contents, once, square

from evalkit.cli import main
from evalkit.engine.processes import in_processes
from evalkit.errors import EvalkitError, OutputError
from evalkit.files import lock as locks
from evalkit.files import write as files
from evalkit.files.lock import LOCK, locked
from evalkit.records import store
from evalkit.records.older import set_aside_older
from evalkit.records.record import OLDEST_READ, SCHEMA_VERSION, load

OLD = Path(__file__).parent / "golden" / "older-store"


def reproduce(root: Path, out: Path, *more: object):
    arguments = ["reproduce", "smfnet-table1", "--datasets", "TNO", "--data-root", root, "--out", out, *more]
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def children(pid: int) -> set[int]:
    """Live processes whose parent is or was `pid`, by their process group."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid and fields[0] != "Z":
            found.add(int(entry.parent.name))
    return found


# --- workers


def test_a_worker_that_dies_once_changes_nothing(tmp_path):
    assert list(in_processes(partial(once, tmp_path / "mark"), range(8), 2)) == [x * x for x in range(8)]
    assert (tmp_path / "mark").exists()


def test_a_worker_that_hangs_once_changes_nothing(tmp_path):
    run = partial(once, tmp_path / "mark", hang=True)
    assert list(in_processes(run, range(5), 2, timeout=4)) == [x * x for x in range(5)]
    # one worker with a limit of time is a process that can be ended too
    (tmp_path / "mark").unlink()
    assert list(in_processes(run, [3, 4], 1, timeout=4)) == [9, 16]


def test_a_worker_that_always_hangs_ends_the_run():
    start = time.monotonic()
    with pytest.raises(EvalkitError, match=r"hung, 3 times in a row: it gave nothing for 0\.5 seconds"):
        list(in_processes(partial(always, hang=True), range(3), 2, timeout=0.5))
    assert time.monotonic() - start < 300
    assert list(in_processes(square, range(3), 2)) == [0, 1, 4]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_workers_end_with_the_process_that_started_them(tmp_path):
    program = (
        "import time, sys\nfrom evalkit.engine.processes import in_processes\n"
        "for x in in_processes(time.sleep, [0, 0, 0, 600, 600], 2): print('done', flush=True)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program], stdout=-1, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        assert run.stdout.readline() == "done\n"
        assert len(children(run.pid)) >= 3
        run.kill()
        run.communicate()
        deadline = time.monotonic() + 30
        while children(run.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not children(run.pid)
    finally:
        run.kill()
        for pid in children(run.pid):
            os.kill(pid, signal.SIGKILL)


# --- one run at a time


def test_a_second_run_into_the_same_folder_is_refused(tmp_path):
    root = make_tno(tmp_path / "data", 2)
    out = tmp_path / "run"
    out.mkdir()
    with locked(out):
        result = reproduce(root, out, "--methods", "average")
        assert result.exit_code == 2
        assert f"another run writes to {out} (process {os.getpid()} on {socket.gethostname()}, since " in result.stderr
        assert sorted(path.name for path in out.iterdir()) == [LOCK]
    assert reproduce(root, out, "--methods", "average").exit_code == 0
    assert not (out / LOCK).exists()


def test_a_lock_ends_with_its_process(tmp_path):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom evalkit.files.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('locked', flush=True); time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=-1, text=True)
    try:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(OutputError, match=f"process {holder.pid} on"), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path) as path:
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


def test_without_locks_the_file_decides(tmp_path, monkeypatch):
    """A file system that knows no locks: stale where its process was of this machine and is gone."""
    monkeypatch.setattr(locks, "_flock", lambda handle: None)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here, path = socket.gethostname(), tmp_path / LOCK
    for holder, free in (
        ({"pid": gone.pid, "host": here}, True),
        ({"pid": os.getpid(), "host": here}, False),
        ({"pid": gone.pid, "host": "another"}, False),
        ({"pid": "x", "host": here}, True),
        ([], True),
    ):
        path.write_text(json.dumps(holder))
        if free:
            with locked(tmp_path):
                pass
        else:
            with pytest.raises(OutputError, match=f"remove {path}"), locked(tmp_path):
                pass
            assert json.loads(path.read_text()) == holder


# --- a full disk, a folder that cannot be written


class Fails:
    """The disk is full from the `count`-th write on; counts the writes before."""

    def __init__(self, monkeypatch, count: int, number: int) -> None:
        self.left, self.number, self.made = count, number, 0
        real_replace, real_open = os.replace, open

        def replace(source, target):
            self.write()
            real_replace(source, target)

        def journal(path, mode="r", *rest):
            if mode == "ab":
                self.write()
            return real_open(path, mode, *rest)

        monkeypatch.setattr(files.os, "replace", replace)
        monkeypatch.setattr(store, "open", journal, raising=False)

    def write(self) -> None:
        self.made += 1
        if self.made > self.left:
            raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_no_write_that_fails_does_damage(number, tmp_path, monkeypatch):
    """Every fifth write of a run is the first to fail once: a sentence, nothing damaged, and the run goes on."""
    root, more = make_tno(tmp_path / "data", 3, 44, 48), ["--methods", "average,laplacian", "--workers", 1]
    with monkeypatch.context() as patch:
        counted = Fails(patch, 10**6, number)
        assert reproduce(root, tmp_path / "whole", *more).exit_code == 0
    assert counted.made >= 6 + 6 + 2 + 2 + 5  # images, rows, score files, records, tables
    for moment in range(0, counted.made, 5):
        out = tmp_path / f"run{moment}"
        with monkeypatch.context() as patch:
            Fails(patch, moment, number)
            result = reproduce(root, out, *more)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: cannot write ")
        assert os.strerror(number) in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not list(out.rglob(f"*{files.PART}"))
        for record in out.glob("records/*.json"):
            load(record)
        assert reproduce(root, out, *more).exit_code == 0
        assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_and_a_disk_that_becomes_read_only(tmp_path):
    """The same on a real file system of 300 kB, with worker processes."""
    disk, root = tmp_path / "disk", make_tno(tmp_path / "data", 25, 120, 160)
    disk.mkdir()
    more = ["--methods", "average,maximum,laplacian", "--workers", 2]

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount: {done.stderr.strip()}")

    mount("-t", "tmpfs", "-o", "size=300k", "evalkit-test", str(disk))
    try:
        result = reproduce(root, disk / "run", *more)
        assert result.exit_code == 2
        assert os.strerror(errno.ENOSPC) in result.stderr
        assert len(result.stderr.splitlines()) == 1
        mount("-o", "remount,size=20m", str(disk))
        assert reproduce(root, disk / "run", *more).exit_code == 0
        mount("-o", "remount,ro", str(disk))
        before = contents(disk / "run")
        result = reproduce(root, disk / "run", *more)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"Error: cannot write to {disk / 'run'}: {os.strerror(errno.EROFS)}")
        assert contents(disk / "run") == before
    finally:
        subprocess.run(["umount", str(disk)], check=False)
    assert reproduce(root, tmp_path / "whole", *more).exit_code == 0
    assert contents(tmp_path / "whole") == before


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    root, out = make_tno(tmp_path / "data", 2), tmp_path / "run"
    left = out / "fused" / "average" / "TNO" / f".abcd_123{files.PART}"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half an image")
    assert reproduce(root, out, "--methods", "average").exit_code == 0
    assert not left.exists()


# --- stores of other versions


def test_a_store_of_the_first_version_is_read_and_goes_on(tmp_path, monkeypatch):
    """Written by the first version that had records: no hash of the scores, no word on colour."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    run, old = tmp_path / "run", load(OLD / "run" / "records" / "TNO__CDDFuse.json")
    assert old.scores_hash == ""
    assert reproduce(tmp_path / "data", run, "--methods", "CDDFuse", "--outputs", tmp_path / "outputs").exit_code == 0
    new = load(run / "records" / "TNO__CDDFuse.json")
    assert new.scores_hash
    assert new.scores == pytest.approx(old.scores, rel=1e-9)
    assert new.dataset["content_hash"] == old.dataset["content_hash"]
    assert not list(run.glob("schema-*"))


def test_an_older_schema_is_set_aside_and_a_newer_one_refused(tmp_path, caplog):
    root, out = make_tno(tmp_path / "data", 2), tmp_path / "run"
    assert reproduce(root, out, "--methods", "average").exit_code == 0
    good, record = contents(out), out / "records" / "TNO__average.json"
    for _ in range(2):  # the second time, the first folder is kept
        fields = json.loads(record.read_text()) | {"schema_version": OLDEST_READ - 1}
        record.write_text(json.dumps(fields))
        assert reproduce(root, out, "--methods", "average").exit_code == 0
        assert "are measured again" in caplog.text
    aside = [out / f"schema-{OLDEST_READ - 1}", out / f"schema-{OLDEST_READ - 1}-2"]
    for folder in aside:
        assert (folder / "scores" / "TNO" / "average.csv").read_bytes() == good["scores/TNO/average.csv"]
        assert (folder / "records" / record.name).is_file()
        shutil.rmtree(folder)
    assert contents(out) == good
    record.write_text(json.dumps(json.loads(record.read_text()) | {"schema_version": SCHEMA_VERSION + 1}))
    before = record.read_bytes()
    result = reproduce(root, out, "--methods", "average")
    assert result.exit_code == 2
    assert "written by a newer evalkit" in result.stderr
    assert record.read_bytes() == before
    assert contents(out) == good
    record.write_text("{damaged")
    assert set_aside_older(out) is None
    assert reproduce(root, out, "--methods", "average").exit_code == 0
    load(record)
