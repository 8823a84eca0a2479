"""Checking a submitted record: that it is whole, that its scores follow from its images, that the hashes hold."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from evalkit.data.card import load_card
from evalkit.data.hashes import combine_hashes, digest, file_hash
from evalkit.data.labels import labelled
from evalkit.data.pairs import ImagePair, PairSet, find_pairs
from evalkit.errors import DataError, EvalkitError
from evalkit.files.names import file_name
from evalkit.files.read import read_file
from evalkit.leaderboards.site.entries import check_names, record_files, scores_of
from evalkit.methods.outputs import find_outputs
from evalkit.metrics.card import TASK_CONVENTIONS
from evalkit.metrics.evaluate import REVISION
from evalkit.protocols.schema import Protocol, protocol_of_run
from evalkit.protocols.table.export import to_csv
from evalkit.protocols.table.table import read_table
from evalkit.protocols.tasks import tasks_of
from evalkit.records.per_image import PerImage, read_per_image, score_key
from evalkit.records.record import Record, load

HASH = re.compile(r"[0-9a-f]{64}")
MAPS = TASK_CONVENTIONS["saliency"]
OF_THE_SET = ("coco", "set")  # conventions whose scores are of a test set as a whole, not means over its images


@dataclass
class Verdict:
    """What is wrong with a record; empty problems mean that it holds. `checked` says which checks were possible."""

    path: Path
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(
    path: str | os.PathLike[str],
    scores: str | os.PathLike[str] | None = None,
    fused: str | os.PathLike[str] | None = None,
    data_root: str | os.PathLike[str] | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
) -> list[Verdict]:
    """Check a record, or every record below a folder.

    Args:
        path: a record, or a folder that holds runs (records/*.json).
        scores: the per-image scores of the record; those beside it or in its run when not given.
        fused: the fused images, FUSED/<method>/<dataset>/<stem>.png, to check their hash; those that the run made
            itself are found without it.
        data_root: the data sets, to check the hash of the sources.
        checkpoints: the folder of the weights, to check theirs; weights that the run trained are found without it.

    Returns:
        A verdict per record, and of a folder one per table of a run in it.

    Raises:
        DataError: no such file, a folder without records, or a file that is no record.
    """
    path = Path(path)
    files = record_files(path) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no records (records/*.json). Name a record or the --out folder of a run.")
    if scores is not None and path.is_dir():
        raise DataError("--scores belongs to one record: name the record itself instead of a folder.")
    verdicts = [_verify(file, scores, fused, data_root, checkpoints) for file in files]
    tables = sorted(file for file in path.rglob("table.json")) if path.is_dir() else []
    return verdicts + [verify_table(file) for file in tables if (file.parent / "records").is_dir()]


def _verify(
    path: Path,
    scores: str | os.PathLike[str] | None,
    fused: str | os.PathLike[str] | None,
    data_root: str | os.PathLike[str] | None,
    checkpoints: str | os.PathLike[str] | None,
) -> Verdict:
    record = load(path)
    check_names(record, path)
    verdict = Verdict(path)
    check_fields(record, verdict)
    file = Path(scores) if scores is not None else scores_of(path, record)
    rows = None
    if file is not None:
        try:
            rows = read_per_image(file)
        except DataError as error:
            verdict.problems.append(str(error))
    elif record.convention in OF_THE_SET:
        verdict.notes.append("the scores are of a trained network on a whole test set: they were not computed again")
    elif record.scores:
        verdict.problems.append("the per-image scores are missing: put <record>.csv beside it or give --scores")
    if rows is not None:
        check_scores(record, rows, verdict)
    run = path.parents[1]
    made = run / ("maps" if record.convention == MAPS else "fused")
    if fused is None and (made / file_name(record.method["name"])).is_dir() and record.method.get("fused_hash"):
        fused = made
    if data_root is not None or fused is not None:
        check_images(record, rows, fused, data_root, verdict)
    trained = run / "training" / file_name(record.method["name"])
    check_weights(record, [Path(folder) for folder in (checkpoints, trained) if folder is not None], verdict)
    return verdict


def check_fields(record: Record, verdict: Verdict) -> None:
    """What the record says of itself: hashes are hashes, counts fit, every metric has a value or a reason."""
    say = verdict.problems.append
    verdict.checked.append("fields")
    if record.record_hash != record.hash():
        say("the record was changed after it was written: its own hash is another")
    places: dict[str, object] = {} if record.convention in OF_THE_SET else {"scores_hash": record.scores_hash}
    if record.method.get("filled_from") != "code":  # what a network costs is counted, on no images
        places["dataset.content_hash"] = record.dataset.get("content_hash")
        places["method.fused_hash"] = record.method.get("fused_hash")
    places |= {f"method.weights.{name}": value for name, value in dict(record.method.get("weights") or {}).items()}
    for place, text in places.items():
        if not (isinstance(text, str) and HASH.fullmatch(text)) and (record.scores or text):
            say(f"{place} is {text!r}, expected a SHA-256 in 64 hexadecimal digits")
    columns = record.columns
    for metric in columns:
        if (metric in record.scores) == (metric in record.holes):
            say(f"{metric} has {'a score and a hole' if metric in record.scores else 'neither a score nor a reason'}")
    for metric in sorted({*record.scores, *record.holes} - set(columns)):
        say(f"{metric} is scored but not among the metrics")
    for metric, value in record.scores.items():
        if not math.isfinite(value):
            say(f"{metric} is {value}: a score is a number, what could not be computed is a hole")
    if (record.status == "complete") != (not record.holes):
        say(f"the status is {record.status} with {len(record.holes)} holes")
    pairs, expected = record.dataset.get("pairs"), record.dataset.get("expected")
    if expected is not None and pairs != expected:
        other = f"measured on {pairs} pairs, the protocol's table on {expected}: not the same data"
        (verdict.notes.append if record.convention in OF_THE_SET else say)(other)  # of these: never set beside it
    if record.scores and record.images != pairs and record.convention not in OF_THE_SET:  # of these: the test part
        say(f"{record.images} of {pairs} images are measured, but means are given")
    _check_protocol(record, verdict)


def _check_protocol(record: Record, verdict: Verdict) -> None:
    say = verdict.problems.append
    try:
        chosen = protocol_of_run(record.protocol["name"], verdict.path.parents[1])
        columns = record.columns
        wanted = tasks_of(chosen)[0].full_names(columns, record.convention)
        if wanted is not None and record.metrics != wanted:
            say(f"the metrics are {', '.join(record.metrics)}, in this convention {', '.join(wanted)}")
    except EvalkitError as error:
        say(str(error))
        return
    if record.convention != chosen.convention and record.convention not in OF_THE_SET:  # a table may have both
        say(f"the convention is {record.convention}, that of {chosen.name} is {chosen.convention}")
    measured = set(record.columns)
    missing = set(chosen.metrics) - measured - {name.rpartition(" ")[2] for name in measured}  # "car IoU" is of IoU
    if missing:
        verdict.notes.append(f"does not measure {', '.join(sorted(missing))} of {chosen.name}")
    _check_use(record, chosen, verdict)
    if record.protocol.get("hash") != chosen.hash:
        verdict.notes.append(f"measured with another wording of {chosen.name}; what it measures was checked above")


def _check_use(record: Record, chosen: Protocol, verdict: Verdict) -> None:
    name = record.dataset["name"]
    if record.convention in (*OF_THE_SET, MAPS) and not of_the_paper(record, chosen):
        verdict.notes.append("not the paper's data or lists: its values stand beside no printed ones")
        return
    if name not in chosen.datasets:
        verdict.problems.append(f"{name} is no data set of {chosen.name} ({', '.join(chosen.datasets)})")
        return
    use, card = chosen.datasets[name], load_card(name)
    split = use.split or card.default_split
    if record.method.get("filled_from") == "code":
        return
    if record.dataset.get("split") != split:
        verdict.problems.append(f"the split is {record.dataset.get('split')}, that of {chosen.name} is {split}")
    if use.pairs is not None and record.dataset.get("expected") != use.pairs:
        verdict.problems.append(f"expects {record.dataset.get('expected')} pairs, {chosen.name} has {use.pairs}")


def of_the_paper(record: Record, chosen: Protocol) -> bool:
    """Whether a trained network was tested on the part of a data set that the paper's table is of."""
    name = record.dataset["name"]
    if name not in chosen.datasets:
        return False
    split = chosen.datasets[name].split or load_card(name).default_split
    return record.dataset.get("split") == split


def check_scores(record: Record, rows: PerImage, verdict: Verdict) -> None:
    """That the means of the record are those of the per-image scores, digit for digit."""
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
            say(f"{metric} is {value!r}, but {', '.join(empty[:3]) or 'every image'} has no value: no mean over holes")
        elif value is not None and value != mean:
            say(f"{metric} is {value!r}, the mean of the per-image scores is {mean!r}")
        elif value is None and mean is not None and not failed and not record.failures:
            say(f"{metric} is a hole, but every image has a value")


def check_images(
    record: Record,
    rows: PerImage | None,
    fused: str | os.PathLike[str] | None,
    data_root: str | os.PathLike[str] | None,
    verdict: Verdict,
) -> None:
    """That the images at hand are those that were measured."""
    name, method = record.dataset["name"], record.method["name"]
    pairs = sources = images = None
    if data_root is not None:
        try:
            pairs = find_pairs(load_card(name), data_root, record.dataset.get("split"))
            if record.convention == MAPS:
                pairs = labelled(pairs, "salient")
            sources = {p.stem: tuple(map(file_hash, measured_files(p, record))) for p in pairs.pairs}
        except EvalkitError as error:
            verdict.problems.append(f"the sources cannot be checked: {error}")
        else:
            verdict.checked.append("sources")
            if combine_hashes((stem, *both) for stem, both in sources.items()) != record.dataset.get("content_hash"):
                verdict.problems.append(f"the images of {name} are not those that were measured: {_places(pairs)}")
    if fused is not None and record.method.get("filled_from") != "data set":
        files = find_outputs(Path(fused), file_name(method), name, record.dataset.get("split"))
        if not files:
            verdict.problems.append(f"no fused images in {Path(fused) / file_name(method) / name}")
        else:
            stems = set(rows.rows) if rows is not None else set(files)
            images = {stem: file_hash(path) for stem, path in files.items() if stem in stems}
            verdict.checked.append("fused images")
            if combine_hashes(images.items()) != record.method.get("fused_hash"):
                verdict.problems.append(f"the fused images of {method} on {name} are not those that were measured")
    if rows is not None and sources is not None and images is not None:
        names = ",".join(record.metrics)
        for stem, row in rows.rows.items():
            if stem not in sources or stem not in images:
                continue
            *pair, last = sources[stem]
            of_map = record.convention == MAPS
            key = score_key(last, images[stem]) if of_map else digest(REVISION, names, *pair, last, images[stem])
            if row.key != key:
                verdict.problems.append(f"{stem}: its scores are of other images, or of other code for the metrics")
        verdict.checked.append("keys")


def measured_files(pair: ImagePair, record: Record) -> list[Path]:
    """The files of a pair that a record's scores depend on; of saliency maps also the mask."""
    return [pair.infrared, pair.visible, *([pair.labels["salient"]] if record.convention == MAPS else [])]


def check_weights(record: Record, folders: list[Path], verdict: Verdict) -> None:
    """That the weights at hand are those that fused the images."""
    for name, wanted in dict(record.method.get("weights") or {}).items():
        found = next((folder / file_name(name) for folder in folders if (folder / file_name(name)).is_file()), None)
        if found is None:
            verdict.notes.append("its weights are not at hand: give their folder with --checkpoints")
            continue
        verdict.checked.append("weights")
        if file_hash(found) != wanted:
            verdict.problems.append(f"the weights {found} are not those that were measured")


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
    for cell in table.cells:
        wanted = scores.get((cell.dataset, cell.method))
        counted = cell.metric == "FLOPs" and cell.metric not in (wanted or {})  # of the network, not of the images
        if cell.value is not None and wanted is not None and not counted and wanted.get(cell.metric) != cell.value:
            where = f"{cell.dataset}, {cell.method}, {cell.metric}"
            verdict.problems.append(f"{where} is {cell.value!r}, in its record {wanted.get(cell.metric)!r}")
    csv = path.with_suffix(".csv")
    if csv.is_file() and read_file(csv) != to_csv(table).encode():
        verdict.problems.append(f"{csv} does not hold the numbers of {path.name}: one of them was changed")
    return verdict


def _places(pairs: PairSet) -> str:
    return f"{len(pairs.pairs)} pairs in {pairs.root}"
