"""The images that take the place of the visible ones: per method, from its code, its weights, or the user's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from evalkit.data.card import Card, LabelKind
from evalkit.data.hashes import combine_hashes
from evalkit.data.labels import labelled
from evalkit.data.pairs import DataRoot, ImagePair, PairSet, find_pairs
from evalkit.data.samples.samples import draw_scenes
from evalkit.downstream.leakage import leakage_by_content, leakage_by_paper
from evalkit.downstream.splits import Division
from evalkit.errors import EvalkitError, OutputError
from evalkit.files.names import file_name
from evalkit.methods.fusers import ClassicalFuser
from evalkit.protocols.measure import Hashes, fuse_row, hash_files
from evalkit.protocols.plan import SOURCES, Row, plan_row, use_of
from evalkit.protocols.summary import explain
from evalkit.protocols.tasks import Job
from evalkit.protocols.training import network_of, train_ahead, train_row, wants_training
from evalkit.protocols.use import DatasetUse
from evalkit.training.find_recipe import load_recipe

Unit = TypeVar("Unit")


@dataclass
class Images:
    """The labelled pairs of a data set and, per row, the image that a network sees in place of each visible one."""

    card: Card
    pairs: PairSet
    rows: list[Row]
    hashes: Hashes  # of all images and labels

    def fused_hash(self, row: Row) -> str:
        """SHA-256 over a row's images."""
        return combine_hashes((p.stem, self.hashes[row.fused[p.stem]]) for p in self.pairs.pairs)

    def content_hash(self) -> str:
        """SHA-256 over the pairs' own images, as in records of fusion metrics."""
        return combine_hashes(
            (pair.stem, self.hashes[pair.infrared], self.hashes[pair.visible]) for pair in self.pairs.pairs
        )

    def dataset_fields(self, split: Division, how: str) -> dict[str, Any]:
        """What a record says of the data set and of the lists, which were drawn in the way named."""
        return {
            "name": self.pairs.dataset,
            "split": self.pairs.split,
            "layout": self.pairs.layout,
            "pairs": len(self.pairs.pairs),
            "expected": self.card.expected(self.pairs.split),
            "content_hash": self.content_hash(),
            "lists": split.hash,
            "lists_kind": how,
            "parts": split.counts,
        }

    def method_fields(self, row: Row, job: Job, split: Division, reason: str) -> dict[str, Any]:
        """What a record says of a row's images, which a missing value has none of.

        Args:
            row: the method, and where its images come from.
            job: the run.
            split: the lists of images.
            reason: why the row is a missing value; empty where it has images.
        """
        return {
            "name": row.method,
            "filled_from": row.filled_from,
            "weights": row.fuser.weights if row.fuser else {},
            "recoloured": row.filled_from == "classical" or getattr(row.fuser, "recolour", False),
            "fused_hash": "" if reason else self.fused_hash(row),
            "leakage": leak(row, job, self, split.test),
        }


def fused_images(job: Job, dataset: str, use: DatasetUse, kind: LabelKind, root: DataRoot) -> Images:
    """Every row's images of the pairs that have a label; fused now where evalkit has the code.

    Classical methods fuse the luminance; here their images take the chroma of the visible one, because the detectors
    and segmenters of the papers see colour images. Networks keep their authors' way unless `--recolour` is given;
    images from `--outputs` and those of the sources are used as they are.

    A row that lacks an image is a missing value: networks trained on fewer images would not be comparable.

    Args:
        job: the run.
        dataset: the protocol's name of the data set.
        use: the protocol's of this data set.
        kind: of the labels that a pair must have.
        root: the data root.

    Raises:
        DataError: the data set is not there or has no labels of this kind.
        OutputError: a file cannot be written.
    """
    settings = job.settings
    card = job.protocol.card(dataset)
    pairs = labelled(find_pairs(card, root, use.split), kind)
    use = use_of(use, card)
    rows = []
    planned = [plan_row(method, card, pairs, use, settings, job.protocol) for method in job.methods]
    untrained = [row.method for row in planned if wants_training(row, job.protocol, settings)]
    train_ahead(untrained, job.protocol, settings, root, job.sample)
    for row in planned:
        if row.method in untrained:
            row = train_row(row, job.protocol, settings, root, job.sample)
            row.place_in(settings.out, pairs)
        if isinstance(row.fuser, ClassicalFuser):
            row.fuser.gray = False
        row.reason = settings.named(row.reason)
        rows.append(row)
    sources = [path for p in pairs.pairs for path in (p.infrared, p.visible, p.labels[kind])]
    hashes = hash_files(sources, settings)
    for row in rows:
        if row.fuser is not None:
            fuse_row(row, pairs, hashes, settings)
        if not row.reason:
            lacking = {
                p.stem: row.not_fused.get(p.stem, "no fused image") for p in pairs.pairs if p.stem not in row.fused
            }
            row.reason = explain(lacking, len(pairs.pairs))
    own = {p.stem for p in pairs.pairs}
    fused = [path for row in rows if not row.reason for stem, path in row.fused.items() if stem in own]
    return Images(card, pairs, rows, hashes | hash_files(fused, settings))


