"""The rows of a detection table: every method's images, a detector for each, AP50 per class and its mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evalkit.data.labels import labelled
from evalkit.data.pairs import PairSet
from evalkit.downstream.detection.recipe import DetectionRecipe, detection_recipe
from evalkit.downstream.detection.run import AP50, DetectionResult, DetectionRun
from evalkit.downstream.detection.trial import try_detector
from evalkit.downstream.environment import missing, need
from evalkit.downstream.images import printed_classes
from evalkit.downstream.splits import Kind
from evalkit.downstream.spread import mean_and_spread
from evalkit.errors import EvalkitError, OutputError, UnknownNameError
from evalkit.files.names import file_name
from evalkit.protocols.schema import Protocol, rows_of
from evalkit.protocols.summary import now
from evalkit.protocols.table.cells import Cell, Column, status_of
from evalkit.protocols.table.published import block_name, column_name
from evalkit.protocols.table.table import Table
from evalkit.protocols.tasks import Job, Needs, Trained
from evalkit.protocols.use import DatasetUse
from evalkit.records.record import save

if TYPE_CHECKING:
    from evalkit.training.trial import StageTrial


class Detection(Trained):
    """A detector on every method's images: AP50 per class and its mean."""

    name, title = "detection", "Detection"
    needs = Needs(labels="boxes", extra="detection")

    def pairs(self, pairs: PairSet) -> PairSet:
        return labelled(pairs, "boxes")

    def missing_packages(self, protocol: Protocol) -> list[str]:
        return [missing("detection")]

    def fill(self, job: Job, table: Table) -> None:
        """Train and test a detector on every row of every data set of the protocol that has AP50.

        Without the extra the rows are missing values that name the command which installs it.

        Raises:
            UnknownNameError: no such recipe.
            OutputError: a file cannot be written.
        """
        recipe = detection_recipe(job.settings.recipe, job.protocol.name)
        if job.protocol.seeds is not None and job.settings.recipe != "paper":
            recipe = recipe.model_copy(update={"seeds": tuple(range(job.protocol.seeds))})
        if job.sample:
            recipe = recipe.for_scenes()
        for dataset, use in job.uses.items():
            block, variant, published = place_of(job, dataset, recipe)
            if not block:
                continue
            trained = fill_block(job, table, dataset, use, recipe, block, variant, published)
            if trained and published and job.settings.recipe == "paper":  # papers say nothing of their lists
                other = recipe.model_copy(update={"split": OTHER_LISTS[recipe.split]})
                variant = f"{recipe.network} {recipe.name}, {other.split} lists"
                fill_block(job, table, dataset, use, other, block_name(dataset, variant), variant, True)
        note = (
            f"AP at IoU 0.5, {recipe.summary}. {'Small: not the set-up of the paper.' if recipe.small else ''}".strip()
        )
        if note not in table.note:
            table.note = " ".join(filter(None, [table.note, note]))

    def trial(self, job: Job, steps: int, networks: Sequence[str]) -> list[StageTrial]:
        need("detection")
        if job.settings.accumulate > 1:
            raise EvalkitError(
                "--accumulate is not of detectors: ultralytics adds up the gradients of 64 images anyway."
            )
        recipe = detection_recipe(job.settings.recipe, job.protocol.name)
        if networks and recipe.network.casefold() not in (name.casefold() for name in networks):
            return []
        for dataset, use in job.uses.items():
            if job.protocol.card(dataset).detection:
                return [try_detector(job, dataset, use, recipe, steps)]
        raise EvalkitError(f"no data set of {job.protocol.name} has boxes: name one that has with --datasets.")


OTHER_LISTS: dict[str, Kind] = {"sequence": "random", "random": "sequence"}


