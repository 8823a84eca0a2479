"""Finding the pairs of a data set: by the stem of their file names, never by order."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from evalkit.data.card import ROLES, Card, Folder, LabelKind, Layout, Split
from evalkit.data.hashes import combine_hashes, file_hash
from evalkit.data.images import SUFFIXES
from evalkit.data.patterns import is_hidden, parse_pattern
from evalkit.errors import DataError
from evalkit.files.names import odd_character
from evalkit.files.read import read_text

LABEL_SUFFIXES = {"mask": SUFFIXES, "saliency": SUFFIXES, "yolo": (".txt",), "voc": (".xml",)}
THREADS = 4
DataRoot = str | os.PathLike[str] | tuple[Path, ...]  # one folder, or several


@dataclass(frozen=True)
class ImagePair:
    """An infrared and a visible image of one scene, and its labels by kind (classes, boxes, salient)."""

    stem: str
    infrared: Path
    visible: Path
    labels: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class PairSet:
    """The pairs of a data set or split, in natural order of their stems."""

    dataset: str
    split: str | None
    root: Path
    layout: str
    pairs: tuple[ImagePair, ...]
    unpaired: tuple[tuple[str, str], ...] = ()  # (role that is missing, stem)
    selected: str = ""  # which part of it this is, in words; empty for all of it

    def content_hash(self) -> str:
        """SHA-256 over the stems and the bytes of both images; independent of where and in which layout they lie."""
        files = [path for pair in self.pairs for path in (pair.infrared, pair.visible)]
        with ThreadPoolExecutor(THREADS) as pool:
            hashes = list(pool.map(file_hash, files))
        return combine_hashes((pair.stem, *hashes[2 * i : 2 * i + 2]) for i, pair in enumerate(self.pairs))


@dataclass(frozen=True)
class Listing:
    """The files of one folder: those that belong to its role, by stem, and how many others were passed over."""

    files: dict[str, Path]
    hidden: int = 0
    other: int = 0


@dataclass(frozen=True)
class Place:
    """Where a data set was found: its folder, the layout that fits, what {split} stood for, the folder of each role."""

    root: Path
    layout: Layout
    split: str
    folders: dict[str, Path]


def natural_key(stem: str) -> tuple[list[str | int], str]:
    """Sort key that counts: 2 before 10; equal numbers (1, 01) by their text, so that the order is one."""
    parts = re.split(r"([0-9]+)", stem)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], stem


def find_pairs(card: Card, data_root: DataRoot, split: str | None = None) -> PairSet:
    """Find the pairs of a data set below a data root, which may also be the data set's own folder.

    Args:
        card: the data set.
        data_root: the folder that holds it; of several the first that has all pairs that the split (or the whole data
            set) has by its card, else the first that has it at all.
        split: a split of the card; None means the card's default split, or everything where it has none.

    Returns:
        The pairs. A stem that lacks one of its two images is in `unpaired`, as (missing role, stem); so is, for both
        roles, a stem of a split's list that is not there at all.

    Raises:
        DataError: no data root; the data set is not in it; a folder without images; two files with one stem; a split
            that the layout found does not tell apart.
        UnknownNameError: a split that the card does not have.
    """
    split = card.default_split if split is None else split
    part = None if split is None else card.split(split)
    if isinstance(data_root, tuple):
        return _in_several(card, data_root, split)
    place = locate(card, data_root, part)
    if place.layout.by_folder and part is None:
        raise DataError(f"{card.name} comes in splits: name one of {', '.join(s.name for s in card.splits)}.")
    files = {role: list_folder(place.folders[role], getattr(place.layout, role)).files for role in ROLES}
    files["infrared"] = respell(files["infrared"], files["visible"])
    stems = set(files["infrared"]) | set(files["visible"])
    if part is not None:
        stems = _stems_of_split(card, place, part, stems)
    for role in ROLES:
        if not files[role]:
            raise DataError(f"{place.folders[role]} holds no images ({', '.join(SUFFIXES)}). {_cure(card)}")
    labels = {kind: respell(list_labels(place, kind).files, stems) for kind in place.layout.labels}
    ordered = sorted(stems, key=natural_key)
    pairs = tuple(
        ImagePair(
            stem,
            files["infrared"][stem],
            files["visible"][stem],
            {kind: files[stem] for kind, files in labels.items() if stem in files},
        )
        for stem in ordered
        if all(stem in files[role] for role in ROLES)
    )
    unpaired = tuple((role, stem) for stem in ordered for role in ROLES if stem not in files[role])
    return PairSet(card.name, split, place.root, place.layout.name, pairs, unpaired)


def _in_several(card: Card, roots: tuple[Path, ...], split: str | None) -> PairSet:
    """The pairs as the first root has them that has all; else the first that has some. Raises DataError."""
    begun: list[PairSet] = []
    errors: list[DataError] = []
    for root in roots:
        try:
            pairs = find_pairs(card, root, split)
        except DataError as error:
            errors.append(error)
            continue
        if not pairs.unpaired and card.expected(split) in (None, len(pairs.pairs)):
            return pairs
        begun.append(pairs)
    if not begun:
        others = f"It is not in {', '.join(map(str, roots[1:]))}, either. " if len(roots) > 1 else ""
        raise DataError(f"{errors[0]} {others}".strip())
    return begun[0]


def locate(card: Card, data_root: str | os.PathLike[str], split: Split | None = None) -> Place:
    """Where the data set (or its split) lies below the data root, in the first of its layouts that fits.

    Args:
        card: the data set; one that knows its own folder asks for no data root.
        data_root: the folder that holds it, or its own.
        split: whose folders are meant, where splits have folders of their own.

    Raises:
        DataError: no data root, no such data set in it, or one in a layout that cannot be read.
    """
    data_root = card.root or Path(data_root)
    if not data_root.is_dir():
        state = "is not a folder" if data_root.exists() else "does not exist"
        if card.root:
            raise DataError(f"{card.root}, the folder of {card.name}, {state}. Its `root:` is relative to the file.")
        raise DataError(f"the data root {data_root} {state}. Name another with --data-root or EVALKIT_DATA.")
    roots = dataset_folders(card, data_root)
    names = [split.place] if split else [s.place for s in card.splits]
    fitting = [place for root in roots for layout in card.layouts if (place := _fit(root, layout, names))]
    readable = [place for place in fitting if not place.layout.refuse]
    paired = [place for place in readable if _has_pairs(place)]
    if paired:  # the first; of layouts that differ in their labels only, the one whose labels are there
        alike = [place for place in paired if place.folders == paired[0].folders]
        return max(alike, key=lambda place: sum(label_folder(place, kind) is not None for kind in place.layout.labels))
    # images without a partner are reported against the first layout; two roles in one folder say nothing by themselves
    for place in readable:
        if place.layout.infrared.folder != place.layout.visible.folder:
            return place
    for place in fitting:
        if place.layout.refuse:
            raise DataError(f"{card.name} in {place.root} cannot be read as it is: {place.layout.refuse}")
    raise DataError(_not_found(card, data_root, roots, split))


def dataset_folders(card: Card, data_root: Path) -> list[Path]:
    """The folders that may hold the data set: below the data root, and the root itself where it has its name."""
    if card.root:
        return [card.root]
    places = [place for folder in card.folders if (place := resolve(data_root, folder))]
    names = {folder.split("/")[-1].casefold() for folder in card.folders}
    # without the name every data set with ir/ and vi/ would be found in a folder that holds those of another one
    if Path(os.path.abspath(data_root)).name.casefold() in names:
        places.append(data_root)
    return places


def resolve(root: Path, relative: str) -> Path | None:
    """The folder of that path below root, each part exactly or else whatever its case; None where there is none."""
    for part in relative.split("/"):
        if part in ("", "."):
            continue
        if part == "..":  # names come from records and tables, too
            return None
        exact = root / part
        try:
            if not exact.is_dir():
                exact = min(p for p in root.iterdir() if p.name.casefold() == part.casefold() and p.is_dir())
        except (OSError, ValueError):  # no such folder, or a name that no folder can have
            return None
        root = exact
    return root if root.is_dir() else None


def list_folder(folder: Path, rule: Folder, suffixes: Collection[str] = SUFFIXES) -> Listing:
    """The files of a folder by stem: those of the rule's pattern, or those in the folder itself, without the rule's
    prefix and suffix.

    Args:
        folder: where it lies.
        rule: which of its files are meant.
        suffixes: lower-case endings of the files that count.

    Raises:
        DataError: the folder cannot be listed, or two of its files have one stem.
    """
    if rule.files:
        return Listing(*parse_pattern(rule.files).listing(folder, suffixes))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror or error}") from None
    files: dict[str, Path] = {}
    hidden = other = 0
    for entry in entries:
        if is_hidden(entry.name):
            hidden += 1
            continue
        # composed characters: the same name is stored in two ways by different file systems
        stem, suffix = os.path.splitext(unicodedata.normalize("NFC", entry.name))
        fits = stem.startswith(rule.prefix) and stem.endswith(rule.suffix)
        inner = stem[len(rule.prefix) : len(stem) - len(rule.suffix)] if fits else ""
        if suffix.lower() not in suffixes or not inner or not _is_file(entry):
            other += 1
            continue
        if odd := odd_character(inner):
            raise DataError(f"{folder} holds the file {entry.name!a}, whose name has {odd}. Rename it.")
        if inner in files:
            raise DataError(
                f"{folder} holds two files for {inner!r}: {files[inner].name} and {entry.name}. Remove one."
            )
        files[inner] = Path(entry.path)
    return Listing(files, hidden, other)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def image_files(folder: str | os.PathLike[str], allow_empty: bool = False) -> dict[str, Path]:
    """The images of a plain folder by stem, in natural order.

    Raises:
        DataError: no such folder, no images in it, or two files with one stem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        if folder.exists():
            raise DataError(f"{folder} is a file, not a folder. Name a folder of images, or one image of each kind.")
        raise DataError(f"the folder {folder} does not exist. Name a folder of {', '.join(SUFFIXES)} images.")
    files = list_folder(folder, Folder(folder=".")).files
    if not files and not allow_empty:
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))
        cure = f" It holds the folders {', '.join(inside[:3])}{', ...' if len(inside) > 3 else ''}: name one of them."
        raise DataError(f"the folder {folder} holds no images ({', '.join(SUFFIXES)}).{cure if inside else ''}")
    return {stem: files[stem] for stem in sorted(files, key=natural_key)}


