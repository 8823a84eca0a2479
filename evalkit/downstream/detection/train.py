"""Object detection on fused images with ultralytics' networks: data set, training, predictions, COCO's AP.

One detector is trained per fusion method (and per single modality), on the method's images and the data set's own
boxes. Weights are selected on the validation part (ultralytics' fitness); the test part is seen once, by the selected
weights and by the last ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml

from evalkit.data.card import Card
from evalkit.data.hashes import digest
from evalkit.data.images import read_image, write_png
from evalkit.data.labels import boxes_form, read_boxes
from evalkit.data.pairs import ImagePair
from evalkit.downstream.detection.recipe import DetectionRecipe
from evalkit.downstream.environment import calm, ultralytics
from evalkit.downstream.splits import PARTS, Division
from evalkit.errors import DataError, EvalkitError
from evalkit.files.write import write_text
from evalkit.metrics.detection import Boxes, parse_yolo

REVISION = 1  # of what the numbers depend on in this file
CONFIDENCE, NMS_IOU, MAX_BOXES = 0.001, 0.7, 300  # ultralytics' own for validation
WEIGHTS = ("best", "last")


@dataclass(frozen=True)
class TrainJob:
    """One detector: a method's images and a seed."""

    folder: Path  # seed<k>, written
    data: Path  # data.yaml
    recipe: DetectionRecipe
    seed: int
    epochs: int
    key: str  # hash of images, labels, lists, recipe and seed
    weights: Path | None
    device: str
    title: str


def prepare_data(
    folder: Path, pairs: Mapping[str, ImagePair], images: Mapping[str, Path], split: Division, card: Card
) -> Path:
    """A data set in the layout of YOLO packages: images/<part>/<stem>.png, labels/<part>/<stem>.txt, data.yaml.

    PNG files are linked (copied where links are refused), others written as PNG, so that nothing is ever written to the
    folder they come from. Class ids are counted in the order of the card.

    Args:
        folder: replaced if it is there.
        pairs: stem -> pair with boxes.
        images: stem -> the image in place of the visible one.
        split: the part of every stem.
        card: of the data set, with its classes for detection.

    Returns:
        data.yaml.

    Raises:
        DataError: an image or labels that cannot be read. OutputError: a file cannot be written.
    """
    shutil.rmtree(folder, ignore_errors=True)
    places = {label.id: place for place, label in enumerate(card.detection)}
    for stem, part in split.part_of().items():
        size = _place_image(images[stem], folder / "images" / part / f"{stem}.png")
        path = pairs[stem].labels["boxes"]
        boxes = read_boxes(path, boxes_form(path), card.detection, size)
        lines = [f"{places[k]} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for k, x, y, w, h in boxes]
        write_text(folder / "labels" / part / f"{stem}.txt", "".join(lines))
    content = {"path": str(folder.absolute())} | {part: f"images/{part}" for part in PARTS}
    content |= {"names": {place: label.name for place, label in enumerate(card.detection)}}  # type: ignore[dict-item]
    write_text(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False))
    return folder / "data.yaml"


def _place_image(source: Path, target: Path) -> tuple[int, int]:
    """Put the image there; its width and height."""
    target.parent.mkdir(parents=True, exist_ok=True)
    pixels = read_image(source)  # a damaged one is told here: ultralytics would train without it
    if source.suffix.lower() != ".png":
        write_png(target, pixels)
    else:
        try:
            target.symlink_to(source.absolute())
        except OSError:
            shutil.copyfile(source, target)
    return pixels.shape[1], pixels.shape[0]


def job_key(
    recipe: DetectionRecipe, seed: int, split: Division, images_hash: str, labels_hash: str, weights: str
) -> str:
    """What a trained detector depends on.

    Args:
        recipe: its hash counts.
        seed: of the training.
        split: the lists of images.
        images_hash: SHA-256 over the images.
        labels_hash: SHA-256 over the boxes.
        weights: hash of the file with the pretrained weights; empty without.
    """
    package = ultralytics().__version__
    return digest(REVISION, package, recipe.hash, seed, split.hash, images_hash, labels_hash, weights)


def load_trainer() -> ModuleType:
    """`detection.trainer`. Raises EvalkitError without the extra."""
    ultralytics()
    from evalkit.downstream.detection import trainer  # of the package, which is set up now

    return trainer


