"""Per-image scores on disk: written image by image while a run goes on, so that a killed run loses nothing.

`<method>.csv` is the finished file, sorted; `<method>.csv.partial` is its journal until then. A row counts only when
its line is complete and its key (a hash of the images and of the metrics) is the one expected now.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from evalkit.errors import DataError, OutputError
from evalkit.files.names import from_cell, to_cell
from evalkit.files.read import parse_json
from evalkit.files.write import write_text
from evalkit.metrics.evaluate import Scores


class ScoreFile:
    """The scores of one method on one data set: a column per metric, a row per image.

    Args:
        path: the finished file, `scores/<dataset>/<method>.csv`.
        metrics: column names.
    """

    def __init__(self, path: Path, metrics: Iterable[str]) -> None:
        self.path = path
        self.journal = path.with_name(path.name + ".partial")
        self.header = ["image", "key", *metrics, "holes"]

    def read(self, keys: Mapping[str, str]) -> dict[str, Scores]:
        """The rows, of file and journal, whose key is the one in `keys` (image -> key)."""
        rows: dict[str, Scores] = {}
        for file in (self.path, self.journal):
            for image, key, scores in self._rows(file):
                if keys.get(image) == key:
                    rows[image] = scores
        return rows

    def append(self, image: str, key: str, scores: Scores) -> None:
        """Add a row to the journal. Raises OutputError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = self._line(image, key, scores)
            with open(self.journal, "ab") as file:
                if file.tell() == 0:
                    file.write(_csv_line(self.header).encode())
                elif not self._ends_with_newline():
                    file.write(b"\n")  # closes the line that a killed run left half-written
                file.write(line.encode())
        except OSError as error:
            raise OutputError(
                f"cannot write {self.journal}: {error.strerror or error}. Free space, or choose another --out."
            ) from None

    def finish(self, rows: Mapping[str, Scores], keys: Mapping[str, str]) -> None:
        """Write the finished file, in the order of `keys`, and drop the journal. Raises OutputError."""
        lines = [_csv_line(self.header), *(self._line(image, keys[image], rows[image]) for image in keys)]
        text = "".join(lines)
        if not self.path.is_file() or self.path.read_bytes() != text.encode():
            write_text(self.path, text)
        self.journal.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove file and journal."""
        self.path.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)

    def _ends_with_newline(self) -> bool:
        with open(self.journal, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _line(self, image: str, key: str, scores: Scores) -> str:
        values = ["" if math.isnan(scores[m]) else repr(float(scores[m])) for m in self.header[2:-1]]
        holes = json.dumps(scores.holes, ensure_ascii=False, sort_keys=True) if scores.holes else ""
        return _csv_line([to_cell(image), key, *values, holes])

    def _rows(self, file: Path) -> Iterable[tuple[str, str, Scores]]:
        try:
            text = file.read_bytes().decode(errors="replace") if file.is_file() else ""
        except OSError:
            return
        # without what follows the last line end: a killed run, or a disk that lost power, leaves half a line or zeros
        lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1].replace("\0", "\ufffd"), newline=""))
        try:
            if next(lines, None) != self.header:
                return
            for line in lines:
                row = self._parse(line)
                if row is not None:
                    yield row
        except csv.Error:  # a cell without an end: what stands before it counts
            return

    def _parse(self, line: list[str]) -> tuple[str, str, Scores] | None:
        """A row, or None for a line that a killed run left damaged."""
        if len(line) != len(self.header):
            return None
        metrics = self.header[2:-1]
        try:
            values = {m: float(v) if v else math.nan for m, v in zip(metrics, line[2:-1], strict=True)}
            holes = parse_json(line[-1], "holes") if line[-1] else {}
        except (ValueError, DataError):
            return None
        if not isinstance(holes, dict) or set(holes) != {m for m, v in values.items() if math.isnan(v)}:
            return None
        if any(map(math.isinf, values.values())) or not all(isinstance(reason, str) for reason in holes.values()):
            return None
        return from_cell(line[0]), line[1], Scores(values, holes)


def _csv_line(fields: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(list(fields))
    return buffer.getvalue()
