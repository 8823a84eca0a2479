"""Labels as they are stored: class ids, salient objects, boxes. The one place that says what a label file means.

Ids are ids: the stored number of a pixel, whatever its bit depth or palette, never a level. What may mean two things is
refused with a sentence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from evalkit.data.damage import png_damage
from evalkit.data.images import (
    Gray,
    decode,
    image_bytes,
    is_misread_bmp,
    is_white_zero,
    open_bytes,
    read_gray_bmp,
    stored_bits,
    to_gray,
)
from evalkit.errors import DataError, EvalkitError
from evalkit.files.read import read_text

if TYPE_CHECKING:  # a tenth of a second, which workers that measure do without
    from evalkit.data.card import LabelClass, LabelKind
    from evalkit.data.pairs import PairSet

Box = tuple[int, float, float, float, float]  # class id, centre x, centre y, width, height as parts of the image
CORNERS = ("xmin", "ymin", "xmax", "ymax")
BORDER = 0.01  # how far a box may reach beyond its image: rounding, not a mistake; what lies beyond is cut off
OBJECT = 128  # a pixel above this level belongs to a salient object
# Written so that no text makes them slow; float() and int() alone would take "1_0", "nan" and other alphabets' digits
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_CLASS = re.compile(r"(\d{1,9})(\.0*)?", re.ASCII)


def labelled(pairs: PairSet, kind: LabelKind) -> PairSet:
    """The pairs that have a label of this kind. Raises EvalkitError where none has."""
    kept = tuple(pair for pair in pairs.pairs if kind in pair.labels)
    if not kept:
        title = {"boxes": "boxes of objects", "classes": "masks of classes", "salient": "masks of salient objects"}[
            kind
        ]
        raise EvalkitError(
            f"{pairs.dataset} in {pairs.root} has {len(pairs.pairs)} pairs but no {title}: nothing can be learned from "
            f"it. `evalkit show {pairs.dataset}` says where its labels are expected."
        )
    return replace(pairs, pairs=kept, selected="")


def read_mask(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a segmentation mask as class ids, uint8 (H, W), as `decode_mask` does. Raises DataError."""
    return decode_mask(image_bytes(path), path)


