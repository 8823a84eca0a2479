"""Whether what lies in a run's folder fits together: records, per-image scores and tables. No image is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evalkit.errors import DataError
from evalkit.files.names import file_name
from evalkit.files.read import read_file
from evalkit.protocols.table.export import to_csv
from evalkit.protocols.table.table import read_table
from evalkit.records.per_image import PerImage, read_per_image
from evalkit.records.record import Record, load

ASIDE = re.compile(r"schema-\d+(-\d+)?")  # where a run puts records of an older schema
OF_THE_SET = ("coco", "set")  # conventions whose scores are of a test set as a whole, not means over its images
CHANGED = "the record was changed after it was written: its own hash is another"


@dataclass
class Verdict:
    """What is wrong with a record; empty problems mean that it holds. `checked` says which checks were possible."""

    path: Path
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    remeasured: int = 0  # images

    @property
    def ok(self) -> bool:
        return not self.problems


def check_run(out: Path) -> None:
    """Make sure that the records of a run's folder, their per-image scores and the tables fit together.

    That they were measured is not shown by this: `verify` measures again, where the images are at hand.

    Raises:
        DataError: the first thing that does not fit.
    """
    for path, problem in misfits(out):
        raise DataError(
            f"{path}: {problem.rstrip('.')}. It does not fit the rest of {out}: run `evalkit reproduce` into "
            "that folder again, and see `evalkit leaderboard verify`."
        )


def misfits(out: Path) -> Iterator[tuple[Path, str]]:
    """Where something does not fit, and what."""
    files = record_files(out)
    for path in files:
        record = load(path)
        check_names(record, path)
        verdict = Verdict(path)
        if record.record_hash != record.hash():
            verdict.problems.append(CHANGED)
        if record.scores and record.convention not in OF_THE_SET:
            file = scores_of(path, record)
            if file is None:
                verdict.problems.append("the per-image scores of the record are missing")
            else:
                try:
                    check_scores(record, read_per_image(file), verdict)
                except DataError as error:
                    verdict.problems.append(str(error))
        yield from ((path, problem) for problem in verdict.problems)
    for home in dict.fromkeys(path.parents[1] for path in files):
        if (home / "table.json").is_file():
            yield from ((home / "table.json", problem) for problem in verify_table(home / "table.json").problems)


def record_files(folder: Path) -> list[Path]:
    """The records below a folder: everything in a folder `records`, as `evalkit reproduce` writes them;
    but those of an older schema that a run set aside.
    """
    records = (path for path in folder.rglob("*.json") if path.parent.name == "records")
    return sorted(path for path in records if not any(map(ASIDE.fullmatch, path.relative_to(folder).parts)))


def check_names(record: Record, path: Path) -> None:
    """Make sure that a record says what it is of. Raises DataError."""
    for part in ("protocol", "dataset", "method"):
        if not isinstance(getattr(record, part).get("name"), str):
            raise DataError(f"the record {path} does not name its {part}. Measure it again.")


def scores_of(path: Path, record: Record) -> Path | None:
    """The per-image scores of a record: beside it, or where a run has them; None where there are none."""
    dataset, method = record.dataset["name"], file_name(record.method["name"])
    places = [path.with_suffix(".csv"), path.parents[1] / "scores" / file_name(dataset) / f"{method}.csv"]
    return next((place for place in places if place.is_file()), None)


def check_scores(record: Record, rows: PerImage, verdict: Verdict) -> None:
    """That the means of the record are those of the per-image scores, digit for digit.

    Args:
        record: what was written of one method on one data set.
        rows: its per-image scores.
        verdict: gets a problem for everything that does not fit.
    """
    say = verdict.problems.append
    verdict.checked.append("scores")
    if record.scores_hash and rows.hash() != record.scores_hash:
        say("the per-image scores are not those of the record: their hash is another")
    columns = record.columns
    if sorted(columns) != sorted(rows.metrics):
        say(f"the per-image scores have the columns {', '.join(rows.metrics)}, the record {', '.join(columns)}")
    failed = {failure.get("image") for failure in record.failures}
    measured = [image for image in rows.rows if image not in failed]
    if len(measured) != record.images:
        say(f"the per-image scores have {len(measured)} images, the record {record.images}")
    for metric in columns:
        if metric not in rows.metrics:
            continue
        mean, value = rows.mean(metric), record.scores.get(metric)
        if value is not None and mean is None:
            empty = [image for image, row in rows.rows.items() if row.values[metric] is None]
            say(f"{metric} is {value!r}, but {', '.join(empty[:3]) or 'every image'} has no value: a mean needs all")
        elif value is not None and value != mean:
            say(f"{metric} is {value!r}, the mean of the per-image scores is {mean!r}")
        elif value is None and mean is not None and not failed and not record.failures:
            say(f"{metric} is a missing value, but every image has a value")


def verify_table(path: Path) -> Verdict:
    """That the measured numbers of a run's table are those of its records, in table.json and in table.csv."""
    verdict = Verdict(path, checked=["table"])
    try:
        table = read_table(path.parent)
        records = [load(file) for file in record_files(path.parent) if file.parent == path.parent / "records"]
    except DataError as error:
        verdict.problems.append(str(error))
        return verdict
    scores = {(r.dataset["name"], r.method["name"]): r.scores for r in records}
    measured = {(r.dataset["name"], r.method["name"]): set(r.columns) for r in records}
    for cell in table.cells:
        recorded = scores.get((cell.dataset, cell.method))
        if cell.value is None or recorded is None:
            continue
        if cell.metric not in measured[cell.dataset, cell.method] and cell.metric in ("FLOPs", "Time"):
            verdict.notes.append(f"{cell.metric} is in the table alone, not in a record: it cannot be checked")
        elif recorded.get(cell.metric) != cell.value:
            where = f"{cell.dataset}, {cell.method}, {cell.metric}"
            verdict.problems.append(f"{where} is {cell.value!r}, in its record {recorded.get(cell.metric)!r}")
    csv = path.with_suffix(".csv")
    if csv.is_file() and read_file(csv) != to_csv(table).encode():
        verdict.problems.append(f"{csv} does not hold the numbers of {path.name}: one of them was changed")
    return verdict
