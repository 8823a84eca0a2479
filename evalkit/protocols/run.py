"""Running a protocol: plan -> fuse -> measure -> record -> table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from evalkit.data.card import load_card
from evalkit.data.pairs import PairSet, find_pairs
from evalkit.errors import DataError
from evalkit.leaderboards.per_image import PublishedImages, agree, published_per_image
from evalkit.leaderboards.table import Cell, Column, Status, Table, agreement, columns_of
from evalkit.metrics.registry import Definition, definitions
from evalkit.protocols import cost
from evalkit.protocols.measure import fuse_row, hash_files, measure_rows
from evalkit.protocols.plan import (
    Existing,
    Progress,
    Row,
    Settings,
    find_checkpoints,
    find_data_root,
    find_outputs_root,
    plan_datasets,
    plan_methods,
    plan_row,
    prepare_out,
    sample_scenes,
)
from evalkit.protocols.schema import DatasetUse, Protocol, Published, PublishedValue, protocol, published_values
from evalkit.protocols.summary import now, summarise
from evalkit.records.record import Record, save


def reproduce(
    name: str,
    data_root: str | os.PathLike[str] | None = None,
    *,
    sample: bool = False,
    outputs: str | os.PathLike[str] | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    device: str = "auto",
    recolour: bool = False,
    methods: Iterable[str] | None = None,
    datasets: Iterable[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    existing: Existing = "reuse",
    workers: int | None = None,
    progress: Progress = lambda items, total, text: items,
) -> Table:
    """Regenerate a published table and set it beside what was printed.

    Args:
        name: the protocol, e.g. "smfnet-table1".
        data_root: folder with the data sets; the environment variable EVALKIT_DATA when not given.
        sample: run on generated sample scenes instead of the protocol's data sets.
        outputs: fused images, OUTPUTS/<method>/<dataset>/<stem>.png.
        checkpoints: folder with the authors' weights, under the file names on the methods' cards.
        device: for networks: auto (a GPU where there is one), cpu, cuda or cuda:N.
        recolour: give gray results of networks the chroma of the visible image before they are saved and scored.
        methods: rows; those of the protocol when not given (in a sample run, those that need nothing but code).
        datasets: data sets; those of the protocol when not given.
        out: folder for fused images, scores, records and tables; runs/<protocol>[-sample] when not given.
        existing: "reuse" what was measured on the same images, "replace" it, or "fail" when the folder is not empty.
        workers: processes; None for one per processor. The numbers do not depend on it.
        progress: wraps the items of a long step, called with (items, count, text).

    Returns:
        The table; its cells say which values are holes and why.

    Raises:
        UnknownNameError: protocol, method or data set, with the nearest names.
        DataError: no data root, or folders that cannot be used.
        OutputError: the output folder cannot be written.
    """
    chosen = protocol(name)
    outputs = find_outputs_root(outputs)
    uses = plan_datasets(chosen, datasets, sample)
    rows = plan_methods(chosen, methods, outputs, sample)
    root = None if sample or chosen.task == "complexity" else find_data_root(data_root)
    out = prepare_out(default_out(chosen.name, sample) if out is None else Path(out), existing)
    settings = Settings(out, outputs, find_checkpoints(checkpoints), device, recolour, existing, workers, progress)
    published = {} if sample else published_values(chosen)
    if chosen.task == "complexity":
        return _cost_table(chosen, uses, rows, published, settings)
    wanted = definitions(chosen.metrics, chosen.convention)
    table = _table(chosen, columns_of(wanted.items()), sample)
    for dataset, use in uses.items():
        for record in run_dataset(chosen, dataset, use, rows, wanted, root or sample_scenes(out, progress), settings):
            save(record, out / "records" / f"{dataset}__{record.method['name']}.json")
            table.pairs[dataset] = record.dataset["pairs"]
            for metric in wanted:
                table.cells.append(cell(record, metric, published.get((dataset, record.method["name"], metric))))
        if use.published_per_image and not sample:
            published_images = read_published(dataset, root, use, chosen)
            table.agreement += agree(dataset, published_images, out / "scores" / dataset, list(wanted))
    table.write(out)
    return table


def _table(chosen: Protocol, columns: list[Column], sample: bool = False) -> Table:
    source = f"{chosen.paper} {chosen.table}"
    return Table(chosen.name, chosen.title, source, chosen.convention, chosen.citation, columns, sample)


def _cost_table(
    chosen: Protocol, uses: Mapping[str, DatasetUse], methods: list[str], published: Published, settings: Settings
) -> Table:
    """A table of parameters, multiply-adds and times: nothing is fused, no data set is needed."""
    table = _table(chosen, cost.columns(chosen))
    for dataset in uses:
        table.pairs[dataset] = 1  # one pair of 640x480
        table.cells += cost.cost_cells(chosen, dataset, methods, published, settings)
    table.write(settings.out)
    return table


def read_published(dataset: str, root: Path | None, use: DatasetUse, chosen: Protocol) -> PublishedImages:
    """The values per image that a data set publishes of itself; none where its file is not there."""
    try:
        pairs = find_pairs(load_card(dataset), root or "", use.split)
    except DataError:
        return {}
    return published_per_image(pairs.root / use.published_per_image, chosen.published_names)


def default_out(name: str, sample: bool) -> Path:
    """Where a run writes when no folder is named."""
    return Path("runs") / (f"{protocol(name).name}-sample" if sample else protocol(name).name)


def run_dataset(
    chosen: Protocol,
    dataset: str,
    use: DatasetUse,
    methods: list[str],
    wanted: Mapping[str, Definition],
    root: Path,
    settings: Settings,
) -> Iterator[Record]:
    """Fuse and measure every method on one data set; a record for each."""
    started = now()
    card = load_card(dataset)
    try:
        pairs = find_pairs(card, root, use.split)
    except DataError as error:
        pairs = PairSet(card.name, use.split, root, "", ())
        rows = [Row(method, hole=f"the data set cannot be used: {error}") for method in methods]
    else:
        rows = [plan_row(method, card, pairs, use, settings) for method in methods]
    filled = [row for row in rows if not row.hole]
    sources = [path for pair in pairs.pairs for path in (pair.infrared, pair.visible)]
    hashes = hash_files(sources, settings.workers)
    for row in filled:
        if row.fuser is not None:
            fuse_row(row, pairs, hashes, settings)
    stems = {pair.stem for pair in pairs.pairs}
    fused = [path for row in filled for stem, path in row.fused.items() if stem in stems]
    hashes |= hash_files(fused, settings.workers)
    measured = measure_rows(pairs, filled, wanted, hashes, settings)
    for row in rows:
        yield summarise(chosen, pairs, use, row, wanted, measured.get(row.method, {}), hashes, started)


def cell(record: Record, metric: str, published: PublishedValue | None) -> Cell:
    """One number of the table, judged against the printed one when both come from the same count of pairs."""
    printed = published.printed if published else None
    found, expected = record.dataset["pairs"], record.dataset["expected"]
    value, reason = record.scores.get(metric), record.holes.get(metric, "")
    status: Status
    if value is None:
        status = "hole"
    elif found != expected:
        status, reason = "other data", f"measured on {found} pairs, the paper's table on {expected}"
    else:
        status = agreement(value, printed) if printed is not None else "unpublished"
    return Cell(record.dataset["name"], record.method["name"], metric, value, printed, record.images, status, reason)
