"""Data sets in a folder, from the names of its files: those that have cards, and others whose images pair by name.

Images pair where their names are one after a prefix, a suffix or zeros in front are taken away, never by order. Which
role is which is told by words (ir, thermal, vis, rgb, ...); where no word tells, both readings are given.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from evalkit.data.card import Card, load_cards
from evalkit.data.explain import STEM
from evalkit.data.images import SUFFIXES
from evalkit.data.pairings import Finder, Pairing, Side, is_role
from evalkit.data.pairs import PairSet, dataset_folders, find_pairs, natural_key, splits_present
from evalkit.data.patterns import parse_pattern
from evalkit.data.tree import MOST, read_tree
from evalkit.data.words import SEPARATORS, TRAINING, says_nothing, tokens
from evalkit.errors import EvalkitError
from evalkit.files.names import look, odd_name

PARTS = TRAINING | {"test", "testing", "testset"}
_UNWRITABLE = re.compile(r"[{}*\\]+")


@dataclass(frozen=True)
class Candidate:
    """One way to read a data set.

    Attributes:
        name: of the card, or after the folder.
        stems: of its pairs.
        alone: stems of which one image is missing.
        root: of one without a card: the folder, relative to the one that was looked at.
        infrared, visible: of one without a card: the patterns, relative to `root`.
        card, split: of one that has a card; the split where the card's default is not meant.
        example: the files of the first pair, relative to the folder that was looked at.
    """

    name: str
    stems: frozenset[str]
    alone: tuple[str, ...] = ()
    root: str = ""
    infrared: str = ""
    visible: str = ""
    card: Card | None = None
    split: str | None = None
    example: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Unclear:
    """A data set with more than one reading, of which none is taken."""

    text: str
    readings: tuple[Candidate, ...]


@dataclass(frozen=True)
class Discovery:
    """What a folder holds.

    Attributes:
        taken: data sets with one reading.
        aside: those for training or validation where one for testing lies beside them.
        unclear: those with more than one reading.
        left: folder -> names of images that no data set has.
        folders: real paths of the folders that hold source images for sure.
        notes: what was not looked at.
    """

    taken: tuple[Candidate, ...]
    aside: tuple[Candidate, ...] = ()
    unclear: tuple[Unclear, ...] = ()
    left: tuple[tuple[str, tuple[str, ...]], ...] = ()
    folders: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def discover(data: str | os.PathLike[str], skip: Collection[str] = (), most: int = MOST) -> Discovery:
    """The data sets in a folder. Names of files alone are read.

    Args:
        data: the folder.
        skip: real paths of folders that are left out, such as that of the fused images.
        most: how many files and folders are looked at.

    Raises:
        DataError: `data` is not a folder.
    """
    root = Path(data)
    carded, unclear, homes = _carded(root)
    tree = read_tree(root, {*skip, *homes}, most)
    finder = Finder(tree)
    finder.look()
    clear, others = finder.decide()
    clear, aside = _without_training(clear)
    names = _name([*clear, *aside, *(one for some in others for one in some[1][:1])], root, carded)
    taken = [*carded, *(_placed(one, names) for one in clear)]
    for text, some in others:
        names |= {id(one): names[id(some[0])] for one in some}
        readings = tuple(_placed(one, names) for one in some)
        unclear.append(Unclear(f"{readings[0].name}: {text}. Keep the one that is meant.", readings))
    broken = [one for one in taken if not one.card and not _reads(one, root)]
    unclear += [
        Unclear(
            f"{one.name}: no pattern can say the names of {one.example[0]} and {one.example[1]}. Rename what holds "
            "{, }, * or \\, or ends twice.",
            (),
        )
        for one in broken
    ]
    lonely = {path for one in clear for side in one.sides for path in side.files.values()}  # `alone` names them
    left = tuple((branch.path, rest) for branch in tree.branches if (rest := finder.rest(branch, lonely)))
    folders = homes | {os.path.realpath(root / path) for path in finder.told_places()}
    taken = [one for one in taken if one not in broken]
    unmeasured = tuple(_placed(one, names) for one in aside)
    return Discovery(tuple(taken), unmeasured, tuple(unclear), left, frozenset(folders), tree.notes)


def _carded(root: Path) -> tuple[list[Candidate], list[Unclear], set[str]]:
    """The data sets with cards: those with one reading, those with several; the real paths of their folders."""
    taken, unclear, homes = [], [], set()
    try:
        names = {name.casefold() for name in (*os.listdir(root), os.path.basename(os.path.abspath(root)))}
    except OSError:  # read_tree says why
        names = set()
    for card in load_cards():
        # each folder of a card is looked for in all of the root's names; most cards have none
        if not names & {p.casefold() for folder in card.folders for p in folder.split("/")}:
            continue
        if not dataset_folders(card, root):
            continue
        present = [split for split in splits_present(card, root) if split or not card.default_split]
        readings: dict[str | None, PairSet] = {}
        for split in present:
            try:
                readings[split] = find_pairs(card, root, split)
            except EvalkitError:  # its folders may be read without the card
                continue
        homes |= {os.path.realpath(pairs.root) for pairs in readings.values()}
        whole = {split: _of_card(card, split, pairs, root) for split, pairs in readings.items() if pairs.pairs}
        if (part := _same_part(card, whole)) is not None:
            taken.append(part)
        elif card.default_split in whole:
            taken.append(replace(whole[card.default_split], split=None))
        elif len(whole) == 1:
            taken += whole.values()
        elif whole:
            several = " or ".join(map(str, whole))
            text = f"{card.name} may be its split {several}. Keep the one that is meant."
            unclear.append(Unclear(text, tuple(whole.values())))
    return taken, unclear, homes


def _same_part(card: Card, whole: Mapping[str | None, Candidate]) -> Candidate | None:
    """The one split that is complete and is all that is there, where more was expected of the whole."""
    if None not in whole or len(whole[None].stems) == card.pairs:
        return None
    parts = [one for split, one in whole.items() if split and len(one.stems) == card.expected(split)]
    same = [one for one in parts if one.stems == whole[None].stems]
    return same[0] if len(same) == 1 else None


def _of_card(card: Card, split: str | None, pairs: PairSet, root: Path) -> Candidate:
    first = pairs.pairs[0]
    example = os.path.relpath(first.infrared, root), os.path.relpath(first.visible, root)
    alone = tuple(dict.fromkeys(stem for _, stem in pairs.unpaired))
    return Candidate(
        card.name, frozenset(pair.stem for pair in pairs.pairs), alone, card=card, split=split, example=example
    )


def _without_training(pairings: list[Pairing]) -> tuple[list[Pairing], list[Pairing]]:
    """Those to measure on, and those for training where one that is not lies beside them."""
    parts: dict[tuple[str, ...], list[Pairing]] = defaultdict(list)
    for one in pairings:
        parts[_place(one)].append(one)
    measured, aside = [], []
    for some in parts.values():
        training = [one for one in some if TRAINING & {word for part in one.sides[0].folder for word in tokens(part)}]
        measured += [one for one in some if one not in training] or training
        aside += training if len(training) < len(some) else []
    return measured, aside


def _words_of(pairing: Pairing) -> list[str]:
    """The parts that the paths of both sides have, without the words of roles."""
    words: list[list[str]] = []
    for side in pairing.sides:
        words.append([])
        for part in side.folder:
            split = re.split(r"[-_. ]+|(?<=[a-z])(?=[A-Z])", part)
            kept = [word for word in split if not is_role(word.casefold())]
            words[-1].append(part if kept == split else "_".join(kept))
    return [word for word in words[0] if word in words[1] and word.strip(SEPARATORS)]


def _place(pairing: Pairing) -> tuple[str, ...]:
    """Where a data set lies, without the names of its parts."""
    return tuple(word for word in _words_of(pairing) if word.casefold() not in PARTS)


def _name(pairings: list[Pairing], root: Path, carded: list[Candidate]) -> dict[int, str]:
    """A name for each pairing, by its id: the last folder's that says something; longer where two are alike."""
    taken = {look(one.name) for one in carded}
    places = [[word for word in _place(one) if not says_nothing(word)] for one in pairings]
    own = os.path.basename(os.path.abspath(root)) or "data"
    names: dict[int, str] = {}
    for one, words in zip(pairings, places, strict=True):
        parts = [word for word in _words_of(one) if word.casefold() in PARTS]
        options = [
            *("-".join(words[-count:]) for count in range(1, len(words) + 1)),
            *([own] if not words else []),
            "-".join([*(words or [own]), *parts]),
        ]
        usable = next((option for option in reversed(options) if not odd_name(option)), "data")
        options += [usable, *(f"{usable}-{number}" for number in range(2, len(pairings) + len(taken) + 3))]
        name = next(name for name in options if look(name) not in taken and not odd_name(name))
        names[id(one)] = name
        taken.add(look(name))
    return names


