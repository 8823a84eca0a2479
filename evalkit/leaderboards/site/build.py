"""Writing the site: into a new folder beside the old one, then swapped, so that a reader never sees half of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path

from evalkit.errors import OutputError
from evalkit.leaderboards.site import render
from evalkit.leaderboards.site.entries import measured_folder, own_entries, read_agreement, shipped_entries
from evalkit.leaderboards.site.notes import audit_notes, figures
from evalkit.leaderboards.site.pages import Page, pages

MANIFEST = "site.json"  # every file with its SHA-256; its presence tells that a folder is a site of ours
ASSETS = ("style.css", "site.js")


def build(
    out: str | os.PathLike[str],
    records: Iterable[str | os.PathLike[str]] = (),
    plots: bool = True,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
) -> list[Page]:
    """Write the leaderboards as a static site. The same records give the same bytes.

    Args:
        out: the site's folder; one that holds a site already is replaced as a whole.
        records: folders of the reader's own runs (`--out` of `evalkit reproduce`), shown beside the shipped records.
        plots: draw what is measured (needs matplotlib, and most of the time).
        progress: wraps the pages, called with (items, count, text).

    Returns:
        The pages, a protocol each.

    Raises:
        DataError: a folder without records, or a damaged record.
        OutputError: `out` holds something else, or cannot be written.
    """
    out = Path(out)
    check_target(out)
    found = pages([*shipped_entries(), *own_entries(map(Path, records))])
    files = {f"assets/{name}": _asset(name) for name in ASSETS}
    agreement = read_agreement(measured_folder())
    all_notes = audit_notes(page.protocol.name for page in found)
    for page in progress(found, len(found), "write pages"):
        drawn = figures(page) if plots else []
        files |= {figure.path: figure.data for figure in drawn}
        name = page.protocol.name
        text = render.protocol_page(page, all_notes[name], drawn, agreement.get(name, []))
        files[render.page_path(page)] = text.encode()
        for entry in page.entries:
            files[f"records/{entry.stem}.json"] = entry.text
            if entry.csv is not None:
                files[f"records/{entry.stem}.csv"] = entry.csv
    files["index.html"] = render.index(found, all_notes).encode()
    files["records.html"] = render.records_page(found).encode()
    write_site(out, files)
    return found


def _asset(name: str) -> bytes:
    return resources.files("evalkit.leaderboards.site").joinpath(name).read_bytes()


def check_target(out: Path) -> None:
    """Make sure that nothing but a site of ours would be replaced. Raises OutputError."""
    if out.is_dir() and (any(out.iterdir()) and not (out / MANIFEST).is_file()):
        raise OutputError(f"{out} is not empty and holds no evalkit site ({MANIFEST}). Choose a new or empty folder.")
    if not out.is_dir() and (out.exists() or out.is_symlink()):
        raise OutputError(f"{out} is not a folder. Choose a new or empty folder.")


def write_site(out: Path, files: dict[str, bytes]) -> None:
    """Write all files and the manifest, then put the folder in its place at once. Raises OutputError."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    manifest = json.dumps({"files": hashes}, indent=1, sort_keys=True) + "\n"
    out = Path(os.path.abspath(out))
    new = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        site = new / "site"
        for name, data in {**files, MANIFEST: manifest.encode()}.items():
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if out.exists():
            out.rename(new / "before")
        site.rename(out)
    except OSError as error:
        if new is not None and (new / "before").exists() and not out.exists():
            (new / "before").rename(out)
        raise OutputError(f"cannot write {out}: {error.strerror or error}. Free space or choose another OUT.") from None
    finally:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
