"""How weights that evalkit trained fuse pairs that no training saw, beside the plain average of both images."""

from __future__ import annotations

from pathlib import Path

import evalkit
from evalkit.data.card import load_card
from evalkit.data.images import to_gray
from evalkit.data.pairs import find_pairs
from evalkit.methods.classical import FUSERS
from evalkit.methods.fuse import make_fuser
from evalkit.methods.fusers import read_pair
from evalkit.methods.registry import method_card
from evalkit.training.trained import trained_method

METRICS = ["SF", "Qabf", "VIF"]


def tno_means(method: str, weights: Path, data_root: Path) -> dict[str, dict[str, float]]:
    """Means over the 25 pairs of TNO, as `trained_means`."""
    return trained_means(method, weights, data_root, "TNO")


def trained_means(method: str, weights: Path, data_root: Path, dataset: str) -> dict[str, dict[str, float]]:
    """Means over a data set in the convention smfnet: {"trained": {metric: mean}, "average": {...}}."""
    pairs = find_pairs(load_card(dataset), data_root).pairs
    network = trained_method(weights, method)
    fuser = make_fuser(method_card(method), files=[weights], device="cpu", trained=network)
    means = {row: dict.fromkeys(METRICS, 0.0) for row in ("trained", "average")}
    for pair, fused in zip(pairs, fuser.fuse(pairs), strict=True):
        infrared, visible = (to_gray(image) for image in read_pair(pair))
        for row, image in (("trained", to_gray(fused)), ("average", FUSERS["average"](infrared, visible))):
            found = evalkit.evaluate(image, infrared, visible, metrics=METRICS, convention="smfnet")
            for name, value in found.items():
                means[row][name.split("[")[0]] += value / len(pairs)
    return means
