"""What a training run leaves on disk: weights that say how they were made, a log, and all that a killed run needs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from evalkit.errors import DataError
from evalkit.files.read import parse_json
from evalkit.files.write import write_bytes, write_text
from evalkit.methods.checkpoints import CheckpointError, State, read_checkpoint
from evalkit.training.recipe import Recipe

LAST, BEST, RESUME, LOG = "last.safetensors", "best.safetensors", "resume.pt", "log.csv"
COLUMNS = ["epoch", "round", "stage", "split", "term", "value"]


def save_weights(path: Path, state: Mapping[str, Tensor], recipe: Recipe, about: Mapping[str, Any]) -> None:
    """Write a safetensors file with recipe and origin inside. Raises OutputError."""
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    metadata = {"recipe": recipe.model_dump_json(), "about": json.dumps(dict(about), sort_keys=True)}
    write_bytes(path, save(tensors, metadata))


def read_recipe(path: Path) -> tuple[Recipe, dict[str, Any]] | None:
    """Recipe and origin of weights that evalkit trained; None for any other file."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if "recipe" not in metadata:
            return None
        about = parse_json(metadata.get("about", "{}"), "its origin")
        if not isinstance(about, dict):
            raise ValueError(f"its origin is a {type(about).__name__}, not a mapping")
        return Recipe.model_validate(parse_json(metadata["recipe"], "its recipe")), about
    except (SafetensorError, OSError, ValueError, DataError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"the checkpoint {path} is damaged ({first[:120]}). Train again.") from None


def save_resume(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values in one piece. Raises OutputError."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    write_bytes(path, buffer.getvalue())


def read_resume(path: Path, recipe: Recipe, data_hash: str) -> dict[str, Any] | None:
    """What an interrupted run left, if it was the same run; None where there is nothing.

    Raises:
        CheckpointError: damaged.
        DataError: another recipe, or other data.
    """
    if not path.is_file():
        return None
    content = read_checkpoint(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no state of a training run. Choose another --out, or --existing replace.")
    for what, own in (("recipe", recipe.hash), ("data", data_hash)):
        if content.get(what) != own:
            raise DataError(
                f"{path.parent} holds a run with another {what}. Choose another --out, or --existing replace."
            )
    return content


def as_saved(state: State) -> State:
    return {key: value.detach().cpu() for key, value in state.items()}


class Log:
    """log.csv: one line per epoch, split and term. Epochs that are run again replace what was there."""

    def __init__(self, path: Path, before: int) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.is_file() and before:
            try:
                with path.open(encoding="utf-8", newline="") as file:
                    rows = [row for row in csv.DictReader(file) if row.get("value")]
                self.rows = [row for row in rows if int(row["epoch"]) < before and math.isfinite(float(row["value"]))]
            except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
                raise DataError(f"{path} is damaged ({error}). Choose another --out, or --existing replace.") from None

    def add(self, epoch: int, round_: int, stage: str, split: str, terms: Mapping[str, float]) -> None:
        for term, value in terms.items():
            row = {"epoch": epoch, "round": round_, "stage": stage, "split": split, "term": term}
            self.rows.append({**row, "value": repr(float(value))})

    def write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def series(self, split: str, term: str) -> list[tuple[int, str, float]]:
        """(epoch, stage, value) of one term."""
        rows = (row for row in self.rows if row["split"] == split and row["term"] == term)
        return [(int(row["epoch"]), row["stage"], float(row["value"])) for row in rows]
