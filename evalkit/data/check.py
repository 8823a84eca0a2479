"""Checking a data set: what is there, what is missing, what cannot be read. One bad file never ends the check."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from evalkit.data.card import ROLES, Card, LabelClass, load_cards
from evalkit.data.images import decode, image_bytes, open_bytes, open_image, read_image, stored_bits
from evalkit.data.pairs import (
    THREADS,
    ImagePair,
    Place,
    combine_hashes,
    file_hash,
    find_pairs,
    list_folder,
    list_labels,
    locate,
    splits_present,
)
from evalkit.errors import DataError
from evalkit.files.read import read_text

Box = tuple[int, float, float, float, float]  # class id, centre x, centre y, width, height as parts of the image
Progress = Callable[[int, int], None]  # pairs done, pairs in this split
CORNERS = ("xmin", "ymin", "xmax", "ymax")
BORDER = 0.01  # how far a box may reach beyond its image: rounding, not a mistake


@dataclass
class LabelReport:
    """The labels of one kind in a split. `counts`: boxes or images by class; soft, binary and empty saliency masks."""

    format: str
    present: int = 0
    missing: list[str] = field(default_factory=list)
    malformed: list[tuple[str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass
class SplitReport:
    """What a split holds. `complete` is None where the card does not say how many pairs there are."""

    split: str | None
    layout: str = ""
    pairs: int = 0
    expected: int | None = None
    complete: bool | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    size_mismatches: list[str] = field(default_factory=list)
    modes: dict[str, dict[str, int]] = field(default_factory=dict)
    unpaired: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    duplicates: dict[str, list[list[str]]] = field(default_factory=dict)
    labels: dict[str, LabelReport] = field(default_factory=dict)
    hidden_files: int = 0
    other_files: int = 0
    content_hash: str | None = None
    reason: str | None = None

    def problems(self) -> list[str]:
        """What is wrong, a line each. Missing pairs of a smaller copy, duplicates and missing labels are not."""
        lines = [self.reason] if self.reason else []
        if self.expected is not None and self.pairs > self.expected:
            lines.append(f"{self.pairs} pairs, more than the {self.expected} of the data set")
        lines += [f"{stem}: no {role} image" for role, stem in self.unpaired]
        lines += [f"{path}: {reason}" for path, reason in self.unreadable]
        lines += self.size_mismatches
        for label in self.labels.values():
            lines += [f"{path}: {reason}" for path, reason in label.malformed]
        return lines


@dataclass
class DataReport:
    """What was found of a data set; `dataclasses.asdict` gives it as JSON. `reason` says why nothing was found."""

    dataset: str
    found: bool
    where: str | None = None
    layout: str | None = None
    reason: str | None = None
    splits: list[SplitReport] = field(default_factory=list)

    def problems(self) -> list[str]:
        """The problems of all splits, named by their split."""
        return [f"{s.split}: {line}" if s.split else line for s in self.splits for line in s.problems()]


def check_all(data_root: str | os.PathLike[str], progress: Progress | None = None) -> list[DataReport]:
    """Check every data set that has a card. Raises DataError where there is no such data root."""
    return [check_dataset(card, data_root, progress) for card in load_cards()]


def check_dataset(card: Card, data_root: str | os.PathLike[str], progress: Progress | None = None) -> DataReport:
    """Check a data set: counts, sizes, modes, partners, files that cannot be read, duplicates, labels.

    Args:
        card: the data set.
        data_root: the folder that holds it, or its own folder.
        progress: called after each pair with the number done and the number of the split.

    Raises:
        DataError: there is no such data root. Everything else is told in the report.
    """
    if not Path(data_root).is_dir():
        locate(card, data_root)  # raises, with the cure
    names = splits_present(card, data_root)
    try:
        place = locate(card, data_root, card.split(names[0]) if names and names[0] else None)
    except DataError as error:
        return DataReport(card.name, False, reason=str(error))
    report = DataReport(card.name, True, str(place.root), place.layout.name)
    report.splits = [_check_split(card, data_root, name, progress) for name in names]
    if not names:
        report.reason = "none of its splits can be told apart here"
    return report


@dataclass
class _Seen:
    """What one image file turned out to be."""

    path: Path
    hash: str = ""
    size: tuple[int, int] | None = None  # width, height
    mode: str = ""
    reason: str | None = None


@dataclass
class _SeenPair:
    pair: ImagePair
    images: dict[str, _Seen]
    labels: dict[str, tuple[str | None, list[str]]]  # what is wrong, what is in it


def _check_split(
    card: Card, data_root: str | os.PathLike[str], name: str | None, progress: Progress | None
) -> SplitReport:
    report = SplitReport(name, expected=card.expected(name))
    try:
        found = find_pairs(card, data_root, name)
        place = locate(card, data_root, card.split(name) if name else None)
    except DataError as error:
        report.reason = str(error)
        return report
    report.layout, report.pairs, report.unpaired = found.layout, len(found.pairs), list(found.unpaired)
    if report.expected is not None:
        report.complete = report.pairs == report.expected and not found.unpaired
    _count_strangers(report, place)
    seen = []
    with ThreadPoolExecutor(THREADS) as pool:
        for done, item in enumerate(pool.map(lambda pair: _look(card, place, pair), found.pairs), 1):
            seen.append(item)
            if progress:
                progress(done, len(found.pairs))
    _fill_images(report, seen)
    _fill_labels(report, place, seen)
    return report


def _count_strangers(report: SplitReport, place: Place) -> None:
    listings = [list_folder(place.folders[role], getattr(place.layout, role)) for role in ROLES]
    listings += [list_labels(place, kind) for kind in place.layout.labels]
    report.hidden_files = sum(listing.hidden for listing in listings)
    report.other_files = sum(listing.other for listing in listings)


def _fill_images(report: SplitReport, seen: list[_SeenPair]) -> None:
    sizes: Counter[str] = Counter()
    modes: dict[str, Counter[str]] = {role: Counter() for role in ROLES}
    stems_by_hash: dict[str, dict[str, list[str]]] = {role: defaultdict(list) for role in ROLES}
    for item in seen:
        for role, image in item.images.items():
            if image.hash:
                stems_by_hash[role][image.hash].append(item.pair.stem)
            if image.reason:
                report.unreadable.append((str(image.path), image.reason))
            else:
                modes[role][image.mode] += 1
        infrared, visible = (item.images[role].size for role in ROLES)
        if infrared and visible:
            if infrared == visible:
                sizes[_size(infrared)] += 1
            else:
                text = f"{item.pair.stem}: infrared {_size(infrared)}, visible {_size(visible)}"
                report.size_mismatches.append(text)
    report.sizes = dict(sizes.most_common())
    report.modes = {role: dict(counter.most_common()) for role, counter in modes.items()}
    same = {role: [stems for stems in by_hash.values() if len(stems) > 1] for role, by_hash in stems_by_hash.items()}
    same["both"] = [[i.pair.stem] for i in seen if i.images["infrared"].hash == i.images["visible"].hash != ""]
    report.duplicates = {role: groups for role, groups in same.items() if groups}
    if seen and all(image.hash for item in seen for image in item.images.values()):
        report.content_hash = combine_hashes((i.pair.stem, *(i.images[role].hash for role in ROLES)) for i in seen)


def _fill_labels(report: SplitReport, place: Place, seen: list[_SeenPair]) -> None:
    for kind, rule in place.layout.labels.items():
        label = LabelReport(rule.format)
        counts: Counter[str] = Counter()
        for item in seen:
            if kind not in item.labels:
                label.missing.append(item.pair.stem)
                continue
            reason, content = item.labels[kind]
            label.present += 1
            counts.update(content)
            if reason:
                label.malformed.append((str(item.pair.labels[kind]), reason))
        label.counts = dict(counts.most_common())
        report.labels[kind] = label


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _look(card: Card, place: Place, pair: ImagePair) -> _SeenPair:
    images: dict[str, _Seen] = {role: _look_at_image(getattr(pair, role)) for role in ROLES}
    size = images["visible"].size or images["infrared"].size
    labels = {}
    for kind, path in pair.labels.items():
        labels[kind] = _look_at_label(path, place.layout.labels[kind].format, card, size)  # type: ignore[index]
    return _SeenPair(pair, images, labels)


def _look_at_image(path: Path) -> _Seen:
    seen = _Seen(path)
    try:
        seen.hash = file_hash(path)
        pixels = read_image(path)
        seen.mode = _mode(path, pixels)
        seen.size = pixels.shape[1], pixels.shape[0]
    except DataError as error:
        seen.reason = str(error)
    return seen


def _mode(path: Path, pixels: NDArray[np.uint8]) -> str:
    """How a file stores its pixels, in words: 'gray 8-bit', 'RGB 8-bit, all gray', 'RGBA 8-bit', ..."""
    with open_image(path) as image:
        bits, mode = 1 if image.mode == "1" else stored_bits(image), image.mode
    name = {"1": "gray", "L": "gray", "LA": "gray with alpha", "P": "palette", "PA": "palette"}.get(mode, mode)
    name = "gray" if mode.startswith("I") else name
    colourless = pixels.ndim == 3 and bool((pixels == pixels[..., :1]).all())
    return f"{name} {bits}-bit{', all gray' if colourless else ''}"


def _look_at_label(path: Path, form: str, card: Card, size: tuple[int, int] | None) -> tuple[str | None, list[str]]:
    """What is wrong with a label file, and what is in it."""
    try:
        if form == "saliency":
            return _look_at_saliency(read_image(path), size)
        if form == "mask":
            names = {c.id: c.name for c in card.segmentation}
            ids = read_mask(path)
            _same_size(ids, size)
            unknown = sorted(set(np.unique(ids).tolist()) - set(names))
            known = [names[i] for i in np.unique(ids).tolist() if i in names]
            return (f"class ids {unknown} are not on the card" if unknown else None), known
        boxes = read_boxes(path, form, card.detection)
        names = {c.id: c.name for c in card.detection}
        return None, [names[box[0]] for box in boxes]
    except DataError as error:
        return str(error).removeprefix(f"{path}: "), []


def _look_at_saliency(mask: NDArray[np.uint8], size: tuple[int, int] | None) -> tuple[str | None, list[str]]:
    _same_size(mask, size)
    if mask.max() < 128:
        return None, ["empty"]
    return None, ["binary" if bool(np.isin(mask, (0, 255)).all()) else "soft"]


def _same_size(mask: NDArray, size: tuple[int, int] | None) -> None:
    if size and (mask.shape[1], mask.shape[0]) != size:
        raise DataError(f"is {mask.shape[1]}x{mask.shape[0]}, its image {_size(size)}")


def read_mask(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a segmentation mask as class ids, uint8 (H, W), as `decode_mask` does. Raises DataError."""
    return decode_mask(image_bytes(path), path)


