"""Measuring a record's images again: that those at hand are the ones that were measured, and have its scores."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
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
from evalkit.leaderboards.fits import Verdict
from evalkit.methods.outputs import find_outputs
from evalkit.metrics.card import DEFINITIONS, TASK_CONVENTIONS
from evalkit.metrics.evaluate import AS_STORED, DEVICE, REVISION, Crop, MeasureJob, Reading, measure_job
from evalkit.metrics.models import VARIABLE, Modelled
from evalkit.metrics.saliency import MEASURES, saliency
from evalkit.protocols.plan import SOURCES
from evalkit.protocols.schema import Protocol, protocol_of_run
from evalkit.records.per_image import PerImage, score_key
from evalkit.records.record import Record

TOLERANCE = 1e-9
REMEASURED = 3  # images of a record that are measured again
MAPS = TASK_CONVENTIONS["saliency"]


def protocol_of_record(record: Record, run: Path) -> Protocol | None:
    """The protocol of a record; None where there is none here, which is told among the fields."""
    try:
        return protocol_of_run(record.protocol["name"], run)
    except EvalkitError:
        return None


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
    described = protocol_of_record(record, verdict.path.parents[1])
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
    verdict.problems += [f"{stem}: its scores are of other images, {_otherwise(record)}" for stem in odd]
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


def _otherwise(record: Record) -> str:
    """What else than images makes the keys of a record."""
    definitions = [DEFINITIONS[full] for full in record.metrics if full in DEFINITIONS]
    if any(isinstance(definition.function, Modelled) for definition in definitions):
        return f"of other code for the metrics, or of other model files: name their folder with --models or {VARIABLE}"
    return "or of other code for the metrics"


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


def measured_files(pair: ImagePair, record: Record) -> list[Path]:
    """The files of a pair that a record's scores depend on; of saliency maps also the mask."""
    return [pair.infrared, pair.visible, *([pair.labels["salient"]] if record.convention == MAPS else [])]


def _places(pairs: PairSet) -> str:
    return f"{len(pairs.pairs)} pairs in {pairs.root}"
