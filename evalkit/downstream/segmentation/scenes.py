"""One data set of a segmentation table: its training, held-out and test parts, and the images of every row."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np

from evalkit.data.hashes import combine_hashes
from evalkit.data.labels import read_mask
from evalkit.data.pairs import PairSet
from evalkit.downstream.images import Images, conditions, fused_images, pairs_by_stem, sample_root
from evalkit.downstream.segmentation.pixels import IGNORE
from evalkit.downstream.segmentation.recipe import SegmentationSchedule
from evalkit.downstream.segmentation.train import PARTS, LabelledImage
from evalkit.downstream.splits import Division, Kind, divide
from evalkit.errors import DataError, EvalkitError
from evalkit.protocols.plan import Row
from evalkit.protocols.tasks import Job
from evalkit.protocols.use import DatasetUse

LONG = 200  # pairs from which on the held-out ones are runs of neighbours


class SegmentationScenes:
    """The labelled pairs of a data set in their parts, and the images of every row."""

    def __init__(self, job: Job, dataset: str, use: DatasetUse, schedule: SegmentationSchedule, small: bool) -> None:
        self.job = job
        if job.sample:
            drawn = schedule.scenes
            root = sample_root(job, drawn.count, drawn.seed, drawn.width, drawn.height)
            self.images, self.split = self._divided(fused_images(job, dataset, use, "classes", root), schedule.lists)
            self.how = f"generated scenes divided {schedule.lists} within each condition"
        elif use.inline:
            self.images, self.split = self._divided(
                fused_images(job, dataset, use, "classes", job.root or Path()), schedule.lists
            )
            self.how = f"all pairs divided {schedule.lists}: the benchmark's own data set has no lists"
        else:
            self.images, self.split, self.how = self._parts(dataset, use, schedule, small)
        self.names = tuple(label.name for label in self.images.card.segmentation)
        self.strata = conditions(dataset, tuple(pair.stem for pair in self.images.pairs.pairs))
        self.conditions = [c for c in dict.fromkeys(self.strata.values()) if c]
        self.shown = self._shown()
        if self.ignored:
            self.how += f"; {self.ignored} pixels of the test masks have the id {IGNORE} and do not count"

    def _shown(self) -> list[int]:
        """The classes that the test images show: with few images not all, and then there is no mean over all.

        Counts on the way the pixels that are ignored.
        """
        self.ignored = 0
        masks = {pair.stem: pair.labels["classes"] for pair in self.images.pairs.pairs}
        seen = np.zeros(256, bool)
        for stem in self.split.test:
            mask = read_mask(masks[stem])
            seen[np.unique(mask)] = True
            self.ignored += int(np.count_nonzero(mask == IGNORE))
        return [i for i in range(len(self.names)) if seen[i]]

    def _parts(
        self, dataset: str, use: DatasetUse, schedule: SegmentationSchedule, small: bool
    ) -> tuple[Images, Division, str]:
        job = self.job
        assert job.root is not None

        def images(split: str) -> Images:
            return fused_images(job, dataset, use.model_copy(update={"split": split}), "classes", job.root)  # type: ignore[arg-type]

        train = images("train")
        names = {split.name for split in train.card.splits}
        try:
            test = images("test")
        except EvalkitError:
            if not small:
                raise
            divided, split = self._divided(train, schedule.lists)
            how = f"no labelled test split at hand: {len(divided.pairs.pairs)} labelled pairs of the training split "
            return divided, split, how + f"divided {schedule.lists} within day and night"
        if "val" in names:
            val = images("val")
            split = Division(*(tuple(p.stem for p in part.pairs.pairs) for part in (train, val, test)))
            return merged([train, val, test]), split, "the data set's own train, val and test lists"
        stems = [pair.stem for pair in train.pairs.pairs]
        kind: Kind = "sequence" if len(stems) >= LONG else "random"
        held = divide(stems, "8:1:1", kind, strata=conditions(dataset, tuple(stems))).val
        kept = tuple(stem for stem in stems if stem not in set(held))
        split = Division(kept, held, tuple(pair.stem for pair in test.pairs.pairs))
        return merged([train, test]), split, f"a tenth of the training split held out ({kind})"

    def in_sequences(self) -> SegmentationScenes:
        """The same pairs in lists of as many that keep neighbouring frames together, as the data set's own may not.

        Raises:
            EvalkitError: too few pairs for that.
        """
        other, counts = copy(self), self.split.counts
        stems = tuple(pair.stem for pair in self.images.pairs.pairs)
        strata = conditions(self.images.pairs.dataset, stems)
        other.split = divide(stems, counts.replace("/", ":"), "sequence", strata=strata)
        other.how = f"all pairs divided {counts} in runs of neighbouring frames, in place of the data set's own lists"
        other.shown = other._shown()
        return other

    def _divided(self, images: Images, lists: str) -> tuple[Images, Division]:
        stems = tuple(pair.stem for pair in images.pairs.pairs)
        return images, divide(stems, lists, strata=conditions(images.pairs.dataset, stems))

    def of(self, row: Row, two_streams: bool) -> dict[str, list[LabelledImage]]:
        """The scenes of each part as a network sees them."""
        pairs = pairs_by_stem(self.images)
        return {
            part: [
                LabelledImage(
                    s,
                    row.fused[s].absolute(),
                    pairs[s].labels["classes"].absolute(),
                    pairs[s].infrared.absolute() if two_streams else None,
                )
                for s in getattr(self.split, part)
            ]
            for part in PARTS
        }

    def hash_of(self, row: Row, two_streams: bool) -> str:
        """Of all that a training reads: images, labels, lists."""
        pairs, hashes = pairs_by_stem(self.images), self.images.hashes
        infrared = (lambda stem: hashes[pairs[stem].infrared]) if two_streams else (lambda stem: "")
        entries = (
            (stem, part, hashes[row.fused[stem]], hashes[pairs[stem].labels["classes"]], infrared(stem))
            for part in PARTS
            for stem in getattr(self.split, part)
        )
        return combine_hashes(entries)


def merged(parts: Sequence[Images]) -> Images:
    """Splits of one data set as one; a row that is missing in one of them is missing. Raises DataError."""
    last = parts[-1]
    pairs = tuple(pair for part in parts for pair in part.pairs.pairs)
    if len({pair.stem for pair in pairs}) < len(pairs):
        raise DataError(f"{last.pairs.dataset}: a stem is in two splits; a test image would be learned from.")
    rows = []
    for same in zip(*(part.rows for part in parts), strict=True):
        fused = {stem: path for row in same for stem, path in row.fused.items()}
        rows.append(replace(same[-1], fused=fused, reason=next((row.reason for row in same if row.reason), "")))
    hashes = {path: value for part in parts for path, value in part.hashes.items()}
    whole = PairSet(last.pairs.dataset, last.pairs.split, last.pairs.root, last.pairs.layout, pairs)
    return Images(last.card, whole, rows, hashes)
