"""What a training of a segmentation network leaves behind: its validations, and the counts of every test image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.files.write import write_text

STATE = "resume.safetensors"
STATE_KEYS = {"iteration", "model", "optimizer", "schedulers", "history", "counts", "random"}


class HistoryError(Exception):
    """A state that is not of this training."""


def is_state(content: Any) -> bool:
    """Whether a file held what `KeepCounts` writes."""
    return isinstance(content, dict) and content.keys() >= STATE_KEYS and type(content["iteration"]) is int


def read_history(folder: Path) -> list[dict[str, float]]:
    """The validations so far: iteration, mIoU of the held-out and of the test images."""
    path = folder / "history.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def write_history(folder: Path, history: Sequence[dict[str, float]]) -> None:
    """What `read_history` reads. Raises OutputError."""
    write_text(folder / "history.json", json.dumps(list(history), indent=1) + "\n")


def write_counts(path: Path, counts: dict[str, NDArray[np.int64]]) -> None:
    """A line per image: its stem and its confusion matrix, row by row."""
    lines = (",".join([stem, *map(str, matrix.ravel().tolist())]) for stem, matrix in sorted(counts.items()))
    write_text(path, "".join(line + "\n" for line in lines))


def read_counts(path: Path) -> dict[str, NDArray[np.int64]]:
    """What `write_counts` wrote."""
    counts = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        stem, *numbers = line.split(",")
        side = round(len(numbers) ** 0.5)
        counts[stem] = np.array(numbers, np.int64).reshape(side, side)
    return counts
