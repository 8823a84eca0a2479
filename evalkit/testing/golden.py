"""Golden values: what metrics gave once, and whether they still do. A CSV with image, metric, value, tolerance."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from evalkit.data.pairs import image_files
from evalkit.errors import DataError
from evalkit.files.names import from_cell, to_cell
from evalkit.files.read import read_text
from evalkit.files.write import write_text
from evalkit.metrics.folders import evaluate_folder
from evalkit.metrics.registry import all_full_names, definitions

TOLERANCE = 1e-6  # relative, where the file does not say
SHOWN = 20  # values that moved, in the message of one test
HEADER = ["image", "metric", "value", "tolerance"]


@dataclass(frozen=True)
class Golden:
    """A value to hold on to; None for one that is undefined. `metric` is a full name such as SSIM[smfnet]."""

    image: str
    metric: str
    value: float | None
    tolerance: float


@dataclass(frozen=True)
class Moved:
    """A value that is not what it was."""

    golden: Golden
    now: float | None
    reason: str = ""

    def __str__(self) -> str:
        if not self.golden.metric:  # of the image as a whole
            return f"{self.golden.image}: {self.reason}"
        was, now = (f"{v:.10g}" if v is not None else "undefined" for v in (self.golden.value, self.now))
        text = f"{self.golden.image} {self.golden.metric}: was {was}, is {now}"
        if self.golden.value is not None and self.now is not None:
            relative = abs(self.now - self.golden.value) / max(abs(self.golden.value), 1e-12)
            text += f" ({relative:.1e} relative, allowed {self.golden.tolerance:.0e})"
        return f"{text} ({self.reason})" if self.reason else text


def read_golden(path: Path) -> list[Golden]:
    """Read a golden file. Raises DataError naming the line that is wrong."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if not rows or not {"image", "metric", "value"} <= set(rows[0]):
        expected = ", ".join(HEADER)
        raise DataError(f"{path} is not a golden file: expected the columns {expected}. Write one with --update.")
    golden = []
    for number, row in enumerate(rows, 2):
        try:
            value = float(row["value"]) if row["value"] else None
            tolerance = float(row.get("tolerance") or TOLERANCE)
            if not (row["image"] and row["metric"]):
                raise ValueError("the image or the metric is empty")
            if not (0 <= tolerance < math.inf and (value is None or math.isfinite(value))):
                raise ValueError("not finite")
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}, line {number}: {error}. Expected numbers for value and tolerance.") from None
        golden.append(Golden(from_cell(row["image"]), row["metric"], value, tolerance))
    return golden


def write_golden(golden: Iterable[Golden]) -> str:
    """The text of a golden file."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    for one in golden:
        writer.writerow(
            [to_cell(one.image), one.metric, "" if one.value is None else repr(one.value), repr(one.tolerance)]
        )
    return buffer.getvalue()


def measure_golden(
    images: Iterable[str] | None,
    metrics: Iterable[str],
    folders: tuple[Path, Path, Path],
    workers: int | None = None,
    progress: Callable = lambda items, total, text: items,
) -> tuple[list[Golden], dict[tuple[str, str], str]]:
    """The values now (with the default tolerance), and the reasons of those that are undefined.

    Args:
        images: stems; every fused image when None.
        metrics: full names.
        folders: fused, infrared, visible.
    """
    columns = list(definitions(metrics, "textbook"))
    frame = evaluate_folder(*folders, columns, "textbook", workers, progress)
    full = [d.full_name for d in definitions(metrics, "textbook").values()]
    fused = image_files(folders[0])  # the frame has rows of missing ones, too
    stems = list(fused) if images is None else [stem for stem in dict.fromkeys(images) if stem in fused]
    values, reasons = [], {}
    for stem in stems:
        for column, name in zip(columns, full, strict=True):
            value = float(frame.loc[stem, column])  # type: ignore[arg-type]
            values.append(Golden(stem, name, None if math.isnan(value) else value, TOLERANCE))
            if math.isnan(value):
                reasons[stem, name] = frame.attrs["missing"][stem, column]
    return values, reasons


def check_golden(
    golden: list[Golden],
    folders: tuple[Path, Path, Path],
    workers: int | None = None,
    progress: Callable = lambda items, total, text: items,
) -> list[Moved]:
    """What moved: values outside their tolerance, values that came or went, images that are not there any more, and
    images that the golden file does not have.

    Args:
        golden: the values to hold on to, as `read_golden` gives them.
        folders: of the fused, the infrared and the visible images.
        workers: processes; None for one per processor.
        progress: wraps the images measured: (items, total, text) -> items.

    Raises:
        UnknownNameError: a metric or convention of the golden file that evalkit does not have.
        DataError: a folder is missing or empty.
    """
    metrics = list(dict.fromkeys(one.metric for one in golden))
    values, reasons = measure_golden([one.image for one in golden], metrics, folders, workers, progress)
    now = {(one.image, one.metric): one.value for one in values}
    moved = []
    for one in golden:
        key = (one.image, one.metric)
        if key not in now:
            moved.append(Moved(one, None, "there is no fused image of this name"))
        elif (one.value is None) != (now[key] is None) or (
            one.value is not None and abs(now[key] - one.value) > one.tolerance * max(abs(one.value), 1e-12)  # type: ignore[operator]
        ):
            moved.append(Moved(one, now[key], reasons.get(key, "")))
    known = {one.image for one in golden}
    new = "the golden file has no value of this fused image; if it belongs there, write the file anew with --update"
    return moved + [
        Moved(Golden(stem, "", None, 0), None, new) for stem in image_files(folders[0]) if stem not in known
    ]


def update_file(
    file: Path, folders: tuple[Path, Path, Path], metrics: Iterable[str] | None, tolerance: float, workers: int | None
) -> str:
    """Write the golden file from what is measured.

    Args:
        file: to write; replaced where it exists.
        folders: of the fused, the infrared and the visible images.
        metrics: names of metrics; None or none of them for all.
        tolerance: relative, written with every value.
        workers: processes; None for one per processor.

    Returns:
        An empty text, as `moved_text` gives where nothing moved.

    Raises:
        EvalkitError: a metric is unknown, a folder is missing or empty, or the file cannot be written.
    """
    values, _ = measure_golden(None, metrics or all_full_names(), folders, workers)
    write_text(file, write_golden(replace(one, tolerance=tolerance) for one in values))
    return ""


def moved_text(file: Path, folders: tuple[Path, Path, Path], workers: int | None) -> str:
    """What moved, a line each; empty where nothing did.

    Args:
        file: the golden file; where it is missing, the text says so.
        folders: of the fused, the infrared and the visible images.
        workers: processes; None for one per processor.

    Raises:
        DataError: the golden file is damaged, or a folder is missing or empty.
        UnknownNameError: a metric or convention of the golden file that evalkit does not have.
    """
    if not file.is_file():
        return f"there is not a golden file {file}. Write it with pytest --evalkit-update, and commit it."
    golden = read_golden(file)
    moved = check_golden(golden, folders, workers)
    lines = [str(one) for one in moved[:SHOWN]]
    if len(moved) > SHOWN:
        lines.append(f"... and {len(moved) - SHOWN} more")
    more = "If that is meant: pytest --evalkit-update, and commit the file."
    return "\n".join([f"{len(moved)} of {len(golden)} values of {file.name} moved:", *lines, more]) if moved else ""
