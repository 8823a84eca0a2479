"""Writing the site: all pages and records, exchanged with the old ones at once."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path

from evalkit.files.folder import others_of, replace_folder
from evalkit.leaderboards.site import render
from evalkit.leaderboards.site.entries import measured_folder, own_entries, read_agreement, shipped_entries
from evalkit.leaderboards.site.notes import audit_notes
from evalkit.leaderboards.site.pages import Page, pages

MANIFEST = "site.json"  # every file with its SHA-256
ASSETS = ("style.css", "site.js")


def build(
    out: str | os.PathLike[str],
    records: Iterable[str | os.PathLike[str]] = (),
    plots: bool = True,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
) -> list[Page]:
    """Write the leaderboards as a static site. The same records give the same bytes.

    Args:
        out: the site's folder; the files of a site that is there already are replaced, all others stay.
        records: folders of the reader's own runs (`--out` of `evalkit reproduce`), shown beside the shipped records.
        plots: draw what is measured (needs matplotlib, and most of the time).
        progress: wraps the pages, called with (items, count, text).

    Returns:
        The pages, a protocol each.

    Raises:
        DataError: a folder without records, or a damaged record.
        OutputError: `out` holds something else, or a file of the site that was changed; or it cannot be written.
    """
    out = Path(out)
    others_of(Path(os.path.realpath(out)), [MANIFEST, "index.html"], MANIFEST)  # before the work, not after it
    written = pages([*shipped_entries(), *own_entries(map(Path, records))])
    files = {f"assets/{name}": _asset(name) for name in ASSETS}
    agreement = read_agreement(measured_folder())
    all_notes = audit_notes(page.protocol.name for page in written)
    plots = plots and importlib.util.find_spec("matplotlib") is not None
    if plots:
        from evalkit.leaderboards.site.figures import figures  # matplotlib and pandas, which tables do without
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
    files["index.html"] = render.index(written, all_notes).encode()
    files["records.html"] = render.records_page(written).encode()
    replace_folder(out, files, MANIFEST)
    return written


def _asset(name: str) -> bytes:
    return resources.files("evalkit.leaderboards.site").joinpath(name).read_bytes()
