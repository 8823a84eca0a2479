"""Folders, and names in a folder, whose images pair by name: infrared and visible images of the same scenes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from evalkit.data.card import Role
from evalkit.data.explain import STEM, word_out
from evalkit.data.stems import Pattern, by_stem, pairing, two_kinds
from evalkit.data.tree import Branch, Tree
from evalkit.data.words import LABELS, WORDS, role_told, says_nothing, tokens

SHOWN = 4  # pairings of one folder that are shown


@dataclass(frozen=True)
class Side:
    """Images of one role: their folder, the pattern of their paths from it, and stem -> path from the root."""

    folder: tuple[str, ...]
    parts: tuple[str, ...]  # with STEM; below the folder
    digits: int
    ending: str
    files: dict[str, str]


@dataclass(frozen=True)
class Pairing:
    """Two sides whose stems pair; `told` where words say that they are infrared and visible, in this order."""

    sides: tuple[Side, Side]
    told: bool

    @property
    def pairs(self) -> dict[str, tuple[str, str]]:
        """Stem, as the second side spells it -> both files."""
        first = {stem.casefold(): path for stem, path in self.sides[0].files.items()}
        second = self.sides[1].files.items()
        return {stem: (first[low], path) for stem, path in second if (low := stem.casefold()) in first}

    @property
    def files(self) -> set[str]:
        return {path for pair in self.pairs.values() for path in pair}


class Finder:
    """Looks for pairs in a tree, in folders whose names tell their roles first."""

    def __init__(self, tree: Tree) -> None:
        self.branches = [branch for branch in tree.branches if branch.images]
        self.pairings: list[Pairing] = []
        self.used: set[str] = set()

    def look(self) -> None:
        for way in (self.told_folders, self.told_in_part, self.scenes, self.told_names, self.untold, self.untold_names):
            made = list(way([branch for branch in self.branches if not self._is_used(branch)]))
            self.pairings += made
            self.used |= {path for one in made for path in one.files}

    def _is_used(self, branch: Branch) -> bool:
        return any(path in self.used for path in _paths(branch))

    def told_places(self) -> set[str]:
        """The folders, by their paths, whose names tell that they hold source images."""
        files = {path for one in self.pairings if one.told for path in one.files}
        return {branch.path for branch in self.branches if not files.isdisjoint(_paths(branch))}

    def rest(self, branch: Branch, lonely: Collection[str]) -> tuple[str, ...]:
        """The names of its images that are in no pair, nor told elsewhere to lack their partner."""
        return tuple(path.split("/")[-1] for path in _paths(branch) if path not in self.used and path not in lonely)

    def told_folders(self, branches: list[Branch]) -> Iterator[Pairing]:
        """ir/ and vi/, TNO_ir/ and TNO_vi/, thermal/train/ and rgb/train/."""
        yield from _by_roles(branches, lambda part: tuple(w for w in tokens(part) if not is_role(w)))

    def told_in_part(self, branches: list[Branch]) -> Iterator[Pairing]:
        """ir/ and vi_small/: the words beside the roles differ."""
        yield from _by_roles(branches, lambda part: ())

    def told_names(self, branches: list[Branch]) -> Iterator[Pairing]:
        """001_ir.png beside 001_vi.png."""
        for branch in branches:
            for names, ending in _kinds(branch):
                roles: dict[Role | None, list[str]] = defaultdict(list)
                for name in names:
                    roles[role_told([name])].append(name)
                yield from _pair(branch, branch, roles["infrared"], roles["visible"], (ending, ending), True)

    def scenes(self, branches: list[Branch]) -> Iterator[Pairing]:
        """001/ir.png beside 001/vi.png."""
        parents: dict[tuple[str, ...], list[Branch]] = defaultdict(list)
        for branch in branches:
            if branch.parts:
                parents[branch.parts[:-1]].append(branch)
        for parent, children in parents.items():
            sides: dict[Role, dict[str, dict[str, str]]] = {"infrared": {}, "visible": {}}
            for branch in children:
                for image, path in zip(branch.images, _paths(branch), strict=True):
                    name = word_out(image.name, branch.parts[-1])
                    if role := role_told([name]):
                        sides[role].setdefault(name, {})[branch.parts[-1]] = path
            named = [{name: files for name, files in side.items() if len(files) > 1} for side in sides.values()]
            if any(len(side) > 2 for side in named):  # folders of many images each, of the same names
                continue
            for (one, infrared), (other, visible) in product(*(side.items() for side in named)):
                if infrared.keys() & visible.keys():
                    pair = (Side(parent, (STEM, one), 0, "", infrared), Side(parent, (STEM, other), 0, "", visible))
                    yield Pairing(pair, True)

    def untold(self, branches: list[Branch]) -> Iterator[Pairing]:
        """a/ and b/: folders beside each other, of which one at most tells its role."""
        beside: dict[tuple[str, ...], list[Branch]] = defaultdict(list)
        for branch in branches:
            if branch.parts and not LABELS & {*tokens(branch.parts[-1])}:
                beside[branch.parts[:-1]].append(branch)
        for some in beside.values():
            pairs = [pair for pair in combinations(some[: 2 * SHOWN], 2) if not _same_role(*pair)]
            for one, other in pairs:
                roles = [role_told([branch.parts[-1]]) for branch in (one, other)]
                first, second = (other, one) if roles[0] == "visible" or roles[1] == "infrared" else (one, other)
                names_one = any(roles) and any(says_nothing(branch.parts[-1]) for branch in (one, other))
                told = names_one and len(some) == 2  # ir/ and images/
                for (names, ending), (others, its) in product(_kinds(first), _kinds(second)):
                    yield from _pair(first, second, names, others, (ending, its), told)

    def untold_names(self, branches: list[Branch]) -> Iterator[Pairing]:
        """001_a.png beside 001_b.png."""
        for branch in branches:
            for names, ending in _kinds(branch):
                if LABELS & {*tokens(branch.parts[-1] if branch.parts else "")}:
                    continue
                if kinds := two_kinds(names):
                    yield Pairing(
                        (_side(branch, names, kinds[0], ending), _side(branch, names, kinds[1], ending)), False
                    )

    def decide(self) -> tuple[list[Pairing], list[tuple[str, list[Pairing]]]]:
        """Pairings that stand alone; and those that share files with others, or do not tell their roles."""
        clusters: list[tuple[set[str], list[Pairing]]] = []
        for one in self.pairings:
            files, members = set(one.files), [one]
            for cluster in [cluster for cluster in clusters if cluster[0] & files]:
                clusters.remove(cluster)
                files, members = files | cluster[0], [*cluster[1], *members]
            clusters.append((files, members))
        clear, unclear = [], []
        for _, members in clusters:
            if len(members) == 1 and members[0].told:
                clear += members
                continue
            shown, untold = members[:SHOWN], [member for member in members if not member.told]
            if untold:
                text = "names do not tell which images are infrared and which visible"
                readings = [way for one in shown for way in (one, Pairing(one.sides[::-1], False))]
            else:
                text, readings = "more than two folders or kinds of names pair", shown
            if len(members) > SHOWN:
                text += f" (the first {SHOWN} of {len(members)} pairings are shown)"
            unclear.append((text, readings))
        return clear, unclear


def _paths(branch: Branch) -> list[str]:
    prefix = "".join(f"{part}/" for part in branch.parts)
    return [f"{prefix}{image.name}{image.ending}" for image in branch.images]


def is_role(word: str) -> bool:
    return any(word in words for words in WORDS.values())


def _same_role(one: Branch, other: Branch) -> bool:
    roles = [role_told([branch.parts[-1]]) for branch in (one, other)]
    return roles[0] is not None and roles[0] == roles[1]


def _kinds(branch: Branch) -> list[tuple[list[str], str]]:
    """The names in a folder, with no ending; or those of each ending, where a name has two."""
    names = [image.name for image in branch.images]
    if len(set(names)) == len(names):
        return [(names, "")]
    endings = sorted({image.ending.lower() for image in branch.images})
    kinds = [([i.name for i in branch.images if i.ending.lower() == ending], ending) for ending in endings]
    return [(list(dict.fromkeys(some)), ending) for some, ending in kinds]


def _by_roles(branches: list[Branch], beside: Callable[[str], tuple[str, ...]]) -> Iterator[Pairing]:
    """Pairs of folders whose paths differ in one part that tells the role, apart from the words `beside` it."""
    places: dict[tuple[Any, ...], dict[Role, list[Branch]]] = defaultdict(lambda: defaultdict(list))
    for branch in branches:
        for level, part in enumerate(branch.parts):
            if (role := role_told([part])) and not LABELS & {*tokens(part)}:
                place = (level, *branch.parts[:level], beside(part), *branch.parts[level + 1 :])
                places[place][role].append(branch)
    for (level, *_), roles in places.items():
        for one, other in product(roles["infrared"], roles["visible"]):
            words, more = ({word for word in tokens(at.parts[level]) if not is_role(word)} for at in (one, other))
            told = words <= more or more <= words  # crop_ir/ and crop_small_vi/; north_ir/ and south_vi/ are two places
            for (names, ending), (others, its) in product(_kinds(one), _kinds(other)):
                yield from _pair(one, other, names, others, (ending, its), told)


def _pair(
    one: Branch, other: Branch, names: list[str], others: list[str], endings: tuple[str, str], told: bool
) -> Iterator[Pairing]:
    made = pairing(names, others) if names and others else None
    if made:
        sides = _side(one, names, made[0], endings[0]), _side(other, others, made[1], endings[1])
        yield Pairing(sides, told)


def _side(branch: Branch, names: Iterable[str], pattern: Pattern, ending: str) -> Side:
    kept = {
        image.name: path
        for image, path in zip(branch.images, _paths(branch), strict=True)
        if not ending or image.ending.lower() == ending
    }
    files = {stem: kept[name] for stem, name in by_stem(list(names), pattern).items()}
    return Side(branch.parts, (f"{pattern.prefix}{STEM}{pattern.suffix}",), pattern.digits, ending, files)
