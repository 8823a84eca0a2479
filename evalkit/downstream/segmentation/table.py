"""The rows of a segmentation table: a network on every method's images, IoU and Acc per class and their means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.data.labels import labelled
from evalkit.data.pairs import PairSet
from evalkit.downstream.detection.run import AP50
from evalkit.downstream.environment import missing
from evalkit.downstream.segmentation.networks import find_weights, network_of_row, segmenter
from evalkit.downstream.segmentation.recipe import SegmentationSchedule, read_schedule, schedules, small_schedule
from evalkit.downstream.segmentation.run import (
    MEASURES,
    SHOWN,
    SegmentationResult,
    SegmentationRun,
    SegmentationScenes,
    Variant,
)
from evalkit.downstream.segmentation.trial import try_segmenters
from evalkit.downstream.spread import mean_and_spread
from evalkit.errors import EvalkitError, OutputError, UnknownNameError
from evalkit.methods.pretrained import where_published
from evalkit.protocols.plan import FoundSet, file_name, use_of
from evalkit.protocols.schema import Protocol, rows_of
from evalkit.protocols.summary import now
from evalkit.protocols.table.blank import add_missing, expected_rows
from evalkit.protocols.table.cells import Cell, Column, status_of
from evalkit.protocols.table.published import block_name
from evalkit.protocols.table.table import Table
from evalkit.protocols.tasks import TASKS, Entry, Job, Needs, Task, Trained
from evalkit.records.record import save

if TYPE_CHECKING:
    from evalkit.training.trial import StageTrial

PRINTED = {
    "background": ("Background", "Unlabel"),
    "car stop": ("Car Stop", "Stop"),
    "color cone": ("Color cone", "Cone"),
}


class Segmentation(Trained):
    """A network on every method's images: IoU and Acc per class and their means."""

    name, title = "segmentation", "Segmentation"
    needs = Needs(labels="classes", extra="segmentation")

    def parts(self, protocol: Protocol) -> list[Task]:
        return [self, TASKS["detection"]] if AP50 in protocol.metrics else [self]

    def pairs(self, pairs: PairSet) -> PairSet:
        return labelled(pairs, "boxes" if pairs.split == "detection" else "classes")  # as `fill` divides them

    def plan_row(self, job: Job, method: str, dataset: str, available: FoundSet) -> Entry:
        """One entry of `plan`; a network of two streams sees the pairs themselves and needs no fused images.

        Args:
            job: the run that is planned.
            method: the row's name.
            dataset: the protocol's name of the data set.
            available: what is there of it.
        """
        if not network_of_row(method):
            return super().plan_row(job, method, dataset, available)
        missing = "; ".join(filter(None, self.missing_packages(job.protocol)))
        return {"method": method, "dataset": dataset, "from": "network", "missing": missing, "train": ""}

    def missing_packages(self, protocol: Protocol) -> list[str]:
        return [missing(task.needs.extra) for task in self.parts(protocol)]

    def fill(self, job: Job, table: Table) -> None:
        """Train and test the networks of the recipe on every row of every data set that has masks of classes.

        Without the extra the rows are missing values that name the command which installs it.

        Raises:
            UnknownNameError: no such recipe.
            DataError: a recipe's file cannot be used.
            OutputError: a file cannot be written.
        """
        variants, small = chosen_variants(job)
        for dataset, use in job.uses.items():
            card = job.protocol.card(dataset)
            if not card.segmentation or use.split == "detection":
                continue
            scenes: SegmentationScenes | None = None
            reason = missing("segmentation")
            try:
                if not reason:
                    scenes = SegmentationScenes(job, dataset, use, variants[0].schedule, small)
            except (OutputError, UnknownNameError):
                raise
            except EvalkitError as error:
                reason = job.settings.named(str(error))
            for variant in variants:
                block = block_name(dataset, variant.name)
                if methods := methods_of(job, block, variant):
                    table.blocks[block] = [dataset, variant.name]
                    fill_block(job, table, block, variant, methods, scenes, reason)
            if scenes is not None and not small:
                fill_sequences(job, table, dataset, variants, scenes)
            if not job.sample:
                networks = ", ".join(variant.schedule.network for variant in variants)
                why = f"recipe {job.settings.recipe} trains {networks} on {dataset}"
                cure = "; --recipe paper trains the paper's networks" if small else ""
                rows = [row for row in expected_rows(job.protocol, [dataset], job.methods) if row.dataset == dataset]
                add_missing(table, rows, lambda row, why=why + cure: why)  # type: ignore[misc]
        table.note = " ".join(filter(None, [table.note, note(variants, small)]))

    def trial(self, job: Job, steps: int, networks: Sequence[str]) -> list[StageTrial]:
        variants, _ = chosen_variants(job)
        asked = {network.casefold() for network in networks}
        schedules = {
            variant.schedule.network: variant.schedule
            for variant in variants
            if not asked or variant.schedule.network.casefold() in asked
        }
        for dataset in job.uses:
            if job.protocol.card(dataset).segmentation:
                return try_segmenters(job, dataset, list(schedules.values()), steps) if schedules else []
        raise EvalkitError(f"no data set of {job.protocol.name} has masks of classes: name one with --datasets.")


