"""What is hashed is what is measured, trouble that passes is not a result, and stored numbers are checked."""

from __future__ import annotations

import csv
import errno
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_outputs, make_tno, textured

from evalkit.cli import main
from evalkit.data import images
from evalkit.data.expected import Expected
from evalkit.data.hashes import file_hash
from evalkit.data.images import png_text, read_image, write_png
from evalkit.errors import DataError, ImageError, OtherBytesError, OutputError, UnreadableError
from evalkit.files.lock import LOCK, locked
from evalkit.files.write import PART, remove_parts
from evalkit.metrics.evaluate import Scores
from evalkit.records.per_image import read_per_image
from evalkit.records.store import ScoreFile

METHODS = ["--methods", "CDDFuse,average", "--workers", "1"]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("evalkit.data.expected.time.sleep", lambda seconds: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_tno(tmp_path / "data", 4)
    make_outputs(tmp_path / "outputs", count=4)
    return tmp_path


def run(root: Path, out: str = "run", *more: str) -> tuple[int, str]:
    folders = ["--data-root", root / "data", "--outputs", root / "outputs", "--out", root / out]
    result = CliRunner().invoke(
        main, [str(a) for a in ("reproduce", "smfnet-table1", "--datasets", "TNO", *folders, *METHODS, *more)]
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def stored(root: Path, out: str = "run") -> dict[str, bytes]:
    """Scores, fused images and tables."""
    kept = [p for p in (root / out).rglob("*") if p.is_file() and "records" not in p.parts]
    return {str(p.relative_to(root / out)): p.read_bytes() for p in sorted(kept)}


# --- what is hashed is what is measured


def test_a_file_that_changes_after_it_was_hashed_is_never_measured_under_the_old_hash(root, monkeypatch):
    """Swapped once the run has hashed it: a missing value now, and the right one on the next run."""
    assert run(root, "clean")[0] == 0
    path, other = root / "outputs/CDDFuse/TNO/03.png", textured(77)
    kept = path.read_bytes()
    from evalkit.protocols import fusion

    real = fusion.measure_rows

    def swapped(*arguments):
        write_png(path, other)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fusion, "measure_rows", swapped)
        code, said = run(root)
    assert code == 3
    assert "03.png changed while the run was going on" in said
    assert "03" not in read_per_image(root / "run/scores/TNO/CDDFuse.csv").rows
    path.write_bytes(kept)
    assert run(root)[0] == 0
    assert stored(root) == stored(root, "clean")


@pytest.mark.parametrize("role", ["ir", "vi"])
def test_a_source_that_changes_is_not_fused_under_the_old_hash(root, role, monkeypatch):
    assert run(root, "clean")[0] == 0
    path = root / f"data/TNO/{role}/02.png"
    kept = path.read_bytes()
    from evalkit.protocols import measure

    real = measure.fuse_jobs

    def swapped(*arguments):
        write_png(path, textured(78))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(measure, "fuse_jobs", swapped)
        code, said = run(root)
    assert code == 3
    assert "02.png changed while the run was going on" in said
    assert not (root / "run/fused/average/TNO/02.png").exists()
    path.write_bytes(kept)
    assert run(root)[0] == 0
    assert stored(root) == stored(root, "clean")


def test_the_bytes_that_are_decoded_are_those_that_were_hashed(tmp_path):
    """However often the file changes between two reads, there is only one."""
    path = tmp_path / "a.png"
    write_png(path, textured(1))
    expected = Expected({path: file_hash(path)})
    assert np.array_equal(expected.image(path), textured(1))
    write_png(path, textured(2))
    with pytest.raises(OtherBytesError, match=r"a\.png changed while the run was going on"):
        expected.image(path)


# --- trouble that passes


def fails(number: int, times: int):
    """A reader that fails so often with an error of the system, or without memory, and then reads."""
    real, left = images.read_file, [times]

    def read(path, limit=0):
        if left[0]:
            left[0] -= 1
            if number == errno.ENOMEM:
                raise UnreadableError(f"cannot read {path}: memory ran out")
            raise UnreadableError(f"cannot read {path}: {os.strerror(number)}")
        return real(path, limit)

    return read


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.ESTALE, errno.ENOMEM])
def test_trouble_is_tried_again_now_and_on_the_next_run(root, number, monkeypatch):
    assert run(root, "clean")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(images, "read_file", fails(number, 2))  # once more than it is tried without waiting
        assert run(root, "soon")[0] == 0
    assert stored(root, "soon") == stored(root, "clean")
    with monkeypatch.context() as patch:
        patch.setattr(images, "read_file", fails(number, 10**6))
        assert run(root)[0] == 3
    assert not [r for p in (root / "run").glob("scores/TNO/*.csv*") for r in p.read_text().splitlines()[1:]]
    assert run(root)[0] == 0
    assert stored(root) == stored(root, "clean")


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error")])
@pytest.mark.parametrize("decoder", ["Pillow", "compiled loops"])
def test_a_decoder_that_fails_for_the_machines_sake_stores_nothing(root, decoder, error, monkeypatch):
    from PIL import PngImagePlugin

    def fails(self_or_data):
        raise error

    assert run(root, "clean")[0] == 0
    with monkeypatch.context() as patch:
        if decoder == "Pillow":
            patch.setattr("evalkit.data.images.plain_pixels", lambda data: None)
            patch.setattr(PngImagePlugin.PngImageFile, "load", fails)
        else:
            patch.setattr("evalkit.data.images.plain_pixels", fails)
        assert run(root)[0] == 3
    assert run(root)[0] == 0
    assert stored(root) == stored(root, "clean")


