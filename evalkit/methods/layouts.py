"""How fused images lie below a folder: which method's they are, on which data set, and by which pattern.

The patterns that explain the files (`evalkit.data.explain`) hold, beside the stem, the names of data set and method.
Where two readings fit, both are reported and none is taken.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from evalkit.data.card import DATASETS, Card
from evalkit.data.explain import RENUMBERED, STEM, Group, Key, explain
from evalkit.data.images import SUFFIXES
from evalkit.data.mentions import Mentions
from evalkit.data.pairs import natural_key
from evalkit.data.patterns import parse_pattern
from evalkit.data.tree import MOST, Tree, read_tree
from evalkit.data.words import folded, is_source, says_nothing
from evalkit.errors import EvalkitError
from evalkit.methods.outputs import find_outputs
from evalkit.methods.registry import check_name, method_cards

HINT = 100_000  # files and folders that a hint looks at
_UNWRITABLE = re.compile(r"[{}*\\]+")


class Target(NamedTuple):
    """A data set whose fused images are looked for: the stems of its pairs, what else it is called, and its split."""

    stems: frozenset[str]
    names: tuple[str, ...] = ()
    split: str | None = None


@dataclass(frozen=True)
class Naming:
    """One way to find images of a method on a data set.

    Attributes:
        pattern: from the folder that was looked at, with {stem}, and {dataset} where the data set's name stands.
        general: the same with {method} where the method's name stands.
        files: stem -> path from the folder.
        renumbered: the numbers have other zeros in front than the data set's, which no pattern can say.
        plain: whether they are found without a pattern, as OUTPUTS/<method>/<dataset>/<stem>.
    """

    method: str
    dataset: str
    pattern: str
    general: str
    files: Mapping[str, str]
    renumbered: bool = False
    plain: bool = False

    @property
    def example(self) -> str:
        """The first file, by stem."""
        return self.files[min(self.files, key=natural_key)]


@dataclass(frozen=True)
class Undecided:
    """What was not decided, in a sentence; and the readings that fit, of which none is taken."""

    text: str
    readings: tuple[Naming, ...] = ()


@dataclass(frozen=True)
class Layouts:
    """What lies below a folder.

    Attributes:
        taken: (method, data set) -> its one reading, by names.
        undecided: where more than one reading fits, or one that no pattern can say.
        left: folder -> names of the images that nothing explains, with the reason where one is known.
        sources: folder -> how many of its images are named as infrared or visible ones.
        others: files that are no images.
        notes: what was not looked at.
    """

    taken: Mapping[tuple[str, str], Naming]
    undecided: tuple[Undecided, ...] = ()
    left: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    others: int = 0
    notes: tuple[str, ...] = ()

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(method for method, _ in self.taken))


def find_layouts(
    outputs: str | os.PathLike[str], datasets: Mapping[str, Target], skip: Collection[str] = (), most: int = MOST
) -> Layouts:
    """Look for the fused images of all methods on all data sets, in whatever layout. Names of files alone are read.

    Args:
        outputs: the folder.
        datasets: name -> what is looked for.
        skip: real paths of folders that are left out, such as those of the source images.
        most: how many files and folders are looked at.

    Raises:
        DataError: `outputs` is not a folder.
    """
    return _Finder(read_tree(outputs, skip, most), datasets).layouts()


def pattern_hint(outputs: str | os.PathLike[str], method: str, dataset: str, stems: Collection[str]) -> str:
    """What to do where OUTPUTS holds no <method>/<dataset>/<stem>: the pattern that would find the images of this row.

    Args:
        outputs: the folder.
        method, dataset: names of the row.
        stems: of the data set's pairs.

    Returns:
        A sentence; empty where nothing fits.
    """
    card = DATASETS.get(dataset)
    target = target_of(card, stems) if card else Target(frozenset(stems))
    try:
        layouts = find_layouts(outputs, {dataset: target}, most=HINT)
    except EvalkitError:
        return ""
    groups = [(reading,) for reading in layouts.taken.values()] + [some.readings for some in layouts.undecided]
    readings = [some for some in groups if any(folded(one.method) == folded(method) for one in some)]
    looks = [
        f"{_count(len(one.files), 'file')} of {len(stems)} {'looks' if len(one.files) == 1 else 'look'} like "
        f"{one.general} ({one.example})"
        for some in readings
        for one in some
        if not one.plain or one.renumbered or len(readings) > 1
    ]
    if not looks:
        return ""
    one = readings[0][0]
    if one.renumbered:
        return f"{looks[0]}, with other zeros in front than the data set's names: rename them"
    if "{method}" not in one.general:
        return f"{', or '.join(looks)}: `evalkit init` writes a benchmark file that says so"
    if len(looks) > 1:
        return f"{', or '.join(looks)}: name the one that is meant, as --name {shlex.quote(one.general)}"
    return f"{looks[0]}: add --name {shlex.quote(one.general)}"


def target_of(card: Card, stems: Collection[str], split: str | None = None) -> Target:
    """What is looked for of a data set that has a card."""
    return Target(frozenset(stems), (*card.aliases, *card.folders), split)


class _Finder:
    def __init__(self, tree: Tree, datasets: Mapping[str, Target]) -> None:
        self.tree, self.datasets = tree, datasets
        self.names = Mentions({name: (name, *target.names) for name, target in datasets.items()})
        self.registered = {folded(text): c.name for c in method_cards().values() for text in (*c.aliases, c.name)}
        self.spelled = {name.casefold(): name for name in method_cards()}
        root = Path(os.path.abspath(tree.root))
        self.root_name, self.above = root.name, root.parent.name
        self.doubled = {  # folders with two images of one name
            "/".join(branch.parts)
            for branch in tree.branches
            if len({image.name for image in branch.images}) < len(branch.images)
        }
        self.reasons: dict[str, str] = {}  # folder -> why its images are not taken

    def layouts(self) -> Layouts:
        explained = explain(self.tree, {name: target.stems for name, target in self.datasets.items()}, self._may_be)
        sources: list[Group] = []
        groups: list[Group] = []
        for group in explained:
            levels = (self.names.without(group.dataset, level) for level in _levels(group.key))
            (sources if any(map(is_source, levels)) else groups).append(group)
        enough = [group for group in groups if len(group.files) >= self._least(group)]
        paths = {path for group in enough for path in group.files.values()}
        # one that is less than enough but has the same files as another is another way to read them
        taken, undecided = self._decide(
            self._namings([group for group in groups if not paths.isdisjoint(group.files.values())])
        )
        used = {path for one in taken.values() for path in one.files.values()}
        used |= {path for some in undecided for one in some.readings for path in one.files.values()}
        passed = {path for group in sources for path in group.files.values()} - used
        counts = Counter(os.path.dirname(path) or "." for path in sorted(passed))
        left = self._left(used | passed)
        return Layouts(taken, tuple(undecided), left, counts, self.tree.others, self.tree.notes)

    def _may_be(self, dataset: str, key: Key) -> bool:
        """Whether the names in a path leave it to this data set: those of others speak against it."""
        named = frozenset().union(*map(self.names.within, _levels(key)))
        if not named:  # then the folder's own name may tell
            named = self.names.within(self.root_name) & self.names.ours.keys()
        if named and dataset not in named:
            place = "/".join(key.folders) or "."
            self.reasons[place] = f"named as {' and '.join(sorted(named))}, with names of files as in {dataset}"
            if not named & self.names.ours.keys():
                self.reasons[place] = f"of {' and '.join(sorted(named))}, which is not among the data sets here"
        return not named or dataset in named

    def _is_named(self, dataset: str, key: Key) -> bool:
        return any(dataset in self.names.within(level) for level in _levels(key))

    def _least(self, group: Group) -> int:
        """Files that are more than chance: a plot fig_3.png beside the images is nobody's scene 3."""
        if self._is_named(group.dataset, group.key):
            return 1
        stems = len(self.datasets[group.dataset].stems)
        key = group.key
        numbered = all(stem.isdecimal() for stem in group.files) and (key.prefix or key.suffix or key.digits)
        return min(stems, max(2, -(-stems // (2 if numbered else 10))))

    def _namings(self, groups: list[Group]) -> list[tuple[Group, Naming]]:
        texts = [self._texts(group) for group in groups]
        tops = [[text for text in some if not says_nothing(text)] for some in texts]
        own = [next((text for text in some if self._registered(text)), "") for some in tops]
        depth = 0  # folders that all have in common, with several methods below, name none of them
        while tops and all(len(some) > depth + 1 for some in tops) and self._divides(groups, tops, depth):
            depth += 1
        readings = []
        for group, some, top, text in zip(groups, texts, tops, own, strict=True):
            text = text or (top[depth] if len(top) > depth else top[-1] if top else self._nameless(some, any(tops)))
            readings.append((group, self._naming(group, text)))
        return readings

    def _texts(self, group: Group) -> list[str]:
        """What is left of a path's texts without the data set's name."""
        split = folded(self.datasets[group.dataset].split or "")
        texts = [self.names.without(group.dataset, level) for level in _levels(group.key)]
        return [text for text in texts if text and not (split and folded(text) == split)]

    @staticmethod
    def _divides(groups: list[Group], tops: list[list[str]], depth: int) -> bool:
        if len({folded(some[depth]) for some in tops}) > 1:
            return False
        below = defaultdict(set)
        for group, some in zip(groups, tops, strict=True):
            below[group.dataset].add(folded(some[depth + 1]))
        return any(len(names) > 1 for names in below.values())

    def _registered(self, text: str) -> str:
        """The method that a text names, also where words such as fused or results stand beside it."""
        if name := self.registered.get(folded(text)):
            return name
        words = [word for word in re.split(r"[-_. ]+", text) if not says_nothing(word)]
        return self.registered.get(folded("".join(words)), "")

    def _nameless(self, texts: list[str], others: bool) -> str:
        """The name of a method whose path has none: the folder's that was looked at."""
        if others and texts:
            return texts[0]
        own = re.sub(r"^[-_. ]+", "", self.root_name)
        for dataset in self.datasets:
            own = self.names.without(dataset, own)
        if own and not says_nothing(own):
            return own
        return self.above if folded(self.above) in self.registered else self.root_name

    def _naming(self, group: Group, text: str) -> Naming:
        own = self.registered.get(folded(text))
        method = self.spelled.get(text.casefold(), text)
        if own is None and (own := self._registered(text)):  # CDDFuse_results
            method = own
        pattern = _written(group.key, group.dataset, method if _UNWRITABLE.search(method) else "")
        general = _written(group.key, group.dataset, method)
        renumbered = group.key.digits == RENUMBERED
        plain = not renumbered and self._is_plain(method, group, general)
        return Naming(method, group.dataset, pattern, general, group.files, renumbered, plain)

    def _is_plain(self, method: str, group: Group, general: str) -> bool:
        """Whether `find_outputs` finds these files, and not others that lie beside them."""
        split = self.datasets[group.dataset].split
        if general.casefold() not in (
            "{method}/{dataset}/{stem}",
            f"{{method}}/{{dataset}}/{split}/{{stem}}".casefold(),
        ):
            return False
        try:
            listed = find_outputs(self.tree.root, method, group.dataset, split)
        except EvalkitError:
            return False
        return {os.path.relpath(path, self.tree.root) for path in listed.values()} >= set(group.files.values())

    def _decide(self, readings: list[tuple[Group, Naming]]) -> tuple[dict[tuple[str, str], Naming], list[Undecided]]:
        undecided = []
        owners: dict[str, list[int]] = defaultdict(list)
        for number, (group, _) in enumerate(readings):
            for path in group.files.values():
                owners[path].append(number)
        shared = {tuple(numbers) for numbers in owners.values() if len(numbers) > 1}
        for numbers in sorted(shared):
            some = tuple(readings[number][1] for number in numbers)
            undecided.append(Undecided(_both(some), some))
        doubtful = {number for numbers in shared for number in numbers}
        rows: dict[tuple[str, str], list[tuple[Group, Naming]]] = defaultdict(list)
        for number, (group, reading) in enumerate(readings):
            if number not in doubtful:
                rows[reading.method.casefold(), reading.dataset].append((group, reading))
        taken = {}
        for row in rows.values():
            named = [one for one in row if self._is_named(*one[0][:2])] if len(row) > 1 else []
            most = max(len(reading.files) for _, reading in named or row)
            fitting = tuple(reading for _, reading in named or row if 2 * len(reading.files) >= most)
            one = fitting[0]
            if len(fitting) > 1:
                undecided.append(Undecided(_several(fitting), fitting))
            elif reason := self._unusable(one):
                undecided.append(Undecided(reason, fitting))
            else:
                taken[one.method, one.dataset] = one
        place = {dataset: i for i, dataset in enumerate(self.datasets)}
        order = sorted(taken, key=lambda row: (natural_key(row[0].casefold()), row[0], place[row[1]]))
        return {row: taken[row] for row in order}, undecided

    def _unusable(self, reading: Naming) -> str:
        """Why a reading cannot be taken, in a sentence; empty if it can."""
        where = f"{reading.method}, {reading.dataset}: {_count(len(reading.files), 'file')} such as {reading.example}"
        if reading.renumbered:
            stem = min(reading.files, key=natural_key)
            return f"{where} have other zeros in front than the data set's names ({stem}). Rename them."
        try:
            check_name(reading.method)
        except EvalkitError as error:
            return f"{where}: {error}"
        odd = "*" in reading.pattern or reading.pattern.lower().endswith(SUFFIXES)
        if odd or not self.doubled.isdisjoint(map(os.path.dirname, reading.files.values())):
            try:
                filled = parse_pattern(reading.pattern).fill(method=reading.method, dataset=reading.dataset)
                listed = filled.listing(self.tree.root)[0]
            except EvalkitError as error:
                return f"{where}: {error}"
            if not {stem.casefold() for stem in reading.files} <= {stem.casefold() for stem in listed}:
                return f"{where} have names that no pattern can say: rename what holds {{, }}, *, \\ or ends twice."
        return ""

    def _left(self, used: set[str]) -> dict[str, tuple[tuple[str, ...], str]]:
        left = {}
        for branch in self.tree.branches:
            prefix = "".join(f"{part}/" for part in branch.parts)
            names = (image.name + image.ending for image in branch.images)
            rest = tuple(name for name in names if prefix + name not in used)
            if rest:
                left[branch.path] = (rest, self.reasons.get(branch.path, ""))
        return left


def _levels(key: Key) -> list[str]:
    """The texts in which names may stand: folders from the top, then around the stem."""
    below = [part.replace(STEM, "") for part in key.below]
    return [text for text in (*key.folders, *below[:-1], key.prefix, key.suffix, *below[-1:]) if text]


def _written(key: Key, dataset: str, method: str = "") -> str:
    """The key as a pattern; `method` is written as {method} where it stands."""
    fields = {name.casefold(): field for name, field in ((dataset, "{dataset}"), (method, "{method}")) if name}
    words = "|".join(re.escape(name) for name in sorted(fields, key=len, reverse=True))
    regex = re.compile(rf"(?<![^\W_])({words})(?![^\W_])", re.IGNORECASE)
    stem = f"{{stem:0{key.digits}}}" if key.digits > 0 else "{stem}"

    def text(piece: str) -> str:
        pieces = regex.split(piece)
        return "".join(
            fields.get(one.casefold(), one) if i % 2 else _UNWRITABLE.sub("*", one) for i, one in enumerate(pieces)
        )

    parts = [stem.join(map(text, part.split(STEM))) for part in key.parts]
    return "/".join(parts) + key.ending


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _both(readings: tuple[Naming, ...]) -> str:
    one = readings[0]
    datasets = list(dict.fromkeys(reading.dataset for reading in readings))
    if len(datasets) > 1:
        return (
            f"{one.method}: {_count(len(one.files), 'file')} such as {one.example} fit {' and '.join(datasets)} alike. "
            "Name a folder after the data set, or write the pattern of the one that is meant."
        )
    return _several(readings)


def _several(readings: tuple[Naming, ...]) -> str:
    one = readings[0]
    shown = ", ".join(f"{reading.pattern} ({len(reading.files)}: {reading.example})" for reading in readings)
    return f"{one.method}, {one.dataset}: {_count(len(readings), 'pattern')} fit: {shown}. Keep the one that is meant."