def decode_mask(data: bytes, name: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The bytes of a segmentation mask as class ids, uint8 (H, W).

    Gray of 1, 2, 4, 8 or 16 bits, palette indices, or three equal 8-bit channels; alpha is dropped. An id is the stored
    number: 1 in a 1-bit mask and in a 16-bit one.

    Raises:
        DataError: not readable; in colours instead of ids; a JPEG, which keeps no ids; 16-bit ids above 255; a TIFF
            that stores white as zero; a palette of grays that are not their own indices, where either may be the id.
    """
    with open_bytes(data, name) as image:
        bits, form, mode = stored_bits(image), image.format, image.mode
        if form == "JPEG":
            raise DataError(f"{name}: is a JPEG, whose compression changes class ids. Save the mask as PNG.")
        if is_white_zero(image):
            raise DataError(f"{name}: stores white as zero, so that its ids may be turned round. Save it as PNG.")
        if form == "PNG" and (damage := png_damage(data)):
            raise DataError(f"{name}: is damaged ({damage}). Copy or export it again.")
        if mode == "P":
            return _indices(image, name)
        if mode in ("1", "L") or mode.startswith("I"):
            if is_misread_bmp(data, image):
                return read_gray_bmp(data) // np.uint8(255 if mode == "1" else 1)
            stored = np.array(image)
            if mode == "1":
                return stored.astype(np.uint8)
            if mode == "L":  # Pillow spreads fewer bits over 0..255
                return stored // np.uint8(255 // (2**bits - 1)) if bits < 8 else stored
            if stored.min() < 0 or stored.max() > 255:
                raise DataError(
                    f"{name}: holds the value {stored.max() if stored.max() > 255 else stored.min()} in {bits} bits, "
                    "and class ids run from 0 to 255. Save the ids themselves as 8-bit PNG."
                )
            return stored.astype(np.uint8)
        if bits > 8:
            raise DataError(f"{name}: has {bits} bits in several channels. Save the ids as 8-bit gray PNG.")
    pixels = decode(data, name)
    if pixels.ndim == 3:
        if not (pixels == pixels[..., :1]).all():
            raise DataError(f"{name}: is in colours, expected one class id per pixel")
        pixels = np.ascontiguousarray(pixels[..., 0])
    return pixels


def _indices(image, name: str | os.PathLike[str]) -> NDArray[np.uint8]:  # type: ignore[no-untyped-def]
    """The indices of a palette image, unless its palette is gray and its grays may be the ids as well."""
    indices = np.array(image)
    palette = _palette(image)
    used = np.unique(indices)
    colours = palette[used[used < len(palette)]]
    if len(colours) < len(used):
        raise DataError(f"{name}: holds the palette index {used.max()}, but its palette has {len(palette)} colours.")
    levels = colours[:, 0]
    gray = bool((colours == levels[:, None]).all())
    if gray and not np.array_equal(levels, used) and not np.isin(levels, (0, 255)).all():
        raise DataError(
            f"{name}: has a gray palette whose levels {_few(levels)} are not their indices {_few(used)}: either may be "
            "the class ids. Save the ids as 8-bit gray PNG."
        )
    return indices


def _palette(image) -> NDArray[np.uint8]:  # type: ignore[no-untyped-def]
    return np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def _few(numbers: NDArray) -> str:
    return ", ".join(map(str, numbers[:9].tolist())) + (", ..." if len(numbers) > 9 else "")


def read_salient(path: str | os.PathLike[str]) -> Gray:
    """Read the true mask of salient objects as gray (H, W), as `decode_salient` does. Raises DataError."""
    return decode_salient(image_bytes(path), path)


def decode_salient(data: bytes, name: str | os.PathLike[str]) -> Gray:
    """The bytes of a true mask of salient objects as gray uint8 (H, W): pixels above OBJECT are objects.

    Raises:
        DataError: not readable, or not black but without a pixel above OBJECT: it would count as a mask without object.
    """
    mask = to_gray(decode(data, name))
    if reason := empty_by_level(mask):
        raise DataError(f"{name}: {reason}")
    return mask


def empty_by_level(mask: Gray) -> str:
    """Why a true mask would count as one without objects though it is not black; empty where it would not."""
    high = int(mask.max())
    if not 0 < high <= OBJECT:
        return ""
    cure = "Multiply it by 255." if high == 1 else "Save it with 0 and 255."
    held = "0 and 1 only" if high == 1 else f"no level above {high}"
    return f"ground truth holds {held}, and objects are > {OBJECT}. {cure}"


def read_boxes(
    path: str | os.PathLike[str], form: str, classes: Iterable[LabelClass], size: tuple[int, int] | None = None
) -> list[Box]:
    """Read the boxes of a YOLO text or VOC XML file, as class id and centre, width, height in parts of the image.

    An empty file means an image without objects. A box may reach beyond its image by BORDER, and is cut off there.

    Args:
        path: the label file.
        form: "yolo" or "voc".
        classes: the classes that may occur; VOC names are compared whatever their case.
        size: width and height of the image, which a VOC file must state; None where they are not known.

    Raises:
        DataError: not readable or not parseable, an unknown class, a box outside its image, or another image size.
    """
    classes = list(classes)
    try:
        text = read_text(path)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    try:
        if form == "yolo":
            return parse_boxes(text, {c.id for c in classes})
        return _voc_rows(text, classes, size)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def boxes_form(path: Path) -> str:
    """The format of a box file by its suffix: "voc" or "yolo"."""
    return "voc" if path.suffix.lower() == ".xml" else "yolo"


def parse_boxes(text: str, ids: Collection[int]) -> list[Box]:
    """Boxes from YOLO lines `class x y width height`, centre and size as parts of the image; empty lines are skipped.

    Raises:
        ValueError: a line of other than five fields (e.g. polygons), a class not among `ids`, what is not a number, a
            box without area or one that reaches beyond the image by more than BORDER; the message names the line.
    """
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split()
        if not fields:
            continue
        where = f"line {number}"
        if len(fields) != 5:
            raise ValueError(f"{where}: {len(fields)} fields, expected 5: class x y width height.")
        matched = _CLASS.fullmatch(fields[0])
        if not matched or int(matched[1]) not in ids:
            raise ValueError(f"{where}: class {fields[0][:40]!r} is not an id {_range(ids)}.")
        for item in fields[1:]:
            if not _NUMBER.fullmatch(item) or not abs(float(item)) <= 1 + BORDER:
                raise ValueError(f"{where}: {item[:40]!r} is not a number in [0, 1]; boxes are relative to the image.")
        x, y, w, h = map(float, fields[1:])
        rows.append((int(matched[1]), *_inside(x, y, w, h, where)))
    return rows


def _range(ids: Collection[int]) -> str:
    known = sorted(ids)
    return f"from 0 to {len(known) - 1}" if known == list(range(len(known))) else f"among {known}"


def _voc_rows(text: str, classes: list[LabelClass], size: tuple[int, int] | None) -> list[Box]:
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
    if size is not None and (width, height) != size:
        raise ValueError(f"states {width:g}x{height:g} pixels, its image has {size[0]}x{size[1]}")
    rows = []
    for name, (x0, y0, x1, y1) in zip(names, corners, strict=True):
        if name.casefold() not in ids:
            raise ValueError(f"has the class {name!r}, known are {sorted(ids)}")
        box = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height
        rows.append((ids[name.casefold()], *_inside(*box, f"the box of {name!r}")))
    return rows


def _inside(x: float, y: float, w: float, h: float, where: str) -> tuple[float, float, float, float]:
    """A box, cut off at the border of its image; the same numbers where it lies within. Raises ValueError."""
    x0, y0, x1, y1 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if x0 == x1 or y0 == y1:  # also where the size is lost in rounding
        raise ValueError(f"{where}: a box of size {w} x {h} has no area.")
    # written so that NaN fails too
    if not (w > 0 and h > 0 and all(-BORDER <= value <= 1 + BORDER for value in (x0, y0, x1, y1))):
        raise ValueError(f"{where}: not a box within the image, for it spans {x0:g} to {x1:g} and {y0:g} to {y1:g}.")
    if min(x0, y0) >= 0 and max(x1, y1) <= 1:
        return x, y, w, h
    x0, y0, x1, y1 = (min(max(value, 0.0), 1.0) for value in (x0, y0, x1, y1))
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"{where}: a box outside the image.")
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
