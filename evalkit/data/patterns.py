"""Patterns of paths: results/{method}/{dataset}/{stem}_fused.png; which files they give, by stem."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from evalkit.data.images import SUFFIXES
from evalkit.errors import DataError, EvalkitError
from evalkit.files.names import file_name, odd_character

SYSTEM_FILES = {
    "thumbs.db",
    "desktop.ini",
    "__macosx",
    "icon\r",
}  # what file managers leave behind, not hidden by a dot
ANY = "**"
LONGEST, MOST_STARS, MOST_ANY = 4096, 3, 2  # a pattern may come from anyone: what it takes to follow it is bounded
_TOKEN = re.compile(r"(\{[^{}]*\}|\*+)")
_FIELD = re.compile(r"\{(stem|method|dataset)(?::0?([1-9]))?\}")
_HELP = (
    "Write {stem} where the name of the scene stands ({stem:05} for 00001), {method} and {dataset} for theirs, "
    "* for any text within a name and ** for any folders, e.g. 'results/{method}/{dataset}/{stem}_fused.png'."
)


class Field(NamedTuple):
    """What stands in braces. `digits` where not 0: a number with zeros in front, so many digits at least."""

    name: str
    digits: int = 0


class Star(NamedTuple):
    """Any characters within one part of a path."""


Token = str | Field | Star
Part = tuple[Token, ...]
Values = dict[str, str]  # field -> what stands for it


@dataclass(frozen=True)
class PathPattern:
    """A path with {stem}, {method}, {dataset}, * and **.

    An ending such as .png, in any case, gives files of that kind only; without one, images of every kind that evalkit
    reads. Where nothing of the exact spelling is there, names that differ in case alone are taken.

    Attributes:
        parts: tokens between the slashes; a part that is ANY stands for any folders, also none.
        suffix: the ending in lower case, or nothing.
    """

    parts: tuple[Part, ...]
    suffix: str = ""

    def __str__(self) -> str:
        return "/".join("".join(map(_written, part)) for part in self.parts) + self.suffix

    @property
    def fields(self) -> set[str]:
        """The names in braces."""
        return {token.name for part in self.parts for token in part if isinstance(token, Field)}

    def fill(self, **names: str) -> PathPattern:
        """The pattern with these fields replaced by texts, in which * and braces mean themselves, and which never name
        another folder's.
        """
        texts = {field: name if _is_one_part(name) else file_name(name) for field, name in names.items()}
        parts = tuple(
            tuple(texts.get(token.name, token) if isinstance(token, Field) else token for token in part)
            for part in self.parts
        )
        return PathPattern(parts, self.suffix)

    def stem(self, name: str) -> str | None:
        """The stem of a file's name, without its ending, by the last part; None for a name that it does not give.

        Raises:
            DataError: the name can be read in two ways.
        """
        values = _values(self.parts[-1], _nfc(name), {}, 0)
        return None if values is None else values["stem"]

    def listing(self, root: Path, suffixes: Collection[str] = SUFFIXES) -> tuple[dict[str, Path], int, int]:
        """The files below a folder by stem, and how many hidden and other files lie beside them.

        Args:
            root: the folder that the pattern is relative to.
            suffixes: lower-case endings that are taken where the pattern has none.

        Raises:
            DataError: a folder cannot be listed; two files have one stem; a name that has two readings, or a character
                that names must not have.
        """
        assert self.fields == {"stem"}, f"{self} is not filled"
        files: dict[str, Path] = {}
        hidden = other = 0
        taken = (self.suffix,) if self.suffix else tuple(suffixes)
        for folder, known in self._folders(root):
            names: dict[str, os.DirEntry[str]] = {}
            for entry in _entries(folder):
                if is_hidden(entry.name):
                    hidden += 1
                elif not entry.name.lower().endswith(taken) or not _is_file(entry):
                    other += 1
                else:
                    names[entry.name] = entry
            matched = _matching(self.parts[-1], {name: os.path.splitext(_nfc(name))[0] for name in names}, known)
            other += len(names) - len(matched)
            for name, values in matched.items():
                stem = values["stem"]
                if odd := odd_character(stem):
                    raise DataError(f"{folder} holds the file {name!a}, whose name has {odd}. Rename it.")
                if stem in files:
                    one, two = (os.path.relpath(path, root) for path in (files[stem], names[name].path))
                    raise DataError(f"{root} holds two files for {stem!r}: {one} and {two}. Remove one.")
                files[stem] = Path(names[name].path)
        return files, hidden, other

    def methods(self, root: Path) -> list[str]:
        """What {method} can stand for in the names of folders below `root`, in order; nothing where it is not in one.

        Raises:
            DataError: a folder cannot be listed, or its name can be read in two ways.
        """
        if not any(isinstance(token, Field) and token.name == "method" for part in self.parts[:-1] for token in part):
            return []
        return sorted({values["method"] for _, values in self._folders(root) if "method" in values})

    def holds_files(self, root: Path) -> bool:
        """Whether there is a file that the pattern gives, whatever its stem. Raises DataError as `listing`."""
        try:
            return bool(self.listing(root)[0])
        except DataError:  # two of one stem
            return True

    def _folders(self, root: Path) -> list[tuple[Path, Values]]:
        """The folders that the parts before the last give, with what stands for the fields in their names."""
        places: list[tuple[Path, Values]] = [(root, {})]
        for index, part in enumerate(self.parts[:-1]):
            if part == ("",) and index == 0:
                places = [(Path("/"), {})]
            elif part in (("",), (".",), ("..",)):
                places = [(folder / str(part[0]), values) for folder, values in places]
            elif part == (ANY,):
                every = {below: values for folder, values in places for below in _descend(folder)}
                places = list(every.items())  # two ways may lead to one folder
            else:
                places = [place for folder, values in places for place in _inside(folder, part, values)]
        return places


def parse_pattern(text: str) -> PathPattern:
    """A pattern as a user writes it; slashes divide it on every system.

    Raises:
        EvalkitError: no {stem}, an unknown or broken field, a control character, or ** that is not a whole part.
    """
    text = unicodedata.normalize("NFC", text).replace("\\", "/")
    if odd := odd_character(text):
        raise EvalkitError(f"{text!a} is not a pattern of file names: it holds {odd}.")
    suffix = next((s for s in (*SUFFIXES, ".txt", ".xml") if text.casefold().endswith(s)), "")
    pieces = text[: len(text) - len(suffix)].split("/")
    parts = tuple((ANY,) if piece == ANY else tuple(_tokens(piece, text)) or ("",) for piece in pieces)
    stars = max(sum(isinstance(token, Star) for token in part) for part in parts)
    if len(text) > LONGEST or parts.count((ANY,)) > MOST_ANY or stars > MOST_STARS:
        raise EvalkitError(
            f"the pattern {text[:60]!r} is too long a search: at most {MOST_STARS} * in a name, {MOST_ANY} ** and "
            f"{LONGEST} characters."
        )
    pattern = PathPattern(parts, suffix)
    if "stem" not in pattern.fields or parts[-1] in ((ANY,), ("",)):
        raise EvalkitError(f"{text!r} is not a pattern of file names: it has no {{stem}}. {_HELP}")
    return pattern


def split_folder(text: str) -> tuple[str, str]:
    """The folders in front of a pattern that are plain text, "." where there are none, and the rest.

    Example:
        >>> split_folder("thermal/night/{stem}_ir.png")
        ('thermal/night', '{stem}_ir.png')
    """
    parts = text.replace("\\", "/").split("/")
    plain = next((i for i, part in enumerate(parts) if re.search(r"\*|\{stem", part)), len(parts) - 1)
    return "/".join(parts[:plain]) or ("/" if plain else "."), "/".join(parts[plain:])


def _tokens(piece: str, text: str) -> Iterator[Token]:
    for token in filter(None, _TOKEN.split(piece)):
        field = _FIELD.fullmatch(token)
        if field:
            yield Field(field[1], int(field[2] or 0))
        elif token == "*":
            yield Star()
        elif token[0] in "{}*" or "{" in token or "}" in token:
            raise EvalkitError(f"{text!r} is not a pattern of file names: {token!r} is not understood. {_HELP}")
        else:
            yield token


def _written(token: Token) -> str:
    if isinstance(token, Star):
        return "*"
    if isinstance(token, Field):
        return f"{{{token.name}{f':0{token.digits}' if token.digits else ''}}}"
    return token


def _is_one_part(name: str) -> bool:
    return os.path.basename(name) == name and not name.startswith(".") and name != ANY


def _inside(folder: Path, part: Part, known: Values) -> Iterator[tuple[Path, Values]]:
    """The folders in a folder whose names a part gives."""
    plain = "".join(map(str, part)) if all(isinstance(token, str) for token in part) else ""
    if plain and os.path.isdir(folder / plain):  # not every folder on the way can be listed
        yield folder / plain, known
        return
    names = {entry.name: _nfc(entry.name) for entry in _entries(folder) if not is_hidden(entry.name) and _is_dir(entry)}
    for name, values in _matching(part, names, known).items():
        yield folder / name, values


def _matching(part: Part, names: Mapping[str, str], known: Values) -> dict[str, Values]:
    """Name -> what stands for the fields, of the names whose text fits; case counts where it decides."""
    for flags in (0, re.IGNORECASE):
        read = {name: _values(part, text, known, flags) for name, text in names.items()}
        fitting = {name: values for name, values in read.items() if values is not None}
        if fitting:
            return fitting
    return {}


def _values(part: Part, name: str, known: Values, flags: int) -> Values | None:
    """What stands for the fields, those known among them; None for a name that does not fit."""
    readings: list[Values] = []
    for star, field in (("*?", "+?"), ("*", "+?"), ("*?", "+"), ("*", "+")):
        match = _regex(part, tuple(known.items()), star, field, flags).fullmatch(name)
        if match is None:
            return None
        if match.groupdict() not in readings:
            readings.append(match.groupdict())
    if len(readings) > 1:
        field = next(field for field, value in readings[0].items() if readings[1][field] != value)
        two = " or ".join(sorted({reading[field] for reading in readings})[:2])
        pattern = "".join(map(_written, part))
        raise DataError(f"{name!r} can be read as {pattern} in two ways: its {field} is {two}. Write more of it out.")
    values = readings[0]
    digits = next((token.digits for token in part if isinstance(token, Field) and token.digits), 0)
    if digits and "stem" in values:
        padded = values["stem"]
        values["stem"] = padded.lstrip("0") or "0"
        if not (padded.isascii() and padded.isdecimal() and padded == values["stem"].zfill(digits)):
            return None
    return {**known, **values}


@lru_cache(maxsize=256)
def _regex(part: Part, known: tuple[tuple[str, str], ...], star: str, field: str, flags: int) -> re.Pattern[str]:
    text, values = "", dict(known)
    for token in part:
        if isinstance(token, str):
            text += re.escape(token)
        elif isinstance(token, Star):
            text += f".{star}"
        elif token.name in values:
            text += re.escape(values[token.name].zfill(token.digits))
        else:
            group = f"(?P<{token.name}>"
            text += f"(?P={token.name})" if group in text else f"{group}.{field})"
    return re.compile(text, flags | re.DOTALL)


def _descend(folder: Path) -> Iterator[Path]:
    """A folder and all below it, in order of their names; links are not followed: they lead back, or elsewhere."""
    waiting = [folder]
    while waiting:
        yield (here := waiting.pop())
        inside = [
            entry.name
            for entry in _entries(here)
            if not is_hidden(entry.name) and not entry.is_symlink() and _is_dir(entry)
        ]
        waiting += [here / name for name in reversed(inside)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise DataError(f"cannot list {folder}: {getattr(error, 'strerror', None) or error}") from None


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def is_hidden(name: str) -> bool:
    """Whether a file or folder is the system's or an editor's rather than the data set's."""
    return name.startswith((".", "~$")) or name.casefold() in SYSTEM_FILES


def _nfc(name: str) -> str:
    # composed characters: the same name is stored in two ways by different file systems
    return unicodedata.normalize("NFC", name)