def _placed(pairing: Pairing, names: Mapping[int, str]) -> Candidate:
    infrared, visible = pairing.sides
    same = [one == other for one, other in zip(infrared.folder, visible.folder, strict=False)]
    common = [*same, False].index(False)
    stems = pairing.pairs
    known = {stem.casefold() for stem in stems}
    alone = {stem for side in pairing.sides for stem in side.files if stem.casefold() not in known}
    first = min(stems, key=natural_key)
    return Candidate(
        names[id(pairing)],
        frozenset(stems),
        tuple(sorted(alone, key=natural_key)),
        "/".join(infrared.folder[:common]) or ".",
        _written(infrared, common),
        _written(visible, common),
        example=stems[first],
    )


def _written(side: Side, common: int) -> str:
    """The pattern of a side, from the folder that both have in common."""
    stem = f"{{stem:0{side.digits}}}" if side.digits else "{stem}"
    parts = [*side.folder[common:], *side.parts]
    return "/".join(stem.join(_UNWRITABLE.sub("*", text) for text in part.split(STEM)) for part in parts) + side.ending


def _reads(one: Candidate, root: Path) -> bool:
    """Whether the patterns give the images that they were made from, where that is not plain."""
    patterns = (one.infrared, one.visible)
    if not any("*" in text or text.lower().endswith(SUFFIXES) for text in patterns):
        return True
    try:
        listed = [parse_pattern(text).listing(root / one.root)[0] for text in patterns]
    except EvalkitError:
        return False
    given = [{stem.casefold() for stem in files} for files in listed]
    return all({stem.casefold() for stem in one.stems} <= stems for stems in given)
