"""Checking a submitted record: that it is whole, that its scores follow from its images, that the hashes hold."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from evalkit.data.hashes import file_hash
from evalkit.data.pairs import DataRoot
from evalkit.errors import DataError, EvalkitError
from evalkit.files.names import file_name
from evalkit.leaderboards.fits import (
    CHANGED,
    OF_THE_SET,
    Verdict,
    check_names,
    check_scores,
    record_files,
    scores_of,
    verify_table,
)
from evalkit.leaderboards.measured_again import MAPS, REMEASURED, check_images, differences, protocol_of_record
from evalkit.leaderboards.submission import check_submission, submissions_below
from evalkit.methods.registry import method_cards
from evalkit.protocols.cost import counted, missing, prefix
from evalkit.protocols.same_data import other_data
from evalkit.protocols.schema import Protocol, protocol_of_run
from evalkit.protocols.tasks import tasks_of
from evalkit.records.per_image import read_per_image
from evalkit.records.record import Record, load

HASH = re.compile(r"[0-9a-f]{64}")
UNPROVEN = (
    "without its images or its data set only this is checked, that the numbers fit together, not that they were "
    "measured: give --data-root, and --fused or, where evalkit fuses itself, --checkpoints"
)


def verify(
    path: str | os.PathLike[str],
    scores: str | os.PathLike[str] | None = None,
    fused: str | os.PathLike[str] | None = None,
    data_root: DataRoot | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    remeasure: int | None = REMEASURED,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
) -> list[Verdict]:
    """Check a record, or every record below a folder.

    Args:
        path: a record, or a folder that holds runs (records/*.json).
        scores: the per-image scores of the record; those beside it or in its run when not given.
        fused: the fused images, FUSED/<method>/<dataset>/<stem>.png, to check their hash; those that the run made
            itself are found without it.
        data_root: the data sets, to check the hash of the sources.
        checkpoints: the folder of the weights, to check theirs; weights that the run trained are found without it.
        remeasure: how many images of each record are measured again, chosen by hash, where the sources are at hand;
            None for all. Images that evalkit fused and that are not at hand are fused again, by its own code or by
            networks whose weights lie in `checkpoints`.
        progress: wraps the records, called with (items, count, text).

    Returns:
        A verdict per record, and of a folder one per table of a run and per submission in it. Records of a submission
        whose files are not as it has them are not read.

    Raises:
        DataError: no such file, a folder without records, or a file that is not a record.
    """
    path = Path(path)
    submitted = [check_submission(home) for home in submissions_below(path)] if path.is_dir() else []
    refused = {verdict.path.parent for verdict in submitted if not verdict.ok}
    files = record_files(path) if path.is_dir() else [path]
    files = [file for file in files if refused.isdisjoint(file.parents)]
    if not files and not refused:
        raise DataError(f"{path} holds no records (records/*.json). Name a record or the --out folder of a run.")
    if scores is not None and path.is_dir():
        raise DataError("--scores belongs to one record: name the record itself instead of a folder.")
    todo = progress(files, len(files), "verify")
    verdicts = [_verify(file, scores, fused, data_root, checkpoints, remeasure) for file in todo]
    homes = dict.fromkeys(file.parents[1] for file in files) if path.is_dir() else []
    verdicts += [verify_table(home / "table.json") for home in homes if (home / "table.json").is_file()]
    return verdicts + submitted


def _verify(
    path: Path,
    scores: str | os.PathLike[str] | None,
    fused: str | os.PathLike[str] | None,
    data_root: DataRoot | None,
    checkpoints: str | os.PathLike[str] | None,
    remeasure: int | None,
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
    protocol = protocol_of_record(record, run)
    if protocol is not None and data_root is None:
        data_root = protocol.place("data_root")
    made = run / ("maps" if record.convention == MAPS else "fused")
    if fused is None and (made / file_name(record.method["name"])).is_dir() and record.method.get("fused_hash"):
        fused = made
    if protocol is not None and fused is None:
        fused = protocol.place("outputs")
    if data_root is None and record.dataset["name"] == "samples" and (run / "data" / "samples").is_dir():
        data_root = run / "data"  # that the run drew itself
    if record.method.get("filled_from") == "code":
        check_cost(record, verdict)
    elif record.convention not in OF_THE_SET:
        described = protocol is not None and record.dataset["name"] in protocol.datasets and protocol.sources
        if data_root is not None or fused is not None or described:
            check_images(record, rows, fused, data_root, verdict, remeasure, checkpoints)
        if record.scores and "measured again" not in verdict.checked:
            verdict.notes.append(UNPROVEN)
    trained = run / "training" / file_name(record.method["name"])
    check_weights(record, [Path(folder) for folder in (checkpoints, trained) if folder is not None], verdict)
    return verdict


def check_fields(record: Record, verdict: Verdict) -> None:
    """What the record says of itself: hashes are hashes, counts fit, every metric has a value or a reason."""
    say = verdict.problems.append
    verdict.checked.append("fields")
    if record.record_hash != record.hash():
        say(CHANGED)
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
        if (metric in record.scores) == (metric in record.missing):
            both = metric in record.scores
            say(f"{metric} has {'a score and a reason for none' if both else 'neither a score nor a reason'}")
    for metric in sorted({*record.scores, *record.missing} - set(columns)):
        say(f"{metric} is scored but not among the metrics")
    for metric, value in record.scores.items():
        if not math.isfinite(value):
            say(f"{metric} is {value}: a score is a number, what could not be computed is a missing value")
    if (record.status == "complete") != (not record.missing):
        say(f"the status is {record.status} with {len(record.missing)} missing values")
    pairs, expected = record.dataset.get("pairs"), record.dataset.get("expected")
    if selected := record.dataset.get("selected"):
        verdict.notes.append(f"measured on {selected}")
    elif expected is not None and pairs != expected:
        verdict.notes.append(f"measured on {pairs} pairs, the protocol's table on {expected}: not the same data")
    if record.scores and record.images != pairs and record.convention not in OF_THE_SET:  # of these: the test part
        say(f"{record.images} of {pairs} images are measured, but means are given")
    _check_protocol(record, verdict)


def _check_protocol(record: Record, verdict: Verdict) -> None:
    say = verdict.problems.append
    try:
        protocol = protocol_of_run(record.protocol["name"], verdict.path.parents[1])
        columns = record.columns
        full_names = tasks_of(protocol)[0].full_names(columns, record.convention)
        if full_names is not None and record.metrics != full_names:
            say(f"the metrics are {', '.join(record.metrics)}, in this convention {', '.join(full_names)}")
    except EvalkitError as error:
        say(str(error))
        return
    if record.convention != protocol.convention and record.convention not in OF_THE_SET:  # a table may have both
        say(f"the convention is {record.convention}, that of {protocol.name} is {protocol.convention}")
    measured = set(record.columns)
    missing = set(protocol.metrics) - measured - {name.rpartition(" ")[2] for name in measured}  # "car IoU" is of IoU
    if missing:
        verdict.notes.append(f"does not measure {', '.join(sorted(missing))} of {protocol.name}")
    _check_use(record, protocol, verdict)
    if record.protocol.get("hash") != protocol.hash:
        verdict.notes.append(f"measured with another wording of {protocol.name}; what it measures was checked above")


def _check_use(record: Record, protocol: Protocol, verdict: Verdict) -> None:
    name = record.dataset["name"]
    if record.convention in (*OF_THE_SET, MAPS) and not of_the_paper(record, protocol):
        verdict.notes.append("not the paper's data or lists: its values stand beside no printed ones")
        return
    if name == "samples" and name not in protocol.datasets:
        verdict.notes.append("measured on generated sample scenes: its values stand beside no printed ones")
        return
    if name not in protocol.datasets:
        verdict.problems.append(f"{name} is not a data set of {protocol.name} ({', '.join(protocol.datasets)})")
        return
    use, card = protocol.datasets[name], protocol.card(name)
    split = use.split or card.default_split
    if record.method.get("filled_from") == "code":
        return
    if (reason := other_data(record, protocol)) and reason != record.not_comparable:
        verdict.notes.append(f"its values stand beside no printed ones: {reason}")
    if record.dataset.get("split") != split:
        verdict.problems.append(f"the split is {record.dataset.get('split')}, that of {protocol.name} is {split}")
    if use.pairs is not None and record.dataset.get("expected") != use.pairs:
        verdict.problems.append(f"expects {record.dataset.get('expected')} pairs, {protocol.name} has {use.pairs}")


def of_the_paper(record: Record, protocol: Protocol) -> bool:
    """Whether a trained network was tested on the part of a data set that the paper's table is of."""
    name = record.dataset["name"]
    if name not in protocol.datasets:
        return False
    split = protocol.datasets[name].split or protocol.card(name).default_split
    return record.dataset.get("split") == split


def check_cost(record: Record, verdict: Verdict) -> None:
    """That a network's cost is what is counted now. Nothing was measured on images."""
    protocol = protocol_of_record(record, verdict.path.parents[1])
    if protocol is None:
        return
    card = method_cards().get(protocol.method_of(record.method["name"]))
    if reason := missing(card):
        verdict.notes.append(f"its cost cannot be counted again: {reason}")
        return
    assert card is not None
    values = {
        name: value / prefix(protocol.units, name)
        for name, value in counted(card, protocol.convention).items()
        if name in record.scores
    }
    verdict.problems += differences(record.scores, values)
    verdict.checked.append("counted again")


def check_weights(record: Record, folders: list[Path], verdict: Verdict) -> None:
    """That the weights at hand are those that fused the images.

    Args:
        record: names the weights with their SHA-256.
        folders: where they may lie; the first that holds a file gives it.
        verdict: gets a problem for weights that are others.
    """
    card = method_cards().get(str(record.method.get("card") or record.method["name"]))
    by_name = {Path(path).name: path for path in (card.checkpoint if card else ())}  # some lie in a folder of their own
    for name, measured in dict(record.method.get("weights") or {}).items():
        places = [folder / path for folder in folders for path in (file_name(name), by_name.get(name)) if path]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            verdict.notes.append("its weights are not at hand: give their folder with --checkpoints")
            continue
        verdict.checked.append("weights")
        if file_hash(path) != measured:
            verdict.problems.append(f"the weights {path} are not those that were measured")
