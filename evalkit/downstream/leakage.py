"""Is an image of a downstream test part among those that a fusion network learned from?

Such an image was seen with its infrared partner, in training that may have used its labels too: the downstream score
of that network is then flattered. Images are compared by content, so names and folders do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evalkit.data.card import load_card
from evalkit.data.hashes import file_hash
from evalkit.data.images import read_image, to_gray
from evalkit.data.pairs import ImagePair, find_pairs
from evalkit.errors import DataError

# What the papers say their networks learned from: data set -> share of it. See the protocols' `training`.
LEARNED_FROM: Mapping[str, Mapping[str, str]] = {
    "SMFNet": {"MSRS": "training set", "RoadScene": "50 pairs, validation"},
    "S4Fusion": {"MSRS": "training set", "M3FD": "70 %, lists not published", "RoadScene": "70 %, lists not published"},
    "TSJNet": {"MSRS": "1035 pairs of the training set"},
    "TSJNet-512": {"MSRS": "1035 pairs of the training set"},
    "PSFusion": {"MSRS": "training set, with its class labels"},
    "SMR-Net": {"VT5000": "training set"},
    "SeAFusion": {"MSRS": "training set, with its class labels"},
    "SuperFusion": {"MSRS": "training set"},
    "SuperFusion-registered": {"MSRS": "training set"},
}


def shared_images(test: Iterable[ImagePair], training: Iterable[ImagePair]) -> list[str]:
    """Stems of test pairs whose infrared or visible image is, byte for byte, one of the training images.

    Raises:
        DataError: an image that cannot be read.
    """
    seen = {file_hash(path) for pair in training for path in (pair.infrared, pair.visible)}
    return [p.stem for p in test if file_hash(p.infrared) in seen or file_hash(p.visible) in seen]


def leakage_by_content(
    test: Iterable[ImagePair], datasets: Mapping[str, str | None], root: Path, shares: Iterable[str] = ()
) -> str:
    """What a network that was trained here shares with the test part, in a sentence.

    Args:
        test: the pairs that downstream scores are of.
        datasets: data set -> split that it learned from, as its recipe says.
        root: the data root.
        shares: data sets of which it saw a part only; the part is not known here, so all of it counts.
    """
    test, shared, missing = list(test), [], []
    for name, split in datasets.items():
        try:
            training = find_pairs(load_card(name), root, split).pairs
        except DataError:
            missing.append(name)
            continue
        if stems := shared_images(test, training):
            some = " (of which it saw a part)" if name in shares else ""
            shared.append(f"{len(stems)} of {len(test)} test pairs are in {name}{some}: {', '.join(stems[:5])}")
    if shared:
        return f"leakage: {'; '.join(shared)}"
    if missing:
        return f"not known: {', '.join(missing)}, from which it learned, is not in the data root"
    return f"none: no test image is in {', '.join(datasets)}"


def leakage_by_paper(method: str, dataset: str, split: str | None) -> str:
    """What a network with its authors' weights shares with a data set, as far as its paper tells.

    Args:
        method: the row.
        dataset: that downstream scores are of.
        split: of it; None where the data set has none.
    """
    if method not in LEARNED_FROM:
        return "not known: the training images of these weights are not recorded here"
    part = LEARNED_FROM[method].get(dataset)
    if part is None:
        return f"none: trained on {', '.join(LEARNED_FROM[method])}"
    if split == "test" and part.endswith(("training set", "class labels")):
        return f"none by name: trained on {dataset}'s {part}, tested on its test set"
    return f"possible: trained on {dataset} ({part})"


THUMBNAIL = (40, 30)  # width and height


def similarities(pairs: Sequence[ImagePair]) -> NDArray[np.float32]:
    """How alike pairs are: (N, N) in [-1, 1], the mean over infrared and visible of the correlation of gray thumbnails.

    Two frames of a standing camera have nearly 1, and a test image with such a partner in training was seen before.

    Raises:
        DataError: an image that cannot be read.
    """
    total = np.zeros((len(pairs), len(pairs)), np.float32)
    for role in ("infrared", "visible"):
        rows = np.stack([_thumbnail(getattr(pair, role)) for pair in pairs])
        total += rows @ rows.T / 2
    return total


def _thumbnail(path: Path) -> NDArray[np.float32]:
    """Gray values of zero mean and length 1; all zero for an image without contrast."""
    small = Image.fromarray(to_gray(read_image(path))).resize(THUMBNAIL, Image.Resampling.BOX)
    values = np.asarray(small, np.float32).ravel()
    values = values - values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)
