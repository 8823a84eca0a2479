"""Salient objects: where the maps of a row come from, and what they are worth against the masks."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from evalkit.data.card import Card
from evalkit.data.expected import NOT_HASHED, Expected
from evalkit.data.labels import decode_salient
from evalkit.data.pairs import DataRoot, PairSet
from evalkit.engine.base import chunks
from evalkit.errors import EvalkitError, OtherBytesError, UnreadableError
from evalkit.files.names import file_name
from evalkit.leaderboards.maps import CURVES, MapScores
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS
from evalkit.methods.saliency.run import make_runner
from evalkit.metrics.evaluate import Scores
from evalkit.metrics.saliency import MEASURES, SaliencyCurves, saliency, saliency_curves
from evalkit.protocols.measure import Hashes
from evalkit.protocols.plan import SOURCES, Row, Settings, row_at_hand
from evalkit.protocols.schema import Protocol, of_paper
from evalkit.protocols.training import can_train, device_here, train_network
from evalkit.records.per_image import score_key
from evalkit.records.store import ScoreFile
from evalkit.training.find_recipe import trainable

MAPS = 8  # maps that are measured as one unit of work


def find_maps(method: str, protocol: Protocol, card: Card, pairs: PairSet, settings: Settings) -> Row:
    """Where a row's saliency maps come from, or why there are none: the user's maps, a source image read as a map,
    weights that `evalkit train` wrote, or a registered system's own code, with its published weights where it is a
    network. Nothing is read but the names of files.

    Args:
        method: the row's name.
        protocol: which says whether evalkit can train the row's network, and may state where its maps are.
        card: of the data set.
        pairs: those found of it.
        settings: the run's: OUTPUTS/<method>/<dataset>/<stem>.png are the user's maps; the folder with weights.

    Raises:
        DataError: two maps of one stem.
    """
    if row := row_at_hand(method, card, pairs, settings, protocol.stated(method, card.name)):
        return row
    if method in SOURCES:
        return Row(method, "data set", fused={pair.stem: getattr(pair, method.lower()) for pair in pairs.pairs})
    if weights_of(method, settings.checkpoints):
        missing = "" if importlib.util.find_spec("torch") else "needs PyTorch: pip install 'evalkit[networks]'"
        return Row(method, reason=missing) if missing else Row(method, "checkpoint")
    system = SALIENCY_SYSTEMS.get(method)
    lacking = system.missing(settings.checkpoints) if system else ""
    if system and not lacking:
        return Row(method, "checkpoint" if system.function is None else "classical")
    outputs = settings.outputs
    place = f"{outputs or 'OUTPUTS'}/{file_name(method)}/{card.name}/<stem>.png"
    reason = f"no saliency maps: put them in {place}{'' if outputs else ' and give --outputs OUTPUTS'}"
    if learns(method, protocol):
        reason += f", give --train, or --checkpoints DIR with a {method}.safetensors that `evalkit train` wrote"
    if lacking:
        reason += f"; its published network {lacking}"
    return Row(method, reason=reason)


def learns(method: str, protocol: Protocol) -> bool:
    """Whether evalkit can train the row: the paper's own network, an ablation of it, or a system with recipes."""
    return of_paper(method, protocol) or (method in SALIENCY_SYSTEMS and method in trainable())


def weights_of(method: str, checkpoints: Path | None) -> Path | None:
    """The file in --checkpoints with the weights of a row, which `evalkit train` wrote as best.safetensors."""
    path = None if checkpoints is None else checkpoints / f"{file_name(method)}.safetensors"
    return path if path is not None and path.is_file() else None


def plan_maps(
    method: str, protocol: Protocol, card: Card, pairs: PairSet, settings: Settings, root: DataRoot, sample: bool
) -> Row:
    """The row that is ready to be predicted and measured, or a missing one with its reason; trains where that is asked.

    Args:
        method: the row's name.
        protocol: whose ablations are trained by the recipe of the paper's network.
        card: of the data set.
        pairs: those found of it, with masks.
        settings: the run's: outputs, checkpoints, recipe, device and where evalkit writes.
        root: the data root.
        sample: learn from generated scenes.

    Raises:
        UnknownNameError: no such recipe.
        OutputError: a file cannot be written.
    """
    row = find_maps(method, protocol, card, pairs, settings)
    if row.reason and learns(method, protocol) and (settings.train or sample):
        if not can_train():
            return Row(method, reason="training needs PyTorch and Lightning Fabric: pip install 'evalkit[training]'")
        trained = train_network(method, protocol, settings, root, sample)
        if isinstance(trained, str):
            return Row(method, reason=settings.named(trained))
        row = networks().predictor(method, trained[1].weights, protocol, settings)
        row.filled_from = "trained"
    elif row.filled_from == "checkpoint" and (weights := weights_of(method, settings.checkpoints)):
        row = networks().predictor(method, weights, protocol, settings)
    elif row.filled_from in ("checkpoint", "classical"):
        row = _published(row, settings)
    row.reason = settings.named(row.reason)
    row.place_in(settings.out, pairs, "maps")
    return row


