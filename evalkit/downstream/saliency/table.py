"""The rows of a table or figure of salient objects: maps, measures, what the network costs, and the curves."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

from evalkit.data.hashes import combine_hashes
from evalkit.data.labels import labelled
from evalkit.data.pairs import PairSet, find_pairs
from evalkit.downstream.images import sample_root
from evalkit.downstream.saliency.maps import find_maps, measure_curves, measure_maps, networks, plan_maps
from evalkit.errors import DataError, EvalkitError, OutputError, UnknownNameError
from evalkit.files.names import file_name
from evalkit.leaderboards.maps import MapScores
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS
from evalkit.metrics.saliency import MEASURES
from evalkit.protocols.fusion import cell
from evalkit.protocols.measure import Hashes, fuse_row, hash_files
from evalkit.protocols.plan import SOURCES, FoundSet, Row, use_of
from evalkit.protocols.same_data import other_data
from evalkit.protocols.schema import Protocol, of_paper
from evalkit.protocols.summary import now, summarise
from evalkit.protocols.table.cells import Cell
from evalkit.protocols.table.table import Table
from evalkit.protocols.tasks import Entry, Job, Needs, Task
from evalkit.protocols.use import DatasetUse
from evalkit.records.per_image import read_per_image
from evalkit.records.record import Record, save
from evalkit.training.find_recipe import label, load_recipe

SCENES, SEED = 16, 0  # of a sample run; networks learn from scenes of another seed
SIZE = (320, 240)


class Saliency(Task):
    """Maps of salient objects, brought, predicted or trained, against masks; the rows are networks that make them."""

    name, title = "saliency", "Saliency"
    needs = Needs(labels="salient")

    def sample_methods(self, protocol: Protocol) -> list[str]:
        """The paper's network and its ablations, which are trained, beside the source images read as maps."""
        return [*(method for method in protocol.methods if of_paper(method, protocol)), *SOURCES]

    def pairs(self, pairs: PairSet) -> PairSet:
        return labelled(pairs, "salient")

    def full_names(self, columns: Iterable[str], convention: str) -> list[str]:
        return [f"{column}[{convention}]" for column in MEASURES]

    def plan_row(self, job: Job, method: str, dataset: str, available: FoundSet) -> Entry:
        """One entry of `plan`: where the row's saliency maps come from.

        Args:
            job: the run that is planned.
            method: the row's name.
            dataset: the protocol's name of the data set.
            available: what is there of it.
        """
        entry = {"method": method, "dataset": dataset, "from": "", "missing": "", "train": ""}
        try:
            row = find_maps(method, job.protocol, available.card, available.pairs, job.settings)
        except DataError as error:  # two maps of one stem
            return entry | {"missing": str(error)}
        return entry | {"from": row.filled_from, "missing": row.reason}

    def fill(self, job: Job, table: Table) -> None:
        """Predict and measure every row's maps on every data set; of a figure of curves, draw these too.

        Raises:
            UnknownNameError: no such recipe.
            OutputError: a file cannot be written.
        """
        settings = job.settings
        if job.protocol.draws:
            from evalkit.downstream.saliency import figures  # matplotlib and pandas, which tables do without
        for dataset, use in job.uses.items():
            curves: dict[str, MapScores] = {}
            missing: dict[str, str] = {}
            for row, pairs, hashes, record in run_dataset(job, dataset, use):
                save(record, settings.out / "records" / f"{dataset}__{file_name(row.method)}.json")
                table.pairs[dataset] = record.dataset["pairs"]
                other = other_data(record, job.protocol)
                for column in columns_of(job):
                    printed = job.published.get((dataset, row.method, column))
                    table.cells.append(cell(record, column, printed, other))
                if "FLOPs" in job.protocol.metrics:
                    table.cells.append(flops_cell(job, dataset, row))
                if job.protocol.draws == "pr_curve":
                    if record.missing:
                        missing[row.method] = next(iter(record.missing.values()))
                    else:
                        curves[row.method] = measure_curves(row, pairs, hashes, settings)
            if job.protocol.draws == "pr_curve":
                figures.write_curves(dataset, curves, missing, settings.out)
            if curves:
                table.note = f"The curves: curves/{dataset}/*.csv, pr-*.svg, f-*.svg. {table.note}".strip()
        note = "F and E at the adaptive threshold; masks > 128; convention pysodmetrics."
        if any(method in SOURCES for method in job.methods):
            note += " Visible, Infrared: the source image itself, read as a map."
        table.note = " ".join(filter(None, [table.note, note]))
        if job.protocol.draws == "scatter":
            figures.write_scatter(table, settings.out)


