"""LaTeX of a table in the arrangement of its paper: a header of several levels, row groups, booktabs rules."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from evalkit.protocols.table.cells import AXES, Cell, Column, TableContent
from evalkit.protocols.table.published import decimals_of

Key = tuple[str, ...]
DEFAULT = {"rows": ["method"], "header": ["dataset", "metric"]}
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # never wider than the page
PREAMBLE = r"\usepackage{booktabs,graphicx,xcolor} and \usepackage[T1]{fontenc}"
SPREAD = " std"  # the metric "EN std" is the spread of the mean EN: one cell, 6.71 ± 0.42


class _Grid:
    """The cells by row key and column key, and both keys in the order of the paper."""

    def __init__(self, table: TableContent) -> None:
        self.table = table
        self.columns = {column.name: column for column in table.columns}
        self.order: dict[str, dict[str, int]] = {axis: {} for axis in AXES}
        for dataset, variant in table.blocks.values():
            self._place("dataset", dataset)
            self._place("variant", variant)
        for column in table.columns:
            self._place("class", column.class_)
            self._place("metric", column.metric)
        for cell in table.cells:
            for axis in AXES:
                self._place(axis, self.value(cell, axis))
        self.rows, self.header = self._axes()
        self.cells = {(self.key(cell, self.rows), self.key(cell, self.header)): cell for cell in table.cells}
        self.row_keys = self._sorted((row for row, _ in self.cells), self.rows)
        metric = self.header.index("metric") if "metric" in self.header else None
        shown = (key for _, key in self.cells if metric is None or not key[metric].endswith(SPREAD))
        self.column_keys = self._sorted(shown, self.header)

    def _place(self, axis: str, value: str) -> None:
        self.order[axis].setdefault(value, len(self.order[axis]))

    def value(self, cell: Cell, axis: str) -> str:
        """Where a cell stands on an axis."""
        dataset, variant = self.table.blocks.get(cell.dataset, [cell.dataset, ""])
        column = self.columns[cell.metric]
        values = {"dataset": dataset, "variant": variant, "class": column.class_, "metric": column.metric}
        return values.get(axis, cell.method)

    def key(self, cell: Cell, axes: list[str]) -> Key:
        return tuple(self.value(cell, axis) for axis in axes)

    def spread(self, row: Key, column: Key) -> Cell | None:
        """The cell that holds the spread of the mean in this cell."""
        if "metric" not in self.header:
            return None
        at = self.header.index("metric")
        return self.cells.get((row, (*column[:at], column[at] + SPREAD, *column[at + 1 :])))

    def _axes(self) -> tuple[list[str], list[str]]:
        """The paper's axes that have a name to show; one that it leaves out comes on top where cells need it."""
        layout = self.table.layout or DEFAULT
        values = {axis: {self.value(cell, axis) for cell in self.table.cells} for axis in AXES}
        rows, header = ([axis for axis in layout[part] if values[axis] != {""}] for part in ("rows", "header"))
        for axis in AXES:
            keys = {self.key(cell, rows + header) for cell in self.table.cells}
            if len(keys) < len(self.table.cells) and axis not in rows + header and len(values[axis]) > 1:
                header.insert(0, axis)
        return rows, header

    def _sorted(self, keys: Iterable[Key], axes: list[str]) -> list[Key]:
        return sorted(
            set(keys), key=lambda key: [self.order[axis][value] for axis, value in zip(axes, key, strict=True)]
        )


