"""Per-image scores on disk: written image by image while a run goes on, so that a killed run loses nothing.

`<method>.csv` is the finished file, sorted; `<method>.csv.partial` is its journal until then. A row counts only when
its line is complete, its key (a hash of the images and of the metrics) is the one expected now, and its digest is that
of its cells: what does not fit is measured again, and said.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from evalkit.errors import DataError, OutputError
from evalkit.files.names import from_cell, to_cell
from evalkit.files.write import write_text
from evalkit.metrics.evaluate import Scores
from evalkit.records.per_image import DIGEST, LAST, parse_row, row_digest


class ScoreFile:
    """The scores of one method on one data set: a column per metric, a row per image.

    Args:
        path: the finished file, `scores/<dataset>/<method>.csv`.
        metrics: column names.
    """

    def __init__(self, path: Path, metrics: Iterable[str]) -> None:
        self.path = path
        self.journal = path.with_name(path.name + ".partial")
        self.metrics = list(metrics)
        self.header = ["image", "key", *self.metrics, "missing", DIGEST]
        self._begun = False

    def read(self, keys: Mapping[str, str]) -> dict[str, Scores]:
        """The rows, of file and journal, whose key is the one in `keys` (image -> key) and whose digest fits.

        A row that was changed, is there twice, or has no digest is left out; a warning says how many there are.
        """
        rows: dict[str, Scores] = {}
        odd: set[str] = set()
        older: set[str] = set()  # rows of a version that gave them no digest
        for file in (self.path, self.journal):
            seen: set[str] = set()
            for image, key, scores in self._rows(file, odd, older):
                if keys.get(image) != key:
                    continue
                if image in seen:
                    odd.add(image)
                    rows.pop(image, None)
                else:
                    rows[image] = scores
                seen.add(image)
        if again := [image for image in keys if image in odd]:
            logging.getLogger("evalkit").warning(
                f"{self.path}: {len(again)} rows are damaged, not as they were measured, or there twice "
                f"({', '.join(again[:5])}{', ...' if len(again) > 5 else ''}): they are measured again, "
                "unless a good one is there."
            )
        if again := [image for image in keys if image in older and image not in rows]:
            logging.getLogger("evalkit").warning(
                f"{self.path}: {len(again)} rows were written by an earlier version, which kept no digest of them: "
                "they are measured again."
            )
        return rows

    def resume(self, keys: Mapping[str, str]) -> Set[str]:
        """The images whose rows are there, as `read` has them; all others are removed from file and journal.

        What is appended from now on is the only row of its image.

        Args:
            keys: image -> key.
        """
        rows = self.read(keys)
        if self.path.exists() or self.journal.exists():
            self.finish(rows, keys)
        return rows.keys()

    def append(self, image: str, key: str, scores: Scores) -> None:
        """Add a row to the journal. Raises OutputError.

        Args:
            image: its stem.
            key: hash of everything that the scores depend on.
            scores: column -> value, and the reasons of those that are missing.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = self._line(image, key, scores)
            if not self._begun:
                self._begin()
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
        """Write the finished file, in the order of `keys`, and drop the journal; raises OutputError.

        What has no row, or one that trouble left (`Scores.passing`), is not written: the next run tries it again.
        """
        stored = [image for image in keys if image in rows and not rows[image].passing]
        lines = [_csv_line(self.header), *(self._line(image, keys[image], rows[image]) for image in stored)]
        text = "".join(lines)
        if not self.path.is_file() or self.path.read_bytes() != text.encode():
            write_text(self.path, text)
        self.journal.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove file and journal."""
        self.path.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)

    def _begin(self) -> None:
        """A journal of other columns, which no run reads any more, makes room for this run's."""
        head = _csv_line(self.header).encode()
        if self.journal.is_file():
            with open(self.journal, "rb") as file:
                other = file.read(len(head)) != head
            if other:
                self.journal.unlink()
        self._begun = True

    def _ends_with_newline(self) -> bool:
        with open(self.journal, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _line(self, image: str, key: str, scores: Scores) -> str:
        values = ["" if math.isnan(scores[m]) else repr(float(scores[m])) for m in self.metrics]
        missing = json.dumps(scores.missing, ensure_ascii=False, sort_keys=True) if scores.missing else ""
        cells = [to_cell(image), key, *values, missing]
        return _csv_line([*cells, row_digest(self.header, cells)])

    def _rows(self, file: Path, odd: set[str], older: set[str]) -> Iterable[tuple[str, str, Scores]]:
        """Image, key and scores; the images whose line does not fit are added to `odd`, or to `older`."""
        try:
            text = file.read_bytes().decode(errors="replace") if file.is_file() else ""
        except OSError:
            return
        # without what follows the last line end: a killed run, or a disk that lost power, leaves half a line or zeros
        lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1].replace("\0", "\ufffd"), newline=""))
        try:
            header = next(lines, None)
            if header != self.header:
                if header in [[*self.header[:-2], last] for (last,) in LAST]:
                    older.update(from_cell(line[0]) for line in lines if line)
                return
            for line in lines:
                row = self._parse(line)
                if row is not None:
                    yield row
                elif line:
                    odd.add(from_cell(line[0]))
        except csv.Error:  # a cell without an end: what stands before it counts
            return

    def _parse(self, line: list[str]) -> tuple[str, str, Scores] | None:
        """A row, or None for a line that a killed run left damaged or somebody changed."""
        if len(line) != len(self.header) or line[-1] != row_digest(self.header, line[:-1]):
            return None
        try:
            row = parse_row(self.metrics, line[:-1])
        except (ValueError, DataError):
            return None
        values = {metric: math.nan if value is None else value for metric, value in row.values.items()}
        return from_cell(line[0]), row.key, Scores(values, row.missing)


def _csv_line(fields: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(list(fields))
    return buffer.getvalue()