def label_folder(place: Place, kind: LabelKind) -> Path | None:
    """The folder of a kind of labels, where it is there."""
    return resolve(place.root, place.layout.labels[kind].folder.replace("{split}", place.split))


def list_labels(place: Place, kind: LabelKind) -> Listing:
    """The label files of a kind by stem; none where the folder is missing. Raises DataError as list_folder does."""
    rule, folder = place.layout.labels[kind], label_folder(place, kind)
    return list_folder(folder, rule, LABEL_SUFFIXES[rule.format]) if folder else Listing({})


def respell(files: dict[str, Path], stems: Collection[str]) -> dict[str, Path]:
    """The files under the spelling of `stems` where only the case differs and no doubt is left, else their own."""
    missing = defaultdict(list)
    for stem in stems:
        if stem not in files:
            missing[stem.casefold()].append(stem)
    alone = Counter(stem.casefold() for stem in files if stem not in stems)
    spelled = {}
    for stem, path in files.items():
        near = missing[stem.casefold()] if stem not in stems and alone[stem.casefold()] == 1 else []
        spelled[near[0] if len(near) == 1 else stem] = path
    return spelled


def splits_present(card: Card, data_root: str | os.PathLike[str]) -> list[str | None]:
    """The splits that `find_pairs` can find below this data root; [None] where the data set lies there undivided.

    A split whose stems the card lists is there where all of its pairs are.
    """
    named: list[str | None] = []
    complete: list[str | None] = []
    for split in card.splits:
        try:
            place = locate(card, data_root, split)
            _stems_of_split(card, place, split, set())
            if split.stems and not set(split.stems) <= _stems_of_both(place):
                continue
        except DataError:
            continue
        named.append(split.name)
        complete += [split.name] if split.stems else []
    try:
        layout = locate(card, data_root).layout
    except DataError:
        return named
    if layout.by_folder or len(layout.serves) == 1 or (layout.lists is not None and named):
        return named
    return [None, *complete]


