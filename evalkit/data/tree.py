"""The names of all images below a folder, each folder listed once; nothing is opened."""

from __future__ import annotations

import heapq
import os
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from evalkit.data.images import SUFFIXES
from evalkit.data.patterns import is_hidden
from evalkit.errors import DataError
from evalkit.files.names import odd_character, printable

MOST = 400_000  # files and folders that are looked at
DEEPEST = 12  # folders below each other


class ImageName(NamedTuple):
    """The name of an image without its ending, as composed characters; and the ending."""

    name: str
    ending: str


@dataclass(frozen=True)
class Branch:
    """A folder: its path from the root, part by part, and the images in it, by name."""

    parts: tuple[str, ...]
    images: tuple[ImageName, ...]

    @property
    def path(self) -> str:
        return "/".join(self.parts) or "."


@dataclass(frozen=True)
class Tree:
    """What lies below a folder.

    Attributes:
        root: the folder.
        branches: it and all folders below it, also those without images, in order of their paths.
        others: files that are no images.
        notes: sentences about what was not looked at: folders that cannot be listed, names that no pattern can have.
    """

    root: Path
    branches: tuple[Branch, ...]
    others: int = 0
    notes: tuple[str, ...] = ()


def read_tree(root: str | os.PathLike[str], skip: Collection[str] = (), most: int = MOST) -> Tree:
    """List a folder and all below it. Links are followed, but not back to a folder that they lie in.

    Args:
        root: the folder.
        skip: real paths of folders that are left out.
        most: how many files and folders are looked at; a note says where there are more.

    Raises:
        DataError: `root` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} {'is not a folder' if os.path.lexists(root) else 'does not exist'}.")
    reader = _Reader(set(skip), most)
    branches = tuple(reader.below(str(root), (), (os.path.realpath(root),)))
    return Tree(root, branches, reader.others, tuple(reader.notes))


class _Reader:
    def __init__(self, skip: set[str], most: int) -> None:
        self.skip, self.left, self.most = skip, most, most
        self.others = 0
        self.notes: list[str] = []

    def below(self, folder: str, parts: tuple[str, ...], above: tuple[str, ...]) -> Iterator[Branch]:
        """The branch of a folder, then those of the folders in it. `above`: real paths of it and all it lies in."""
        shown = printable("/".join(parts) or folder)
        images, folders, odd = [], [], []
        for entry in self._entries(folder, shown):
            if is_hidden(entry.name):
                continue
            is_folder = _is(entry.is_dir)
            if not entry.name.isprintable() and odd_character(entry.name):
                odd.append(entry.name)
            elif is_folder:
                folders.append(entry)
            elif entry.name.lower().endswith(SUFFIXES) and _is(entry.is_file):
                name, ending = os.path.splitext(unicodedata.normalize("NFC", entry.name))
                images.append(ImageName(name, ending))
            else:
                self.others += 1
        if odd:
            plain = odd_character(odd[0])
            self.notes.append(
                f"{shown}: {odd[0]!a} has {plain}; such names are passed over ({len(odd)} there). Rename."
            )
        yield Branch(parts, tuple(sorted(images)))
        for entry in folders:
            real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(above[-1], entry.name)
            if real in above or real in self.skip:
                continue
            name = unicodedata.normalize("NFC", entry.name)
            if len(parts) == DEEPEST:
                self.notes.append(f"{shown}/{name}: more than {DEEPEST} folders deep, not looked at.")
                continue
            yield from self.below(entry.path, (*parts, name), (*above, real))

    def _entries(self, folder: str, shown: str) -> list[os.DirEntry[str]]:
        """The first entries by name, as many as may still be looked at."""
        if self.left < 0:
            return []
        try:
            with os.scandir(folder) as listing:
                entries = heapq.nsmallest(self.left + 1, listing, key=lambda entry: entry.name)
        except OSError as error:
            self.notes.append(f"{shown} cannot be listed: {error.strerror or error}.")
            return []
        self.left -= len(entries)
        if self.left < 0:
            self.notes.append(f"{shown}: only the first {self.most} files and folders were looked at.")
            entries.pop()
        return entries


def _is(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except OSError:  # a link to itself
        return False