def to_latex(table: TableContent) -> str:
    """A booktabs table as the paper arranges it: measured values where there are any, the published ones elsewhere.

    Measured values stand in black, published ones in gray; a table without measured values is black. The packages it
    needs are named in its first lines.
    """
    grid = _Grid(table)
    stub, width = len(grid.rows), len(grid.column_keys)
    lines = [rf"\begin{{tabular}}{{{'l' * stub}{'r' * width}}}", r"\toprule", *_header(grid), r"\midrule"]
    for i, row in enumerate(grid.row_keys):
        above = grid.row_keys[i - 1] if i else ()
        if i and stub > 1 and row[0] != above[0]:
            lines.append(r"\midrule")
        names = [
            _label(grid, axis, row[j]) if row[: j + 1] != above[: j + 1] else "" for j, axis in enumerate(grid.rows)
        ]
        if names and names[0].startswith(("[", "*")):  # after \\ they would be an option of it
            names[0] = "{}" + names[0]
        lines.append(" & ".join(names + [_entry(grid, row, column) for column in grid.column_keys]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    body = [
        f"% {_comment(table.citation)}",
        f"% needs {PREAMBLE}",
        *(f"% not measured: {_comment(line)}" for line in _reasons(table, printed=True)),
        r"\begin{table*}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_tex(_caption(table))}}}",
        FIT,
        *lines[:-1],
        lines[-1] + "}",
    ]
    if notes := list(_reasons(table, printed=False)):
        body.append(r"\par\smallskip\raggedright\scriptsize " + r"\\ ".join(f"-- {_tex(note)}" for note in notes))
    return "\n".join([*body, r"\end{table*}"]) + "\n"


def _header(grid: _Grid) -> list[str]:
    """A line per level; labels of outer levels span their columns, with a rule below."""
    lines, stub = [], len(grid.rows)
    for level, axis in enumerate(grid.header):
        last = level == len(grid.header) - 1
        names = [_TITLE[axis] if last else "" for axis in grid.rows]
        rules, at = [], stub + 1
        for key, group in groupby(grid.column_keys, key=lambda key: key[: level + 1]):
            span = len(list(group))
            label = _label(grid, axis, key[-1])
            names.append(label if last else rf"\multicolumn{{{span}}}{{c}}{{{label}}}")
            if label and not last:
                rules.append(rf"\cmidrule(lr){{{at}-{at + span - 1}}}")
            at += span
        lines.append(" & ".join(names) + r" \\" + " ".join(["", *rules]))
    return lines


def _label(grid: _Grid, axis: str, value: str) -> str:
    """A name on an axis; a metric with its unit and arrow."""
    if axis != "metric":
        return _tex(value)
    column = next((c for c in grid.table.columns if c.metric == value), None)
    if column is None or not value:
        return _tex(value)
    unit = f" ({column.unit})" if column.unit else ""
    return rf"{_tex(value + unit)} ${_ARROW[column.better]}$"


def _entry(grid: _Grid, row: Key, key: Key) -> str:
    """What stands in a cell: empty where the table has none there."""
    cell = grid.cells.get((row, key))
    if cell is None:
        return ""
    column = grid.columns[cell.metric]
    if cell.value is not None:
        text = _MARK[grid.table.marks(cell.dataset, column).get(cell.method, "")].format(_rounded(grid, cell, column))
        return text + "".join(rf"\textsuperscript{{{_tex(sign)}}}" for sign in [*cell.sign, *_other_data(cell)])
    if cell.published is None:
        return "--"
    spread = grid.spread(row, key)
    text = _tex(cell.published) + (rf"\,$\pm$\,{_tex(spread.published)}" if spread and spread.published else "")
    text = _MARK[cell.mark].format(text)
    return rf"\textcolor{{gray}}{{{text}}}" if grid.table.measured else text


def _rounded(grid: _Grid, cell: Cell, column: Column) -> str:
    """The measured value with as many digits as the paper prints in this column, four where it prints none."""
    printed = [c.published for c in grid.table.cells if c.metric == column.name and c.dataset == cell.dataset]
    digits = max((decimals_of(text) for text in printed if text), default=4)
    return f"{cell.value:.{digits}f}"


def _other_data(cell: Cell) -> list[str]:
    return ["*"] if cell.status == "other data" else []


def _caption(table: TableContent) -> str:
    parts = [table.title]
    if table.sample:
        parts.append(f"{table.protocol} on generated sample scenes (not a data set of the paper)")
    else:
        parts.append(f"{table.source} ({table.protocol})")
    counts = [f"{name or 'all'}: {count}" for name, count in table.pairs.items()]
    if counts:
        parts.append(f"Pairs: {', '.join(counts)}")
    parts.append(f"Convention: {table.convention}")
    published = any(cell.published for cell in table.cells)
    if not table.measured:
        parts.append("Published values, best in bold and second underlined where the paper's marks are known")
    elif published:
        parts.append(
            "Black: measured, best of them in bold, second underlined. Gray: published, as the paper marks them"
        )
    else:
        parts.append("Best in bold, second underlined")
    if any(cell.status == "other data" for cell in table.cells):
        parts.append("* not comparable with the published value: measured on other data or another machine")
    return ". ".join([*parts, *filter(None, [table.note])]) + "."


def _reasons(table: TableContent, printed: bool) -> Iterable[str]:
    """`methods, block: reason` of the missing values that show the published number, or of those that show a dash."""
    methods: dict[tuple[str, str], dict[str, None]] = {}
    for cell in table.cells:
        if cell.value is None and cell.reason and (cell.published is not None) == printed:
            methods.setdefault((cell.dataset, cell.reason), {})[cell.method] = None
    for (block, reason), who in methods.items():
        yield f"{', '.join(who)}{f' on {block}' if block else ''}: {reason}"


_TITLE = {"dataset": "Data set", "variant": "", "method": "Method", "class": "Class", "metric": "Metric"}
_ARROW = {"higher": r"\uparrow", "lower": r"\downarrow"}
_MARK = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "": "{}"}
_CHARACTERS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "–": "--",
    "·": r"\textperiodcentered{}", "→": r"$\rightarrow$", "Δ": r"$\Delta$", "±": r"$\pm$", "†": r"\dag{}",
    "‡": r"\ddag{}", "\n": " ",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_CHARACTERS.get(c, c) for c in text)


def _comment(text: str) -> str:
    return " ".join(text.split())