def _stems_of_both(place: Place) -> set[str]:
    """Stems of which both images are there. Raises DataError: a folder cannot be listed."""
    infrared, visible = (list_folder(place.folders[r], getattr(place.layout, r)).files for r in ROLES)
    return set(infrared) & set(visible)


def _fit(root: Path, layout: Layout, splits: list[str]) -> Place | None:
    """The folders of both roles, of the first of the splits for which they exist."""
    for split in splits if layout.by_folder else [""]:
        infrared, visible = (resolve(root, getattr(layout, r).folder.replace("{split}", split)) for r in ROLES)
        if infrared and visible:
            return Place(root, layout, split, {"infrared": infrared, "visible": visible})
    return None


def _has_pairs(place: Place) -> bool:
    """Whether some stem has both images; True also where the folders cannot be listed, for the error to be told."""
    try:
        infrared, visible = (list_folder(place.folders[r], getattr(place.layout, r)).files for r in ROLES)
    except DataError:
        return True
    return bool(respell(infrared, visible).keys() & visible.keys())


def _stems_of_split(card: Card, place: Place, split: Split, stems: set[str]) -> set[str]:
    """The stems of a split: those its folder holds, or its list names.

    Raises:
        DataError: the layout does not tell its splits apart.
    """
    layout = place.layout
    if layout.by_folder:
        return stems
    if split.stems:
        return set(split.stems)
    if layout.lists is not None:
        file = place.root / layout.lists.replace("{split}", split.place)
        if file.is_file():
            return _read_list(file)
    if split.name in layout.serves:
        if split.pairs is not None and len(stems) > split.pairs:
            raise DataError(
                f"{place.root} holds {len(stems)} pairs in one folder, but the split {split.name!r} of {card.name} has "
                f"{split.pairs}. {_cure(card)}"
            )
        return stems
    raise DataError(f"{place.root} does not tell which pairs are the split {split.name!r}. {_cure(card)}")


