"""Checking a submitted record: that it is whole, that its scores follow from its images, that the hashes hold."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from evalkit.data.card import load_card
from evalkit.data.hashes import combine_hashes, digest, file_hash
from evalkit.data.images import parse_depth, parse_gray, read_image
from evalkit.data.labels import labelled, read_salient
from evalkit.data.pairs import DataRoot, ImagePair, PairSet, find_pairs, image_files, resolve, respell
from evalkit.errors import DataError, EvalkitError, ImageError, UnknownNameError
from evalkit.files.names import file_name
from evalkit.leaderboards.again import MADE_HERE, fused_again
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
from evalkit.leaderboards.submission import check_submission, submissions_below
from evalkit.methods.outputs import find_outputs
from evalkit.methods.registry import method_cards
from evalkit.metrics.card import DEFINITIONS, TASK_CONVENTIONS
from evalkit.metrics.evaluate import AS_STORED, DEVICE, REVISION, Crop, MeasureJob, Reading, measure_job
from evalkit.metrics.saliency import MEASURES, saliency
from evalkit.protocols.cost import counted, missing, prefix
from evalkit.protocols.plan import SOURCES
from evalkit.protocols.same_data import other_data
from evalkit.protocols.schema import Protocol, protocol_of_run
from evalkit.protocols.tasks import tasks_of
from evalkit.records.per_image import PerImage, read_per_image, score_key
from evalkit.records.record import Record, load

HASH = re.compile(r"[0-9a-f]{64}")
TOLERANCE = 1e-9
REMEASURED = 3  # images of a record that are measured again
UNPROVEN = (
    "without its images or its data set only this is checked, that the numbers fit together, not that they were "
    "measured: give --data-root, and --fused or, where evalkit fuses itself, --checkpoints"
)
MAPS = TASK_CONVENTIONS["saliency"]


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
    protocol = _protocol_of(record, run)
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


def _protocol_of(record: Record, run: Path) -> Protocol | None:
    """The protocol of a record; None where there is none here, which is told among the fields."""
    try:
        return protocol_of_run(record.protocol["name"], run)
    except EvalkitError:
        return None


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


def check_images(
    record: Record,
    rows: PerImage | None,
    fused: str | os.PathLike[str] | None,
    data_root: DataRoot | None,
    verdict: Verdict,
    remeasure: int | None = REMEASURED,
    checkpoints: str | os.PathLike[str] | None = None,
) -> None:
    """That the images at hand are those that were measured, and that some of them measure the same again.

    Args:
        record: what was written of one method on one data set.
        rows: its per-image scores, None where they are missing.
        fused: folder of the fused images, FUSED/<method>/<dataset>/<stem>.png; None where nobody says.
        data_root: folder of the data sets, None where nobody says.
        verdict: gets a problem for everything that does not hold, and the checks that were possible.
        remeasure: how many images are measured again, None for all.
        checkpoints: folder of the weights, with which images that are not at hand are fused again.
    """
    name, method, split = record.dataset["name"], record.method["name"], record.dataset.get("split")
    pairs: dict[str, ImagePair] = {}
    sources: dict[str, tuple[str, ...]] = {}
    described = _protocol_of(record, verdict.path.parents[1])
    try:
        card = described.card(name) if described is not None else load_card(name)
        if data_root is not None or card.root is not None:
            pair_set = find_pairs(card, data_root or Path(), split)
            if record.convention == MAPS:
                pair_set = labelled(pair_set, "salient")
            measured = set(rows.rows) if rows is not None and record.dataset.get("selected") else None
            pairs = {pair.stem: pair for pair in pair_set.pairs if measured is None or pair.stem in measured}
            sources = {stem: tuple(map(file_hash, measured_files(pair, record))) for stem, pair in pairs.items()}
            verdict.checked.append("sources")
            if combine_hashes((stem, *both) for stem, both in sources.items()) != record.dataset.get("content_hash"):
                verdict.problems.append(f"the images of {name} are not those that were measured: {_places(pair_set)}")
    except EvalkitError as error:
        verdict.problems.append(f"the sources cannot be checked: {error}")
    files = fused_of(record, pairs, fused, data_root, described)
    images: dict[str, str] = {}
    if not files and rows is not None and sources and record.method.get("filled_from") in MADE_HERE and remeasure != 0:
        _fuse_and_measure(record, rows, pairs, sources, verdict, remeasure, checkpoints)
    elif not files and not record.images:
        pass  # a row that is a missing value: there is nothing to compare
    elif files is not None and not files:
        verdict.problems.append(f"no fused images in {Path(fused or '') / file_name(method) / name}")
    elif files is not None:
        stems = set(rows.rows) if rows is not None else set(files)
        images = {stem: file_hash(path) for stem, path in files.items() if stem in stems}
        verdict.checked.append("fused images")
        if combine_hashes(images.items()) != record.method.get("fused_hash"):
            verdict.problems.append(f"the fused images of {method} on {name} are not those that were measured")
    if rows is None or not sources or not images or not files:
        return
    both = [stem for stem in rows.rows if stem in sources and stem in images]
    if _unknown_metric(record, verdict):
        return
    verdict.checked.append("keys")
    odd = [stem for stem in both if rows.rows[stem].key not in _keys_of(record, sources[stem], images[stem])]
    verdict.problems += [f"{stem}: its scores are of other images, or of other code for the metrics" for stem in odd]
    both = [stem for stem in both if stem not in odd]
    again = sorted(both, key=lambda stem: digest(record.scores_hash, stem, images[stem]))[:remeasure]
    for stem in again:
        values = measure_again(record, pairs[stem], files[stem])
        verdict.problems += [f"{stem}: {problem}" for problem in differences(rows.rows[stem].values, values)]
    _tell_measured(len(again), len(rows.rows), verdict)


def _unknown_metric(record: Record, verdict: Verdict) -> bool:
    unknown = [full for full in record.metrics if record.convention != MAPS and full not in DEFINITIONS]
    if unknown:
        verdict.problems.append(f"{unknown[0]} is not a metric here: name the plug-in that has it with --plugin")
    return bool(unknown)


def _keys_of(record: Record, sources: Sequence[str], image: str) -> set[str]:
    """The key of an image's row, of earlier revisions, too: whether its values are today's, measuring again tells."""
    return {key_of(record, sources, image, revision) for revision in range(1, REVISION + 1)}


def _tell_measured(again: int, images: int, verdict: Verdict) -> None:
    verdict.remeasured = again
    if again:
        verdict.checked.append("measured again")
        if again < images:
            verdict.notes.append(f"{again} of {images} images were measured again; --remeasure all takes all")


def _fuse_and_measure(
    record: Record,
    rows: PerImage,
    pairs: Mapping[str, ImagePair],
    sources: Mapping[str, tuple[str, ...]],
    verdict: Verdict,
    remeasure: int | None,
    checkpoints: str | os.PathLike[str] | None,
) -> None:
    """Images that are not at hand are fused again, by the same code and weights, and measured.

    Args:
        record: of a method that evalkit fused.
        rows: its per-image scores.
        pairs: by stem.
        sources: their hashes, by stem.
        verdict: gets a problem for everything that is measured otherwise.
        remeasure: how many images, None for all.
        checkpoints: folder of the weights.
    """
    stems = sorted(set(rows.rows) & set(pairs), key=lambda stem: digest(record.scores_hash, stem))[:remeasure]
    if not stems or _unknown_metric(record, verdict):
        return
    try:
        folder = None if checkpoints is None else Path(checkpoints)
        with fused_again(record, [pairs[stem] for stem in stems], folder) as files:
            others = [s for s in stems if rows.rows[s].key not in _keys_of(record, sources[s], file_hash(files[s]))]
            for stem in stems:
                values = measure_again(record, pairs[stem], files[stem])
                for problem in differences(rows.rows[stem].values, values):
                    verdict.problems.append(f"{stem}, fused again: {problem}")
    except EvalkitError as error:
        verdict.notes.append(f"its fused images are not at hand, and are not fused again: {error}")
        return
    verdict.checked.append("fused again")
    if others:
        verdict.notes.append(
            f"{len(others)} of {len(stems)} images that were fused again are other files than those that were "
            "measured, by this machine's rounding or another version; their scores were compared"
        )
    else:
        verdict.checked.append("keys")
    _tell_measured(len(stems), len(rows.rows), verdict)


def fused_of(
    record: Record,
    pairs: Mapping[str, ImagePair],
    fused: str | os.PathLike[str] | None,
    data_root: DataRoot | None,
    protocol: Protocol | None,
) -> dict[str, Path] | None:
    """The fused images of a record by stem, empty where they are missing; None where nobody says where they are.

    Args:
        record: what was written of one method on one data set.
        pairs: of that data set, by stem.
        fused: folder of the fused images, FUSED/<method>/<dataset>/<stem>.png; None where nobody says.
        data_root: folder of the data sets, some of which hold fused images; None where nobody says.
        protocol: that the record is of, which may state where the images are.
    """
    name, method = record.dataset["name"], record.method["name"]
    if record.method.get("filled_from") == "data set":  # it has them itself
        use = protocol.datasets.get(name) if protocol is not None else None
        if protocol is None or use is None or not pairs:
            return None
        if method in SOURCES:
            return {stem: getattr(pair, method.lower()) for stem, pair in pairs.items()}
        root = find_pairs(protocol.card(name), data_root or Path(), record.dataset.get("split")).root
        folder = resolve(root, use.fused.format(method=method)) if use.fused else None
        return image_files(folder, allow_empty=True) if folder else None
    stated = protocol.stated(method, name) if protocol is not None else None
    if stated is not None and stated.pattern is not None and record.method.get("filled_from") == "outputs":
        files = stated.files(method, name)
    elif fused is None:
        return None
    else:
        files = find_outputs(fused, method, name, record.dataset.get("split"), str(record.method.get("named", "")))
    return respell(files, pairs) if pairs else files


def key_of(record: Record, sources: Sequence[str], image: str, revision: int = REVISION) -> str:
    """The key that the row of an image has, from the hashes of what it was measured on.

    Args:
        record: names metrics and convention.
        sources: SHA-256 of the files behind the scores, in the order of `measured_files`.
        image: SHA-256 of the fused image.
        revision: of the metrics.
    """
    *pair, last = sources
    if record.convention == MAPS:
        return score_key(last, image)
    names = reading_of(record).key(DEFINITIONS[full] for full in record.metrics)
    return digest(revision, names, *pair, last, image)


def reading_of(record: Record) -> Reading:
    """How the record's files became pixels. Raises DataError."""
    reading = record.method.get("reading")
    if reading is None:
        return AS_STORED
    own = AS_STORED.grays(DEFINITIONS[full] for full in record.metrics if full in DEFINITIONS)
    try:
        crop = next(crop for crop in get_args(Crop) if crop == reading["crop"])
        gray = reading.get("gray", own)
        device = reading.get("device", "")
        if device and not re.fullmatch(DEVICE, device):
            raise KeyError(device)
        return Reading(parse_depth(reading["depth"]), crop, "" if gray == own else parse_gray(gray), device)
    except (AttributeError, KeyError, TypeError, StopIteration, ImageError, UnknownNameError):
        raise DataError(f"its images were read as {reading!r}, which is not known here") from None


