"""What `mkdocs build` runs: makes the pages that are not written by hand, and mends links that leave docs/."""

from __future__ import annotations

import re
from pathlib import Path

import audit_page
import cards_page
import commands_page
import coverage_page
import gallery_page
import metrics_page
import python_page
import records_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "gallery.md": gallery_page.page,
    "coverage.md": coverage_page.page,
    "reference/commands.md": commands_page.page,
    "reference/metrics.md": metrics_page.page,
    "reference/methods.md": cards_page.methods,
    "reference/datasets.md": cards_page.datasets,
    "reference/protocols.md": cards_page.protocols,
    "reference/networks.md": cards_page.networks,
    "reference/audit-checks.md": audit_page.page,
    "reference/files.md": records_page.page,
    "reference/python.md": python_page.page,
    "reference/formulas.md": python_page.formulas,
}
FILES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}  # page -> file beside docs/
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, make in PAGES.items():
        files.append(File.generated(config, name, content=make()))
    for name, data in gallery_page.files().items():
        files.append(File.generated(config, name, content=data))
    for name, source in FILES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links work on a forge and on the site: those to files that are no pages become text."""
    source = FILES.get(page.file.src_uri)
    folder = (ROOT / source).parent if source else (ROOT / "docs" / page.file.src_uri).parent

    def mended(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        file = (folder / target).resolve()
        name = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else ""
        pages = {path: page for page, path in FILES.items()} | {"README.md": "index.md"}
        if name in pages:
            return f"[{label}]({pages[name]}{anchor})"
        if name.startswith("docs/"):
            return f"[{label}]({name.removeprefix('docs/')}{anchor})" if source else match[0]
        return f"`{label}`" if file.exists() else match[0]

    return LINK.sub(mended, markdown)
