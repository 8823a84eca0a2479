"""The frame of every page, and small pieces of HTML. Every text from outside is escaped."""

from __future__ import annotations

import html
import json
from collections.abc import Collection, Iterable
from typing import Any

from evalkit.leaderboards.site.entries import Entry
from evalkit.protocols.table.published import decimals_of
from evalkit.provenance import version

# file: is there for a site that is opened from the disk, where 'self' means nothing to some browsers
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file:; base-uri 'none'; "
    "form-action 'none'"
)
STATUS = {
    "equal": ("=", "rounds to the printed digits"),
    "close": ("≈", "within 0.1 % of the printed value"),
    "differs": ("≠", "differs from the printed value by more than 0.1 %"),
    "missing": ("–", "a missing value: no value, for the reason given"),
    "other data": ("○", "measured on other data, so not compared"),
}
e = html.escape


def number(value: float, printed: str = "") -> str:
    """As many decimals as are printed beside it, and four at least (one where it counts thousands)."""
    return f"{value:.{max(decimals_of(printed), 4 if abs(value) < 1000 else 1)}f}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def document(title: str, body: str, up: str = "") -> str:
    """A whole page.

    Args:
        title: of the window.
        body: HTML.
        up: path from the page to the site's root, such as "../".
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{e(title)}</title>\n"
        f'<link rel="stylesheet" href="{up}assets/style.css">\n<script src="{up}assets/site.js" defer></script>\n'
        '</head>\n<body>\n<a class="skip" href="#main">Skip to content</a>\n'
        f'<header class="bar"><div class="wrap"><a class="brand" href="{up}index.html">evalkit '
        '<span>leaderboards</span></a><nav aria-label="Site">'
        f'<a href="{up}index.html">Tables</a><a href="{up}coverage.html">Coverage</a>'
        f'<a href="{up}records.html">Records</a></nav>'
        '<button type="button" id="theme" class="quiet" hidden>Theme: <span>auto</span></button></div></header>\n'
        f'<main id="main" class="wrap">\n{body}\n</main>\n'
        f'<footer class="wrap"><p>Written by evalkit {e(version())}. Numbers of different conventions are never ranked '
        "together; what could not be computed is a missing value with its reason, never a number.</p></footer>\n"
        "</body>\n</html>\n"
    )


def data_script(name: str, value: Any) -> str:
    """JSON inside a page, with nothing in it that could end its element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def fact_list(facts: Iterable[tuple[str, Iterable[str]]]) -> str:
    """Labels with their texts; a label without a text is left out."""
    listed = [(label, list(texts)) for label, texts in facts]
    shown = "".join(
        f"<dt>{e(label)}</dt>{''.join(f'<dd>{e(text)}</dd>' for text in texts)}" for label, texts in listed if texts
    )
    return f'<dl class="facts">{shown}</dl>'


def scroll_table(heads: Iterable[str], rows: Iterable[str], label: str, texts: Collection[str] = ()) -> str:
    """A table in a box of its own, which scrolls where it is wider than the page.

    Args:
        heads: of the columns.
        rows: as HTML.
        label: what it shows, for those who do not see it.
        texts: the heads of columns that hold text, not numbers.
    """
    columns = "".join(f'<th scope="col"{" class=text" if head in texts else ""}>{e(head)}</th>' for head in heads)
    return (
        f'<div class="scroll" role="region" aria-label="{e(label)}" tabindex="0"><table><thead><tr>{columns}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def select(name: str, label: str, options: Iterable[tuple[str, str]]) -> str:
    """A list to choose from, with "all" first.

    Args:
        name: the element's id.
        label: beside it.
        options: value and text of each.
    """
    shown = "".join(f'<option value="{e(value)}">{e(text)}</option>' for value, text in options)
    return f'<label>{label}<select id="{name}"><option value="">all</option>{shown}</select></label>'


def links(entry: Entry) -> str:
    files = entry.to_dict()["files"]
    names = {"json": "record", "csv": "per-image scores"}
    return " · ".join(f'<a href="{e(path)}" download>{names[kind]}</a>' for kind, path in files.items() if path)


def badges(entry: Entry) -> str:
    """What tells a record from others of its method, and whether somebody measured a submitted one again."""
    proven = f'proven" title="{e(entry.proof.details)}' if entry.proof is not None else "dim"
    shown = [("", entry.variant), (f" {proven}", entry.shown_proof)]
    return "".join(f' <span class="badge{kind}">{e(text)}</span>' for kind, text in shown if text)
