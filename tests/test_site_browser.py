"""The site in a real browser, opened from the disk. Skipped where no Chromium is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find_chromium

from evalkit.leaderboards.site.build import build
from evalkit.leaderboards.site.entries import shipped_entries

TABLE = "document.querySelector('.block[data-dataset=\"TNO\"]')"
SHOWN = "[...document.querySelectorAll('main > .block:not([hidden]) tbody tr:not([hidden])')]"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("browser") / "site"
    build(out, plots=False)
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium")
    with Browser(program) as one:
        yield one


@pytest.fixture
def page(browser: Browser, site: Path) -> Browser:
    browser.look(1280, 900)
    browser.open(site / "smfnet-table1.html")
    return browser


def focus(page: Browser, expression: str) -> None:
    page.evaluate(f"{expression}.focus()")
    assert page.evaluate(f"document.activeElement === {expression}")


def put(page: Browser, selector: str, value: str) -> None:
    """A value in a field, with the event that a person's input sends."""
    field = f"document.querySelector('{selector}')"
    page.evaluate(f"{field}.value = '{value}', {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")


def column(page: Browser, index: int) -> list[list[float | None]]:
    """Measured and printed numbers of a column of TNO's table, from top to bottom."""
    numbers = "[c.dataset.m, c.dataset.p].map(v => v === undefined ? null : Number(v))"
    return page.evaluate(
        f"[...{TABLE}.querySelectorAll('tbody tr')].map(r => {{ const c = r.cells[{index}]; return {numbers} }})"
    )


def test_a_column_sorts_by_keyboard(page: Browser) -> None:
    before = column(page, 1)
    head = f"{TABLE}.querySelectorAll('thead th')[1]"
    focus(page, f"{head}.querySelector('button')")
    states = []
    for _ in range(3):
        page.press("Enter")
        states.append((page.evaluate(f"{head}.getAttribute('aria-sort')"), column(page, 1)))
    assert [state for state, _ in states] == ["descending", "ascending", "none"]
    for (_, rows), reverse in zip(states[:2], (True, False), strict=True):
        measured = [m for m, _ in rows if m is not None]
        printed = [p for m, p in rows if m is None]
        assert len(measured) > 10
        assert measured == sorted(measured, reverse=reverse)
        assert printed == sorted(printed, reverse=reverse)
        assert [m is None for m, _ in rows] == sorted(m is None for m, _ in rows)  # never in one ranking
    assert states[2][1] == before  # the paper's order again


def test_data_sets_methods_and_views_filter(page: Browser) -> None:
    everything = page.evaluate(f"{SHOWN}.length")
    put(page, "#dataset", "TNO")
    assert page.evaluate(
        "[...document.querySelectorAll('main > .block:not([hidden])')].map(b => b.dataset.dataset)"
    ) == ["TNO"]
    focus(page, "document.querySelector('#find')")
    page.type("denseF")
    assert page.evaluate(f"{SHOWN}.map(r => r.dataset.method)") == ["densefuse"]
    assert page.evaluate("document.querySelector('#count').textContent") == "1 row"
    put(page, "#find", "")
    both = page.evaluate(f"{SHOWN}.length")
    focus(page, "document.querySelector('[data-view=published]')")
    page.press(" ")
    assert page.evaluate(f"{SHOWN}.length") == 12  # the rows that the paper prints
    focus(page, "document.querySelector('[data-view=measured]')")
    page.press("Enter")
    assert 12 < page.evaluate(f"{SHOWN}.length") < both < everything
    assert page.evaluate(f"{SHOWN}.every(r => r.dataset.measured === '1')")


def test_a_record_opens_and_closes(page: Browser) -> None:
    button = f"{TABLE}.querySelector('tr[data-method=densefuse] .open')"
    focus(page, button)
    page.press("Enter")
    assert page.evaluate("document.querySelector('#panel').open")
    text = page.evaluate("document.querySelector('#panel').innerText")
    for part in (
        "DenseFuse",
        "TNO · smfnet",
        "6.2963",
        "equal",
        "content_hash",
        "densefuse_gray.model",
        "numpy",
        "EN[smfnet]",
    ):
        assert part in text
    links = page.evaluate("[...document.querySelectorAll('#panel a')].map(a => new URL(a.href).pathname)")
    assert len(links) == 2
    assert all(Path(link).is_file() for link in links)
    page.press("Escape")
    assert not page.evaluate("document.querySelector('#panel').open")
    assert page.evaluate(f"document.activeElement === {button}")


def test_a_row_without_a_record_says_why(page: Browser) -> None:
    page.evaluate(f"{TABLE}.querySelector('tr[data-method=swinfusion] .open').click()")
    assert "not measured: needs its weights" in page.evaluate("document.querySelector('#panel').innerText")


def test_the_front_page_finds_tables(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    cards = "[...document.querySelectorAll('.card:not([hidden])')]"
    assert browser.evaluate(f"{cards}.length") > 5
    focus(browser, "document.querySelector('#measured')")
    browser.press(" ")
    found = browser.evaluate(f"{cards}.map(c => c.querySelector('a').getAttribute('href'))")
    runs = sorted({entry.record.protocol["name"] for entry in shipped_entries()})
    assert found == [f"{name}.html" for name in runs]
    focus(browser, "document.querySelector('#find')")
    browser.type("vifb")
    assert browser.evaluate(f"{cards}.map(c => c.querySelector('a').getAttribute('href'))") == ["vifb.html"]
    browser.evaluate("document.querySelector('.card:not([hidden]) a').click()")
    browser.wait("location.pathname.endsWith('vifb.html') && document.readyState === 'complete'")
    assert browser.evaluate("document.querySelectorAll('[data-row]').length") == 12


@pytest.mark.parametrize(("width", "height", "phone"), [(1280, 900, False), (390, 844, True)])
@pytest.mark.parametrize("name", ["index", "coverage", "records", "smfnet-table1", "tsjnet-table2"])
def test_pages_fit_their_window(browser: Browser, site: Path, name: str, width: int, height: int, phone: bool) -> None:
    if not (site / f"{name}.html").is_file():
        pytest.skip(f"{name} prints no numbers")
    browser.look(width, height, phone=phone)
    browser.open(site / f"{name}.html")
    assert browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    if name == "tsjnet-table2" and phone:  # a wide table scrolls in its own box, the names stay
        browser.evaluate("document.querySelector('.scroll').scrollLeft = 300")
        left = browser.evaluate("document.querySelector('tbody th').getBoundingClientRect().left")
        assert 0 <= left < 30


def test_dark_and_light(page: Browser) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.look(1280, 900, dark=True)
    dark = page.evaluate(ground)
    assert light != dark
    chosen = []
    for _ in range(3):  # light, dark, auto again
        page.evaluate("document.querySelector('#theme').click()")
        chosen.append(page.evaluate(ground))
    assert chosen == [light, dark, dark]


def test_nothing_is_refused_and_nothing_fails(browser: Browser) -> None:
    assert browser.messages == []
