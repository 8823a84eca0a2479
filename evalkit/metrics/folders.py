"""Scores of a folder of fused images, image by image, with their means."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.files.names import to_cell
from evalkit.metrics.evaluate import Crop, evaluate, notes_of

if TYPE_CHECKING:
    import pandas as pd


def image_scores(
    fused: Path,
    infrared: Path,
    visible: Path,
    metrics: Iterable[str] | None,
    convention: str,
    depth: int | str | None = None,
    crop: Crop = "",
    gray: str = "",
) -> pd.DataFrame:
    """A frame like that of `evaluate_folder`, for one image.

    Args:
        fused, infrared, visible: the files.
        metrics, convention, depth, crop, gray: as in `evaluate_folder`.
    """
    import pandas as pd  # a third of a second, which workers and tables do without

    scores = evaluate(fused, infrared, visible, metrics, convention, depth, crop, gray)
    frame = pd.DataFrame([scores], index=pd.Index([fused.stem], name="image"))
    frame.attrs["missing"] = {(fused.stem, metric): reason for metric, reason in scores.missing.items()}
    frame.attrs["notes"] = notes_of({fused.stem: scores})
    return frame


def mean_scores(frame: pd.DataFrame) -> dict[str, float | None]:
    """Mean per metric; None where an image has no value: no mean is taken over missing values."""
    means = {}
    for metric in frame.columns:
        values = frame[metric].tolist()
        means[metric] = None if any(map(math.isnan, values)) else math.fsum(values) / len(values)
    return means


def scores_csv(frame: pd.DataFrame) -> str:
    """A row per image; an empty cell where there is no value."""
    return frame.rename(index=to_cell).to_csv(lineterminator="\n")


def scores_dict(frame: pd.DataFrame, convention: str) -> dict[str, Any]:
    """Scores, means and missing values, JSON-able; None where there is no value."""
    rows = frame.astype(object).where(frame.notna(), None)
    return {
        "convention": convention,
        "images": len(frame),
        "mean": mean_scores(frame),
        "scores": rows.to_dict(orient="index"),
        "missing": [{"image": i, "metric": m, "reason": why} for (i, m), why in frame.attrs["missing"].items()],
    } | {key: frame.attrs[key] for key in ("hint", "notes") if frame.attrs.get(key)}
