"""A reader's own table, in whatever form, as published rows, with a sentence for everything that is not understood."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from evalkit.errors import DataError
from evalkit.metrics.card import DEFINITIONS
from evalkit.metrics.registry import COST_BETTER, column_card
from evalkit.protocols.table.forms import Sheet, SheetCell, sheets
from evalkit.protocols.table.published import LONGEST, MARKS, PublishedRow, decimals_of, is_number

SUFFIXES = (".csv", ".tsv", ".tex", ".md", ".txt")  # of a reader's own table
MISSING = {"", "-", "–", "—", "−", "--", "---", "/", "\\", "n.a.", "n.a", "n/a", "na", "none", "nil", "..."}
AGGREGATES = {"mean", "average", "avg", "avg.", "all", "overall"}
LABELS = {
    "method": "method", "methods": "method", "model": "method", "models": "method", "algorithm": "method",
    "algorithms": "method", "approach": "method", "dataset": "dataset", "datasets": "dataset", "data set": "dataset",
    "data": "dataset", "variant": "variant", "backbone": "variant", "network": "variant", "detector": "variant",
    "segmenter": "variant", "class": "class", "category": "class", "metric": "metric", "metrics": "metric",
    "printed": "printed", "value": "printed", "mark": "mark", "note": "note",
}  # fmt: skip
RUN_COLUMNS = {"published", "difference", "images", "status", "reason", "convention"}  # of evalkit's own table.csv
MEAN = "mean"
DIGITS = 4  # decimals of a measured value, as evalkit's other exports print it


@dataclass
class TableRead:
    """Rows of a table in its order, the form it had, and what was not understood."""

    rows: list[PublishedRow]
    form: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ColumnPlace:
    """What a column of numbers is of."""

    metric: str
    class_: str = ""
    dataset: str = ""


def read_table(text: str, name: str) -> TableRead:
    """A table as people write them: long or wide CSV, TSV, `;`, Markdown, LaTeX, evalkit's own table.csv.

    Args:
        text: the file's content.
        name: the file's name, for the rows and the messages.

    Raises:
        DataError: the text holds no table, a number can be read in two ways, or a cell is there twice.
    """
    form, tables = sheets(text.removeprefix("\ufeff"), name)
    if not tables:
        raise DataError(f"{name} is empty: no table was found in it.")
    read = TableRead([], form)
    comma = _decimal_comma((cell.text for sheet in tables for row in sheet for cell in row), form, name)
    for sheet in tables:
        width = max(map(len, sheet))
        sheet = [row + [SheetCell("")] * (width - len(row)) for row in sheet]
        heads = [_label(cell.text) for cell in sheet[0]]
        if "metric" in heads and "method" in heads and "printed" in heads:
            _long(sheet, heads, comma, name, read)
        else:
            _wide(sheet, comma, name, read)
    seen: set[tuple[str, str, str]] = set()
    for row in read.rows:
        if row.key in seen:
            raise DataError(f"{name}: {', '.join(filter(None, row.key))} is there twice.")
        seen.add(row.key)
    return read


def _label(text: str) -> str:
    return LABELS.get(text.strip().strip(":").casefold(), "")


# --- numbers


def _decimal_comma(texts: Iterable[str], form: str, name: str) -> bool:
    """Whether a comma is the decimal sign. Raises DataError where the table does not tell."""
    doubtful = ""
    dot = False
    for text in texts:
        if re.search(r"[^\W\d]{2}", text):
            continue  # a name
        for number in re.findall(r"[.,]?\d[\d.,]*", text):
            number = number.rstrip(".,")
            if "," in number and number.rfind(".") < number.rfind(",") and "." in number:
                return True  # 1.234,5
            if "." in number:
                dot = True
            elif "," in number and not re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+", number):
                if re.fullmatch(r"\d*,\d+", number):
                    return True
            elif "," in number:
                doubtful = doubtful or number
    if doubtful and not dot:
        if form == "; CSV":
            return True
        raise DataError(
            f"{name}: {doubtful!r} may be {doubtful.replace(',', '')} or {doubtful.replace(',', '.', 1)}, and no other "
            "number of the table tells. Write a decimal point and no thousands separator."
        )
    return False


def printed_number(text: str, comma: bool = False) -> tuple[str, str] | None:
    """A number and its spread as printed, e.g. ("7.12", "0.3") for "7,12 ± 0,3 %"; ("", "") for a missing one.

    None for what is not a number.
    """
    text = re.sub(r"[↑↓†‡*§]|\s*%$|\s*dB$", "", text.strip()).strip()
    if text.casefold() in MISSING:
        return "", ""
    text = text.replace("−", "-").replace("\u202f", "").replace("\u2009", "").replace("\xa0", " ")
    if comma:
        text = re.sub(r"(?<=\d)\.(?=\d{3}(?:\D|$))", "", text).replace(",", ".")
    else:
        text = re.sub(r"(?<=\d),(?=\d{3}(?:\D|$))", "", text)
    text = re.sub(r"\s*[x×·]\s*10\s*\^?\s*", "e", text)
    value, _, spread = re.sub(r"\+/?-", "±", text).partition("±")
    value, spread = value.strip().rstrip("%").strip(), spread.strip().rstrip("%").strip()
    value = re.sub(r"\s*\((?:=|[+-]?[\d.]+)\)$", "", value)  # evalkit's difference, or a rank
    if not is_number(value) or (spread and not is_number(spread)):
        return None
    return value, spread


# --- names of columns


def metric_name(text: str) -> str | None:
    """The metric that a heading means, e.g. Qabf for "Q^{AB/F} ↑", PSNR for "PSNR (dB)"; None where it is none."""
    bare = re.sub("[↑↓†‡*]", "", text).strip()
    if bare in DEFINITIONS:  # a convention of its own: another column than the metric's
        return bare
    text = re.sub(r"[↑↓†‡*]|\((?:[^()]*)\)|\[(?!\.?5)[^\]]*\]|%", " ", text)
    text = re.sub(r"[\^{}$\\]", "", " ".join(text.split()))
    if not text or len(text) > LONGEST:
        return None
    low = text.casefold()
    cost = {"parameters": "Params", "param": "Params", "gflops": "FLOPs", "runtime": "Time", "running time": "Time"}
    for name in COST_BETTER:
        if low in (name.casefold(), f"#{name.casefold()}"):
            return name
    if low in cost:
        return cost[low]
    if low.endswith(" std"):
        inner = metric_name(text[:-4])
        return None if inner is None else f"{inner} std"
    precision = re.fullmatch(r"(m?)ap\s*[_@]?\s*\[?(?:0?\.)?5(?:0)?(\s*[:-]\s*(?:0?\.)?95)?\]?", low)
    if precision:
        return f"{precision[1]}AP50{':95' if precision[2] else ''}"
    for spelled in (text, text.replace(" ", "-"), re.sub(r"[\s/_.-]", "", text)):
        card = column_card(spelled)
        if card is not None:
            return card.name if card.name.casefold() == spelled.casefold() else spelled.upper()
    return None


def _per_class(metric: str) -> bool:
    card = column_card(metric)
    return card is not None and card.task in ("segmentation", "detection")


def _place(heads: list[str], headings: list[list[str]]) -> ColumnPlace | None:
    """What a stack of headings means; `headings` are the stacks of all columns."""
    stack = list(dict.fromkeys(text for text in heads if text))
    for text in reversed(stack):
        metric = metric_name(text)
        if metric is not None:
            rest = " ".join(other for other in stack if other != text)
            if metric in ("mIoU", "mAcc", "mAP50", "mAP50:95") and not rest and _has_classes(headings):
                return ColumnPlace(metric[1:], MEAN)
            if rest and _per_class(metric):
                tops = {other.casefold() for column in headings for other in column}
                below = stack.index(text) < len(stack) - 1
                if below or tops & AGGREGATES:
                    return ColumnPlace(metric, MEAN if rest.casefold() in AGGREGATES else rest)
            return ColumnPlace(metric, "", rest)
        first, _, last = text.rpartition(" ")
        metric = metric_name(last) if first else None
        if metric is not None and _per_class(metric):
            rest = " ".join(other for other in stack if other != text)
            return ColumnPlace(metric, MEAN if first.casefold() in AGGREGATES else first, rest)
    return None


def _has_classes(headings: list[list[str]]) -> bool:
    return any(not any(metric_name(t) or metric_name(t.rpartition(" ")[2]) for t in c if t) for c in headings if any(c))


# --- a line per number


def _long(sheet: Sheet, heads: list[str], comma: bool, name: str, read: TableRead) -> None:
    own = {cell.text.strip().casefold() for cell in sheet[0]} & RUN_COLUMNS
    if twice := [head for head, count in Counter(h for h in heads if h).items() if count > 1]:
        raise DataError(f"{name}, line 1: the column {twice[0]} is there more than once.")
    unknown = [c.text for c, h in zip(sheet[0], heads, strict=True) if not h and c.text.casefold() not in RUN_COLUMNS]
    read.notes += [f"column {text!r} was not understood and is left out" for text in unknown]
    odd: Counter[str] = Counter()
    for number, row in enumerate(sheet[1:], 2):
        cells = {head: cell for head, cell in zip(heads, row, strict=True) if head}
        where = f"{name}, row {number}"
        method, metric_text = cells["method"].text, cells["metric"].text
        if not method or not metric_text:
            raise DataError(f"{where}: the {'metric' if method else 'method'} is empty.")
        value = printed_number(cells["printed"].text, comma)
        if value is None:
            cure = "Write it with a decimal point; leave the cell empty where there is none."
            raise DataError(f"{where}: {cells['printed'].text!r} is not a number. {cure}")
        printed, spread = value
        if len(own) >= 3 and printed:
            published = next((c.text for c, h in zip(row, sheet[0], strict=True) if h.text == "published"), "")
            printed = f"{float(printed):.{max(DIGITS, decimals_of(published) if is_number(published) else 0)}f}"
        mark = cells["mark"].text.casefold() if "mark" in cells else cells["printed"].mark
        if mark not in MARKS:
            raise DataError(f"{where}: the mark is {mark!r}, expected best, second or nothing.")
        class_ = cells["class"].text if "class" in cells else ""
        class_ = MEAN if class_.casefold() in AGGREGATES else class_
        place = _place([metric_text], [])
        if place is None:
            odd[metric_text] += 1
            place = ColumnPlace(metric_text)
        class_ = class_ or place.class_
        dataset, _, inside = (cells["dataset"].text if "dataset" in cells else "").partition(" · ")
        variant = cells["variant"].text if "variant" in cells else inside
        note = cells["note"].text if "note" in cells else ""
        _add(read, name, dataset, variant, method, class_, place.metric, (printed, spread), mark, note)
    read.notes += [f"metric {text!r} is not one that evalkit knows: its range is not checked" for text in odd]


def _add(
    read: TableRead, name: str, dataset: str, variant: str, method: str, class_: str, metric: str,
    value: tuple[str, str], mark: str, note: str = "",
) -> None:  # fmt: skip
    protocol = name.removesuffix(".csv")
    read.rows.append(PublishedRow(protocol, dataset, variant, method, class_, metric, value[0], mark, note))
    if value[1]:
        read.rows.append(PublishedRow(protocol, dataset, variant, method, class_, f"{metric} std", value[1]))


# --- a line per method


def _wide(sheet: Sheet, comma: bool, name: str, read: TableRead) -> None:
    def numeric(cell: SheetCell) -> bool:
        value = printed_number(cell.text, comma)
        return value is not None and value[0] != ""

    first = next((i for i, row in enumerate(sheet) if any(map(numeric, row))), None)
    if not first:
        lines = "no line of numbers" if first is None else "no line of headings above the numbers"
        raise DataError(f"{name} is not understood: it has {lines}. Give a line of metrics and a line per method.")
    headings = [[row[i].text for row in sheet[:first]] for i in range(len(sheet[0]))]
    body = sheet[first:]
    metrics = [any(metric_name(t) or metric_name(t.rpartition(" ")[2]) for t in column if t) for column in headings]
    if not any(metrics) and sum(metric_name(row[0].text) is not None for row in body) * 2 >= len(body):
        _wide([list(column) for column in zip(*sheet, strict=True)], comma, name, read)
        return
    labels: dict[int, str] = {}
    places: dict[int, ColumnPlace] = {}
    aggregate = None
    for i, column in enumerate(headings):
        label = next((_label(text) for text in reversed(column) if _label(text)), "")
        filled = [row[i] for row in body if row[i].text]
        if label in ("method", "dataset", "variant", "class"):
            labels[i] = label
        elif filled and not any(map(numeric, filled)) and printed_number(filled[0].text, comma) is None:
            labels[i] = "" if "method" in labels.values() else "method"
        elif (place := _place(column, headings)) is not None:
            places[i] = place
            aggregate = place.metric if place.class_ == MEAN else aggregate
    if "method" not in labels.values():
        unread = next((i for i in range(len(headings)) if i not in places and not labels.get(i)), None)
        if unread is None:
            raise DataError(f"{name} is not understood: no column holds the methods. Head it with Method.")
        labels[unread] = "method"
    for i, column in enumerate(headings):
        text = " ".join(dict.fromkeys(t for t in column if t))
        if i in places or labels.get(i):
            continue
        if aggregate and i not in labels and text:
            places[i] = ColumnPlace(aggregate, text)
        elif text or any(row[i].text for row in body):
            read.notes.append(f"column {text or i + 1!r} was not understood and is left out")
    if not places:
        raise DataError(f"{name}: none of its columns is a metric that evalkit knows ({', '.join(read.notes) or '-'}).")
    _lines(body, labels, dict(sorted(places.items())), comma, name, read)


def _lines(
    body: Sheet, labels: dict[int, str], places: dict[int, ColumnPlace], comma: bool, name: str, read: TableRead
) -> None:
    by_label = {label: i for i, label in labels.items() if label}
    section, method = "", ""
    for row in body:
        texts = {cell.text for cell in row if cell.text}
        if len(texts) == 1 and all(printed_number(text, comma) is None for text in texts):
            if (all(not row[i].text for i in places) and row[by_label["method"]].text == "") or len(row) == 1:
                section = texts.pop()
                continue
            if all(row[i].text in ("", *texts) for i in places):
                section = texts.pop()
                continue
        said = {label: row[i].text for label, i in by_label.items()}
        method = said["method"] or method  # an empty one is that of the line above
        if not method:
            raise DataError(f"{name}: a line of numbers without a method.")
        for i, place in places.items():
            value = printed_number(row[i].text, comma)
            if value is None:
                read.notes.append(f"{method}, {place.class_} {place.metric}: {row[i].text!r} is not a number, left out")
                continue
            if value[0] and not math.isfinite(float(value[0])):
                continue
            dataset = said.get("dataset") or place.dataset or section
            _add(read, name, dataset, said.get("variant", ""), method, place.class_ or said.get("class", ""),
                 place.metric, value, row[i].mark if value[0] else "")  # fmt: skip
