"""Patterns of paths: results/{method}/{dataset}/{stem}_fused.png; which files they give, by stem."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
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
_TOKEN = re.compile(r"(\{[^{}]*\}|\*+)")
_FIELD = re.compile(r"\{(stem|method|dataset|split)(?::0?([1-9]))?\}")
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


@dataclass(frozen=True)
class PathPattern:
    """A path with {stem}, {method}, {dataset}, {split}, * and **.

    An ending such as .png, in any case, gives files of that kind only; without one, images of every kind that evalkit
    reads. Where nothing of the exact spelling is there, names that differ in case alone are taken.

    Attributes:
        parts: tokens between the slashes; a part that is ANY stands for any folders, also none.
        suffix: the ending in lower case, or nothing.
    """

    parts: tuple[tuple[Token, ...], ...]
    suffix: str = ""

    def __str__(self) -> str:
        return "/".join("".join(map(_written, part)) for part in self.parts) + self.suffix

    @property
    def fields(self) -> set[str]:
        """The names in braces."""
        return {token.name for part in self.parts for token in part if isinstance(token, Field)}

    @cached_property
    def _plain(self) -> list[str]:
        """The texts of the parts before the first one, or the last of all, that is not plain text."""
        plain: list[str] = []
        for part in self.parts[:-1]:
            if part == (ANY,) or not all(isinstance(token, str) for token in part):
                break
            plain.append("".join(map(str, part)))
        return plain

    @property
    def folder(self) -> str:
        """The folders before the first part that is not plain text; "." where it is the first."""
        return "/".join(self._plain) or ("/" if self._plain else ".")

    def below(self) -> PathPattern:
        """What follows `folder`."""
        return PathPattern(self.parts[len(self._plain) :], self.suffix)

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
        return _stem_of(self.parts[-1], _nfc(name), None, 0)

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
            for name, stem in matched.items():
                if odd := odd_character(stem):
                    raise DataError(f"{folder} holds the file {name!a}, whose name has {odd}. Rename it.")
                if stem in files:
                    one, two = (os.path.relpath(path, root) for path in (files[stem], names[name].path))
                    raise DataError(f"{root} holds two files for {stem!r}: {one} and {two}. Remove one.")
                files[stem] = Path(names[name].path)
        return files, hidden, other

    def _folders(self, root: Path) -> Iterator[tuple[Path, str | None]]:
        """The folders that the parts before the last give, with the stem where one of them has it."""
        places: list[tuple[Path, str | None]] = [(root, None)]
        for index, part in enumerate(self.parts[:-1]):
            if part == ("",) and index == 0:
                places = [(Path("/"), None)]
            elif part in (("",), (".",), ("..",)):
                places = [(folder / str(part[0]), stem) for folder, stem in places]
            elif part == (ANY,):
                places = [(below, stem) for folder, stem in places for below in _descend(folder)]
            else:
                places = [place for folder, stem in places for place in _inside(folder, part, stem)]
        # two ways of ** may lead to one folder
        yield from dict.fromkeys(places)


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
    pattern = PathPattern(parts, suffix)
    if "stem" not in pattern.fields or parts[-1] in ((ANY,), ("",)):
        raise EvalkitError(f"{text!r} is not a pattern of file names: it has no {{stem}}. {_HELP}")
    return pattern


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


def _inside(folder: Path, part: tuple[Token, ...], known: str | None) -> Iterator[tuple[Path, str | None]]:
    """The folders in a folder whose names a part gives."""
    plain = "".join(map(str, part)) if all(isinstance(token, str) for token in part) else ""
    if plain and os.path.isdir(folder / plain):  # not every folder on the way can be listed
        yield folder / plain, known
        return
    names = {entry.name: _nfc(entry.name) for entry in _entries(folder) if not is_hidden(entry.name) and _is_dir(entry)}
    for name, stem in _matching(part, names, known).items():
        yield folder / name, stem or known


def _matching(part: tuple[Token, ...], names: Mapping[str, str], known: str | None) -> dict[str, str]:
    """Name -> stem ("" where the part has none), of the names whose text fits; case counts where it decides."""
    for flags in (0, re.IGNORECASE):
        stems = {name: stem for name, text in names.items() if (stem := _stem_of(part, text, known, flags)) is not None}
        if stems:
            return {name: known or stem for name, stem in stems.items()}
    return {}


def _stem_of(part: tuple[Token, ...], name: str, known: str | None, flags: int) -> str | None:
    stems = set()
    for star, stem in (("*?", "+?"), ("*", "+?"), ("*?", "+"), ("*", "+")):
        match = _regex(part, known, star, stem, flags).fullmatch(name)
        if match is None:
            return None
        stems.add(match["stem"] if "stem" in match.groupdict() else "")
    if len(stems) > 1:
        two = " or ".join(sorted(stems)[:2])
        pattern = "".join(map(_written, part))
        raise DataError(
            f"{name!r} can be read as {pattern} in two ways: its stem is {two}. Write out what * stands for."
        )
    inner = stems.pop()
    digits = next((token.digits for token in part if isinstance(token, Field) and token.digits), 0)
    if not digits or known is not None or not inner:
        return inner
    plain = inner.lstrip("0") or "0"
    return plain if inner.isascii() and inner.isdecimal() and inner == plain.zfill(digits) else None


@cache
def _regex(part: tuple[Token, ...], known: str | None, star: str, stem: str, flags: int) -> re.Pattern[str]:
    text = ""
    for token in part:
        if isinstance(token, str):
            text += re.escape(token)
        elif isinstance(token, Star):
            text += f".{star}"
        elif known is not None:
            text += re.escape(known.zfill(token.digits))
        else:
            text += "(?P=stem)" if "(?P<stem>" in text else f"(?P<stem>.{stem})"
    return re.compile(text, flags | re.DOTALL)


def _descend(folder: Path) -> Iterator[Path]:
    """A folder and all below it, in order of their names; links are not followed: they lead back, or elsewhere."""
    yield folder
    for entry in _entries(folder):
        if not is_hidden(entry.name) and not entry.is_symlink() and _is_dir(entry):
            yield from _descend(folder / entry.name)


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