def test_a_folder_that_is_away_and_comes_back(root, monkeypatch):
    assert run(root, "clean")[0] == 0
    from evalkit.protocols import fusion

    real, folder = fusion.measure_rows, root / "data/TNO/vi"

    def away(*arguments):
        folder.rename(root / "away")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fusion, "measure_rows", away)
        assert run(root)[0] == 3
    (root / "away").rename(folder)
    assert run(root)[0] == 0
    assert stored(root) == stored(root, "clean")


def test_what_the_content_causes_is_stored(root, monkeypatch):
    (root / "outputs/CDDFuse/TNO/02.png").write_bytes(b"no image")
    assert run(root)[0] == 3
    row = read_per_image(root / "run/scores/TNO/CDDFuse.csv").rows["02"]
    assert set(row.values.values()) == {None}
    monkeypatch.setattr("evalkit.metrics.jobs.measure_job", None)  # measuring again would fail
    assert run(root)[0] == 3


# --- stored numbers


def lines_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.open(newline="")))


def put(path: Path, lines: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


def digit(lines: list[list[str]]) -> None:
    text = lines[2][3]
    lines[2][3] = text[:-2] + str((int(text[-2]) + 1) % 10) + text[-1]


CHANGES = {
    "a digit": digit,
    "-999": lambda lines: lines[2].__setitem__(4, "-999"),
    "1_0.5": lambda lines: lines[2].__setitem__(4, "1_0.5"),
    "twice": lambda lines: lines.insert(3, lines[2]),
    "twice, with another number": lambda lines: lines.insert(3, [*lines[2][:3], "5.5", *lines[2][4:]]),
    "another image's row": lambda lines: lines[2].__setitem__(slice(2, None), lines[3][2:]),
    "a value moved": lambda lines: lines[2].__setitem__(slice(2, 4), lines[2][3:1:-1]),
    "no digest": lambda lines: lines[2].__setitem__(-1, ""),
    "a reason for a value": lambda lines: lines[2].__setitem__(slice(2, -1), [*([""] * (len(lines[2]) - 4)), "{}"]),
    "columns changed round": lambda lines: lines[0].__setitem__(slice(2, 4), lines[0][3:1:-1]),
}


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_row_is_measured_again_and_said(root, change, journal, caplog):
    assert run(root)[0] == 0
    path, good = root / "run/scores/TNO/CDDFuse.csv", stored(root)
    lines = lines_of(path)
    CHANGES[change](lines)
    if journal:
        path.unlink()
        path = path.with_name(path.name + ".partial")
    put(path, lines)
    if not journal:
        with pytest.raises(DataError):
            read_per_image(path)
    with caplog.at_level(logging.WARNING):
        assert run(root)[0] == 0
    assert stored(root) == good
    if change != "columns changed round":  # a table of other columns
        assert "measured again" in caplog.text


def test_a_score_file_of_the_version_before_is_read_and_measured_again(root, caplog):
    """Files without digests are still files of scores; a run measures them again, for it cannot tell."""
    assert run(root)[0] == 0
    path, good = root / "run/scores/TNO/CDDFuse.csv", stored(root)
    before = read_per_image(path)
    put(path, [line[:-1] for line in lines_of(path)])
    assert read_per_image(path) == before
    assert read_per_image(path).hash() == before.hash()
    assert run(root)[0] == 0
    assert "4 rows were written by an earlier version" in caplog.text
    assert stored(root) == good


def test_a_journal_of_other_columns_makes_room(tmp_path):
    old, new = (ScoreFile(tmp_path / "a.csv", metrics) for metrics in (["EN"], ["EN", "SD"]))
    old.append("a", "k", Scores({"EN": 1.0}))
    new.append("b", "k", Scores({"EN": 1.0, "SD": 2.0}))
    new.append("c", "k", Scores({"EN": 1.0, "SD": 2.0}))
    assert sorted(new.read(dict.fromkeys("abc", "k"))) == ["b", "c"]


def test_other_pixels_under_the_same_text_are_fused_again(root, caplog):
    assert run(root)[0] == 0
    good, path = stored(root), root / "run/fused/average/TNO/02.png"
    text, pixels = png_text(path), read_image(path)
    pixels[3, 4] ^= 1
    write_png(path, pixels, text)
    assert run(root)[0] == 0
    assert "1 fused images of average on TNO are not as they were fused (02)" in caplog.text
    assert stored(root) == good
    write_png(path, read_image(path), {"evalkit": text["evalkit"]})  # as the version before wrote it
    assert run(root)[0] == 0
    assert stored(root) == good


# --- what is not ours


def test_parts_that_are_not_ours_stay(tmp_path):
    theirs = [".part", ".abc.part", ".download.part", "x.evalkit.part", f".longer-than-8{PART}", f".{'A' * 8}{PART}"]
    for name in theirs:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f".folder_x{PART}").mkdir()
    (tmp_path / "target").write_bytes(b"x")
    (tmp_path / f".link___x{PART}").symlink_to("target")
    (tmp_path / f".abcdef_1{PART}").write_bytes(b"half")
    before = sorted(p.name for p in tmp_path.iterdir())
    remove_parts(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name for name in before if name != f".abcdef_1{PART}"]


