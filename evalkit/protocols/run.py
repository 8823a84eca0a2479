"""Running a protocol: plan -> fuse and measure (the task's runner) -> table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.data.images import parse_depth, parse_gray
from evalkit.engine.base import Name
from evalkit.engine.open import open_engine
from evalkit.errors import EvalkitError
from evalkit.files.lock import locked
from evalkit.files.names import several
from evalkit.files.write import remove_parts
from evalkit.methods.arithmetic import FLOAT32, Arithmetic, Precision
from evalkit.methods.fusers import choose_device
from evalkit.metrics.evaluate import AS_STORED, Crop, Reading
from evalkit.metrics.jobs import metrics_device
from evalkit.protocols.plan import (
    Existing,
    Progress,
    Settings,
    each_root,
    find_checkpoints,
    find_data_root,
    find_outputs_root,
    place_data,
    plan_datasets,
    plan_methods,
    prepare_out,
    sample_scenes,
)
from evalkit.protocols.schema import (
    Protocol,
    keep_protocol,
    make_protocol,
    published_values,
    read_protocol,
)
from evalkit.protocols.schema import protocol as load_protocol
from evalkit.protocols.selection import parse_images
from evalkit.protocols.table.blank import add_missing, blank_table, expected_rows
from evalkit.protocols.table.published import PublishedRow
from evalkit.protocols.table.table import Table
from evalkit.protocols.tasks import Job, tasks_of
from evalkit.records.older import check_folder, set_aside_older


def reproduce(
    name: str | Protocol,
    data_root: str | os.PathLike[str] | Iterable[Path] | None = None,
    *,
    sample: bool = False,
    outputs: str | os.PathLike[str] | None = None,
    image_name: str = "",
    checkpoints: str | os.PathLike[str] | None = None,
    device: str = "auto",
    recolour: bool | None = None,
    keep_format: bool | None = None,
    images: str | os.PathLike[str] | None = None,
    crop: Crop = "",
    depth: int | str | None = None,
    gray: str = "",
    methods: Iterable[str] | str | None = None,
    datasets: Iterable[str] | str | None = None,
    out: str | os.PathLike[str] | None = None,
    existing: Existing = "reuse",
    workers: int | None = None,
    train: bool = False,
    recipe: str = "",
    accumulate: int = 1,
    precision: Precision = "float32",
    channels_last: bool = False,
    engine: Name = "local",
    address: str | None = None,
    scheduler_file: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    progress: Progress = lambda items, total, text: items,
) -> Table:
    """Regenerate a published table and set it beside what was printed.

    Args:
        name: the protocol, e.g. "smfnet-table1", the path of a YAML file, or the protocol itself.
        data_root: folder with the data sets; the protocol's own, or the environment variable EVALKIT_DATA, when not
            given.
        sample: run on generated sample scenes instead of the protocol's data sets.
        outputs: fused images, OUTPUTS/<method>/<dataset>/<stem>.png; the protocol's own when not given.
        image_name: how they are called, where not so: "{stem}_fused", or with folders "{dataset}/{method}/{stem}"; see
            `evalkit.data.patterns`.
        checkpoints: folder with the authors' weights, under the file names on the methods' cards; the protocol's own
            when not given.
        device: for networks: auto (a GPU where there is one), cpu, cuda or cuda:N. A GPU that is named here also
            measures fused images, by the metrics' forms for PyTorch; else NumPy does, in any number of processes.
            "torch" is for PyTorch on the processor. Keys of scores, records and tables say so.
        recolour: give gray results of networks the chroma of the visible image before they are saved and scored; None
            for as the protocol has it.
        keep_format: networks' results pass through JPEG where the infrared image is one and the authors' script saves
            under its name, with the quality on the method's card; None for as the protocol has it.
        images: "common" measures the images that all methods have; the path of a text file, a stem a line, those of
            the list; None for all, where a missing image is a missing value. Every output says so.
        crop: "end" or "centre" cuts fused images that a network padded, right and below or on all sides, to the size of
            their sources; table and records say so.
        depth: what the values of 16-bit files are, see `evalkit.evaluate`.
        gray: how colour becomes gray where images are measured, see `evalkit.evaluate`; as the protocol says, or else
            the convention, when not given. Table and records say so. What is fused here is fused from "rounded".
        methods: rows; when not given those of the protocol (in a sample run, those that need nothing but code) and,
            unless the protocol states where its methods come from, every folder of `outputs` that has images.
        datasets: data sets; those of the protocol when not given.
        out: folder for fused images, scores, records and tables; runs/<protocol>[-sample] when not given.
        existing: "reuse" what was measured on the same images, "replace" it, or "fail" when the folder is not empty.
        workers: processes; None for one per processor. The numbers do not depend on it.
        accumulate: parts that a batch of a training is computed in where it does not fit into the memory, see
            `evalkit.training.loop.train`.
        precision, channels_last: how networks fuse, see `evalkit.methods.arithmetic`: float32 in PyTorch's own order
            when not given. What is fused otherwise says so in its records and stands beside no printed value.
        engine, address, scheduler_file: where the work is done: "local", or "dask" with the address of a scheduler or
            the file that it wrote (see `evalkit.engine.open.open_engine`). The numbers do not depend on it.
        timeout: seconds after which a unit of work (a few images) counts as hanging and is given to another worker.
        train: train networks that have neither fused images nor weights; in a sample run they learn from other
            generated scenes.
        recipe: how networks are trained: "small", "paper", or for `train` a YAML file; the protocol's own, or small,
            when not given.
        progress: wraps the items of a long step, called with (items, count, text).

    Returns:
        The table; its cells say which values are missing values and why.

    Raises:
        UnknownNameError: protocol, method or data set, with the nearest names.
        DataError: no data root, or folders that cannot be used.
        OutputError: the output folder cannot be written or holds another protocol's records, or another run is
            writing to it.
    """
    methods, datasets = several(methods), several(datasets)
    protocol = name if isinstance(name, Protocol) else load_protocol(name)
    tasks = tasks_of(protocol)
    needs = tasks[0].needs
    if sample and not needs.data:
        raise EvalkitError(f"{protocol.name} has nothing to run on sample scenes: leave --sample out.")
    selection = parse_images(images)
    reading = Reading(parse_depth(depth), crop, parse_gray(gray) or protocol.gray)
    if (selection is not None or reading != AS_STORED) and not all(task.selects for task in tasks):
        raise EvalkitError(f"images, crop, depth and gray are of tables of fused images; {protocol.name} is not one.")
    if all(task.selects for task in tasks) and (measured_on := metrics_device(device)):
        if engine == "local":
            choose_device(device)  # refused before anything is done
        reading = replace(reading, device=measured_on)
    arithmetic = Arithmetic(precision, channels_last)
    if arithmetic != FLOAT32 and not all(task.selects for task in tasks):
        raise EvalkitError(f"precision and channels_last are of tables of fused images; {protocol.name} is not one.")
    outputs = find_outputs_root(outputs or protocol.place("outputs"))
    root = None
    if needs.data and not sample:
        protocol, root = place_data(protocol, data_root)
    uses = plan_datasets(protocol, datasets, sample, needs.labels)
    sample_rows = tasks[0].sample_methods(protocol) if sample else None
    rows = plan_methods(protocol, methods, outputs, sample_rows, needs.labels is not None, uses, image_name)
    if needs.data and not sample and root is None and not (uses and all(use.inline for use in uses.values())):
        find_data_root(None, sample=True)  # says what is missing
    roots = {name: folder for name in uses if (folder := protocol.card(name).root)}
    if protocol.sources and (folder := protocol.folder):
        roots["BENCHMARK"] = folder
    weights = find_checkpoints(checkpoints or protocol.place("checkpoints"))
    recipe = recipe or recipe_of(protocol)
    out = default_out(protocol, sample) if out is None else Path(out)
    if engine != "local":  # workers run in folders of their own
        out = out.absolute()
        outputs, weights = (path and path.absolute() for path in (outputs, weights))
        root = None if root is None else find_data_root([folder.absolute() for folder in each_root(root)])
    out = prepare_out(out, existing)
    with locked(out) as lock:
        remove_parts(out)
        set_aside_older(out)
        check_folder(out, protocol.name, uses, rows)
        if sample and needs.labels is None:  # networks that learn from scenes draw as many as their recipe says
            root = sample_scenes(out, progress)
        keep_protocol(protocol, out)
        table = blank_table(protocol, sample)
        must_see = [path for path in (lock, *each_root(root), outputs, weights, *roots.values()) if path]
        with open_engine(engine, workers, address, scheduler_file, timeout, must_see) as opened:
            settings = Settings(
                out,
                outputs,
                weights,
                device,
                protocol.recolour if recolour is None else recolour,
                protocol.keep_format if keep_format is None else keep_format,
                existing,
                workers,
                progress,
                train,
                recipe,
                opened,
                root,
                image_name,
                selection,
                reading,
                roots,
                accumulate,
                arithmetic=arithmetic,
            )
            job = Job(protocol, uses, rows, {} if sample else published_values(protocol), root, sample, settings)
            for task in tasks:
                task.fill(job, table)
        if not sample:
            add_missing(table, expected_rows(protocol, uses, rows), lambda row: why_missing(protocol, row))
        table.write(out)
    return table


def recipe_of(protocol: Protocol) -> str:
    """The recipe that a protocol states, a file relative to its own, or small."""
    if protocol.recipe.endswith((".yaml", ".yml")):
        return str((protocol.folder or Path()) / protocol.recipe)
    return protocol.recipe or "small"


def benchmark(source: str | os.PathLike[str] | Mapping[str, Any], **options: Any) -> Table:
    """Run a benchmark of your own: a protocol in a YAML file, or as a mapping of the same fields.

    Args:
        source: the path of the file, or the fields; a name among them names the results folder.
        options: of `reproduce`, such as data_root, outputs, out and workers.

    Raises:
        As `reproduce`.
    """
    if isinstance(source, Mapping):
        return reproduce(make_protocol(source), **options)
    return reproduce(read_protocol(source), **options)


def why_missing(protocol: Protocol, row: PublishedRow) -> str:
    """Why nothing fills a published cell."""
    if not row.dataset:
        return "the paper does not say on which data set this was measured"
    quantity = f"the {row.metric.removesuffix(' std')} of {row.variant or row.class_ or row.dataset}"
    if row.metric.endswith(" std"):
        return f"the paper does not say over what it takes the spread of {quantity}"
    return f"evalkit does not measure {quantity}"


def default_out(name: str | Protocol, sample: bool) -> Path:
    """Where a run writes when no folder is named."""
    own = name.name if isinstance(name, Protocol) else load_protocol(name).name
    return Path("runs") / (f"{own}-sample" if sample else own)
