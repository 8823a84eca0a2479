"""`leaderboard build` killed between any two of its file operations, over the site of fewer records, with people's own
files in its folder."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from evalkit.files.folder import replace_folder
from evalkit.leaderboards.site import build as module
from evalkit.leaderboards.site.build import MANIFEST, build
from evalkit.leaderboards.site.entries import shipped_entries
from inject.faults import Outcome, fault

RECORDS = 6  # of the shipped ones; the new site has them, the old one has fewer
WRITING = os.O_WRONLY | os.O_RDWR


def _contents(place: Path) -> dict[str, bytes | str]:
    """Every file and link below a folder."""
    paths = sorted(path for path in place.rglob("*") if path.is_symlink() or path.is_file())
    return {str(path): os.readlink(path) if path.is_symlink() else path.read_bytes() for path in paths}


def _site(place: Path, count: int) -> dict[str, bytes]:
    """The files of a site of the first records."""
    entries = shipped_entries()[:count]
    before, module.shipped_entries = module.shipped_entries, lambda: entries  # type: ignore[attr-defined]
    try:
        build(place, plots=False)
    finally:
        module.shipped_entries = before  # type: ignore[attr-defined]
    listed = json.loads((place / MANIFEST).read_text())["files"]
    return {name: (place / name).read_bytes() for name in listed}


def _add_own(place: Path) -> None:
    (place / ".git/objects").mkdir(parents=True)
    (place / ".git/objects/ab").write_bytes(b"blob")
    (place / "CNAME").write_text("bench.example.org")
    (place / "data").symlink_to("/elsewhere")


def _die_at(number: int, place: Path, files: dict[str, bytes]) -> bool:
    """Write a site in a process that dies before its n-th file operation; whether there was one."""
    child = os.fork()
    if child == 0:
        left = number

        def count(event: str, arguments: tuple) -> None:
            nonlocal left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
            if writes or event.startswith(("os.", "shutil.", "ctypes.dlsym")):
                left -= 1
                if left < 0:
                    os._exit(9)

        sys.addaudithook(count)
        try:
            replace_folder(place, files, MANIFEST)
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, 9):
        raise RuntimeError(f"the process ended with {code}")
    return code == 9


@fault("kill between any two file operations of `leaderboard build`")
def killed(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """The folder holds the old or the new site and all that is not ours; the next call removes what lies beside it."""
    old, new = _site(folder / "fewer", RECORDS - 2), _site(folder / "more", RECORDS)
    states: dict[str, int] = {"old": 0, "new": 0}
    wrong: list[str] = []
    home = folder / "home"
    number = 0
    while True:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        shutil.copytree(folder / "fewer", home / "site")
        _add_own(home / "site")
        whole = {"old": _contents(home / "site")}
        replace_folder(home / "site", new, MANIFEST)
        whole["new"] = _contents(home / "site")
        replace_folder(home / "site", old, MANIFEST)
        if _contents(home / "site") != whole["old"]:
            wrong.append("the old site did not come back")
        died = _die_at(number, home / "site", new)
        here = _contents(home / "site")
        state = next((name for name, content in whole.items() if content == here), "")
        if not state:
            wrong.append(f"killed before operation {number + 1}: neither the old nor the new site")
        else:
            states[state] += 1
        replace_folder(home / "site", new, MANIFEST)
        if _contents(home / "site") != whole["new"] or [path.name for path in home.iterdir()] != ["site"]:
            wrong.append(f"killed before operation {number + 1}: the next call did not clean up")
        if not died:
            break
        number += 1
    told = f"{len(new)} files; {states['old']} kills left the old site, {states['new'] - 1} the new one"
    yield f"{number} operations, a kill before each", Outcome("; ".join(wrong[:3]), told)
