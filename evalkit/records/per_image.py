"""The per-image scores that a record's means come from: read strictly, hashed and averaged again."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.data.hashes import digest
from evalkit.errors import DataError
from evalkit.files.names import from_cell
from evalkit.files.read import parse_json, read_file
from evalkit.metrics.evaluate import REVISION
from evalkit.metrics.saliency import MEASURES

DIGEST = "digest"  # the last column: of a row's cells; files of earlier versions lack it
FIRST, LAST = ["image", "key"], (["missing"], ["holes"])  # around the metrics, but for the digest; holes: of 0.1
NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")  # as evalkit writes it; float() takes more, such as 1_0.5


@dataclass(frozen=True)
class ImageRow:
    """One image: the key of what it was measured on, a value per metric, None where it is missing, and the reasons."""

    key: str
    values: dict[str, float | None]
    missing: dict[str, str]


@dataclass(frozen=True)
class PerImage:
    """The rows of a score file by image."""

    metrics: tuple[str, ...]
    rows: dict[str, ImageRow]

    def mean(self, metric: str) -> float | None:
        """Mean over all images; None where one of them has no value: no mean is taken over missing values."""
        values = list(self.column(metric).values())
        if not values or any(value is None for value in values):
            return None
        return math.fsum(value for value in values if value is not None) / len(values)

    def column(self, metric: str) -> dict[str, float | None]:
        """Image -> value."""
        return {image: row.values[metric] for image, row in self.rows.items()}

    def hash(self) -> str:
        """SHA-256 of the content: images, keys, values, reasons; whatever the order of rows, columns and line ends."""
        digest = hashlib.sha256()
        for image in sorted(self.rows):
            row = self.rows[image]
            line = json.dumps([image, row.key, row.values, row.missing], ensure_ascii=False, sort_keys=True)
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()


def read_per_image(path: Path) -> PerImage:
    """Read a score file (`scores/<dataset>/<method>.csv` of a run). Raises DataError naming the line that is wrong."""
    return parse_per_image(read_file(path), str(path))


def parse_per_image(data: bytes, path: str) -> PerImage:
    """A score file from its bytes; `path` is for the messages. Raises DataError."""
    try:
        lines = list(csv.reader(io.StringIO(data.decode(), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    header = lines[0] if lines else []
    digests = header[-1:] == [DIGEST]
    columns = header[:-1] if digests else header
    if columns[:2] != FIRST or columns[-1:] not in LAST or len(set(header)) != len(header):
        as_read = ",".join(header)
        raise DataError(f"{path} is not a score file: its header is {as_read!r}, expected image,key,...,missing.")
    metrics = tuple(columns[2:-1])
    rows: dict[str, ImageRow] = {}
    for number, line in enumerate(lines[1:], 2):
        try:
            if digests and (len(line) != len(header) or line[-1] != row_digest(header, line[:-1])):
                raise ValueError("it is not as it was measured: its digest is not that of its cells")
            row = parse_row(metrics, line[: len(columns)] if digests else line)
        except (ValueError, DataError) as error:
            raise DataError(f"{path}, line {number}: {error}.") from None
        image = from_cell(line[0])
        if image in rows:
            raise DataError(f"{path}, line {number}: the image {image!r} is already there.")
        rows[image] = row
    return PerImage(metrics, rows)


def row_digest(header: Sequence[str], cells: Sequence[str]) -> str:
    """What a row's last cell says of the others, as they are written, in 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps([list(header), list(cells)]).encode()).hexdigest()[:16]


def parse_row(metrics: Sequence[str], line: Sequence[str]) -> ImageRow:
    """The cells of one image, without its digest. Raises ValueError or DataError, saying what is wrong."""
    if len(line) != len(metrics) + 3:
        raise ValueError(f"{len(line)} cells, expected {len(metrics) + 3}")
    cells = dict(zip(metrics, line[2:-1], strict=True))
    values = {m: float(text) if text else None for m, text in cells.items()}
    if written := [text for text in cells.values() if text and not NUMBER.fullmatch(text)]:
        raise ValueError(f"{written[0]!r} is not a number; a missing value is an empty cell with its reason")
    if odd := [m for m, value in values.items() if value is not None and not math.isfinite(value)]:
        raise ValueError(
            f"{odd[0]} is not a number; a missing value is an empty cell with its reason in the last column"
        )
    missing = parse_json(line[-1], "the last column") if line[-1] else {}
    empty = {m for m, value in values.items() if value is None}
    if not isinstance(missing, dict) or not all(isinstance(reason, str) for reason in missing.values()):
        raise ValueError("the last column is not a mapping of metrics to reasons")
    if set(missing) != empty:
        raise ValueError(f"empty cells are {sorted(empty)}, reasons are given for {sorted(missing)}")
    return ImageRow(line[1], values, missing)


def score_key(mask_hash: str, map_hash: str) -> str:
    """What the scores of a map depend on."""
    return digest(REVISION, *MEASURES.values(), mask_hash, map_hash)
