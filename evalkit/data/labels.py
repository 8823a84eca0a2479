"""The labels of pairs: class masks, boxes, masks of salient objects."""

from __future__ import annotations

from evalkit.data.card import LabelKind
from evalkit.data.pairs import PairSet
from evalkit.errors import EvalkitError


def labelled(pairs: PairSet, kind: LabelKind) -> PairSet:
    """The pairs that have a label of this kind. Raises EvalkitError where none has."""
    kept = tuple(pair for pair in pairs.pairs if kind in pair.labels)
    if not kept:
        what = {"boxes": "boxes of objects", "classes": "masks of classes", "salient": "masks of salient objects"}[kind]
        raise EvalkitError(
            f"{pairs.dataset} in {pairs.root} has {len(pairs.pairs)} pairs but no {what}: nothing can be learned from "
            f"it. `evalkit show {pairs.dataset}` says where its labels are expected."
        )
    return PairSet(pairs.dataset, pairs.split, pairs.root, pairs.layout, kept, pairs.unpaired)