def fill_block(
    job: Job,
    table: Table,
    dataset: str,
    use: DatasetUse,
    recipe: DetectionRecipe,
    block: str,
    variant: str,
    published: bool,
) -> bool:
    """The cells and records of the detectors of one data set; missing values where there are no images.

    Args:
        job: the run, in whose folder the records are written.
        table: changed in place.
        dataset: the protocol's name of it.
        use: the protocol's of this data set.
        recipe: how detectors are trained, and on which lists.
        block: of the table.
        variant: what tells the block from others of the data set.
        published: the paper prints numbers of the data set, under its own names of the classes.

    Returns:
        Whether there were images.

    Raises:
        OutputError: a file cannot be written.
    """
    names = [label.name for label in job.protocol.card(dataset).detection]
    printed = printed_classes(names, job.protocol.classes if published else ())
    table.blocks[block] = [dataset, variant]
    add_columns(table, job, [*printed.values(), "mean"])
    started = now()
    try:
        if reason := missing("detection"):
            raise EvalkitError(reason)
        run = DetectionRun(job, dataset, use, recipe, variant)
    except (OutputError, UnknownNameError):
        raise
    except EvalkitError as error:
        for method in job.methods:
            result = DetectionResult(reason=job.settings.named(str(error)))
            table.cells += cells_of(job, block, method, result, printed, recipe, 0)
        return False
    table.pairs[block] = len(run.images.pairs.pairs)
    results = run.measure()
    for condition in run.conditions if not published else ():
        add_columns(table, job, [f"mean ({condition})"])
    for row in run.images.rows:
        result = results[row.method]
        extra = () if published else tuple(run.conditions)
        table.cells += cells_of(job, block, row.method, result, printed, recipe, len(run.split.test), extra)
        record = run.record(row, result, why_not_comparable(run.recipe, published), started)
        save(record, job.settings.out / "records" / f"{file_name(block)}__{file_name(row.method)}.json")
    return True


def place_of(job: Job, dataset: str, recipe: DetectionRecipe) -> tuple[str, str, bool]:
    """Block, variant, and whether the paper prints it; no block where the protocol has no AP50 of the data set.

    Args:
        job: the run; on sample scenes the paper prints nothing.
        dataset: the protocol's name of the data set.
        recipe: its network and name make the variant of a block that is not the paper's.
    """
    printed = [row for row in rows_of(job.protocol) if row.dataset == dataset]
    if not job.sample and printed:
        detection = [row for row in printed if row.metric == AP50]
        return (detection[0].block, detection[0].variant, True) if detection else ("", "", True)
    variant = f"{recipe.network} {recipe.name}"
    if not job.protocol.card(dataset).detection:
        return "", "", False
    return block_name(dataset, variant), variant, False


def add_columns(table: Table, job: Job, classes: list[str]) -> None:
    """The columns that the table lacks.

    Args:
        table: changed in place.
        job: the run, whose protocol has the unit.
        classes: as the table shows them; "mean" and "mean (condition)" are among them.
    """
    have = {column.name for column in table.columns}
    unit = job.protocol.units.get(AP50, "")
    for class_ in classes:
        name = column_name(class_, AP50)
        if name not in have:
            table.columns.append(Column(name, "higher", "coco", class_, unit))


def cells_of(
    job: Job,
    block: str,
    method: str,
    result: DetectionResult,
    printed: Mapping[str, str],
    recipe: DetectionRecipe,
    images: int,
    conditions: tuple[str, ...] = (),
) -> list[Cell]:
    """A row's cells: the mean over the seeds of the weights selected on validation.

    Args:
        job: the run, with the published cells.
        block: of the table.
        method: the row.
        result: AP50 in [0, 1] per seed, or why there is none.
        printed: the data set's class -> how the paper prints it.
        recipe: the set-up, which says why a value is not comparable.
        images: number of test images.
        conditions: those with a mean of their own.

    Returns:
        A cell per class, for the mean, and per condition; in percent where the protocol's unit is %.
    """
    factor = 100.0 if job.protocol.units.get(AP50) == "%" else 1.0
    names = {name: column_name(shown, AP50) for name, shown in printed.items()} | {"mean": column_name("mean", AP50)}
    names |= {f"mean ({c})": column_name(f"mean ({c})", AP50) for c in conditions}
    of_paper = any(row.block == block and row.printed for row in rows_of(job.protocol))
    cells = []
    for class_, column in names.items():
        row = job.published.get((block, method, column))
        text, mark = (row.printed or None, row.mark) if row else (None, "")
        reason = result.reason or result.missing.get(class_, "")
        if reason:
            cells.append(Cell(block, method, column, None, text, 0, "missing", reason, mark))
            continue
        value, _ = mean_and_spread([scores[class_] for scores in result.seeds.values()])
        why = why_not_comparable(recipe, text is not None)
        status = status_of(value, text, why if of_paper else "")
        cells.append(Cell(block, method, column, factor * value, text, images, status, why, mark))
    return cells


def why_not_comparable(recipe: DetectionRecipe, printed: bool) -> str:
    """How a value was made, and why it never stands beside a printed one as its equal."""
    parts = [recipe.summary]
    if recipe.stands_for:
        parts.append(f"{recipe.network} stands in for {recipe.stands_for}, which has no maintained package")
    if printed and not recipe.small:
        parts.append("lists of our own, COCO's 101-point AP: the paper gives neither lists nor interpolation")
    return "; ".join(parts)
