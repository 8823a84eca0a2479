"""The forms that tables are typed in, CSV, TSV, `;`, Markdown and LaTeX tabular, as rows of cells: text -> rows."""

from __future__ import annotations

import csv
import html
import io
import re
from dataclasses import dataclass

from evalkit.errors import DataError

MAX_CELLS = 200_000  # the longest shipped table has 300
MAX_SPAN = 1000  # columns or rows that one cell may span
MAX_CELL = 4000  # characters
BEST_COLOUR, SECOND_COLOUR = "red", "blue"  # as the papers of this field colour them


@dataclass(frozen=True)
class SheetCell:
    """A cell without its markup; `mark` is best (bold, red), second (underlined, blue) or nothing."""

    text: str
    mark: str = ""


Sheet = list[list[SheetCell]]


def sheets(text: str, name: str) -> tuple[str, list[Sheet]]:
    """The form of a text and its tables. `name` is the file's, for the messages.

    Raises:
        DataError: the text is damaged or larger than the limits.
    """
    if re.search(r"\\begin\s*\{(?:tabular|array|longtable|tblr)", text) or re.search(r"&.*\\\\", text):
        form, tables = "LaTeX", _latex(text, name)
    elif re.search(r"(?m)^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$", text) and "|" in text:
        form, tables = "Markdown", [_markdown(text, name)]
    else:
        first = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = "\t" if "\t" in first else ";" if ";" in first else ","
        form, tables = {"\t": "TSV", ";": "; CSV", ",": "CSV"}[delimiter], [_delimited(text, delimiter, name)]
    return form, [sheet for sheet in tables if sheet]


def _limited(sheet: Sheet, name: str) -> Sheet:
    if sum(map(len, sheet)) > MAX_CELLS:
        raise DataError(f"{name} has more than {MAX_CELLS} cells. Give one table per file.")
    return sheet


def _delimited(text: str, delimiter: str, name: str) -> Sheet:
    lines = csv.reader(io.StringIO(text), delimiter=delimiter)
    rows: Sheet = []
    try:
        for fields in lines:
            if any(field.strip() for field in fields):
                rows.append([_marked_down(field, name) for field in fields])
    except csv.Error as error:
        raise DataError(f"{name}, line {lines.line_num}: this is not a CSV table ({error}).") from None
    width = len(rows[0]) if rows else 0
    for number, row in enumerate(rows[1:], 2):
        if len(row) != width:
            cure = f"A {delimiter!r} inside a cell needs quotes around the cell."
            raise DataError(f"{name}, row {number}: {len(row)} cells, expected {width}. {cure}")
    return _limited(rows, name)


_RULE = re.compile(r"[\s|:-]*-[\s|:-]*")


def _markdown(text: str, name: str) -> Sheet:
    lines = [line.strip() for line in text.splitlines() if "|" in line]
    rows = [re.split(r"(?<!\\)\|", re.sub(r"(?<!\\)\|$", "", line.removeprefix("|"))) for line in lines]
    kept = [row for line, row in zip(lines, rows, strict=True) if not (_RULE.fullmatch(line) and "--" in line)]
    return _limited([[_marked_down(field.replace("\\|", "|"), name) for field in row] for row in kept], name)


def _marked_down(field: str, name: str) -> SheetCell:
    """A cell with the marks of Markdown and HTML read and taken away."""
    text, mark = _short(field, name), ""
    if re.search(r"(?i)<(?:b|strong)>|\*\*[^*]+\*\*|__[^_]+__", text) or _coloured(text, BEST_COLOUR):
        mark = "best"
    elif re.search(r"(?i)<u>", text) or _coloured(text, SECOND_COLOUR):
        mark = "second"
    text = re.sub(r"(?i)<br\s*/?>", " ", text)
    text = html.unescape(re.sub(r"(?i)</?(?:b|strong|u|i|em|span|font|sub|sup|mark|small)\b[^<>]*>", "", text))
    text = re.sub(r"\*\*([^*]+)\*\*", r"\1", text)
    text = re.sub(r"__([^_]+)__", r"\1", text)
    inner = _plain(text) if "\\" in text or "$" in text else SheetCell(text)
    return SheetCell(re.sub(r"\\([*_|<>])", r"\1", " ".join(inner.text.split())), mark or inner.mark)


