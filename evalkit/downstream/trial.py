"""`--steps N` of networks that learn from fused images: tried on the visible ones, which cost what any row's do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from evalkit.data.card import Card, LabelKind
from evalkit.data.labels import labelled
from evalkit.data.pairs import ImagePair, find_pairs
from evalkit.data.samples.samples import draw_scenes
from evalkit.downstream.detection.recipe import SampleScenes
from evalkit.protocols.tasks import Job
from evalkit.training.trial import pairs_at_hand


@dataclass
class LabelledPairs:
    """What there is to try a network on.

    Attributes:
        full: pairs of the whole split, as the card has it.
        notes: what is not as in a real training.
    """

    card: Card
    pairs: tuple[ImagePair, ...]
    full: int
    notes: list[str] = field(default_factory=list)

    def repeated(self, count: int) -> dict[str, ImagePair]:
        """So many pairs, each as often as it takes, by names of their own."""
        return {f"{place:06d}": self.pairs[place % len(self.pairs)] for place in range(count)}


def labelled_pairs(job: Job, dataset: str, split: str | None, kind: LabelKind, scenes: SampleScenes) -> LabelledPairs:
    """The labelled pairs of a data set that are at hand; of another split of it where the one asked for is not.

    Args:
        job: the trial.
        dataset: the protocol's name of the data set.
        split: from which the network learns.
        kind: of the labels.
        scenes: what a sample run draws in place of the data set.

    Raises:
        DataError: nothing of the data set is there. EvalkitError: no labels of this kind.
    """
    card = job.protocol.card(dataset)
    if job.sample:
        root = Path(job.settings.out, "scenes")
        draw_scenes(root, scenes.count, scenes.seed, scenes.width, scenes.height, job.settings.progress)
        pairs = labelled(find_pairs(card, root, None), kind).pairs
        return LabelledPairs(card, pairs, len(pairs), ["generated scenes in place of a data set"])
    split = split if card.splits else None  # a data set of a benchmark file has none
    at_hand, notes = pairs_at_hand(card, job.root or Path(), split)
    pairs = labelled(at_hand, kind).pairs
    full = card.expected(split) or len(pairs)
    if len(pairs) < full:
        notes.append(f"{dataset}: {len(pairs)} of {full} pairs are at hand; the whole recipe is reckoned with {full}")
    return LabelledPairs(card, pairs, full, notes)
