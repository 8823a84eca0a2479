"""What a training run leaves on disk: weights that say how they were made, a log, and all that a killed run needs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from evalkit.errors import CheckpointError, DataError
from evalkit.files.read import parse_json
from evalkit.files.write import write_bytes, write_text
from evalkit.methods.checkpoints import State
from evalkit.methods.states import last_state
from evalkit.methods.tensors import read_header, read_tensors
from evalkit.training.recipe import Recipe

LAST, BEST, RESUME, LOG = "last.safetensors", "best.safetensors", "resume.safetensors", "log.csv"
OLDER = "resume.pt"  # the state as evalkit 0.1 wrote it
COLUMNS = ["epoch", "round", "stage", "split", "term", "value"]


def save_weights(path: Path, state: Mapping[str, Tensor], recipe: Recipe, about: Mapping[str, Any]) -> None:
    """Write a safetensors file with recipe and origin inside. Raises OutputError.

    Args:
        path: of the file, which is replaced.
        state: key -> tensor, on any device.
        recipe: kept as JSON under the metadata key "recipe".
        about: the origin, JSON-able, kept under the metadata key "about".
    """
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    metadata = {"recipe": recipe.model_dump_json(), "about": json.dumps(dict(about), sort_keys=True)}
    write_bytes(path, _in_one_order(save(tensors, metadata)))


def _in_one_order(data: bytes) -> bytes:
    """A safetensors file whose metadata stand in the order of their names: `save` has another one each time, and
    fused images are known by the hash of the weights' file.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def read_recipe(path: Path) -> tuple[Recipe, dict[str, Any]] | None:
    """Recipe and origin of weights that evalkit trained; None for any other file."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        _, metadata = read_header(path)
        if "recipe" not in metadata:
            return None
        about = parse_json(metadata.get("about", "{}"), "its origin")
        if not isinstance(about, dict):
            raise ValueError(f"its origin is a {type(about).__name__}, not a mapping")
        return Recipe.model_validate(parse_json(metadata["recipe"], "its recipe")), about
    except (ValueError, DataError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"the checkpoint {path} is damaged ({first[:120]}). Train again.") from None


def read_resume(
    folder: Path,
    recipe: Recipe,
    data_hash: str,
    tell: Callable[[str], None] = lambda text: None,
    accumulate: int = 1,
) -> dict[str, Any] | None:
    """What an interrupted run left, if it was the same run; None where there is nothing, or nothing that can be read.

    A last state that is damaged is told, and the one before it serves.

    Args:
        folder: of the training.
        recipe: by which it goes on.
        data_hash: of the training data.
        tell: says a sentence to the user.
        accumulate: parts that a batch is computed in.

    Raises:
        DataError: another recipe, other data, or another number of parts.
    """
    content = last_state(folder / RESUME, tell, _is_state)
    if content is None and (folder / OLDER).is_file():
        try:
            content = read_tensors(folder / OLDER)
            if not _is_state(content):
                raise CheckpointError(f"{folder / OLDER} is not the state of a training.")
        except CheckpointError as error:
            tell(f"{str(error).rstrip('.')}: the training starts again.")
            return None
    if content is None:
        return None
    for name, own in (("recipe", recipe.hash), ("data", data_hash)):
        if content[name] != own:
            raise DataError(f"{folder} holds a run with another {name}. Choose another --out, or --existing replace.")
    if (parts := content.get("accumulate", 1)) != accumulate:
        raise DataError(
            f"{folder} holds a run with --accumulate {parts}. Give it again, choose another --out, or --existing "
            "replace."
        )
    return content


def _is_state(content: Any) -> bool:
    names = {"recipe", "data", "network", "optimisers", "mean", "precision", "progress"}
    return isinstance(content, dict) and names <= content.keys()


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
        """Add a line per term.

        Args:
            epoch: counted from 0 over all stages.
            round_: the number of the pass through the stages.
            stage: its name in the recipe.
            split: "train" or "validation".
            terms: name of the loss's term -> value.
        """
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
