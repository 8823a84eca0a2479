"""LaTeX of a table: in the arrangement of its paper, wide, or a table per data set; booktabs rules, pdfLaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

from evalkit.protocols.table.cells import TableContent
from evalkit.protocols.table.grid import Grid, GridCell
from evalkit.protocols.table.published import decimals_of
from evalkit.protocols.table.style import MARKED, PLAIN, TableStyle
from evalkit.protocols.table.styled import Styled, styled
from evalkit.protocols.table.tex import tex, tex_comment

FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # never wider than the page
PACKAGES = "booktabs,graphicx,xcolor"
SIUNITX = "siunitx"  # version 3, of 2021
SETUP = (  # bold and colours reach the number; what stands beside it takes no part in the alignment
    r"\sisetup{mode=text,reset-text-series=false,separate-uncertainty=true,"
    r"table-align-text-before=false,table-align-text-after=false}"
)
_ARROW = {"↑": r"$\uparrow$", "↓": r"$\downarrow$"}
_COLOUR = {"best": "red", "second": "blue"}


def to_latex(table: TableContent, style: TableStyle = PLAIN) -> str:
    """A booktabs table as the paper arranges it: measured values where there are any, the published ones elsewhere.

    Measured values stand in black, published ones in gray; a table without measured values is black. The packages it
    needs are named in its first lines.

    Args:
        table: of a run, or published.
        style: how it is to look.

    Raises:
        EvalkitError: what the style asks for cannot be shown.
    """
    ready = styled(table, style, "latex")
    packages = f"{PACKAGES},{SIUNITX}" if style.siunitx else PACKAGES
    lines = [
        *([f"% {tex_comment(table.citation)}"] if table.citation else []),
        rf"% needs \usepackage{{{packages}}} and \usepackage[T1]{{fontenc}}",
    ]
    grids = list(ready.grids(paper=True))
    for dataset, grid in grids:
        lines += _float(ready, grid, dataset, len(grids) > 1)
    return "\n".join(lines) + "\n"


def _float(ready: Styled, grid: Grid, dataset: str | None, several: bool) -> list[str]:
    """A floating table with caption, label, and below it what its dashes mean."""
    style = ready.style
    own = "" if style.caption is None else tex(f"{style.caption} ({dataset})" if several and dataset else style.caption)
    said = tex(_caption(grid.table if dataset else ready.table, style, dataset, with_title=style.caption is None))
    notes = [f"-- {tex(note)}" for note in _reasons(grid.table, printed=False)]
    if own:
        notes.insert(0, said)
    lines = [f"% not measured: {tex_comment(line)}" for line in _reasons(grid.table, printed=True)]
    lines += [
        r"\begin{table*}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        *([SETUP] if style.siunitx else []),
        rf"\caption{{{own or said}}}",
    ]
    if style.label is not None:
        part = "-" + re.sub("[^A-Za-z0-9]+", "-", dataset or "") if several else ""
        lines.append(rf"\label{{{style.label}{part}}}")
    body = _tabular(grid)
    lines += [FIT, *body[:-1], body[-1] + "}"]
    if notes:
        lines.append(r"\par\smallskip\raggedright\scriptsize " + r"\\ ".join(notes))
    return [*lines, r"\end{table*}"]


def _tabular(grid: Grid) -> list[str]:
    stub = len(grid.rows)
    entries = [[grid.entry(row, column) for column in grid.column_keys] for row in grid.row_keys]
    kinds = [_number_column(grid, [row[i] for row in entries]) for i in range(len(grid.column_keys))]
    lines = [rf"\begin{{tabular}}{{{'l' * stub}{''.join(kinds)}}}", r"\toprule", *_header(grid), r"\midrule"]
    for i, row in enumerate(grid.row_keys):
        above = grid.row_keys[i - 1] if i else ()
        published = _published(entries[i])
        if i and ((stub > 1 and row[0] != above[0]) or published != _published(entries[i - 1])):
            lines.append(r"\midrule")
        names = [
            _label(grid, axis, row[j]) if row[: j + 1] != above[: j + 1] else "" for j, axis in enumerate(grid.rows)
        ]
        if names and names[0].startswith(("[", "*")):  # after \\ they would be an option of it
            names[0] = "{}" + names[0]
        lines.append(" & ".join(names + [_entry(grid, entry, published) for entry in entries[i]]) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _published(row: list[GridCell | None]) -> bool:
    """Whether a row is a printed one, set below the measured ones."""
    cells = [entry.cell for entry in row if entry]
    return any(cell.status == "published" for cell in cells) and not any(
        cell.status not in ("published", "derived") for cell in cells
    )


def _header(grid: Grid) -> list[str]:
    """A line per level; labels of outer levels span their columns, with a rule below."""
    lines, stub = [], len(grid.rows)
    for level, axis in enumerate(grid.header):
        last = level == len(grid.header) - 1
        names = [title if last else "" for title in grid.titles()]
        rules, at = [], stub + 1
        for key, group in groupby(grid.column_keys, key=lambda key: key[: level + 1]):
            span = len(list(group))
            label = _label(grid, axis, key[-1])
            if last and grid.style.siunitx:
                label = f"{{{label}}}"
            names.append(label if last else rf"\multicolumn{{{span}}}{{c}}{{{label}}}")
            if label and not last:
                rules.append(rf"\cmidrule(lr){{{at}-{at + span - 1}}}")
            at += span
        lines.append(" & ".join(names) + r" \\" + " ".join(["", *rules]))
    return lines


def _label(grid: Grid, axis: str, value: str) -> str:
    """A name on an axis; a metric with its unit and arrow."""
    text = grid.label(axis, value)
    column = grid.column_of(axis, value)
    if column is None:
        return tex(text)
    return f"{tex(text.removesuffix(f' {column.arrow}'))} {_ARROW[column.arrow]}"


def _entry(grid: Grid, entry: GridCell | None, published: bool) -> str:
    """What stands in a cell: empty where the table has none there. A published row is gray, ranks and all."""
    if entry is None:
        return ""
    if not entry.text:
        return "{--}" if grid.style.siunitx else "--"
    gray = (entry.printed or published) and grid.table.measured
    signs = [*entry.cell.sign, *(["*"] if entry.cell.status == "other data" else [])]
    raised = "".join(rf"\textsuperscript{{{tex(sign)}}}" for sign in signs)
    colour = _COLOUR.get(entry.mark, "") if grid.style.marks == "colour" else ""
    colour = colour or ("gray" if gray else "")
    mark = entry.mark if grid.style.marks == "bold" else ""
    if grid.style.siunitx and _aligned(entry):
        return _siunitx(entry, mark, colour, raised)
    text = tex(entry.text) + (rf"\,$\pm$\,{tex(entry.spread)}" if entry.spread else "")
    text = _MARK[mark].format(text)
    if colour:
        text = rf"\textcolor{{{colour}}}{{{text}}}"
    return f"{{{text}{raised}}}" if grid.style.siunitx else text + raised


def _siunitx(entry: GridCell, mark: str, colour: str, raised: str) -> str:
    """A number that an S column aligns; its underline and signs take no room."""
    before = (rf"\color{{{colour}}}" if colour else "") + (r"\bfseries" if mark == "best" else "")
    number = entry.text + (f" +- {entry.spread}" if entry.spread else "")
    after = ""
    if mark == "second":
        whole = rf"{entry.text} \pm {entry.spread}" if entry.spread else entry.text
        after = rf"\llap{{\underline{{\phantom{{${whole}$}}}}}}"
    if raised:
        after += rf"\rlap{{{raised}}}"
    return f"{before} {number}{after}".strip()


def _aligned(entry: GridCell) -> bool:
    """Whether siunitx can align the number: plain decimals, and a spread of as many."""
    plain = re.fullmatch(r"[+-]?\d+(\.\d+)?", entry.text) is not None
    return plain and (not entry.spread or decimals_of(entry.spread) == decimals_of(entry.text))


def _number_column(grid: Grid, entries: list[GridCell | None]) -> str:
    """r, or an S column as wide as its numbers."""
    if not grid.style.siunitx:
        return "r"
    numbers = [entry for entry in entries if entry and entry.text and _aligned(entry)]
    if not numbers:
        return "c"
    signed = "-" if any(entry.text[0] in "+-" for entry in numbers) else ""
    whole = max(len(entry.text.lstrip("+-").partition(".")[0]) for entry in numbers)
    decimals = max(decimals_of(entry.text) for entry in numbers)
    digits = max((len(e.spread.replace(".", "").lstrip("0") or "0") for e in numbers if e.spread), default=0)
    spread = f"({max(digits, decimals, 1)})" if digits else ""
    return f"S[table-format={signed}{whole}.{decimals}{spread}]"


def _caption(table: TableContent, style: TableStyle, dataset: str | None, with_title: bool) -> str:
    """What the numbers are, and what their marks mean.

    Args:
        table: of all data sets, or of one.
        style: which marks it has.
        dataset: the one whose table it is; None for a table of all.
        with_title: whether it begins with the title.
    """
    parts = [table.title] if with_title else []
    if table.sample:
        parts.append(f"{table.protocol} on generated sample scenes (not a data set of the paper)")
    else:
        own = with_title and table.source == table.title  # a benchmark of your own has no paper to name
        parts.append(table.protocol if own else f"{table.source} ({table.protocol})")
    of = [dataset, table.blocks.get(dataset, [dataset])[0]] if dataset is not None else list(table.pairs)
    counts = [f"{name or 'all'}: {count}" for name, count in table.pairs.items() if name in of]
    if counts:
        parts.append(f"Pairs: {', '.join(counts)}")
    parts.append(f"Convention: {table.convention}")
    marked = MARKED[style.marks]
    if not table.measured:
        parts.append(f"Published values, {marked.replace(', ', ' and ')} where the paper's marks are known")
    elif any(cell.status == "published" for cell in table.cells):
        parts.append(f"Black: measured. Gray: published. {marked.capitalize()}")
    elif any(cell.published for cell in table.cells):
        parts.append(
            f"Black: measured, {marked.replace('best', 'best of them')}. Gray: published, as the paper marks them"
        )
    else:
        parts.append(marked.capitalize())
    if any(cell.status == "other data" for cell in table.cells):
        parts.append("* not comparable with the published value: measured on other data or another machine")
    return ". ".join([*parts, *filter(None, [table.note.rstrip(".")])]) + "."


def _reasons(table: TableContent, printed: bool) -> Iterable[str]:
    """`methods, block: reason` of the missing values that show the published number, or of those that show a dash."""
    methods: dict[tuple[str, str], dict[str, None]] = {}
    for cell in table.cells:
        if cell.value is None and cell.reason and (cell.published is not None) == printed:
            methods.setdefault((cell.dataset, cell.reason), {})[cell.method] = None
    for (block, reason), who in methods.items():
        yield f"{', '.join(who)}{f' on {block}' if block else ''}: {reason}"


_MARK = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "": "{}"}