def fill_sequences(job: Job, table: Table, dataset: str, variants: list[Variant], scenes: SegmentationScenes) -> None:
    """Beside the paper's blocks the same trainings on lists without neighbouring frames in training and test.

    Args:
        job: the run.
        table: changed in place.
        dataset: the protocol's name of it.
        variants: the blocks' networks.
        scenes: in the data set's own lists.
    """
    try:
        apart, reason = scenes.in_sequences(), ""
    except EvalkitError as error:
        apart, reason = None, job.settings.named(str(error))
    for variant in variants:
        if methods := methods_of(job, block_name(dataset, variant.name), variant):
            other = replace(variant, name=f"{variant.name}, sequence lists", published=False)
            block = block_name(dataset, other.name)
            table.blocks[block] = [dataset, other.name]
            fill_block(job, table, block, other, methods, apart, reason)


def methods_of(job: Job, block: str, variant: Variant) -> list[str]:
    """The rows of a block: those of the paper and those it does not know; of a network of two streams its own.

    Args:
        job: the run.
        block: of the table.
        variant: the block's network.
    """
    network = segmenter(variant.schedule.network)
    if network.streams == 2:
        rows = [method for method in job.methods if network_of_row(method) == network.card.name]
        return rows if rows or variant.published else [network.card.name]
    printed = {row.method for row in rows_of(job.protocol) if row.block == block}
    others = [method for method in job.methods if not network_of_row(method)]
    return [m for m in others if not variant.published or m in printed or m not in job.protocol.methods]


def chosen_variants(job: Job) -> tuple[list[Variant], bool]:
    """The networks to train, and whether the run is a small one. Raises UnknownNameError, DataError."""
    name = job.settings.recipe
    if name == "paper":
        networks_of_paper = schedules()["paper"].get(job.protocol.name)
        if networks_of_paper is None:
            raise UnknownNameError("segmentation recipe", f"paper of {job.protocol.name}", list(schedules()["paper"]))
        return [Variant(one.block or variant, one, True) for variant, one in networks_of_paper.items()], False
    if name.endswith((".yaml", ".yml")):
        schedule, label = read_schedule(Path(name)), f"recipe {Path(name).stem}"
    elif name == "small":
        schedule, label = schedules()["small"], "recipe small"
    else:
        raise UnknownNameError("segmentation recipe", name, ["small", "paper"], "A file of your own ends in .yaml.")
    own = {method: network_of_row(method) for method in job.methods}
    to_train: list[SegmentationSchedule] = []
    if segmenter(schedule.network).streams == 2 or not all(own.values()):
        to_train.append(schedule)
    if segmenter(schedule.network).streams == 1:
        networks = dict.fromkeys(network for network in own.values() if network)
        to_train += [
            small_schedule(network) if name == "small" else schedule.model_copy(update={"network": network})
            for network in networks
        ]
    if job.protocol.seeds is not None:
        to_train = [one.model_copy(update={"seeds": job.protocol.seeds}) for one in to_train]
    return [Variant(f"{one.network}, {label}", one, False) for one in to_train], True


def fill_block(
    job: Job,
    table: Table,
    block: str,
    variant: Variant,
    methods: list[str],
    scenes: SegmentationScenes | None,
    reason: str,
) -> None:
    """The cells and records of one network on one data set; missing values, for the reason, without scenes.

    Args:
        job: the run, in whose folder the records are written.
        table: changed in place; it has the block.
        block: of the table.
        variant: the block's network.
        methods: its rows.
        scenes: the data set's images; None where they cannot be used.
        reason: why there are no scenes.

    Raises:
        OutputError: a file cannot be written.
    """
    names = [label.name for label in job.protocol.card(table.blocks[block][0]).segmentation]
    printed = {name: printed_name(name, job.protocol.classes) for name in names} | {"mean": "mean"}
    started = now()
    if scenes is None:
        add_columns(table, job, printed)
        for method in methods:
            table.cells += cells_of(job, block, variant, method, SegmentationResult(reason=reason), printed, 0)
        return
    run = SegmentationRun(job, scenes, variant, methods)
    table.pairs[block] = len(scenes.images.pairs.pairs)
    results = run.measure()
    if not variant.published:
        printed |= {SHOWN: SHOWN} if f"{SHOWN} IoU" in run.columns else {}
        printed |= {f"mean ({c})": f"mean ({c})" for c in scenes.conditions}
    add_columns(table, job, printed)
    for row in run.rows:
        result = results[row.method]
        table.cells += cells_of(job, block, variant, row.method, result, printed, len(scenes.split.test))
        other = why_not_comparable(variant, job, block, len(scenes.split.test))
        record = run.record(row, result, job.settings.recipe_name, other, started)
        save(record, job.settings.out / "records" / f"{file_name(block)}__{file_name(row.method)}.json")


