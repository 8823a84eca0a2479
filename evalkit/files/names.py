"""Names from outside, made harmless where they are shown: spreadsheets, file names, terminals."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

LONGEST = 100  # bytes of a name as a file name, of which two are joined; file systems take 255
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a cell that begins so
_MARKS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # turn text around


def to_cell(text: str) -> str:
    """A text for a CSV file: one that a spreadsheet would run as a formula gets an apostrophe; see `from_cell`."""
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def from_cell(text: str) -> str:
    """The text that `to_cell` was given."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text


def file_name(name: str) -> str:
    """A name as the name of one file or folder: "w/o Mask" is w-o Mask; never a path, never a hidden file.

    A name of more than LONGEST bytes is cut and gets a hash in place of the rest, so that two of them still differ.
    """
    plain = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f]', "-", name)
    encoded = plain.encode(errors="surrogatepass")
    if len(encoded) > LONGEST:
        plain = f"{encoded[: LONGEST - 9].decode(errors='ignore')}-{hashlib.sha256(encoded).hexdigest()[:8]}"
    return f"-{plain[1:]}" if plain.startswith(".") else plain


def odd_character(name: str) -> str:
    """What a name must not hold, in words: it would break lines, hide letters or not be written; empty if nothing."""
    for c in name:
        if unicodedata.category(c) == "Cs":
            return "bytes that are no UTF-8"
        if unicodedata.category(c) in ("Cc", "Zl", "Zp"):
            return f"the control character {c!r}"
        if c in _MARKS:
            return f"the invisible mark U+{ord(c):04X}"
    return ""


def odd_name(name: str) -> str:
    """What keeps a text from naming a method or a data set, in words: what nobody sees would tell two of them apart;
    empty if nothing.
    """
    if odd := odd_character(name):
        return odd
    for c in name:
        if unicodedata.category(c) == "Cf" or (unicodedata.category(c) == "Zs" and c != " "):
            return f"the invisible character U+{ord(c):04X}"
    return "a blank at its end" if name != name.strip() else ""


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two names that share a folder, or look alike: by compatibility characters (NFKC) or by case."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(look(name), name)
        if first != name:
            return first, name
    return None


def look(name: str) -> str:
    """What is the same for two names that `alike` finds."""
    return unicodedata.normalize("NFKC", file_name(unicodedata.normalize("NFKC", name)).casefold())


def printable(text: str) -> str:
    """A text for a terminal: what could move its cursor or cannot be encoded is written out, as \\x1b."""
    return "".join(c if c in "\n\t" or not odd_character(c) else ascii(c)[1:-1] for c in text)


def code_span(text: str) -> str:
    """A text as code in Markdown, also in a cell of a table: nothing in it is a mark, a link or a mention."""
    plain = " ".join(printable(text).split())
    fence = "`" * (1 + max([0, *map(len, re.findall("`+", plain))]))
    pad = " " if plain[:1] == "`" or plain[-1:] == "`" else ""
    return fence + pad + plain.replace("|", r"\|") + pad + fence


def several(names: Iterable[str] | str | None) -> Iterable[str] | None:
    """One name as a list of it: a text is not a list of its letters."""
    return [names] if isinstance(names, str) else names
