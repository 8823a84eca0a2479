"""The docs site: what it must name, and that it reads nothing from elsewhere. Skipped where mkdocs is not installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from browser import Browser, find_chromium
from click.testing import CliRunner
from PIL import Image

import evalkit
from evalkit.catalogue import KINDS, entries_of, examples
from evalkit.cli import main
from evalkit.commands.plot import plot
from evalkit.commands.table import table
from evalkit.leaderboards.audit.report import CHECKS
from evalkit.leaderboards.plots.style import DPI, WIDTHS
from evalkit.metrics.card import CONVENTIONS, DEFINITIONS, METRICS
from evalkit.metrics.formulas import formulas
from evalkit.records.record import SCHEMA_VERSION, Record

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site: the one of EVALKIT_SITE, else built now."""
    if built := os.environ.get("EVALKIT_SITE"):
        return Path(built)
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip('needs mkdocs: pip install ".[docs]"')
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", out]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, check=True, env=environment)
    return out


class Page(HTMLParser):
    """A page's text, the ids in it, and what it loads: scripts, styles, fonts, pictures, frames."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.ids: set[str] = set()
        self.loaded: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))
        self.text = " ".join("".join(self.parts).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.ids.add(given.get("id") or "")
        if tag in ("script", "img", "iframe", "source", "video", "object", "embed"):
            self.loaded.append(given.get("src") or given.get("data") or "")
        elif tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(given.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def options(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """(command, option) of a command and those below it; an option is "" for the command itself."""
    yield path, ""
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            yield from ((path, name) for name in (*option.opts, *option.secondary_opts))
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from options(inner, f"{path} {name}")


def test_every_command_and_option_is_there(site: Path) -> None:
    page = Page(site / "reference/commands.html")
    html = (site / "reference/commands.html").read_text(encoding="utf-8")
    sections = dict(re.findall(r'<h[23] id="(evalkit[^"]*)">(.*?)(?=<h[23] id=|</article>)', html, re.DOTALL))
    expected = list(options(main, "evalkit"))
    assert len(expected) > 100
    for path, option in expected:
        anchor = path.replace(" ", "-")
        assert anchor in page.ids
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", sections[anchor]), (path, option)


def test_every_public_name_is_there(site: Path) -> None:
    ids = Page(site / "reference/python.html").ids
    missing = [name for name in evalkit.__all__ if f"{evalkit._HOME[name]}.{name}" not in ids]
    assert not missing


def imports(text: str) -> Iterator[str]:
    for module, names in re.findall(r"^from (evalkit\.[\w.]+) import ([\w, ]+)", text, re.MULTILINE):
        yield from (f"{module}.{name.strip()}" for name in names.split(","))


def test_what_the_docs_import_is_in_the_reference(site: Path) -> None:
    """What pages show as code to write is public."""
    ids = Page(site / "reference/python.html").ids | Page(site / "reference/formulas.html").ids
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    shown = {name for page in pages for name in imports(page.read_text(encoding="utf-8"))}
    assert len(shown) > 5
    assert not shown - ids


def test_every_metric_has_its_formula_conventions_and_source(site: Path) -> None:
    html = (site / "reference/metrics.html").read_text(encoding="utf-8")
    sections = dict(re.findall(r'<h3 id="([^"]*)">(.*?)(?=<h[23] id=|</article>)', html, re.DOTALL))
    for card in METRICS.values():
        section = sections[re.sub("[^a-z0-9]+", "-", card.name.lower())]
        if card.name in formulas():
            assert '<div class="formula"><math' in section, card.name
        for said in (card.better, card.range, card.unit, card.source):
            assert escape(said, quote=False) in section, (card.name, said)
    for definition in DEFINITIONS.values():
        assert f"<code>{definition.full_name}</code>" in html
    for convention in CONVENTIONS.values():
        assert f"<code>{convention.name}</code>" in html
    assert "\\" not in Page(site / "reference/metrics.html").text  # of LaTeX that is none in MathML


def test_every_textbook_metric_and_every_other_task_s_has_a_formula() -> None:
    with_formula = {*CONVENTIONS["textbook"].definitions, *(c.name for c in METRICS.values() if c.task != "fusion")}
    assert len(with_formula) > 50
    assert not with_formula - set(formulas())


def test_the_example_values_are_those_of_show(site: Path) -> None:
    html = (site / "reference/metrics.html").read_text(encoding="utf-8")
    for full_name, value in examples(["EN", "SSIM"]).items():
        row = re.search(rf"<code>{re.escape(full_name)}</code></td>\s*<td>.*?</td>\s*<td>(.*?)</td>", html, re.DOTALL)
        assert row is not None
        assert row[1] == value


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        *((kind, f"reference/{kind}.html") for kind in ("methods", "datasets", "protocols", "metrics")),
        ("conventions", "reference/metrics.html"),
        *((kind, "reference/networks.html") for kind in ("segmenters", "saliency", "detectors", "recipes", "tasks")),
        ("pretrained", "reference/networks.html"),
    ],
)
def test_all_that_evalkit_has_is_there(site: Path, kind: str, page: str) -> None:
    html = (site / page).read_text(encoding="utf-8")
    names = [entry["name"] for entry in entries_of(kind)]
    assert names
    assert not [name for name in names if f">{escape(name, quote=False)}<" not in html]


def test_every_kind_has_a_page() -> None:
    marks = test_all_that_evalkit_has_is_there.pytestmark[0].args[1]
    assert {kind for kind, _ in marks} == {*KINDS, "pretrained"}


def test_checks_and_files_are_there(site: Path) -> None:
    checks = (site / "reference/audit-checks.html").read_text(encoding="utf-8")
    assert not [check for check in CHECKS if f"<code>{check}</code>" not in checks]
    files = Page(site / "reference/files.html")
    assert f"writes version {SCHEMA_VERSION} and reads" in files.text
    html = (site / "reference/files.html").read_text(encoding="utf-8")
    assert not [field for field in Record.model_fields if f"<code>{field}</code>" not in html]


def test_the_gallery_has_every_plot_and_every_form_of_a_table(site: Path) -> None:
    gallery = Page(site / "gallery.html")
    html = (site / "gallery.html").read_text(encoding="utf-8")
    for kind in plot.commands:
        assert f"plot-{kind}" in gallery.ids
        assert f"evalkit plot {kind} " in gallery.text
        assert f'src="gallery/{kind}.png"' in html
        width, _ = Image.open(site / f"gallery/{kind}.png").size
        assert width == pytest.approx(WIDTHS["column"] * DPI, rel=0.02), kind
    forms = next(option.type for option in table.params if option.name == "form")
    assert isinstance(forms, click.Choice)
    for form in forms.choices:
        assert f"--format {form}" in gallery.text
    assert (site / "gallery/table.xlsx").read_bytes()[:2] == b"PK"


def test_coverage_is_that_of_the_command(site: Path) -> None:
    counted = json.loads(CliRunner().invoke(main, ["coverage", "--json"]).stdout)
    html = (site / "coverage.html").read_text(encoding="utf-8")
    for block in (*counted["blocks"], counted["total"]):
        cells = [str(value) for value in block.values() if isinstance(value, int)]
        assert "\n".join(f"<td>{cell}</td>" for cell in cells) in html, block


@pytest.mark.parametrize(("width", "height", "phone"), [(1280, 900, False), (390, 844, True)])
def test_pages_fit_their_window(site: Path, width: int, height: int, phone: bool) -> None:
    """Wide tables, formulas and code scroll by themselves, the page does not; nothing is refused and nothing fails."""
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium")
    with Browser(program) as browser:
        browser.look(width, height, phone=phone)
        for name in ("index", "gallery", "baselines", "reference/metrics", "reference/commands", "reference/protocols"):
            browser.open(site / f"{name}.html")
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert browser.evaluate(wide) <= 0, name
        browser.open(site / "reference/metrics.html")
        assert browser.evaluate("[...document.querySelectorAll('.formula math')].every(m => m.clientHeight > 15)")
        assert browser.messages == []


def test_every_page_of_docs_is_on_the_site(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file(), page


def test_nothing_is_read_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        outside = [url for url in Page(page).loaded if re.match(r"(https?:)?//", url)]
        assert not outside, page
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", text), style
