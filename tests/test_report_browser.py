"""A report in a real browser: screen, phone, dark, paper. Skipped where no Chromium is installed."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find_chromium
from conftest import make_outputs, make_tno

import evalkit

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
LOADED = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
LONG = "a method whose name is far longer than " + "any_name_of_a_method_should_be"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    make_tno(root / "data", 5)
    make_outputs(root / "outputs", LONG, 5)
    methods = ["average", "maximum", LONG, "PMGI"]
    evalkit.reproduce(
        "smfnet-table1", root / "data", outputs=root / "outputs", datasets=["TNO"], methods=methods, workers=1,
        out=root / "run",
    )  # fmt: skip
    evalkit.report(root / "run", root / "r.html", data_root=root / "data", outputs=root / "outputs")
    return root / "r.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium")
    with Browser(program) as one:
        yield one


@pytest.mark.parametrize(("width", "height", "phone"), [(1280, 900, False), (390, 844, True)])
def test_it_fits_its_window_and_every_image_is_there(
    browser: Browser, report: Path, width: int, height: int, phone: bool
) -> None:
    browser.look(width, height, phone=phone)
    browser.open(report)
    browser.wait(LOADED)
    assert browser.evaluate("document.images.length") > 20
    assert browser.evaluate(FITS)
    outside = (
        f"[...document.querySelectorAll('img, p, li, dd, h3')].filter(x => x.getBoundingClientRect().right > {width})"
    )
    assert browser.evaluate(f"{outside}.length") == 0
    if phone:  # a wide table scrolls in its own box, and the names stay
        box = "document.querySelector('#tables .scroll')"
        assert browser.evaluate(f"{box}.scrollWidth > {box}.clientWidth")
        browser.evaluate(f"{box}.scrollLeft = 200")
        assert 0 <= browser.evaluate(f"{box}.querySelector('tbody th').getBoundingClientRect().left") < 30


def test_it_reads_without_scripts_and_fetches_nothing(browser: Browser, report: Path) -> None:
    browser.look(1280, 900)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(report)
        assert "Ranks and significance" in browser.evaluate("document.body.innerText")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert (
        browser.evaluate("performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:')).length")
        == 0
    )
    assert browser.messages == []  # nothing was refused


def test_dark_and_light(browser: Browser, report: Path) -> None:
    grounds = []
    for dark in (False, True):
        browser.look(1280, 900, dark=dark)
        browser.open(report)
        grounds.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert browser.evaluate("getComputedStyle(document.body).color") != grounds[-1]
    assert grounds[0] != grounds[1]


def test_on_paper_nothing_is_cut(browser: Browser, report: Path) -> None:
    browser.look(703, 1010)  # A4 less its margins, at 96 pixels an inch
    browser.open(report)
    browser.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    try:
        assert browser.evaluate(FITS)
        assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        whole = "[...document.querySelectorAll('article, figure, tr, .panel')]"
        assert browser.evaluate(f"{whole}.every(x => getComputedStyle(x).breakInside === 'avoid')")
        wide = (
            "[...document.querySelectorAll('table, img')].filter(x => x.getBoundingClientRect().right > innerWidth + 1)"
        )
        assert browser.evaluate(f"{wide}.length") == 0
    finally:
        browser.call("Emulation.setEmulatedMedia", media="", features=[])
    pdf = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 2
