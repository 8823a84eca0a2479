"""Which patterns explain the files below a folder: where in their paths stands the stem of a scene?

Every file whose path holds a stem as a word gives a pattern, that path with the stem taken out. Of these, the patterns
that explain most files are kept; one whose files a larger one explains, too, is chance (in epoch10_07 both 10 and 07
may be scenes).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from evalkit.data.tree import Branch, Tree

STEM = "\0"  # where a stem stands; no file name has it
SAMPLE = 60  # names of a folder that its patterns are looked for in first
MOST_NAMES = 5000  # of a folder that are looked at one by one
MOST_IN_SCENE = 60  # images of a folder that holds those of one scene, on average
MOST_KEYS = 300  # patterns of one folder that are looked at
RENUMBERED = -1  # for `digits`: numbers with other zeros in front than the data set's: 1 for 01
_TOKENS = re.compile(r"[^\W\d_]+|\d+|[\W_]")
_NUMBER = re.compile(r"[0-9]+")


class Key(NamedTuple):
    """A pattern: the folders, the text around the stem, and the parts below where the stem names a folder.

    Attributes:
        digits: where above 0, the name has the stem, a number, with zeros in front, so many digits at least.
        below: may hold STEM again; the last part is the name of the files.
        ending: in lower case, where files of two kinds lie beside each other, else nothing.
    """

    folders: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""
    digits: int = 0
    below: tuple[str, ...] = ()
    ending: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        return (*self.folders, f"{self.prefix}{STEM}{self.suffix}", *self.below)


class Group(NamedTuple):
    """The files of a pattern on a data set: stem -> path from the root."""

    dataset: str
    key: Key
    files: Mapping[str, str]


def explain(
    tree: Tree, datasets: Mapping[str, Collection[str]], may_be: Callable[[str, Key], bool] = lambda dataset, key: True
) -> list[Group]:
    """The patterns that explain the files below a folder, those with most files first.

    Args:
        tree: the folder.
        datasets: name -> stems.
        may_be: whether files of that pattern can be of that data set.

    Returns:
        Groups. Several can have the same files: then nothing tells which is meant.
    """
    stems = _Stems(datasets)

    def allowed(folders: tuple[str, ...]) -> list[str]:
        return [dataset for dataset in datasets if may_be(dataset, Key(folders))]

    made = (*_in_folders(tree, stems, allowed), *_in_scenes(tree, stems, allowed))
    groups = [group for group in made if may_be(*group[:2])]
    return _largest([Group(*group) for group in groups])


def _largest(groups: list[Group]) -> list[Group]:
    groups.sort(key=lambda group: (-len(group.files), _zeros(group.key), group.dataset, group.key))
    size: dict[str, int] = {}  # of a file: of the largest group it is in
    zeros: dict[tuple[str, int], int] = {}  # of a file in a group of that size: the least of `_zeros`
    kept = []
    for group in groups:
        count = len(group.files)
        free = [path for path in group.files.values() if size.setdefault(path, count) == count]
        simple = all(zeros.setdefault((path, count), _zeros(group.key)) == _zeros(group.key) for path in free)
        if 2 * len(free) > count and simple:
            kept.append(group)
    return kept


def _zeros(key: Key) -> int:
    """Names as they are before numbers with zeros in front."""
    return 0 if key.digits == 0 else 1 if key.digits > 0 else 2


class _Stems:
    """Which stem of which data set a text is."""

    def __init__(self, datasets: Mapping[str, Collection[str]]) -> None:
        self.exact: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.number: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for dataset, stems in datasets.items():
            for stem in sorted(stems):
                low = _low(unicodedata.normalize("NFC", stem))
                self.exact[low].append((dataset, stem))
                if _is_number(low):
                    self.number[low.lstrip("0") or "0"].append((dataset, stem))
        self.lengths = {len(text) for text in self.exact}

    def of(self, low: str) -> Iterator[tuple[str, str, int]]:
        """(data set, stem, digits) of a text in lower case."""
        direct = self.exact.get(low, [])
        for dataset, stem in direct:
            yield dataset, stem, 0
        if _is_number(low):
            plain = low.lstrip("0") or "0"
            others = {dataset for dataset, _ in direct}
            for dataset, stem in self.number.get(plain, []):
                if dataset not in others:
                    yield dataset, stem, len(low) if stem == plain else RENUMBERED

    def given(self, low: str, dataset: str, digits: int) -> str | None:
        """The stem of a text in lower case, of a pattern of that data set; None where it is none."""
        if digits == 0:
            return next((stem for owner, stem in self.exact.get(low, []) if owner == dataset), None)
        plain = low.lstrip("0") or "0"
        if not _is_number(low) or (digits > 0 and low != plain.zfill(digits)):
            return None
        return next((stem for owner, stem in self.number.get(plain, []) if owner == dataset), None)

    def words(self, name: str) -> Iterator[tuple[str, str, int, str, str]]:
        """(prefix, suffix, digits, data set, stem) of every stem that stands in a name as a word."""
        low = _low(name)
        edges = {match.start() for match in _TOKENS.finditer(name)} | {len(name)}
        spans = {(start, start + length) for start in edges for length in self.lengths if start + length in edges}
        spans.update(match.span() for match in _NUMBER.finditer(name))
        for start, end in sorted(spans):
            for dataset, stem, digits in self.of(low[start:end]):
                yield name[:start], name[end:], digits, dataset, stem


def _low(text: str) -> str:
    """Without case, and as long as before."""
    return next((low for low in (text.casefold(), text.lower()) if len(low) == len(text)), text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


Allowed = Callable[[tuple[str, ...]], list[str]]  # folders -> data sets that what is in them may be of
Names = dict[tuple[str, str, int, str], dict[int, str]]  # prefix, suffix, digits, data set -> number of a name -> stem


def _patterns(names: Sequence[str], stems: _Stems, allowed: Collection[str]) -> Names:
    """The patterns of names on the data sets that are allowed, and which names they give.

    Some names are asked first: most folders have one pattern, or a few.
    """
    patterns: Names = defaultdict(dict)
    if not allowed:
        return patterns
    if len(names) > SAMPLE:
        shown = [names[len(names) * i // SAMPLE] for i in range(SAMPLE)]
        counts = Counter(key for name in shown for key in {word[:4] for word in stems.words(name)})
        for key in (key for key, count in counts.items() if count > 1 and key[3] in allowed):
            patterns[key] = _given(names, key, stems)
    covered = set().union(*patterns.values())
    rest = [i for i in range(len(names)) if i not in covered]
    partly = len(rest) > MOST_NAMES
    for i in rest[:: len(rest) // MOST_NAMES + 1] if partly else rest:
        for prefix, suffix, digits, dataset, stem in stems.words(names[i]):
            if dataset in allowed:
                patterns[prefix, suffix, digits, dataset].setdefault(i, stem)
    if len(names) > SAMPLE:  # one name of many is chance
        often = sorted((key for key in patterns if len(patterns[key]) > 1), key=lambda key: (-len(patterns[key]), key))
        patterns = {key: patterns[key] for key in often[:MOST_KEYS]}
    # {stem:02} gives 10, too, whose digits say nothing of zeros
    return {key: _given(names, key, stems) if key[2] or partly else given for key, given in patterns.items()}


def _given(names: Sequence[str], key: tuple[str, str, int, str], stems: _Stems) -> dict[int, str]:
    prefix, suffix, digits, dataset = key
    given = {}
    for i, name in enumerate(names):
        inner = name[len(prefix) : len(name) - len(suffix)]
        if inner and name.startswith(prefix) and name.endswith(suffix):
            stem = stems.given(_low(inner), dataset, digits)
            if stem is not None:
                given[i] = stem
    return given


def _in_folders(tree: Tree, stems: _Stems, allowed: Allowed) -> Iterator[tuple[str, Key, dict[str, str]]]:
    """Groups of files that lie in one folder."""
    for branch in tree.branches:
        kinds: dict[str, list[str]] = defaultdict(list)  # name -> its endings
        for image in branch.images:
            kinds[image.name].append(image.ending)
        names = list(kinds)
        for (prefix, suffix, digits, dataset), given in _patterns(names, stems, allowed(branch.parts)).items():
            files = [
                (stem, ending, "/".join((*branch.parts, names[i] + ending)))
                for i, stem in given.items()
                for ending in kinds[names[i]]
            ]
            yield from _by_ending(dataset, Key(branch.parts, prefix, suffix, digits), files)


def _in_scenes(tree: Tree, stems: _Stems, allowed: Allowed) -> Iterator[tuple[str, Key, dict[str, str]]]:
    """Groups of files that lie in a folder for each scene."""
    below: dict[tuple[str, ...], list[Branch]] = defaultdict(list)  # what is in a folder, at any depth
    children: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for branch in tree.branches:
        if branch.parts:
            children[branch.parts[:-1]].append(branch.parts[-1])
        if branch.images:
            for depth in range(1, len(branch.parts) + 1):
                below[branch.parts[:depth]].append(branch)
    for parent, names in children.items():
        for (prefix, suffix, digits, dataset), given in _patterns(names, stems, allowed(parent)).items():
            images = sum(len(branch.images) for i in given for branch in below[*parent, names[i]])
            if len(given) < 2 or digits == RENUMBERED or images > MOST_IN_SCENE * len(given):
                continue
            files: dict[tuple[str, ...], list[tuple[str, str, str]]] = defaultdict(list)
            for i, stem in given.items():
                inner = names[i][len(prefix) : len(names[i]) - len(suffix)]
                for branch in below[*parent, names[i]]:
                    for image in branch.images:
                        name = image.name if digits else word_out(image.name, inner)
                        path = "/".join((*branch.parts, image.name + image.ending))
                        files[*branch.parts[len(parent) + 1 :], name].append((stem, image.ending, path))
            for rest, some in files.items():
                yield from _by_ending(dataset, Key(parent, prefix, suffix, digits, rest), some)


def word_out(name: str, inner: str) -> str:
    """A name with STEM where the text stands as a word."""
    return re.sub(rf"(?<![^\W_]){re.escape(inner)}(?![^\W_])", STEM, name, count=1)


def _by_ending(
    dataset: str, key: Key, files: Sequence[tuple[str, str, str]]
) -> Iterator[tuple[str, Key, dict[str, str]]]:
    """One group of (stem, ending, path); or one for each ending, where a stem has files of two kinds."""
    if len({stem for stem, _, _ in files}) == len(files):
        yield dataset, key, {stem: path for stem, _, path in files}
        return
    for kind in sorted({ending.lower() for _, ending, _ in files}):
        some: dict[str, str] = {}
        for stem, ending, path in files:
            if ending.lower() == kind:
                some.setdefault(stem, path)
        yield dataset, key._replace(ending=kind), some
