"""Checking a data set: what is there, what is missing, what cannot be read. One bad file never ends the check."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalkit.data.card import ROLES, Card
from evalkit.data.hashes import combine_hashes, file_hash
from evalkit.data.images import open_image, read_image, stored_bits
from evalkit.data.labels import read_boxes, read_mask, read_salient
from evalkit.data.pairs import THREADS, ImagePair, Place, find_pairs, list_folder, list_labels, locate, splits_present
from evalkit.errors import DataError

Progress = Callable[[int, int], None]  # pairs done, pairs in this split


@dataclass
class LabelReport:
    """The labels of one kind in a split.

    Attributes:
        counts: boxes or images by class; soft, binary and empty saliency masks.
        depths: "16-bit", "1-bit", ...: the masks that are not stored with 8 bits; a palette is told, too.
    """

    format: str
    present: int = 0
    missing: list[str] = field(default_factory=list)
    malformed: list[tuple[str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    depths: dict[str, list[str]] = field(default_factory=dict)


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
    """What is there of a data set; `dataclasses.asdict` gives it as JSON. `reason` says why nothing was found."""

    dataset: str
    present: bool
    where: str | None = None
    layout: str | None = None
    reason: str | None = None
    splits: list[SplitReport] = field(default_factory=list)

    def problems(self) -> list[str]:
        """The problems of all splits, named by their split."""
        return [f"{s.split}: {line}" if s.split else line for s in self.splits for line in s.problems()]


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
    depths: dict[str, str]  # of masks that are not 8-bit gray


def _check_split(
    card: Card, data_root: str | os.PathLike[str], name: str | None, progress: Progress | None
) -> SplitReport:
    report = SplitReport(name, expected=card.expected(name))
    try:
        pair_set = find_pairs(card, data_root, name)
        place = locate(card, data_root, card.split(name) if name else None)
    except DataError as error:
        report.reason = str(error)
        return report
    report.layout, report.pairs, report.unpaired = pair_set.layout, len(pair_set.pairs), list(pair_set.unpaired)
    if report.expected is not None:
        report.complete = report.pairs == report.expected and not pair_set.unpaired
    _count_strangers(report, place)
    seen = []
    with ThreadPoolExecutor(THREADS) as pool:
        for done, item in enumerate(pool.map(lambda pair: _look(card, place, pair), pair_set.pairs), 1):
            seen.append(item)
            if progress:
                progress(done, len(pair_set.pairs))
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
            if depth := item.depths.get(kind):
                label.depths.setdefault(depth, []).append(str(item.pair.labels[kind]))
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
    masks = [kind for kind in labels if place.layout.labels[kind].format in ("mask", "saliency")]  # type: ignore[index]
    return _SeenPair(pair, images, labels, {kind: _depth(pair.labels[kind]) for kind in masks})


def _depth(path: Path) -> str:
    """How a mask is stored, where it is not in 8-bit gray."""
    try:
        with open_image(path) as image:
            bits, palette = stored_bits(image), image.mode == "P"
    except DataError:  # told elsewhere
        return ""
    return "palette" if palette else "" if bits == 8 else f"{bits}-bit"


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
        bits, mode = stored_bits(image), image.mode
    name = {"1": "gray", "L": "gray", "LA": "gray with alpha", "P": "palette", "PA": "palette"}.get(mode, mode)
    name = "gray" if mode.startswith("I") else name
    colourless = pixels.ndim == 3 and bool((pixels == pixels[..., :1]).all())
    return f"{name} {bits}-bit{', all gray' if colourless else ''}"


def _look_at_label(path: Path, form: str, card: Card, size: tuple[int, int] | None) -> tuple[str | None, list[str]]:
    """What is wrong with a label file, and what is in it."""
    try:
        if form == "saliency":
            return _look_at_saliency(read_salient(path), size)
        if form == "mask":
            names = {c.id: c.name for c in card.segmentation}
            ids = read_mask(path)
            _same_size(ids, size)
            unknown = sorted(set(np.unique(ids).tolist()) - set(names))
            known = [names[i] for i in np.unique(ids).tolist() if i in names]
            return (f"class ids {unknown} are not on the card" if unknown else None), known
        boxes = read_boxes(path, form, card.detection, size)
        names = {c.id: c.name for c in card.detection}
        return None, [names[box[0]] for box in boxes]
    except DataError as error:
        return str(error).removeprefix(f"{path}: "), []


def _look_at_saliency(mask: NDArray[np.uint8], size: tuple[int, int] | None) -> tuple[str | None, list[str]]:
    _same_size(mask, size)
    if not mask.any():
        return None, ["empty"]
    return None, ["binary" if bool(np.isin(mask, (0, 255)).all()) else "soft"]


def _same_size(mask: NDArray, size: tuple[int, int] | None) -> None:
    if size and (mask.shape[1], mask.shape[0]) != size:
        raise DataError(f"is {mask.shape[1]}x{mask.shape[0]}, its image {_size(size)}")