def _coloured(text: str, colour: str) -> bool:
    return bool(re.search(rf"(?i)color\s*[:=]\s*['\"]?\s*{colour}", text))


def _short(field: str, name: str) -> str:
    if len(field) > MAX_CELL:
        raise DataError(f"{name}: a cell of {len(field)} characters, more than the limit of {MAX_CELL}.")
    return field.strip()


# --- LaTeX

_RULES = re.compile(
    r"\\(?:toprule|midrule|bottomrule|hline|hdashline|addlinespace|noalign|specialrule)\b(?:\s*\[[^\]]*\])?"
    r"|\\(?:cmidrule|cline|Xcline)\s*(?:\[[^\]]*\])?\s*(?:\([^)]*\))?\s*\{[^{}]*\}|\\rowcolor\s*(?:\[[^\]]*\])?\{[^{}]*\}"
)
_BEGIN = re.compile(r"\\begin\s*\{(tabular\*?|tabularx|tabulary|array|longtable|tblr)\}")
_SYMBOLS = {
    r"\uparrow": "↑", r"\downarrow": "↓", r"\Uparrow": "↑", r"\Downarrow": "↓", r"\pm": "±", r"\times": "×",
    r"\cdot": "·", r"\dagger": "†", r"\ddagger": "‡", r"\dag": "†", r"\ddag": "‡", r"\ast": "*", r"\star": "*",
    r"\alpha": "α", r"\beta": "β", r"\Delta": "Δ", r"\textendash": "–", r"\textemdash": "—", r"\textuparrow": "↑",
    r"\textdownarrow": "↓",
}  # fmt: skip


def _latex(text: str, name: str) -> list[Sheet]:
    text = re.sub(r"(?m)(?<!\\)%.*$", "", text)
    bodies = []
    for begin in _BEGIN.finditer(text):
        start = begin.end()
        # arguments: [pos], {width} of the forms that have one, {columns}
        for _ in range(2 if begin[1] in ("tabular*", "tabularx", "tabulary") else 1):
            start = _after_argument(text, start)
        end = text.find(f"\\end{{{begin[1]}}}", start)
        if end < 0:
            raise DataError(f"{name}: \\begin{{{begin[1]}}} has no \\end{{{begin[1]}}}.")
        bodies.append(text[start:end])
    return [_limited(_tabular(body, name), name) for body in bodies or [text]]


