"""Tables of fusion metrics: every method on every data set, fused, measured and recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from evalkit.data.gray import ROUNDED
from evalkit.data.images import header_size
from evalkit.data.pairs import PairSet, find_pairs
from evalkit.errors import DataError, EvalkitError
from evalkit.methods.network_fuser import NetworkFuser
from evalkit.metrics.card import Definition
from evalkit.metrics.registry import convention, definitions
from evalkit.protocols.measure import fuse_row, hash_files, measure_rows
from evalkit.protocols.plan import Row, file_name, plan_row, use_of
from evalkit.protocols.same_data import other_data
from evalkit.protocols.schema import Protocol
from evalkit.protocols.selection import check_list
from evalkit.protocols.summary import now, summarise
from evalkit.protocols.table.cells import Cell, status_of
from evalkit.protocols.table.per_image import PublishedImages, agree, published_per_image
from evalkit.protocols.table.published import PublishedRow
from evalkit.protocols.table.table import Table
from evalkit.protocols.tasks import Entry, Job, Task
from evalkit.protocols.training import train_ahead, train_row, wants_training
from evalkit.protocols.use import DatasetUse
from evalkit.records.per_image import read_per_image
from evalkit.records.record import Record, made_here, save


class Fusion(Task):
    """Every method on every data set, fused, measured and recorded."""

    name, title = "fusion", "Fusion quality"
    compared_by_image = selects = True

    def full_names(self, columns: Iterable[str], convention: str) -> list[str]:
        return [definition.full_name for definition in definitions(list(columns), convention).values()]

    def metrics(self, protocol: Protocol) -> list[Entry]:
        defined, undefined = metrics_of(protocol)
        entries = [{"name": name, "definition": d.choice, "missing": ""} for name, d in defined.items()]
        return entries + [{"name": name, "definition": "", "missing": reason} for name, reason in undefined.items()]

    def fill(self, job: Job, table: Table) -> None:
        """Measure every row on every data set; a column that the convention does not define has no values.

        Raises:
            UnknownNameError: no such convention.
            OutputError: a file cannot be written.
        """
        defined, undefined = metrics_of(job.protocol)
        out, selection = job.settings.out, job.settings.images
        if selection is not None:
            check_list(selection, {dataset: stems_of(job, dataset, use) for dataset, use in job.uses.items()})
        for dataset, use in job.uses.items():
            for record in run_dataset(job, dataset, use, defined):
                method = record.method["name"]
                save(record, out / "records" / f"{dataset}__{file_name(method)}.json")
                table.pairs[dataset] = record.dataset["pairs"]
                other = other_data(record, job.protocol)
                for note in notes_of(record):
                    table.note += f"{' ' * bool(table.note)}{note}" if note not in table.note else ""
                for metric in defined:
                    table.cells.append(cell(record, metric, job.published.get((dataset, method, metric)), other))
                for metric, reason in undefined.items():
                    row = job.published.get((dataset, method, metric))
                    printed, mark = (row.printed, row.mark) if row else (None, "")
                    table.cells.append(Cell(dataset, method, metric, None, printed, 0, "missing", reason, mark))
            if use.published_per_image and not job.sample:
                images = read_published(job, dataset, use)
                table.agreement += agree(dataset, images, out / "scores" / dataset, list(defined))


def metrics_of(protocol: Protocol) -> tuple[dict[str, Definition], dict[str, str]]:
    """Column name -> definition, and column name -> why the convention has none. Raises UnknownNameError."""
    convention(protocol.convention)
    defined: dict[str, Definition] = {}
    undefined: dict[str, str] = {}
    for metric in protocol.metrics:
        try:
            defined |= definitions([metric], protocol.convention)
        except EvalkitError as error:
            undefined[metric] = f"not measured: {error}".rstrip(".")
    return defined, undefined


def read_published(job: Job, dataset: str, use: DatasetUse) -> PublishedImages:
    """The values per image that a data set publishes of itself; none where its file is not there.

    Args:
        job: the run.
        dataset: the protocol's name of the data set.
        use: which names the file, below the data set's folder.

    Returns:
        (image, method, metric) -> value.

    Raises:
        DataError: the file is damaged.
    """
    try:
        pairs = find_pairs(job.protocol.card(dataset), job.root or "", use.split)
    except DataError:
        return {}
    return published_per_image(pairs.root / use.published_per_image, job.protocol.published_names)


def stems_of(job: Job, dataset: str, use: DatasetUse) -> set[str]:
    """The stems of a data set, also those without a partner; none where it is not there, which its rows tell.

    Args:
        job: the run.
        dataset: the protocol's name of the data set.
        use: the protocol's of this data set.
    """
    try:
        pairs = find_pairs(job.protocol.card(dataset), job.root or job.settings.out, use.split)
    except EvalkitError:
        return set()
    return {pair.stem for pair in pairs.pairs} | {stem for _, stem in pairs.unpaired}


def count_larger(pairs: PairSet, row: Row) -> int:
    """How many fused images have more rows or columns than their sources, by what their files say."""
    count = 0
    for pair in pairs.pairs:
        own = header_size(row.fused[pair.stem]) if pair.stem in row.fused else None
        source = header_size(pair.visible)
        count += bool(own and source and (own[0] > source[0] or own[1] > source[1]))
    return count


def notes_of(record: Record) -> list[str]:
    """What stands under the table: which images were measured where not all, and what was done to them."""
    notes = []
    if selected := record.dataset.get("selected"):
        notes.append(f"{record.dataset['name']}: {selected}.")
    if arithmetic := record.method.get("arithmetic"):
        notes.append(f"{record.method['name']} fused in {arithmetic}, not in float32 as its authors' program.")
    reading = record.method.get("reading") or {}
    if reading.get("device"):
        notes.append(f"Metrics are computed by PyTorch on {reading['device']}.")
    if reading.get("crop"):
        where = "at their right and lower edges" if reading["crop"] == "end" else "on all sides"
        notes.append(f"Fused images that are larger than their sources are cropped {where}.")
    if reading.get("depth"):
        notes.append(f"16-bit images are read with depth {reading['depth']}.")
    if reading.get("gray", ROUNDED) != ROUNDED:
        notes.append(f"Colour is turned to gray: {reading['gray']}.")
    return notes


def run_dataset(job: Job, dataset: str, use: DatasetUse, defined: Mapping[str, Definition]) -> Iterator[Record]:
    """Fuse and measure every method on one data set; a record for each.

    Args:
        job: the run.
        dataset: the protocol's name of the data set.
        use: the protocol's of this data set.
        defined: column -> definition of the metric.

    Raises:
        UnknownNameError: no such recipe.
        OutputError: a file cannot be written.
    """
    started, settings = now(), job.settings
    card = job.protocol.card(dataset)
    use = use_of(use, card, paper=bool(job.protocol.paper))
    root = job.root or settings.out
    try:
        pairs = find_pairs(card, root, use.split)
        if settings.images is not None:
            pairs = settings.images.of_list(pairs)
    except EvalkitError as error:
        pairs = PairSet(card.name, use.split, Path(), "", ())
        rows = [Row(method, reason=f"the data set cannot be used: {error}") for method in job.methods]
    else:
        rows = [plan_row(method, card, pairs, use, settings, job.protocol) for method in job.methods]
        untrained = [row.method for row in rows if wants_training(row, job.protocol, settings)]
        train_ahead(untrained, job.protocol, settings, root, job.sample)
        for i, row in enumerate(rows):
            if row.method in untrained:
                rows[i] = train_row(row, job.protocol, settings, root, job.sample)
                rows[i].place_in(settings.out, pairs)
    for row in rows:
        row.reason = settings.named(row.reason)
    filled = [row for row in rows if not row.reason]
    sources = [path for pair in pairs.pairs for path in (pair.infrared, pair.visible)]
    hashes = hash_files(sources, settings)
    for row in filled:
        if row.fuser is not None:
            fuse_row(row, pairs, hashes, settings)
    if settings.images is not None:
        pairs = settings.images.of_methods(pairs, [row.fused for row in filled])
    stems = {pair.stem for pair in pairs.pairs}
    fused = [path for row in filled for stem, path in row.fused.items() if stem in stems]
    hashes |= hash_files(fused, settings)
    measured = measure_rows(pairs, filled, defined, hashes, settings)
    names = {column: definition.full_name for column, definition in defined.items()}
    for row in rows:
        scores = measured.finish(row.method)
        record = summarise(job.protocol, pairs, use, row, names, scores, hashes, started)
        reading = settings.reading
        grays = reading.grays(defined.values())
        record.method["reading"] = {"depth": reading.depth, "crop": reading.crop, "gray": grays}
        if reading.device:
            record.method["reading"]["device"] = reading.device
            by = f"{reading.device}, by each worker" if settings.engine.remote else made_here(reading.device)["device"]
            record.provenance["measured on"] = by
        if reading.crop and (count := count_larger(pairs, row)):
            record.method["cropped"] = count
        if settings.engine.remote and isinstance(row.fuser, NetworkFuser):
            record.provenance["device"] = f"{row.fuser.elsewhere}, by each worker"
        if scores:
            record.scores_hash = read_per_image(settings.scores_file(pairs.dataset, row.method)).hash()
        yield record


def cell(record: Record, metric: str, published: PublishedRow | None, not_comparable: str) -> Cell:
    """One number of the table, judged against the printed one when both are of the same pairs.

    Args:
        record: of one method on one data set.
        metric: the column.
        published: the printed cell, where the paper has one.
        not_comparable: why the two cannot be compared, see `other_data`; empty where they can.
    """
    printed, mark = (published.printed, published.mark) if published else (None, "")
    value, reason = record.scores.get(metric), record.missing.get(metric, "")
    status = status_of(value, printed, not_comparable)
    if value is not None:
        reason = not_comparable or reason
    if value is not None and (jpeg := record.method.get("jpeg")):
        note = f"{jpeg} of its {record.images} fused images are JPEG: their compression changes what is measured"
        reason = "; ".join(filter(None, [reason, note]))
    if value is not None and (count := record.method.get("cropped")):
        note = f"{count} of its {record.images} fused images were cropped to the size of their sources"
        reason = "; ".join(filter(None, [reason, note]))
    names = record.dataset["name"], record.method["name"], metric
    return Cell(*names, value, printed, record.images, status, reason, mark)