def _published(row: Row, settings: Settings) -> Row:
    """The row with its system's code, and its published weights where it is a network, or why they cannot be used."""
    try:
        row.fuser = make_runner(row.method, settings.checkpoints, device_here(settings), settings.device)
    except EvalkitError as error:
        return Row(row.method, reason=str(error))
    return row


def networks() -> ModuleType:
    """The module that runs networks for salient objects."""
    from evalkit.downstream.saliency import predictor  # PyTorch

    return predictor


@dataclass(frozen=True)
class MapJob:
    """A map and its mask."""

    saliency_map: Path
    mask: Path
    expected: Expected = NOT_HASHED

    def read(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Map and mask, as they were hashed. Raises ImageError, UnreadableError."""
        return self.expected.image(self.saliency_map), self.expected.read(
            self.mask, lambda data: decode_salient(data, self.mask)
        )


def measure_unit(jobs: Sequence[MapJob]) -> list[Scores]:
    """The papers' measures of every map; all of them missing values where the map cannot be measured."""
    return [_measure(job) for job in jobs]


def _measure(job: MapJob) -> Scores:
    try:
        values = saliency(*job.read())
    except EvalkitError as error:
        if job.expected.far and isinstance(error, OtherBytesError):
            raise
        missing = Scores(dict.fromkeys(MEASURES, math.nan), dict.fromkeys(MEASURES, str(error)))
        missing.passing = isinstance(error, UnreadableError)
        return missing
    scores = Scores({column: values[measure] for column, measure in MEASURES.items()})
    scores.missing = {column: "of a single pixel" for column, value in scores.items() if math.isnan(value)}
    return scores


def curves_unit(jobs: Sequence[MapJob]) -> list[NDArray[np.float64]]:
    """Precision, recall, F and E of every map, (4, 256)."""
    stacked = []
    for job in jobs:
        curves = saliency_curves(*job.read())
        stacked.append(np.stack([getattr(curves, name) for name in CURVES]))
    return stacked


def jobs_of(row: Row, pairs: PairSet, hashes: Hashes, settings: Settings) -> dict[str, MapJob]:
    """Stem -> the map and its mask, of the pairs that have a map.

    Args:
        row: its `fused` has the maps by stem.
        pairs: with a mask each.
        hashes: content hashes of maps and masks.
        settings: the run's; with remote workers the hashes are checked there.
    """
    jobs = {}
    for pair in pairs.pairs:
        if pair.stem in row.fused:
            files = row.fused[pair.stem], pair.labels["salient"]
            jobs[pair.stem] = MapJob(*files, Expected({path: hashes[path] for path in files}, settings.engine.remote))
    return jobs


def measure_maps(row: Row, pairs: PairSet, hashes: Hashes, settings: Settings) -> dict[str, Scores]:
    """Stem -> scores: what earlier runs measured of the same maps and masks, and the rest measured now.

    Args:
        row: its `fused` has the maps by stem.
        pairs: with a mask each.
        hashes: content hashes of maps and masks.
        settings: the run's; with existing "replace" nothing of earlier runs is used.

    Raises:
        OutputError: the score file cannot be written.
    """
    jobs = jobs_of(row, pairs, hashes, settings)
    keys = {
        pair.stem: score_key(hashes[pair.labels["salient"]], hashes[row.fused[pair.stem]])
        for pair in pairs.pairs
        if pair.stem in jobs
    }
    file = ScoreFile(settings.scores_file(pairs.dataset, row.method), MEASURES)
    if settings.existing == "replace":
        file.discard()
    measured = file.read(keys)
    todo = {stem: job for stem, job in jobs.items() if stem not in measured}
    done = _each(settings.engine.map(measure_unit, chunks(list(todo.values()), MAPS)))
    progress = settings.progress(done, len(todo), f"measure {pairs.dataset}, {row.method}")
    for stem, scores in zip(todo, progress, strict=True):
        scores.missing = {column: settings.named(reason) for column, reason in scores.missing.items()}
        if not scores.passing:
            file.append(stem, keys[stem], scores)
        measured[stem] = scores
    if keys:
        file.finish(measured, keys)
    return measured


def measure_curves(row: Row, pairs: PairSet, hashes: Hashes, settings: Settings) -> MapScores:
    """The curves averaged over the maps, in the order of the pairs; raises ImageError for a map without measures.

    Args:
        row: its `fused` has the maps by stem, one at least.
        pairs: with a mask each.
        hashes: content hashes of maps and masks.
        settings: the run's.

    Returns:
        The mean curves, float64 (256,) each, and F_max, the highest value of the mean F curve; no scores per map.
    """
    jobs = jobs_of(row, pairs, hashes, settings)
    done = _each(settings.engine.map(curves_unit, chunks(list(jobs.values()), MAPS)))
    progress = settings.progress(done, len(jobs), f"curves of {pairs.dataset}, {row.method}")
    mean = SaliencyCurves(*(sum(progress, np.zeros((len(CURVES), 256))) / len(jobs)))
    return MapScores({stem: {} for stem in jobs}, {"F_max": float(mean.f.max())}, mean, {})


def _each(units: Iterator[list]) -> Iterator:
    return (item for unit in units for item in unit)
