"""The pages: the front page, one per protocol, the list of records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from evalkit.leaderboards.site import sections
from evalkit.leaderboards.site.markup import badges, data_script, document, e, links, plural, scroll_table, select
from evalkit.leaderboards.site.notes import Note
from evalkit.leaderboards.site.pages import Page
from evalkit.leaderboards.site.tables import block_table
from evalkit.leaderboards.submission import read_submitted_card
from evalkit.protocols.table.per_image import Agreement
from evalkit.protocols.tasks import TASKS

if TYPE_CHECKING:
    from evalkit.leaderboards.site.figures import Figure


def index(pages: list[Page], notes: dict[str, list[Note]]) -> str:
    """The front page: what there is, and a card per protocol."""
    totals = {key: sum(page.counts()[key] for page in pages) for key in ("printed", "measured", "compared", "equal")}
    records = sum(len(page.entries) for page in pages)
    body = [
        '<section class="hero"><h1>Infrared-visible image fusion, printed and measured</h1>'
        "<p>Every table of the papers below with the numbers exactly as printed, beside what evalkit measures from the "
        "images, weights and outputs that were published. Each measured number comes with its record: image hashes, "
        "versions, per-image scores.</p>",
        '<dl class="stats">',
        *(
            f"<div><dt>{label}</dt><dd>{value:,}</dd></div>"
            for label, value in (
                ("tables and figures", len(pages)),
                ("printed numbers", totals["printed"]),
                ("records", records),
                ("measured numbers", totals["measured"]),
                ("equal to the printed digits", totals["equal"]),
            )
        ),
        "</dl></section>",
        _index_filters(pages),
    ]
    papers = dict.fromkeys(page.protocol.collection for page in pages)
    for paper in papers:
        cards = "".join(
            _card(page, notes.get(page.protocol.name, [])) for page in pages if page.protocol.collection == paper
        )
        body.append(f'<section class="paper"><h2>{e(paper)}</h2><ul class="cards">{cards}</ul></section>')
    body.append(_submitted(pages))
    return document("evalkit leaderboards", "\n".join(filter(None, body)))


def _submitted(pages: list[Page]) -> str:
    """The rows that others submitted; empty where there are none."""
    rows = []
    for page in pages:
        for entry in page.entries:
            if entry.submission is None:
                continue
            card, by = read_submitted_card(entry.run, entry.method), entry.submission.by
            rows.append(
                f'<tr><th scope="row">{e(entry.method)}{badges(entry)}</th><td class="text">{e(by)}</td>'
                f'<td class="text"><a href="{page_path(page)}">{e(page.protocol.name)}</a></td>'
                f'<td class="text">{e(entry.dataset)}</td><td class="text">{e(_joined(card.title, card.source))}</td>'
                f'<td class="text">{links(entry)}</td></tr>'
            )
    if not rows:
        return ""
    heads = ("Method", "By", "Protocol", "Data set", "Card", "Files")
    return (
        '<section class="block submitted"><h2>Submitted</h2><p>Rows that others measured. A row counts as re-measured '
        "where whoever keeps this board measured its images again; the others fit together in themselves, no more, "
        f"and are never marked as the best.</p>{scroll_table(heads, rows, 'Submitted', heads)}</section>"
    )


def _index_filters(pages: list[Page]) -> str:
    datasets = sorted({block.dataset for page in pages for block in page.blocks if block.dataset}, key=str.casefold)
    tasks = [task for task in TASKS if any(page.task.name == task for page in pages)]
    papers = dict.fromkeys(page.protocol.collection for page in pages)
    return (
        '<div class="filters" role="search" hidden>'
        '<label>Search<input id="find" type="search" placeholder="title, method, metric" autocomplete="off"></label>'
        f"{select('paper', 'Paper', [(p, p) for p in papers])}"
        f"{select('dataset', 'Data set', [(d, d) for d in datasets])}"
        f"{select('task', 'Task', [(t, TASKS[t].title) for t in tasks])}"
        '<label class="check"><input id="measured" type="checkbox"> with measured values</label>'
        '<p id="count" role="status"></p></div>'
    )


def _card(page: Page, notes: list[Note]) -> str:
    protocol, counts = page.protocol, page.counts()
    datasets = list(dict.fromkeys(block.dataset for block in page.blocks if block.dataset))
    words = [protocol.name, protocol.title, protocol.paper, protocol.table]
    words += [row.method for block in page.blocks for row in block.rows]
    words += [column.name for block in page.blocks for column in block.columns]
    chips = "".join(f"<li>{e(d)}</li>" for d in datasets)
    numbers = [_numbers(counts)]
    if notes:
        numbers.append(plural(len(notes), "audit note"))
    return (
        f'<li class="card" data-words="{e(" ".join(dict.fromkeys(words)).casefold())}" '
        f'data-paper="{e(protocol.collection)}" data-datasets="{e(json.dumps(datasets))}" '
        f'data-task="{e(page.task.name)}" data-measured="{counts["measured"]}">'
        f'<p class="eyebrow">{e(_joined(protocol.table, page.task.title))}</p>'
        f'<h3><a href="{page_path(page)}">{e(protocol.title)}</a></h3>'
        f'<ul class="chips">{chips}</ul><p class="numbers">{" · ".join(numbers)}</p>{agreement_bar(counts)}</li>'
    )


def _joined(*words: str) -> str:
    return " · ".join(filter(None, words))


def _numbers(counts: dict[str, int]) -> str:
    printed = plural(counts["printed"], "printed number") if counts["printed"] else "no printed means"
    return f"{printed} · " + (f"{counts['measured']:,} measured" if counts["measured"] else "not measured")


def agreement_bar(counts: dict[str, int]) -> str:
    """How the compared cells stand, as a bar with its text."""
    total = counts["compared"]
    if not total:
        return ""
    parts, start = [], 0.0
    for status in ("equal", "close", "differs"):
        width = 100 * counts[status] / total
        parts.append(f'<rect class="{status}" x="{start:.2f}" width="{width:.2f}" height="6"/>')
        start += width
    text = ", ".join(f"{counts[s]} {s}" for s in ("equal", "close", "differs"))
    return (
        f'<svg class="agree" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">{"".join(parts)}</svg>'
        f'<p class="stand">{total} compared: {text}</p>'
    )


def page_path(page: Page) -> str:
    return f"{page.protocol.name}.html"


def protocol_page(page: Page, notes: list[Note], figures: list[Figure], agreement: list[Agreement]) -> str:
    """The page of one protocol: set-up, filters, a table per block, audit notes, plots, and the data of the panels.

    Args:
        page: its tables.
        notes: what the audit says of the printed numbers.
        figures: its plots.
        agreement: how the values that its data set publishes per image came out.
    """
    protocol, counts = page.protocol, page.counts()
    details: dict[str, Any] = {}
    tables = "".join(block_table(block, i, details) for i, block in enumerate(page.blocks))
    records = {entry.stem: entry.to_dict() for entry in page.entries}
    body = [
        f'<p class="eyebrow">{e(_joined(protocol.paper, protocol.table))}</p><h1>{e(protocol.title)}</h1>',
        f'<p class="lead">{e(protocol.citation)}</p>',
        f'<p class="numbers">{_numbers(counts)}</p>',
        agreement_bar(counts),
        sections.set_up(page),
        sections.page_filters(page),
        sections.legend(),
        tables,
        sections.agreement(agreement),
        sections.notes(notes),
        sections.plots(figures),
        sections.files(page),
        '<dialog id="panel" aria-labelledby="panel-title"><div class="panel-head"><h2 id="panel-title"></h2>'
        '<button type="button" class="quiet" data-close>Close</button></div><div id="panel-body"></div></dialog>',
        data_script("rows", details),
        data_script("records", records),
    ]
    return document(f"{protocol.source} · evalkit leaderboards", "\n".join(filter(None, body)))


def records_page(pages: list[Page]) -> str:
    """Every record in one list."""
    rows = []
    for page in pages:
        for entry in page.entries:
            record = entry.record
            commit = (record.provenance.get("commit") or {}).get("hash", "")
            rows.append(
                f'<tr data-method="{e(entry.method.casefold())}"><th scope="row">{e(entry.method)}{badges(entry)}</th>'
                f'<td class="text">{e(entry.dataset)}</td><td class="text"><a href="{page_path(page)}">'
                f'{e(page.protocol.name)}</a></td><td class="text">{e(record.convention)}</td><td>{record.images}</td>'
                f'<td class="text">{e(record.status)}</td><td class="text">{e(str(record.finished)[:10])}</td>'
                f'<td class="text"><code>{e(str(commit)[:10])}</code></td><td class="text">{links(entry)}</td></tr>'
            )
    heads = ("Method", "Data set", "Protocol", "Convention", "Images", "Status", "Measured", "Commit", "Files")
    head = "".join(f'<th scope="col"{"" if h == "Images" else " class=text"}>{h}</th>' for h in heads)
    body = (
        '<h1>Records</h1><p class="lead">Everything that was measured. <code>evalkit leaderboard verify FILE</code> '
        "checks a record against its per-image scores, and against the images where they are at hand.</p>"
        '<div class="filters" role="search" hidden><label>Method<input id="find" type="search" '
        'placeholder="part of a name" autocomplete="off"></label><p id="count" role="status"></p></div>'
        '<section class="block"><div class="scroll" role="region" aria-label="Records" tabindex="0"><table>'
        f'<caption class="sr">Records</caption><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        "</div></section>"
    )
    return document("Records · evalkit leaderboards", body)
