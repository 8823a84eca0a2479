"""Writing the site: all pages and records, exchanged with the old ones at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path

from evalkit.errors import DataError
from evalkit.files.folder import others_of, replace_folder
from evalkit.leaderboards.coverage import coverage, needs_here
from evalkit.leaderboards.site import render
from evalkit.leaderboards.site.coverage_page import coverage_page
from evalkit.leaderboards.site.entries import measured_folder, own_entries, read_agreement, shipped_entries
from evalkit.leaderboards.site.figures import figures
from evalkit.leaderboards.site.notes import audit_notes
from evalkit.leaderboards.site.pages import Page, pages

MANIFEST = "site.json"  # every file with its SHA-256
ASSETS = ("style.css", "site.js")


def build(
    out: str | os.PathLike[str],
    records: Iterable[str | os.PathLike[str]] = (),
    plots: bool = True,
    only_mine: bool = False,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
    badges: Iterable[str | os.PathLike[str]] = (),
) -> list[Page]:
    """Write the leaderboards as a static site. The same records give the same bytes.

    Args:
        out: the site's folder; the files of a site that is there already are replaced, all others stay.
        records: folders of the reader's own runs (`--out` of `evalkit reproduce`) and of submissions, shown beside the
            shipped records.
        plots: draw what is measured.
        only_mine: leave the shipped records out, and every page without a run of the reader's own.
        progress: wraps the pages, called with (items, count, text).
        badges: files that `evalkit leaderboard verify --badge` wrote: which records were measured again.

    Returns:
        The pages, a protocol each.

    Raises:
        DataError: a folder without records, a damaged record, or `only_mine` without `records`.
        OutputError: `out` holds something else, or a file of the site that was changed; or it cannot be written.
    """
    out = Path(out)
    others_of(Path(os.path.realpath(out)), [MANIFEST, "index.html"], MANIFEST)  # before the work, not after it
    folders = list(map(Path, records))
    if only_mine and not folders:
        raise DataError(
            "only your own runs are to be shown, and none is named. Name their --out folders: --records RUN."
        )
    entries = [*shipped_entries(), *own_entries(folders, badges)]
    written = pages(entries, only_mine)
    covered = [entry for entry in entries if entry.submission is None]  # what was submitted measures no printed number
    files = {f"assets/{name}": _asset(name) for name in ASSETS}
    agreement = {} if only_mine else read_agreement(measured_folder())
    all_notes = audit_notes(page.protocol.name for page in written)
    for page in progress(written, len(written), "write pages"):
        drawn = figures(page) if plots else []
        files |= {figure.path: figure.data for figure in drawn}
        name = page.protocol.name
        text = render.protocol_page(page, all_notes[name], drawn, agreement.get(name, []))
        files[render.page_path(page)] = text.encode()
        for entry in page.entries:
            files[f"records/{entry.stem}.json"] = entry.text
            if entry.csv is not None:
                files[f"records/{entry.stem}.csv"] = entry.csv
    files["coverage.html"] = coverage_page(
        coverage(written if covered == entries else pages(covered, only_mine), needs_here(())),
        [p.protocol.name for p in written],
    ).encode()
    files["index.html"] = render.index(written, all_notes).encode()
    files["records.html"] = render.records_page(written).encode()
    replace_folder(out, files, MANIFEST)
    return written


def _asset(name: str) -> bytes:
    return resources.files("evalkit.leaderboards.site").joinpath(name).read_bytes()
