"""A recipe of a detector: network, split, schedule. `recipes/detection-small.yaml`, `detection-<protocol>.yaml`."""

from __future__ import annotations

import hashlib
import os
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from evalkit.data.hashes import file_hash
from evalkit.errors import DataError, UnknownNameError
from evalkit.files.read import model_from_yaml, read_text
from evalkit.methods.pretrained import find_pretrained, where_published
from evalkit.registry import Registry


class SampleScenes(BaseModel):
    """The generated scenes that a sample run learns from and is tested on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=8)
    seed: int = Field(default=0, ge=0)
    width: int = Field(ge=64)
    height: int = Field(ge=64)
    size: int | None = Field(default=None, ge=32, multiple_of=32, description="in place of the recipe's")


class DetectionRecipe(BaseModel):
    """How a detector is trained and tested, the same for every fusion method."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str = Field(description="what it follows, and what the paper leaves open")
    network: str = Field(description="what the table calls it, e.g. YOLOv5x")
    model: str = Field(default="", description="the file of the architecture; that of the registered network")
    stands_for: str = Field(default="", description="the paper's network, where this one takes its place")
    weights: str = Field(default="", description="pretrained weights, a file in --checkpoints; none: from scratch")
    ratio: str = Field(description="training:validation:test")
    split: Literal["random", "sequence"] = "sequence"
    split_seed: int = 0
    seeds: tuple[int, ...] = Field(min_length=1)
    size: int = Field(ge=32, multiple_of=32, description="longer side of what the network sees, letterboxed")
    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1, description="in place of epochs: batches in all")
    batch: int = Field(ge=1)
    optimiser: Literal["SGD", "Adam", "AdamW"] = "SGD"
    lr: float = Field(gt=0)
    options: dict[str, Annotated[int | float, Field(ge=0)]] = Field(
        default={}, description="further ones of ultralytics"
    )
    scenes: SampleScenes

    @property
    def hash(self) -> str:
        """SHA-256 of what one training depends on: everything but names and the list of seeds."""
        fields = self.model_dump_json(exclude={"name", "source", "network", "stands_for", "seeds", "scenes"})
        return hashlib.sha256(fields.encode()).hexdigest()

    def epochs_for(self, images: int) -> int:
        """Epochs over so many training images."""
        if self.epochs is not None:
            return self.epochs
        assert self.steps is not None
        return max(1, round(self.steps / -(-images // self.batch)))

    def for_scenes(self) -> DetectionRecipe:
        """The recipe of a sample run: generated scenes are not a video, so each is drawn by itself."""
        return self.model_copy(update={"size": self.scenes.size or self.size, "split": "random"})

    @property
    def small(self) -> bool:
        return self.name == "small"

    @property
    def summary(self) -> str:
        """One line for tables: what was trained and for how long."""
        length = f"{self.epochs} epochs" if self.epochs else f"{self.steps} steps"
        start = f"from {self.weights}" if self.weights else "from scratch"
        return (
            f"recipe {self.name}: {self.network} {start}, {self.size} px, {length} of {self.batch} images, "
            f"{self.ratio} split ({self.split}), {len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"
        )


# of ultralytics: the rest is set by the recipe's own fields, or must stay as detection.py sets it
OPTIONS = {
    "lrf", "momentum", "weight_decay", "warmup_epochs", "warmup_bias_lr", "nbs", "box", "cls", "dfl", "hsv_h", "hsv_s",
    "hsv_v", "degrees", "translate", "scale", "fliplr", "flipud", "mosaic", "mixup", "close_mosaic", "patience",
}  # fmt: skip


DETECTORS: Registry[str] = Registry("detector", "evalkit.downstream.detection.recipe")  # name -> architecture's file


def register_shipped() -> None:
    """Register the detectors of the papers, or what stands in for them."""
    for name in ("YOLOv5n", "YOLOv5s", "YOLOv5x", "YOLOv9c"):
        DETECTORS.add(name, f"{name.lower()}.yaml")


def register_detector(name: str, model: str | os.PathLike[str]) -> None:
    """Register a detector that ultralytics can build.

    Args:
        name: as recipes and tables call it.
        model: the file of the architecture: one of ultralytics' own ("yolov5n.yaml"), or the path of a file of yours.

    Raises:
        EvalkitError: the name is taken.
    """
    DETECTORS.add(name, os.fspath(model))


def detection_recipe(name: str, protocol: str) -> DetectionRecipe:
    """The recipe `small`, the one of the protocol's paper, or one from a YAML file.

    Raises:
        UnknownNameError: no such recipe.
        DataError: a file that cannot be read or is not a recipe.
    """
    if name.endswith((".yaml", ".yml")):
        try:
            text = read_text(name)
        except DataError as error:
            raise DataError(f"cannot read the recipe {name}: {error}") from None
        return parse(text, name)
    folder = resources.files("evalkit.downstream").joinpath("recipes")
    file = folder.joinpath(f"detection-{protocol if name == 'paper' else name}.yaml")
    if name not in ("small", "paper") or not file.is_file():
        raise UnknownNameError("detection recipe", name, ["small", "paper"], "A file of your own ends in .yaml.")
    return parse(file.read_text(encoding="utf-8"), file.name)


def paper_recipes() -> list[DetectionRecipe]:
    """The recipes `paper` of all protocols that have one, by file name."""
    folder = resources.files("evalkit.downstream").joinpath("recipes")
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    paper = [file for file in files if file.name.startswith("detection-") and file.name != "detection-small.yaml"]
    return [parse(file.read_text(encoding="utf-8"), file.name) for file in paper]


def parse(text: str, where: str) -> DetectionRecipe:
    """A recipe from YAML text. Raises DataError naming field and mistake."""
    recipe = model_from_yaml(DetectionRecipe, text, f"the recipe {where}", part="detection")
    if unknown := sorted(set(recipe.options) - OPTIONS):
        raise DataError(
            f"the recipe {where} has unknown options {', '.join(unknown)}. Known: {', '.join(sorted(OPTIONS))}."
        )
    if recipe.model and not re.fullmatch(r"[\w-]+\.yaml", recipe.model):  # any other file: `register_detector`
        raise DataError(
            f"the recipe {where} has model: {recipe.model}, expected a file of ultralytics, such as yolov5x.yaml."
        )
    if (recipe.epochs is None) == (recipe.steps is None):
        raise DataError(f"the recipe {where} must say epochs or steps, one of the two.")
    return recipe if recipe.model else recipe.model_copy(update={"model": DETECTORS.find(recipe.network)})


def find_weights(recipe: DetectionRecipe, checkpoints: Path | None) -> tuple[Path | None, str]:
    """The pretrained weights' file and its hash.

    In place of ultralytics' yolov5su.pt its forerunner yolov5s.pt serves, whose last layer alone differs.

    Raises:
        DataError: the recipe wants a file that is not there.
    """
    if not recipe.weights:
        return None, ""
    names = dict.fromkeys((recipe.weights, recipe.weights.replace("u.pt", ".pt")))
    path = next(filter(None, (find_pretrained(name, checkpoints) for name in names)), None)
    if path is None:
        where = f"is not in {checkpoints}" if checkpoints else "is needed: give --checkpoints DIR"
        raise DataError(
            f"recipe {recipe.name} starts {recipe.network} from pretrained weights, and {' or '.join(names)} {where}. "
            f"{where_published(recipe.weights)} A recipe of your own without `weights` trains from scratch."
        )
    return path, file_hash(path)
