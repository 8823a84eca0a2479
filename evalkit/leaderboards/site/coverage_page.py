"""The page of coverage: how much of the printed numbers is measured, and what would unlock the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from evalkit.leaderboards.coverage import COMPARED, STATES, Coverage, Reason, reasons, total
from evalkit.leaderboards.site.markup import document, e, plural

MEANS = {
    "equal": "rounds to the printed digits",
    "within 0.5 %": "of the printed number",
    "differs": "by more than 0.5 %",
    "other data": "measured, but not on the paper's pairs, so not compared",
    "not measured": "no record has it",
}
FILLS = {"equal": "equal", "within 0.5 %": "close", "differs": "differs"}


def coverage_page(parts: Sequence[Coverage], known: Iterable[str]) -> str:
    """The page, made from records and protocols alone.

    Args:
        parts: the coverage of every block, see `coverage`.
        known: protocols that have a page of their own.
    """
    whole, linked = total(parts), set(known)
    counts = whole.counts()
    shown = {"printed numbers": counts["printed"], "measured": counts["measured"], "compared": counts["compared"]}
    stats = "".join(f"<div><dt>{e(label)}</dt><dd>{value:,}</dd></div>" for label, value in shown.items())
    meanings = "".join(f"<li><b>{e(state)}</b>: {e(MEANS[state])}</li>" for state in STATES)
    body = [
        '<section class="hero"><h1>Coverage</h1><p>How many of the printed numbers the records measure, how they '
        "agree, and, for every other number, why it is not compared and what would unlock it. A printed number counts "
        "once: of several records the one that comes nearest.</p>"
        f'<dl class="stats">{stats}</dl>{bar(whole)}</section>',
        f'<section class="legend"><ul>{meanings}</ul></section>',
        block_table(parts, whole, linked),
        reason_lists(reasons(parts), counts["printed"] - counts["compared"], linked),
    ]
    return document("Coverage · evalkit leaderboards", "\n".join(body))


def bar(part: Coverage) -> str:
    """How the compared numbers agree, as a bar with its text; nothing where none is compared."""
    counts = part.counts()
    if not counts["compared"]:
        return ""
    rects, start = [], 0.0
    for state in COMPARED:
        width = 100 * counts[state] / counts["compared"]
        rects.append(f'<rect class="{FILLS[state]}" x="{start:.2f}" width="{width:.2f}" height="6"/>')
        start += width
    text = ", ".join(f"{counts[state]:,} {state}" for state in COMPARED)
    return (
        '<svg class="agree" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'{"".join(rects)}</svg><p class="stand">{counts["compared"]:,} compared: {text}</p>'
    )


def block_table(parts: Sequence[Coverage], whole: Coverage, linked: set[str]) -> str:
    """A row per block, and their sum."""
    heads = "".join(f'<th scope="col">{e(name)}</th>' for name in whole.counts())
    rows = []
    for part in [*parts, whole]:
        name = (
            f'<a href="{e(part.protocol)}.html">{e(part.protocol)}</a>' if part.protocol in linked else e(part.protocol)
        )
        block = f'<span class="unit">{e(part.block)}</span>' if part.block else ""
        cells = "".join(
            f"<td>{count:,}</td>" if count else '<td class="none">·</td>' for count in part.counts().values()
        )
        rows.append(f'<tr><th scope="row">{name}{block}</th>{cells}</tr>')
    return (
        '<section class="block coverage"><h2>By table and data set</h2>'
        '<div class="scroll" role="region" aria-label="By table and data set" tabindex="0"><table>'
        f'<caption class="sr">Printed numbers by state</caption><thead><tr><th scope="col">table</th>{heads}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def reason_lists(all_reasons: Sequence[Reason], count: int, linked: set[str]) -> str:
    """The numbers that are not compared, by the kind of what they lack first; the most frequent first."""
    by_kind: dict[str, list[Reason]] = {}
    for reason in all_reasons:
        by_kind.setdefault(reason.need.kind, []).append(reason)
    kinds = sorted(by_kind, key=lambda kind: -sum(reason.count for reason in by_kind[kind]))
    lists = []
    for kind in kinds:
        numbers = sum(reason.count for reason in by_kind[kind])
        items = "".join(_item(reason, linked) for reason in by_kind[kind])
        lists.append(f'<h3>{e(kind)} <span class="count">{plural(numbers, "number")}</span></h3><ul>{items}</ul>')
    return (
        f'<section class="audit coverage" id="reasons"><h2>Why {plural(count, "number")} are not compared</h2>'
        "<p>Each number stands under the hardest thing that it lacks; what else some of them lack is said beside it. "
        "Data and weights that a run here would need are taken not to be at hand; "
        "<code>evalkit coverage --data-root DATA --checkpoints CHECKPOINTS --outputs OUTPUTS</code> says it of a "
        f"machine.</p>{''.join(lists)}</section>"
    )


def code(text: str) -> str:
    """A text whose commands stand between backticks."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", e(text))


def _item(reason: Reason, linked: set[str]) -> str:
    where = ", ".join(
        (f'<a href="{e(name)}.html">{e(name)}</a>' if name in linked else e(name)) + f" {count:,}"
        for name, count in reason.where.most_common()
    )
    also = ", ".join(f"{e(kind)} ({count:,})" for kind, count in reason.also.most_common())
    return (
        f"<li><p><b>{reason.count:,}</b> {code(reason.need.text)}</p><p>Unlocked by: {code(reason.need.unlock)}</p>"
        f'<p class="values">{where}{f" · besides: {also}" if also else ""}</p></li>'
    )