def printed_name(name: str, classes: tuple[str, ...]) -> str:
    """A class as the paper prints it; capitalised where the paper has no column of it."""
    for candidate in (name, *PRINTED.get(name, ())):
        for shown in classes:
            if shown.casefold() == candidate.casefold():
                return shown
    return name.capitalize()


def measures_of(job: Job) -> list[str]:
    """IoU and Acc, those of the protocol."""
    return [measure for measure in MEASURES if measure in job.protocol.metrics]


def add_columns(table: Table, job: Job, printed: dict[str, str]) -> None:
    """The columns that the table lacks.

    Args:
        table: changed in place.
        job: the run, whose protocol has measures and units.
        printed: the data set's class -> how the table shows it.
    """
    have = {column.name for column in table.columns}
    for measure in measures_of(job):
        unit = job.protocol.units.get(measure, "")
        for shown in printed.values():
            if (name := f"{shown} {measure}") not in have:
                table.columns.append(Column(name, "higher", "set", shown, unit))


def cells_of(
    job: Job,
    block: str,
    variant: Variant,
    method: str,
    result: SegmentationResult,
    printed: dict[str, str],
    images: int,
) -> list[Cell]:
    """A row's cells: the mean over the seeds of the networks chosen on held-out images.

    Args:
        job: the run, with the published cells.
        block: of the table.
        variant: the block's network.
        method: the row.
        result: IoU and Acc in [0, 1] per seed, or why there are none.
        printed: the data set's class -> how the table shows it.
        images: number of test images.

    Returns:
        A cell per class and measure, in percent where the protocol's unit is %; of a published block only its columns.
    """
    of_paper = {row.column for row in rows_of(job.protocol) if row.block == block}
    cells = []
    for class_, shown in printed.items():
        for measure in measures_of(job):
            column, name = f"{class_} {measure}", f"{shown} {measure}"
            row = job.published.get((block, method, name))
            text, mark = (row.printed or None, row.mark) if row else (None, "")
            if variant.published and name not in of_paper:
                continue  # no column of the paper: in the record
            if reason := result.reason or result.missing.get(column, ""):
                cells.append(Cell(block, method, name, None, text, 0, "missing", reason, mark))
                continue
            value, _ = mean_and_spread([scores[column] for scores in result.seeds.values()])
            value *= 100.0 if job.protocol.units.get(measure) == "%" else 1.0
            not_comparable = why_not_comparable(variant, job, block, images)
            status = status_of(value, text, not_comparable if of_paper else "")
            cells.append(Cell(block, method, name, value, text, images, status, not_comparable, mark))
    return cells


def why_not_comparable(variant: Variant, job: Job, block: str, images: int) -> str:
    """Why a value never stands beside a printed one as its equal; empty where it may.

    Args:
        variant: the block's network.
        job: the run, whose protocol says how many images the paper tested on.
        block: of the table.
        images: number of test images.
    """
    schedule = variant.schedule
    if not variant.published:
        return f"{variant.name}: not the set-up of the paper"
    if schedule.stands_for:
        return schedule.stands_for
    pattern = segmenter(schedule.network).card.encoder
    if pattern and find_weights(schedule.network, job.settings.checkpoints) is None:
        cure = where_published(pattern)
        return f"other training: from scratch, for no pretrained encoder {pattern} is in --checkpoints. {cure}".rstrip()
    dataset = block.removesuffix(f" · {variant.name}")
    expected = use_of(job.uses[dataset], job.protocol.card(dataset)).pairs
    return f"tested on {images} images, the paper's table on {expected}" if expected not in (None, images) else ""


def note(variants: list[Variant], small: bool) -> str:
    """What stands under the table."""
    seeds = " or ".join(map(str, sorted({variant.schedule.seeds for variant in variants})))
    text = f"IoU from one confusion matrix over the test images, mean over {seeds} seeds, chosen on held-out images."
    return f"{text} Recipe small or a custom recipe: not the set-up of the paper." if small else text
