"""A folder replaced as a whole: only what was written before is touched, a kill leaves the old or the new."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from evalkit.errors import OutputError
from evalkit.files import folder
from evalkit.files.folder import replace_folder

OLD = {"index.html": b"old", "assets/a.css": b"same", "records/gone.json": b"1", "plots/x/y.svg": b"old plot"}
NEW = {"index.html": b"new", "assets/a.css": b"same", "records/come.json": b"2", "notes/deep/er.html": b"new"}
MANIFEST = "site.json"
WRITING = os.O_WRONLY | os.O_RDWR


def contents(place: Path) -> dict[str, bytes | str]:
    """Every file below a folder, links by where they lead, empty folders as such."""
    found: dict[str, bytes | str] = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_bytes()
        elif not any(path.iterdir()):
            found[name] = "folder"
    return found


def add_own(place: Path) -> dict[str, bytes | str]:
    """What people keep in the folder of a site."""
    (place / ".git/objects/ab").mkdir(parents=True)
    (place / ".git/objects/ab/cd").write_bytes(b"blob")
    (place / ".git/refs").mkdir()
    (place / "CNAME").write_text("bench.example.org")
    (place / "assets/logo.svg").write_text("<svg/>")
    (place / "data").symlink_to("/somewhere/else")
    return {
        ".git/objects/ab/cd": b"blob",
        ".git/refs": "folder",
        "CNAME": b"bench.example.org",
        "assets/logo.svg": b"<svg/>",
        "data": "-> /somewhere/else",
    }


def split(place: Path) -> tuple[dict[str, bytes | str], dict[str, bytes | str]]:
    """The files of the manifest, and all others."""
    found = contents(place)
    listed = json.loads(found.pop(MANIFEST))["files"]
    return {k: v for k, v in found.items() if k in listed}, {k: v for k, v in found.items() if k not in listed}


def killed_at(number: int, place: Path, files: dict[str, bytes], manifest: str = MANIFEST) -> bool:
    """Replace the folder in a process of its own that dies before its n-th file operation; whether it died."""
    child = os.fork()
    if child == 0:
        left = number
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

        def count(event: str, arguments: tuple) -> None:
            nonlocal left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
            if writes or event.startswith(("os.", "shutil.", "ctypes.dlsym")):
                if left == 0:
                    os._exit(9)
                left -= 1

        sys.addaudithook(count)
        try:
            replace_folder(place, files, manifest)
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("exchange", [True, False])
def test_a_kill_between_any_two_operations_leaves_the_old_or_the_new(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:  # a system that cannot exchange two folders: for one moment the old one lies beside

        def without(*_: object, **__: object) -> None:
            raise OSError

        monkeypatch.setattr(folder.ctypes, "CDLL", without)
    states = set()
    for number in range(1000):
        place = tmp_path / str(number) / "site"
        replace_folder(place, OLD, MANIFEST)
        own = add_own(place)
        died = killed_at(number, place, NEW)
        if place.exists() or exchange:
            listed, others = split(place)
            assert listed in (OLD, NEW), number
            assert others == own, number
            states.add(listed == NEW)
            (place / "CNAME.new").write_text("changed after the kill")
            os.replace(place / "CNAME.new", place / "CNAME")
            own["CNAME"] = b"changed after the kill"
        replace_folder(place, NEW, MANIFEST)
        assert split(place) == (NEW, own), number
        assert [path.name for path in place.parent.iterdir()] == ["site"], number
        if not died:
            break
    assert number > 60
    assert states == {True, False}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "mine",
        '{"files": ["index.html"]}',
        '{"files": {"index.html": "x"}}',
        '{"files": {"../thesis.tex": "' + 64 * "0" + '"}}',
        '{"files": {}, "title": "my site"}',
    ],
)
def test_a_file_called_as_the_manifest_is_not_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj" / MANIFEST).write_text(text)
    (tmp_path / "proj" / "thesis.tex").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="holds no evalkit site"):
        replace_folder(tmp_path / "proj", NEW, MANIFEST)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["index.html", "assets", "notes", "records/come.json"])
def test_what_was_changed_or_is_anothers_is_not_replaced(name: str, tmp_path: Path) -> None:
    replace_folder(tmp_path / "site", OLD, MANIFEST)
    target = tmp_path / "site" / name
    if name == "assets":  # the site's folder, moved away behind a link
        target.rename(tmp_path / "elsewhere")
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="Move it away"):
        replace_folder(tmp_path / "site", NEW, MANIFEST)
    assert contents(tmp_path) == before


def test_a_changed_file_that_the_new_site_lacks_stays(tmp_path: Path) -> None:
    replace_folder(tmp_path / "site", OLD, MANIFEST)
    (tmp_path / "site/records/gone.json").write_text("with my notes")
    replace_folder(tmp_path / "site", NEW, MANIFEST)
    assert split(tmp_path / "site") == (NEW, {"records/gone.json": b"with my notes"})


def test_a_link_stays_one_and_its_folder_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "site").symlink_to(tmp_path / "disk")
    for files in (OLD, NEW):
        replace_folder(tmp_path / "site", files, MANIFEST)
        assert (tmp_path / "site").is_symlink()
        assert split(tmp_path / "disk") == (files, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "site"]


def test_a_folder_beside_it_that_is_anothers_stays(tmp_path: Path) -> None:
    (tmp_path / ".site.evalkit").mkdir()
    (tmp_path / ".site.evalkit/thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="is not a folder of evalkit"):
        replace_folder(tmp_path / "site", NEW, MANIFEST)
    assert contents(tmp_path) == {".site.evalkit/thesis.tex": b"mine"}