def columns_of(job: Job) -> list[str]:
    """The columns that maps have values in."""
    return [name for name in job.protocol.metrics if name in MEASURES]


def run_dataset(job: Job, dataset: str, use: DatasetUse) -> Iterator[tuple[Row, PairSet, Hashes, Record]]:
    """Every row on one data set, with the hashes of its files and its record.

    Args:
        job: the run.
        dataset: the protocol's name of the data set.
        use: the protocol's of this data set.

    Raises:
        UnknownNameError: no such recipe.
        OutputError: a file cannot be written.
    """
    started, settings, card = now(), job.settings, job.protocol.card(dataset)
    use = use_of(use, card, paper=bool(job.protocol.paper))
    root = sample_root(job, SCENES, SEED, *SIZE) if job.sample else job.root
    assert root is not None
    names = {column: f"{column}[{job.protocol.convention}]" for column in MEASURES}
    try:
        pairs = labelled(find_pairs(card, root, use.split), "salient")
    except (OutputError, UnknownNameError):
        raise
    except EvalkitError as error:
        pairs = PairSet(card.name, use.split, Path(), "", ())
        for method in job.methods:
            row = Row(method, reason=settings.named(f"the data set cannot be used: {error}"))
            yield row, pairs, {}, summarise(job.protocol, pairs, use, row, names, {}, {}, started)
        return
    if job.sample:
        use = use.model_copy(update={"pairs": len(pairs.pairs)})
    hashes = hash_files(
        [p for pair in pairs.pairs for p in (pair.infrared, pair.visible, pair.labels["salient"])], settings
    )
    for method in job.methods:
        row = plan_maps(method, job.protocol, card, pairs, settings, root, job.sample)
        if row.fuser is not None:
            fuse_row(row, pairs, hashes, settings)
        row_hashes = hashes
        measured = {}
        if not row.reason:
            stems = {pair.stem for pair in pairs.pairs}
            row_hashes = hashes | hash_files([path for stem, path in row.fused.items() if stem in stems], settings)
            measured = measure_maps(row, pairs, row_hashes, settings)
        record = summarise(job.protocol, pairs, use, row, names, measured, row_hashes, started)
        record.dataset["content_hash"] = combine_hashes(
            (p.stem, hashes[p.infrared], hashes[p.visible], hashes[p.labels["salient"]]) for p in pairs.pairs
        )
        if measured:
            record.scores_hash = read_per_image(settings.scores_file(pairs.dataset, method)).hash()
        yield row, pairs, row_hashes, record


def flops_cell(job: Job, dataset: str, row: Row) -> Cell:
    """Multiply-adds of the salient-object network for three images of 352x352; of another system for its pair.

    Of the network that made the maps; of the paper's where they are the user's. Of another system always its published
    network's, for the square that it sees.

    Args:
        job: the run.
        dataset: the cell's block.
        row: the method, and the network that made its maps, if evalkit ran one.

    Returns:
        In 10^9 multiply-adds, or a missing value with its reason.
    """
    reason = ""
    system = SALIENCY_SYSTEMS.get(row.method)
    if system is not None and system.function is not None:
        reason = "no network: a classical method"
    elif not of_paper(row.method, job.protocol) and (system is None or system.network is None):
        reason = "evalkit has no code for this network"
    elif importlib.util.find_spec("torch") is None:
        reason = "needs PyTorch: pip install 'evalkit[networks]'"
    elif row.reason:
        reason = row.reason
    if reason:
        return Cell(dataset, row.method, "FLOPs", None, None, 0, "missing", reason)
    if not of_paper(row.method, job.protocol):
        value, side = networks().system_multiply_adds(row.method)
        return Cell(dataset, row.method, "FLOPs", value, None, 1, "unpublished", f"a pair of {side}x{side}")
    recipe = load_recipe(job.protocol.paper, "paper", job.protocol.ablations.get(row.method, ""))
    value, recipe = networks().multiply_adds(recipe, row.fuser)
    note = f"{label(recipe)}: three images of 352x352" if row.fuser else "three images of 352x352"
    return Cell(dataset, row.method, "FLOPs", value, None, 1, "unpublished", note)
