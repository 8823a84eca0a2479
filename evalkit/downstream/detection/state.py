"""What a training of a detector keeps to go on with; without ultralytics, so that it can be looked at anywhere."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from evalkit.files.write import write_text

STATE = "resume.safetensors"  # in weights/
STATE_KEYS = {
    *("epoch", "stop", "model", "ema", "updates", "optimizer", "gradients", "batch", "stepped"),
    *("best_fitness", "stopper", "order", "buffer", "random"),
}


class DetectorStateError(Exception):
    """A state that is not of this training."""


def is_state(content: Any) -> bool:
    """Whether a file held what `Trainer.save_model` writes."""
    return isinstance(content, dict) and content.keys() >= STATE_KEYS and type(content["epoch"]) is int


def keep_epochs(path: Path, epochs: int) -> None:
    """Remove the lines of results.csv behind the first `epochs` epochs: they are run again."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines[: 1 + epochs])
    write_text(path, text.getvalue())