def _read_list(file: Path) -> set[str]:
    lines = read_text(file).splitlines()
    names = (unicodedata.normalize("NFC", line.strip()).split("/")[-1] for line in lines if line.strip())
    stems = {os.path.splitext(n)[0] if n.lower().endswith(SUFFIXES) else n for n in names}
    if not stems:
        raise DataError(f"{file} lists no images. Copy it again from the data set.")
    return stems


def layout_tree(card: Card) -> str:
    """The layouts of a card as small trees, official first."""
    blocks = []
    for layout in (layout for layout in card.layouts if not layout.refuse):
        rows = [(layout.infrared.folder, f"{card.modalities.infrared}{_affixes(layout.infrared)}")]
        rows += [(layout.visible.folder, f"{card.modalities.visible}{_affixes(layout.visible)}")]
        rows += [
            (labels.folder, f"labels: {kind} ({labels.format}), optional") for kind, labels in layout.labels.items()
        ]
        rows += [(layout.lists, "stems of the split, one a line")] if layout.lists else []
        width = max(len(path) for path, _ in rows)
        lines = [f"{layout.name}: {card.folders[0]}/", *(f"    {path:<{width}}  {meaning}" for path, meaning in rows)]
        blocks.append("\n".join(lines))
    splits = ", ".join(s.place for s in card.splits)
    if splits and any(layout.by_folder or layout.lists for layout in card.layouts):
        blocks.append(f"where {{split}} is one of: {splits}")
    return "\n".join(blocks)


def _affixes(folder: Folder) -> str:
    if folder.files:
        return f", named {folder.files}"
    return f", named {folder.prefix}<stem>{folder.suffix}" if folder.prefix or folder.suffix else ""


def _cure(card: Card) -> str:
    return f"Expected one of these layouts:\n{layout_tree(card)}\nGet it from: {card.source}"


def _not_found(card: Card, data_root: Path, roots: list[Path], split: Split | None) -> str:
    if card.root:
        called = [f"{folder.folder}/{folder.files}" for folder in (card.layouts[0].infrared, card.layouts[0].visible)]
        return (
            f"{card.name}: there are no images called {' and '.join(called)}. Patterns are relative to the file, or to "
            "its `root:`; where that is not there, to the data root."
        )
    subject = f"{card.name}, split {split.name!r}," if split else card.name
    where = f"there is no folder {card.folders[0]}"
    if roots:
        inside = sorted(p.name for p in roots[0].iterdir() if p.is_dir() and not is_hidden(p.name))
        where = f"{roots[0]} holds the folders {', '.join(inside)}" if inside else f"{roots[0]} holds no folders"
    return f"{subject} is not in {data_root}: {where}. {_cure(card)}"
