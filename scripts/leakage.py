"""How far a test set is known from its training set by neighbouring frames: MSRS' own lists, random and sequence ones.

    python scripts/leakage.py DATA

For every test pair the most similar training pair is looked up (correlation of thumbnails, mean over infrared and
visible), and its boxes are copied as if they were a detector's: what that scores is known from the lists alone. Nothing
is trained. The 361 test pairs of MSRS with boxes are divided 8:1:1 and 7:1:2, as the detection papers divide theirs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalkit.data.card import load_card
from evalkit.data.labels import boxes_form, read_boxes
from evalkit.data.pairs import ImagePair, find_pairs
from evalkit.downstream.images import conditions
from evalkit.downstream.leakage import similarities
from evalkit.downstream.splits import divide
from evalkit.metrics.detection import Boxes, detection_scores

ALIKE = 0.5  # of neighbouring frames, which show a scene from places some metres apart
SEEDS = range(5)  # of the lists


def frame(stem: str) -> int:
    """The number in a stem of MSRS: 00125D -> 125."""
    return int(re.sub(r"\D", "", stem))


def nearest(alike: NDArray, test: Sequence[int], training: Sequence[int]) -> tuple[NDArray, NDArray]:
    """Of each test pair the most similar training pair, and how similar it is."""
    part = alike[np.ix_(test, training)]
    places = part.argmax(axis=1)
    return np.asarray(training)[places], part.max(axis=1)


def boxes_of(pair: ImagePair, score: float | None = None) -> Boxes:
    """A pair's boxes in parts of the image; as predictions where there is a score."""
    card = load_card("MSRS")
    path = pair.labels["boxes"]
    rows = read_boxes(path, boxes_form(path), card.detection)
    places = {label.id: place for place, label in enumerate(card.detection)}
    corners = np.array([(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for _, x, y, w, h in rows]).reshape(-1, 4)
    classes = np.array([places[row[0]] for row in rows], int)
    return Boxes(corners, classes, None if score is None else np.full(len(rows), score))


def copied(pairs: Sequence[ImagePair], test: Sequence[int], places: Iterable[int], how: NDArray) -> float:
    """AP50 in percent of boxes that are copied from the nearest training pair, mean over the classes that are there."""
    names = [label.name for label in load_card("MSRS").detection]
    truths = {pairs[i].stem: boxes_of(pairs[i]) for i in test}
    predictions = {pairs[i].stem: boxes_of(pairs[int(k)], float(s)) for i, k, s in zip(test, places, how, strict=True)}
    scores = detection_scores(predictions, truths, names)
    return 100 * float(scores.get("mAP50 (defined classes)", scores["mAP50"]))


def by_distance(tested: Sequence[ImagePair], training: Sequence[ImagePair]) -> list[tuple[str, int, float, float]]:
    """Similarity of MSRS' test pairs to training pairs by the distance of their numbers: count, median, share alike."""
    alike = similarities([*tested, *training])[: len(tested), len(tested) :]
    distance = np.abs(np.subtract.outer([frame(p.stem) for p in tested], [frame(p.stem) for p in training]))
    light = np.equal.outer([p.stem[-1] for p in tested], [p.stem[-1] for p in training])
    rows = []
    for low, high in ((1, 1), (2, 2), (3, 3), (4, 6), (7, 12), (13, 25), (26, 100), (101, 10**6)):
        values = alike[(distance >= low) & (distance <= high) & light]
        if len(values):
            name = str(low) if low == high else f"{low} to {high}" if high < 10**6 else f"{low} and more"
            rows.append((name, len(values), float(np.median(values)), 100 * float((values >= ALIKE).mean())))
    return rows


def lists(pairs: Sequence[ImagePair], ratio: str) -> list[tuple[str, float, float, float]]:
    """Of random and sequence lists, means over SEEDS: median similarity, share alike, AP50 of copied boxes."""
    stems = [pair.stem for pair in pairs]
    place, alike = {stem: i for i, stem in enumerate(stems)}, similarities(pairs)
    rows = []
    for kind in ("random", "sequence"):
        values = []
        for seed in SEEDS:
            split = divide(stems, ratio, kind, seed, conditions("MSRS", tuple(stems)))  # type: ignore[arg-type]
            test, training = ([place[stem] for stem in part] for part in (split.test, split.train))
            places, how = nearest(alike, test, training)
            values.append((np.median(how), 100 * (how >= ALIKE).mean(), copied(pairs, test, places, how)))
        rows.append((kind, *(float(value) for value in np.mean(values, axis=0))))
    return rows


def main() -> None:
    root = Path(sys.argv[1])
    card = load_card("MSRS")
    test, train = (list(find_pairs(card, root, part).pairs) for part in ("test", "train"))
    steps = np.diff(sorted(frame(pair.stem) for pair in test))
    print(f"MSRS, test list: {len(test)} pairs; steps between neighbouring numbers: median {np.median(steps):.0f}")
    print(f"\n| distance of the numbers | test and training pairs | median similarity | at least {ALIKE} |")
    print("|---|---|---|---|")
    for name, count, middle, share in by_distance(test, train):
        print(f"| {name} | {count} | {middle:.3f} | {share:.0f} % |")
    labelled = [pair for pair in test if "boxes" in pair.labels]
    for ratio in ("8:1:1", "7:1:2"):
        print(f"\n{len(labelled)} pairs with boxes, {ratio}, mean over {len(SEEDS)} lists:\n")
        print(f"| lists | median similarity to the nearest training pair | at least {ALIKE} | AP50 of its boxes, % |")
        print("|---|---|---|---|")
        for kind, middle, share, score in lists(labelled, ratio):
            print(f"| {kind} | {middle:.3f} | {share:.0f} % | {score:.1f} |")


if __name__ == "__main__":
    main()
