"""What stands around the tables of a protocol's page: set-up, filters, legend, audit notes, plots, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.leaderboards.site.markup import STATUS, e, fact_list, links, plural, scroll_table, select
from evalkit.leaderboards.site.notes import Note
from evalkit.leaderboards.site.pages import Page
from evalkit.protocols.schema import Protocol
from evalkit.protocols.table.per_image import Agreement
from evalkit.protocols.tasks import TASKS

if TYPE_CHECKING:
    from evalkit.leaderboards.site.figures import Figure

FEW = 8  # audit notes that are shown at once


def set_up(page: Page) -> str:
    shown = fact_list(protocol_facts(page.protocol))
    return f'<details class="setup"><summary>Set-up and conventions</summary>{shown}</details>'


def protocol_facts(protocol: Protocol) -> list[tuple[str, list[str]]]:
    """What a protocol says of its set-up: label and texts, none for what it is silent about."""
    uses = [
        f"{name}{f' ({use.split})' if use.split else ''}: {f'{use.pairs} pairs' if use.pairs else 'pairs not stated'}"
        for name, use in protocol.datasets.items()
    ]
    return [
        ("Protocol", [protocol.name]),
        ("Task", [TASKS.find(protocol.task).title]),
        ("Convention", [protocol.convention or "not stated"]),
        ("Data sets", uses),
        ("Training", [f"{k}: {v}" for k, v in protocol.training.items()]),
        ("Downstream", [f"{k}: {v}" for k, v in protocol.downstream.items()]),
        ("Marks in the paper", [f"{k}: {v}" for k, v in protocol.marks.items()]),
        ("Left open by the paper", list(protocol.left_open)),
        ("Decided here", list(protocol.decisions)),
        ("Notes", [protocol.notes] if protocol.notes else []),
    ]


def page_filters(page: Page) -> str:
    datasets = dict.fromkeys(block.dataset for block in page.blocks if block.dataset)
    measured = any(cell.value is not None for block in page.blocks for cell in block.cells)
    printed = any(cell.printed for block in page.blocks for cell in block.cells)
    views = [("both", "Both"), ("measured", "Measured"), ("published", "Published")] if measured and printed else []
    buttons = "".join(
        f'<button type="button" data-view="{value}" aria-pressed="{str(value == "both").lower()}">{text}</button>'
        for value, text in views
    )
    return (
        '<div class="filters" role="search" hidden>'
        + (select("dataset", "Data set", [(d, d) for d in datasets]) if len(datasets) > 1 else "")
        + '<label>Method<input id="find" type="search" placeholder="part of a name" autocomplete="off"></label>'
        + (f'<div class="segments" role="group" aria-label="Values">{buttons}</div>' if buttons else "")
        + '<p id="count" role="status"></p></div>'
    )


def legend() -> str:
    items = "".join(
        f'<li><span class="mark {status.replace(" ", "-")}" aria-hidden="true">{glyph}</span> {text}</li>'
        for status, (glyph, text) in STATUS.items()
    )
    return (
        '<details class="legend"><summary>How to read the tables</summary><ul>'
        "<li>Large: measured. Small below it: printed in the paper.</li>"
        f"{items}<li><strong>Bold</strong> is best and <u>underlined</u> second, among measured and among printed "
        "values apart.</li><li>A column's button sorts by measured values; rows with printed values only follow, "
        "among themselves.</li><li>A method's button opens its record.</li></ul></details>"
    )


def agreement(rows: list[Agreement]) -> str:
    """How the values come out that a data set publishes image by image."""
    if not rows:
        return ""
    lines = [
        f'<tr><th scope="row">{e(r.metric)}</th><td>{r.published:,}</td><td>{r.near:,}</td>'
        f'<td>{100 * r.share:.1f} %</td><td>{r.worst:.1e}</td><td class="text">{e(r.worst_at)}</td></tr>'
        for r in rows
    ]
    heads = ["Metric", "Published", "Within 0.5 %", "Share", "Worst relative difference", "At"]
    title = "Values published per image"
    return f'<section class="agreement"><h2>{title}</h2>{scroll_table(heads, lines, title, heads[-1:])}</section>'


def notes(notes: list[Note]) -> str:
    if not notes:
        return ""
    items = []
    for note in notes:
        values = " → ".join(filter(None, [note.printed and f"printed {note.printed}", note.recomputed]))
        items.append(
            f'<li class="{e(note.sure)}"><p class="eyebrow"><span class="badge">{e(note.sure)}</span> '
            f"{e(note.where)}</p>"
            f"<p>{e(note.text)}</p>{f'<p class=values>{e(values)}</p>' if values else ''}</li>"
        )
    return (
        f'<section class="audit"><h2>Audit notes <span class="count">{len(notes)}</span></h2><p>What arithmetic tells '
        "about the printed table; each note comes from a check that runs on any table.</p>"
        f"<ul>{''.join(items[:FEW])}</ul>"
        + (
            f"<details><summary>{len(items) - FEW} more</summary><ul>{''.join(items[FEW:])}</ul></details>"
            if len(items) > FEW
            else ""
        )
        + "</section>"
    )


def plots(figures: list[Figure]) -> str:
    shown = "".join(
        f'<figure data-dataset="{e(figure.dataset)}"><figcaption>{e(figure.title)}</figcaption>'
        f'<a href="{e(figure.path)}"><img src="{e(figure.path)}" alt="{e(figure.title)}" loading="lazy"></a></figure>'
        for figure in figures
    )
    return f'<section class="plots"><h2>Plots</h2><div class="gallery">{shown}</div></section>' if figures else ""


def files(page: Page) -> str:
    if not page.entries:
        return ""
    lines = "".join(
        f"<li>{e(', '.join(filter(None, [entry.dataset, entry.method, entry.variant])))}: {links(entry)}</li>"
        for entry in page.entries
    )
    count = plural(len(page.entries), "record")
    return f'<details class="files"><summary>Files ({count})</summary><ul>{lines}</ul></details>'