def train(job: TrainJob, progress: Callable[[Iterable, int, str], Iterable] | None = None) -> None:
    """Train a detector and predict on the test part, unless that was done for the same key; go on where it stopped.

    Writes into job.folder: weights/best.safetensors and last.safetensors, results.csv (ultralytics' losses and
    validation per epoch), best.json and last.json (predictions), done.json. A state that is damaged is passed over
    with a StateWarning: the one before it serves, or the training starts again.

    Raises:
        EvalkitError: training failed; says how.
    """
    if finished(job):
        return
    trainer = load_trainer()
    started, weights = job.folder / "started.json", job.folder / "weights"
    if _read(started).get("key") != job.key:
        shutil.rmtree(job.folder, ignore_errors=True)
        write_text(started, json.dumps({"key": job.key}))
    try:
        if not (_read(started).get("trained") and trainer.readable(weights, job.title)):
            trainer.train_network(options_of(job), weights, job.weights, job.title, partial(_watch, job, progress))
            write_text(started, json.dumps({"key": job.key, "trained": True}))
            trainer.forget_state(weights)  # it served to go on
        with calm():
            for which in WEIGHTS:
                path = weights / f"{which}.safetensors"
                _predict(job, which, trainer.detector(job.recipe.model, _names(job.data), path))
    except (RuntimeError, ValueError, FileNotFoundError, AssertionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EvalkitError(f"training {job.title} failed: {first}. What was done is kept in {job.folder}.") from error
    write_text(job.folder / "done.json", json.dumps({"key": job.key, "ultralytics": ultralytics().__version__}))


def finished(job: TrainJob) -> bool:
    """Whether the detector of this key is trained and has made its predictions."""
    return _read(job.folder / "done.json").get("key") == job.key


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def options_of(job: TrainJob) -> dict[str, Any]:
    """What ultralytics is told of a training."""
    recipe = job.recipe
    return {
        **recipe.options,
        "data": str(job.data.absolute()),
        "epochs": job.epochs,
        "batch": recipe.batch,
        "imgsz": recipe.size,
        "optimizer": recipe.optimiser,
        "lr0": recipe.lr,
        "seed": job.seed,
        "deterministic": True,
        "device": "cpu" if job.device == "cpu" else job.device.removeprefix("cuda").removeprefix(":") or "0",
        "project": str(job.folder.parent.absolute()),
        "name": job.folder.name,
        "exist_ok": True,
        "workers": 0,
        "cache": False,
        "amp": False,  # its check fetches a model
        "plots": False,
        "verbose": False,
        "pretrained": False,  # where there are weights, the network given has them
        "model": recipe.model,
        "task": "detect",
        "mode": "train",
    }


def _watch(job: TrainJob, progress: Callable[[Iterable, int, str], Iterable] | None, trainer: Any, first: int) -> None:
    """A progress bar over the epochs that are left."""
    if progress is None:
        return
    left = job.epochs - first
    epochs = iter(progress(range(left + 1), left, f"train {job.title}"))
    next(epochs)
    trainer.add_callback("on_fit_epoch_end", lambda _: next(epochs, None))


def _names(data: Path) -> list[str]:
    names = yaml.safe_load(data.read_text(encoding="utf-8"))["names"]
    return [names[place] for place in sorted(names)]


def _predict(job: TrainJob, which: str, model: Any) -> None:
    """The boxes that a detector finds on the test part, in pixels of the image, written to <which>.json."""
    images = sorted((job.data.parent / "images" / "test").iterdir())
    boxes_of = {}
    for path in images:
        result = model.predict(
            str(path),
            imgsz=job.recipe.size,
            conf=CONFIDENCE,
            iou=NMS_IOU,
            max_det=MAX_BOXES,
            device=options_of(job)["device"],
            verbose=False,
            save=False,
            project=str(job.folder.parent.absolute()),
            name=job.folder.name,
            exist_ok=True,
        )[0]
        boxes = result.boxes.cpu().numpy()
        boxes_of[path.stem] = {
            "size": [result.orig_shape[1], result.orig_shape[0]],
            "corners": np.round(boxes.xyxy.astype(float), 3).tolist(),
            "classes": boxes.cls.astype(int).tolist(),
            "scores": np.round(boxes.conf.astype(float), 6).tolist(),
        }
    write_text(job.folder / f"{which}.json", json.dumps(boxes_of))


def predictions(folder: Path, which: str) -> tuple[dict[str, Boxes], dict[str, tuple[int, int]]]:
    """The predicted boxes of the test part, and the images' width and height. Raises DataError for a damaged file."""
    path = folder / f"{which}.json"
    content = _read(path)
    try:
        boxes = {
            stem: Boxes(
                np.array(one["corners"], float).reshape(-1, 4),
                np.array(one["classes"], int),
                np.array(one["scores"], float),
            )
            for stem, one in content.items()
        }
        sizes = {stem: (int(one["size"][0]), int(one["size"][1])) for stem, one in content.items()}
    except (KeyError, TypeError, ValueError):
        boxes, sizes = {}, {}
    if not boxes:
        raise DataError(f"{path} holds no predictions. Run again with --existing replace.")
    return boxes, sizes


def truths(data: Path, sizes: Mapping[str, tuple[int, int]], classes: int) -> dict[str, Boxes]:
    """The true boxes of the test part, in pixels. Raises DataError.

    Args:
        data: the data.yaml; the labels lie beside it, in labels/test.
        sizes: stem -> (width, height) of the image in pixels.
        classes: number of classes.
    """
    folder = data.parent / "labels" / "test"
    texts = {stem: (folder / f"{stem}.txt").read_text(encoding="utf-8") for stem in sizes}
    return {stem: parse_yolo(text, *sizes[stem], classes, source=stem) for stem, text in texts.items()}
