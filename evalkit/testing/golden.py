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

    def moved_to(self, now: float | None) -> bool:
        """Whether this value now lies outside the tolerance, came or went."""
        if self.value is None or now is None:
            return self.value is not now
        return relative_change(self.value, now) > self.tolerance


def relative_change(was: float, now: float) -> float:
    """|now - was| as a part of |was|, at least 1e-12."""
    return abs(now - was) / max(abs(was), 1e-12)


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
            relative = relative_change(self.golden.value, self.now)
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
        cure = "Name another file, or remove this one and write it with --update."
        raise DataError(f"{path} is not a golden file: expected the columns {expected}. {cure}")
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


@dataclass(frozen=True)
class Checked:
    """Golden values, what they are now, and which moved. (image, metric) -> None for what is undefined now; a value
    whose image is not there any more is not in `now`.
    """

    golden: list[Golden]
    now: dict[tuple[str, str], float | None]
    moved: list[Moved]


def only_metrics(golden: list[Golden], metrics: Iterable[str], convention: str, file: Path) -> list[Golden]:
    """The values of these metrics.

    Args:
        golden: the values of a golden file.
        metrics: names; those without a convention are of `convention`.
        convention: such as "textbook".
        file: for the message.

    Raises:
        UnknownNameError: an unknown metric or convention.
        DataError: the golden file has no value of a metric.
    """
    names = [definition.full_name for definition in definitions(metrics, convention).values()]
    known = list(dict.fromkeys(one.metric for one in golden))
    if absent := [name for name in names if name not in known]:
        cure = "Name others, or write them into the file with --update."
        raise DataError(f"{file} has no value of {', '.join(absent)}, but of {', '.join(known)}. {cure}")
    return [one for one in golden if one.metric in names]


def check_golden(
    golden: list[Golden],
    folders: tuple[Path, Path, Path],
    workers: int | None = None,
    progress: Callable = lambda items, total, text: items,
) -> Checked:
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
    metrics = dict.fromkeys(one.metric for one in golden)
    full = {name: d.full_name for name in metrics for d in definitions([name], "textbook").values()}  # of edited files
    golden = [replace(one, metric=full[one.metric]) for one in golden]
    values, reasons = measure_golden([one.image for one in golden], metrics, folders, workers, progress)
    now = {(one.image, one.metric): one.value for one in values}
    moved = []
    for one in golden:
        key = (one.image, one.metric)
        if key not in now:
            moved.append(Moved(one, None, "there is no fused image of this name"))
        elif one.moved_to(now[key]):
            moved.append(Moved(one, now[key], reasons.get(key, "")))
    known = {one.image for one in golden}
    new = "the golden file has no value of this fused image; if it belongs there, write the file anew with --update"
    moved += [Moved(Golden(stem, "", None, 0), None, new) for stem in image_files(folders[0]) if stem not in known]
    return Checked(golden, now, moved)


def update_golden(
    file: Path,
    folders: tuple[Path, Path, Path],
    metrics: Iterable[str] | None,
    convention: str = "textbook",
    tolerance: float | None = None,
    workers: int | None = None,
    progress: Callable = lambda items, total, text: items,
) -> list[Golden]:
    """Write the golden file from what is measured.

    Args:
        file: to write. Of one that is there, metrics are kept where none are named, and the tolerances of its lines.
        folders: of the fused, the infrared and the visible images.
        metrics: names of metrics; None or none of them for those of the file, or all where it is new.
        convention: of names that do not say theirs.
        tolerance: relative, of every line; None keeps what a line has, and is 1e-6 for new ones.
        workers: processes; None for one per processor.
        progress: wraps the images measured: (items, total, text) -> items.

    Returns:
        What was written.

    Raises:
        EvalkitError: a metric is unknown, a folder is missing or empty, a file of this name is not a golden file, or
            it cannot be written.
    """
    before = {(one.image, one.metric): one.tolerance for one in read_golden(file)} if file.is_file() else {}
    if metrics := list(metrics or ()):
        metrics = [definition.full_name for definition in definitions(metrics, convention).values()]
    names = metrics or list(dict.fromkeys(metric for _, metric in before)) or all_full_names()
    values, _ = measure_golden(None, names, folders, workers, progress)
    golden = [
        replace(one, tolerance=before.get((one.image, one.metric), TOLERANCE) if tolerance is None else tolerance)
        for one in values
    ]
    write_text(file, write_golden(golden))
    return golden


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
    moved = check_golden(golden, folders, workers).moved
    lines = [str(one) for one in moved[:SHOWN]]
    if len(moved) > SHOWN:
        lines.append(f"... and {len(moved) - SHOWN} more")
    more = "If that is meant: pytest --evalkit-update, and commit the file."
    return "\n".join([f"{len(moved)} of {len(golden)} values of {file.name} moved:", *lines, more]) if moved else ""