def measure_again(record: Record, pair: ImagePair, path: Path) -> dict[str, float]:
    """Column -> value of one fused image; NaN where there is none.

    Args:
        record: names metrics and convention.
        pair: its sources.
        path: the fused image, or the saliency map.
    """
    if record.convention == MAPS:
        scores = saliency(read_image(path), read_salient(pair.labels["salient"]))
        return {column: scores[measure] for column, measure in MEASURES.items()}
    names = tuple(zip(record.columns, record.metrics, strict=True))
    return measure_job(MeasureJob(pair.stem, pair.infrared, pair.visible, {"": path}), names, reading_of(record))[""]


def differences(stored: Mapping[str, float | None], values: Mapping[str, float]) -> list[str]:
    """What is not measured as it is stored, to TOLERANCE: other processors round the last digits otherwise."""
    problems = []
    for metric, value in values.items():
        kept = stored.get(metric)
        if math.isnan(value) or kept is None:
            if (kept is None) != math.isnan(value):
                problems.append(f"{metric} is {kept!r}, measured again {value!r}")
        elif not math.isclose(kept, value, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            problems.append(f"{metric} is {kept!r}, measured again {value!r}")
    return problems


def check_cost(record: Record, verdict: Verdict) -> None:
    """That a network's cost is what is counted now. Nothing was measured on images."""
    protocol = _protocol_of(record, verdict.path.parents[1])
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


def measured_files(pair: ImagePair, record: Record) -> list[Path]:
    """The files of a pair that a record's scores depend on; of saliency maps also the mask."""
    return [pair.infrared, pair.visible, *([pair.labels["salient"]] if record.convention == MAPS else [])]


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


def _places(pairs: PairSet) -> str:
    return f"{len(pairs.pairs)} pairs in {pairs.root}"