def _after_argument(text: str, start: int) -> int:
    """The place behind an optional [..] and one {..}."""
    option = re.compile(r"\s*\[[^\]]*\]").match(text, start)
    start = option.end() if option else start
    depth = 0
    for place in range(start, min(len(text), start + MAX_CELL)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0 and text[place] == "}":
            return place + 1
        if depth == 0 and not text[place].isspace():
            return start
    return start


def _tabular(body: str, name: str) -> Sheet:
    rows: Sheet = []
    down: dict[int, tuple[int, SheetCell]] = {}  # column -> rows that a cell above still spans, and that cell
    body = _RULES.sub(" ", body)
    for line in _split(body, "\\\\"):
        line = re.sub(r"^\s*\[[^\]]*\]|^\s*\*", "", line)
        if not line.strip():
            continue
        row: list[SheetCell] = []
        for field in _split(line, "&"):
            field = _short(field, name)
            span, spec = 1, re.match(r"\\multicolumn\s*\{\s*(\d{1,4})\s*\}\s*\{(?:[^{}]|\{[^{}]*\})*\}\s*", field)
            if spec:
                span, field = _span(spec[1], name), field[spec.end() :]
            deep = re.match(r"\{?\s*\\multirow\s*(?:\[[^\]]*\])?\s*\{\s*(-?\d{1,4})\s*\}\s*(?:\[[^\]]*\])?"
                            r"\s*(?:\{[^{}]*\}|\*)\s*(?:\[[^\]]*\])?\s*", field)  # fmt: skip
            field = field[deep.end() :] if deep else field
            cell = _plain(field)
            column = len(row)
            if not deep and not cell.text and column in down:
                cell = down[column][1]
            if deep and int(deep[1]) > 1:
                for offset in range(span):
                    down[column + offset] = (_span(deep[1], name), cell)
            row += [cell] * span
        down = {column: (left - 1, cell) for column, (left, cell) in down.items() if left > 1}
        rows.append(row)
        if sum(map(len, rows[-2:])) > MAX_CELLS:
            _limited(rows, name)
    return rows


def _span(digits: str, name: str) -> int:
    if not 1 <= int(digits) <= MAX_SPAN:
        raise DataError(f"{name}: a cell that spans {digits} columns or rows; the limit is {MAX_SPAN}.")
    return int(digits)


def _split(text: str, separator: str) -> list[str]:
    """Parts of a text at a separator that stands outside braces and is not escaped."""
    parts, start, depth, place = [], 0, 0, 0
    while place < len(text):
        if depth == 0 and text.startswith(separator, place):
            parts.append(text[start:place])
            place += len(separator)
            start = place
        elif text[place] == "\\":
            place += 2
        else:
            depth = max(0, depth + {"{": 1, "}": -1}.get(text[place], 0))
            place += 1
    return [*parts, text[start:]]


_BOLD = re.compile(r"\\(?:textbf|mathbf|boldsymbol|bm|pmb)\s*\{([^{}]*)\}|\\(?:bfseries|bf|boldmath)\b")
_UNDER = re.compile(r"\\(?:underline|uline|ul)\s*\{([^{}]*)\}")
_COLOUR = re.compile(r"\\(?:textcolor|color|cellcolor|colorbox)\s*(?:\[[^\]]*\])?\s*\{\s*([A-Za-z]*)[^{}]*\}")
_DROPPED = re.compile(
    r"\\(?:cite[a-z]*|ref|label|footnote(?:mark)?|[hv]?phantom|vspace|hspace|fontsize)\*?\s*(?:\[[^\]]*\])?\{[^{}]*\}"
)
_COMMAND = re.compile(r"\\[a-zA-Z]+\*?\s*(?:\[[^\]]*\])?\s*\{([^{}]*)\}")


def _plain(text: str) -> SheetCell:
    """A LaTeX cell as plain text with its mark."""
    mark = ""
    text = text.replace(r"\{", "(").replace(r"\}", ")").replace("\\\\", " ")
    for escaped in "%&#$_":
        text = text.replace(f"\\{escaped}", {"$": ""}.get(escaped, escaped if escaped != "_" else "\0"))
    for command, symbol in _SYMBOLS.items():
        text = re.sub(re.escape(command) + r"(?![A-Za-z])", symbol, text)
    for _ in range(MAX_CELL):
        before = text
        for colour in _COLOUR.findall(text):
            mark = {BEST_COLOUR: "best", SECOND_COLOUR: "second"}.get(colour.casefold(), mark)
        text = _DROPPED.sub("", _COLOUR.sub("", text))
        if _BOLD.search(text):
            mark, text = "best", _BOLD.sub(lambda match: match[1] or "", text)
        if _UNDER.search(text):
            mark, text = mark or "second", _UNDER.sub(r"\1", text)
        text = _COMMAND.sub(r"\1", text)
        text = re.sub(r"\{([^{}]*)\}", r"\1", text)
        if text == before:
            break
    text = re.sub(r"\\[,;:! ]|~", " ", text)
    text = re.sub(r"\\[a-zA-Z]+", " ", text)
    text = re.sub(r"[{}$^\\]", "", text).replace("---", "—").replace("--", "–").replace("\0", "_")
    return SheetCell(" ".join(text.split()), mark)