@pytest.mark.parametrize("there", [True, False])
def test_the_lock_never_follows_a_link(tmp_path, there):
    victim = tmp_path / "victim"
    if there:
        victim.write_bytes(b"of the user")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(victim)
    with pytest.raises(OutputError, match="is a symbolic link"), locked(tmp_path / "run"):
        pass
    assert victim.exists() == there
    assert not there or victim.read_bytes() == b"of the user"
    assert (tmp_path / "run" / LOCK).is_symlink()


def test_damage_is_the_contents_and_a_missing_file_is_not(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError) as damaged:
        read_image(tmp_path / "a.png")
    assert not isinstance(damaged.value, UnreadableError)
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(UnreadableError):
            read_image(path)


# --- the same bytes on any number of workers

NETWORKS = ["DATFuse", "DenseFuse", "DIDFuse", "IFCNN", "LRRNet", "MATR", "ReCoNet", "SeAFusion", "SHIP", "TarDAL"]


def _threads_as_levels(infrared, visible):
    torch = pytest.importorskip("torch")
    return torch.zeros(1, *infrared.shape[:2]), torch.zeros(1, *visible.shape[:2])


def _network():
    from torch import get_num_threads, nn

    class Threads(nn.Module):
        """Its images are gray levels, the number of threads that computed them."""

        def __init__(self):
            super().__init__()
            self.one = nn.Parameter(__import__("torch").ones(1))

        def forward(self, infrared, visible):
            return (infrared + visible) + self.one * get_num_threads()

    return Threads()


def _state(content, path):
    return content


def _levels(output, infrared, visible):
    return output[0].numpy().astype(np.uint8)


def test_the_threads_of_a_network_do_not_follow_the_workers(root):
    torch = pytest.importorskip("torch")
    from conftest import two_threads

    from evalkit.data.card import load_card
    from evalkit.data.pairs import find_pairs
    from evalkit.engine.base import Local
    from evalkit.methods.fuse import FuseJob, fuse_jobs
    from evalkit.methods.network import NetworkMethod
    from evalkit.methods.network_fuser import NetworkFuser

    torch.save(_network().state_dict(), root / "w.pth")
    network = NetworkMethod(_network, _threads_as_levels, _levels, ("w.pth",), _state)
    fuser = NetworkFuser(
        "threads", network, {"w.pth": file_hash(root / "w.pth")}, [root / "w.pth"], "cpu", False, "cpu"
    )
    pairs = find_pairs(load_card("TNO"), root / "data").pairs
    made = {}
    for workers in (1, 2, 3):
        with two_threads():
            jobs = [FuseJob(pair, root / f"{workers}/{pair.stem}.png") for pair in pairs]
            assert [reason for _, reason in fuse_jobs(fuser, jobs, Local(workers))] == [""] * len(jobs)
            assert torch.get_num_threads() == 2  # as before
        made[workers] = [job.path.read_bytes() for job in jobs]
    assert made[1] == made[2] == made[3]
    assert set(read_image(root / "1/01.png").ravel()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("method", NETWORKS)
def test_every_network_with_weights_gives_the_same_bytes_on_1_2_and_3_workers(method, shared, tmp_path):
    pytest.importorskip("torch")
    for role in ("ir", "vi"):
        (tmp_path / "data/TNO" / role).mkdir(parents=True)
        for stem in ("02", "05", "10"):
            shutil.copy(shared / f"data/TNO/{role}/{stem}.png", tmp_path / "data/TNO" / role)
    made = {}
    for workers in (1, 2, 3):
        folders = ["--data-root", tmp_path / "data", "--dataset", "TNO", "--out", tmp_path / str(workers)]
        options = ["--checkpoints", shared / "checkpoints", "--device", "cpu", "--workers", workers]
        done = CliRunner().invoke(main, [str(a) for a in ("fuse", method, *folders, *options)])
        assert done.exit_code == 0, done.output
        made[workers] = {p.name: p.read_bytes() for p in (tmp_path / str(workers)).rglob("*.png")}
    assert len(made[1]) == 3
    assert made[1] == made[2] == made[3]