def conditions(dataset: str, stems: tuple[str, ...]) -> dict[str, str]:
    """Stem -> the light in which it was taken, where the names tell it: sample scenes and MSRS; else nothing."""
    if dataset == "samples":
        return {stem: stem.rpartition("_")[2] for stem in stems}
    if dataset == "MSRS":
        return {stem: {"D": "day", "N": "night"}.get(stem[-1:], "") for stem in stems}
    return {}


def folder(out: Path, task: str, *names: str) -> Path:
    """Where a downstream network's files lie: OUT/downstream/<task>/<data set>/<variant>/<method>."""
    return Path(out, "downstream", task, *map(file_name, names))


def leak(row: Row, job: Job, images: Images, test: tuple[str, ...]) -> str:
    """Whether the row's network learned from images of the test part, in a sentence for the record.

    Args:
        row: the method, and where its images come from.
        job: the run, whose recipe names the training data of a network that was trained here.
        images: the data set's.
        test: stems of the test part.
    """
    if row.method in SOURCES or isinstance(row.fuser, ClassicalFuser):
        return "none: nothing was learned"
    if row.filled_from == "trained":
        variant = job.protocol.ablations.get(row.method, "")
        data = load_recipe(network_of(job.protocol, row.method), job.settings.recipe, variant).data
        if job.sample or set(data.datasets) == {"samples"}:
            return "none: trained on other generated scenes"
        stems = set(test)
        tested = [pair for pair in images.pairs.pairs if pair.stem in stems]
        return leakage_by_content(tested, data.datasets, images.pairs.root.parent, data.shares)
    return leakage_by_paper(job.protocol.method_of(row.method), images.card.name, images.pairs.split)


def printed_classes(card_classes: list[str], printed: Mapping[str, object] | tuple[str, ...]) -> dict[str, str]:
    """The data set's class -> how the paper prints it: "motorcycle" is Motor, "people" is People."""
    spelled = {}
    for name in card_classes:
        near = [p for p in printed if name.casefold() == p.casefold()] or [
            p for p in printed if name.casefold().startswith(p.casefold())
        ]
        spelled[name] = near[0] if near else name
    return spelled


def attempted(train: Callable[[Unit], object], unit: Unit) -> str:
    """Train; an empty text, or why it failed: one network that cannot be trained does not end the others' run.

    Raises:
        OutputError: a file cannot be written, which would be the others' fate, too.
    """
    try:
        train(unit)
    except OutputError:
        raise
    except EvalkitError as error:
        return str(error)
    return ""


def pairs_by_stem(images: Images) -> dict[str, ImagePair]:
    """Stem -> pair."""
    return {pair.stem: pair for pair in images.pairs.pairs}


def sample_root(job: Job, count: int, seed: int, width: int, height: int) -> Path:
    """A data root with as many generated scenes as a downstream network needs, drawn unless they are there already.

    Args:
        job: the run, in whose folder the scenes are drawn.
        count: of the scenes.
        seed: of their drawing.
        width: in pixels.
        height: in pixels.

    Raises:
        OutputError: a file cannot be written.
    """
    root = job.settings.out / "downstream" / f"scenes-{count}-{width}x{height}-seed{seed}"
    return draw_scenes(root, count, seed, width, height, job.settings.progress)