def decode_mask(data: bytes, name: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The bytes of a segmentation mask as class ids: gray values, palette indices, or three equal channels.

    Raises:
        DataError: not readable, or in colours instead of ids.
    """
    with open_bytes(data, name) as image:
        if image.mode == "P":
            return np.array(image)
    pixels = decode(data, name)
    if pixels.ndim == 3:
        if not (pixels == pixels[..., :1]).all():
            raise DataError(f"{name}: is in colours, expected one class id per pixel")
        pixels = np.ascontiguousarray(pixels[..., 0])
    return pixels


def read_boxes(path: str | os.PathLike[str], form: str, classes: Iterable[LabelClass]) -> list[Box]:
    """Read the boxes of a YOLO text or VOC XML file, as class id and centre, width, height in parts of the image.

    An empty file means an image without objects.

    Args:
        path: the label file.
        form: "yolo" or "voc".
        classes: the classes that may occur; VOC names are compared whatever their case.

    Raises:
        DataError: not readable or not parseable, an unknown class, a box outside its image.
    """
    classes = list(classes)
    try:
        text = read_text(path)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    try:
        rows = _yolo_rows(text, {c.id for c in classes}) if form == "yolo" else _voc_rows(text, classes)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    return rows


def _yolo_rows(text: str, ids: set[int]) -> list[Box]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        parts = line.split()
        try:
            label, (x, y, w, h) = int(parts[0]), map(float, parts[1:])
        except (ValueError, IndexError):
            raise ValueError(f"line {number} is not 'class x y width height': {line.strip()[:60]!r}") from None
        if label not in ids:
            raise ValueError(f"line {number} has the class {label}, known are {sorted(ids)}")
        _inside(x, y, w, h, f"line {number}")
        rows.append((label, x, y, w, h))
    return rows


def _voc_rows(text: str, classes: list[LabelClass]) -> list[Box]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("declares entities, which label files have no use for")
    ids = {c.name.casefold(): c.id for c in classes}
    try:
        root = ElementTree.fromstring(text)
        width, height = (float(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
        names = [item.findtext("name", "").strip() for item in root.iter("object")]
        corners = [[float(o.findtext(f"bndbox/{k}", "")) for k in CORNERS] for o in root.iter("object")]
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"is not VOC XML with size and boxes ({error})") from None
    if not (width > 0 and height > 0):
        raise ValueError("states no image size")
    rows = []
    for name, (x0, y0, x1, y1) in zip(names, corners, strict=True):
        if name.casefold() not in ids:
            raise ValueError(f"has the class {name!r}, known are {sorted(ids)}")
        box = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height
        _inside(*box, f"the box of {name!r}")
        rows.append((ids[name.casefold()], *box))
    return rows


def _inside(x: float, y: float, w: float, h: float, what: str) -> None:
    values = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    # written so that NaN fails too
    if not (w > 0 and h > 0 and all(-BORDER <= value <= 1 + BORDER for value in values)):
        raise ValueError(f"{what} is not a box within the image")
