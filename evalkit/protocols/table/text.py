"""What every format says of a table in words: headings, notes, reasons, how a value stands to a printed one."""

from __future__ import annotations

import re

from evalkit.protocols.table.cells import Cell, TableContent
from evalkit.protocols.table.grid import DIGITS, GridCell
from evalkit.protocols.table.published import decimals_of
from evalkit.protocols.table.style import MARKED, PLAIN, TableStyle

MISSING = "–"


def number(cell: Cell) -> str:
    """The number of a cell with as many decimals as the paper prints (four at least), as printed in a published row,
    or a dash.
    """
    if cell.value is None:
        return (cell.published if cell.status == "published" else None) or MISSING
    return f"{cell.value:.{_decimals(cell)}f}"


def _decimals(cell: Cell) -> int:
    return max(DIGITS, decimals_of(cell.published or ""))


def beside(cell: Cell) -> str:
    """The published value and the difference to it: `7.1203 (+0.0001)`, or `7.1203 (=)`; empty without one."""
    if cell.published is None:
        return ""
    if cell.difference is None:
        return cell.published
    if cell.status == "equal":
        return f"{cell.published} (=)"
    return f"{cell.published} ({cell.difference:+.{_decimals(cell)}f})"


def shown(table: TableContent, entry: GridCell | None) -> tuple[str, str]:
    """What stands in a cell and below it: measured and published; in a published table or row the printed number alone.

    Args:
        table: whose cell it is.
        entry: of its grid; None where the table has no such cell.
    """
    if entry is None:
        return MISSING, ""
    spread = f" ± {entry.spread}" if entry.spread else ""
    text = f"{entry.text}{spread}{entry.cell.sign}" if entry.text else MISSING
    if not entry.printed:
        return text, beside(entry.cell)
    if table.measured and entry.cell.status != "published":
        return MISSING, beside(entry.cell)
    return text, ""


def missing(table: TableContent, dataset: str) -> list[str]:
    """`methods: reason` for what is missing of a data set; metrics and methods with one reason are put together.

    Args:
        table: whose cells they are.
        dataset: or block, as the cells name it.
    """
    metrics: dict[tuple[str, str], list[str]] = {}
    for cell in table.cells:
        if cell.dataset == dataset and cell.reason:
            metrics.setdefault((cell.reason, cell.method), []).append(cell.metric)
    methods: dict[str, list[str]] = {}
    for (reason, method), which in metrics.items():
        which_metrics = "" if len(which) == len(table.columns_of(dataset)) else f" ({', '.join(which)})"
        methods.setdefault(reason, []).append(method + which_metrics)
    return [f"{', '.join(who)}: {reason}" for reason, who in methods.items()]


def missing_once(table: TableContent) -> list[str]:
    """`methods on data sets: reason` for what is missing of the whole table, each reason once.

    Reasons that differ only in the folder of the method and the data set are one, with <method> and <dataset> in it.

    Args:
        table: whose cells they are.
    """
    metrics: dict[tuple[str, str, str], list[str]] = {}  # reason, method, data set
    for cell in table.cells:
        if cell.reason:
            folder = f"/{cell.method}/{table.blocks.get(cell.dataset, [cell.dataset])[0]}"
            reason = re.sub(re.escape(folder) + r"(?![\w.-])", "/<method>/<dataset>", cell.reason)
            metrics.setdefault((reason, cell.method, cell.dataset), []).append(cell.metric)
    datasets: dict[tuple[str, str], list[str]] = {}  # reason, method and its metrics
    for (reason, method, dataset), which in metrics.items():
        named = method if len(which) == len(table.columns_of(dataset)) else f"{method} ({', '.join(which)})"
        datasets.setdefault((reason, named), []).append(dataset)
    methods: dict[tuple[str, str], list[str]] = {}  # reason, data sets in words
    for (reason, named), where in datasets.items():
        on = "" if len(where) == len(table.datasets) else f" on {', '.join(where)}"
        methods.setdefault((reason, on), []).append(named)
    places: dict[str, list[str]] = {}
    for (reason, on), names in methods.items():
        places.setdefault(reason, []).append(", ".join(names) + on)
    return [f"{'; '.join(who)}: {reason}" for reason, who in places.items()]


def heading(table: TableContent, dataset: str) -> str:
    """What the numbers of one block are.

    Args:
        table: whose cells they are.
        dataset: or block, as the cells name it.
    """
    name, variant, *_ = [*table.blocks.get(dataset, [dataset]), ""]
    count = table.pairs.get(dataset, table.pairs.get(name))
    pairs = "" if count is None else f"{count} pairs"
    if table.sample:
        subject = f"{table.protocol} on generated sample scenes (not a data set of the paper)"
        return " · ".join(filter(None, [subject, variant, pairs]))
    return " · ".join(filter(None, [*_subject(table), dataset, pairs]))


def wide_heading(table: TableContent) -> str:
    """What the numbers of all blocks together are."""
    counts = [f"{name or 'all'}: {count} pairs" for name, count in table.pairs.items()]
    if table.sample:
        return " · ".join([f"{table.protocol} on generated sample scenes (not a data set of the paper)", *counts])
    return " · ".join(filter(None, [*_subject(table), *counts]))


def _subject(table: TableContent) -> list[str]:
    """Its name and, where it says more, its title or the paper's."""
    return list(dict.fromkeys([table.protocol, table.source]))


def convention_note(table: TableContent, style: TableStyle = PLAIN, below: bool = True) -> str:
    """The sentence on convention and marks that stands below every table.

    Args:
        table: with its own note.
        style: which marks it has.
        below: whether published values stand below the measured ones.
    """
    other = [f"{c.name}" for c in table.columns if c.convention != table.convention]
    text = f"Convention: {table.convention}"
    if other:
        text += f" ({', '.join(other)} as named)"
    marked = MARKED[style.marks]
    if not table.measured and any(cell.published for cell in table.cells):
        text += f"; published values, nothing is measured; {marked}, as the paper marks them."
    else:
        if below and any(cell.published for cell in table.cells if cell.status != "published"):
            text += (
                "; below each measured value: the published one and (measured - published), (=) where the digits agree"
            )
        text += f"; {marked}."
    return " ".join(filter(None, [text, table.note]))
