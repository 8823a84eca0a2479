"""Pairs for training: a sample depends on seed, epoch and place alone, never on workers or on the order of reading."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from evalkit.data.card import LabelClass
from evalkit.data.images import to_gray
from evalkit.data.labels import boxes_form, read_boxes, read_mask, read_salient
from evalkit.data.pairs import ImagePair
from evalkit.engine.processes import deaf_children
from evalkit.errors import DataError
from evalkit.methods.fusers import read_pair
from evalkit.training.recipe import Augment

CACHE = 2 << 30  # bytes of decoded images that are kept

Batch = dict[str, Any]
"""infrared (N, 1, H, W) and visible (N, 3, H, W) in [0, 1]; stems, a list; where asked for: classes (N, H, W) integers,
salient (N, 1, H, W) in [0, 1], boxes, a list of (K, 5): class, left, top, right, bottom in pixels."""


class SamplePlace(NamedTuple):
    """Which sample: epoch and position in it draw the random numbers; `item` is a pair, or a square of one."""

    epoch: int
    position: int
    item: int


@dataclass
class TrainingPair:
    """One pair in memory."""

    infrared: NDArray[np.uint8]  # (H, W)
    visible: NDArray[np.uint8]  # (H, W, 3)
    maps: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # classes, salient: (H, W)
    boxes: NDArray[np.float32] | None = None

    @property
    def size(self) -> int:
        maps = sum(m.nbytes for m in self.maps.values())
        return self.infrared.nbytes + self.visible.nbytes + maps

    def cut(self, top: int, left: int, height: int, width: int) -> TrainingPair:
        """The part of the pair, with what is left of its labels; boxes of less than two pixels go.

        Args:
            top, left, height, width: of the part, in pixels.
        """
        part = np.s_[top : top + height, left : left + width]
        boxes = None
        if self.boxes is not None:
            boxes = self.boxes - np.array([0, left, top, left, top], np.float32)
            boxes[:, 1::2] = boxes[:, 1::2].clip(0, width)
            boxes[:, 2::2] = boxes[:, 2::2].clip(0, height)
            boxes = boxes[(boxes[:, 3] - boxes[:, 1] >= 2) & (boxes[:, 4] - boxes[:, 2] >= 2)]
        return TrainingPair(self.infrared[part], self.visible[part], {k: m[part] for k, m in self.maps.items()}, boxes)

    def resized(self, side: int) -> TrainingPair:
        height, width = self.infrared.shape
        shrinks = side < min(height, width)
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        maps = {
            kind: cv2.resize(m, (side, side), interpolation=cv2.INTER_NEAREST if kind == "classes" else how)
            for kind, m in self.maps.items()
        }
        boxes = self.boxes
        if boxes is not None:
            boxes = boxes * np.array([1, side / width, side / height, side / width, side / height], np.float32)
        infrared, visible = (cv2.resize(i, (side, side), interpolation=how) for i in (self.infrared, self.visible))
        return TrainingPair(infrared, visible, maps, boxes)

    def flipped(self, axis: int) -> TrainingPair:
        boxes = self.boxes
        if boxes is not None:
            boxes, side = boxes.copy(), self.infrared.shape[axis]
            low, high = (2, 4) if axis == 0 else (1, 3)
            boxes[:, low], boxes[:, high] = side - self.boxes[:, high], side - self.boxes[:, low]  # type: ignore[index]
        return self._mapped(lambda image: np.flip(image, axis), boxes)

    def toned(self, infrared: float, visible: float) -> TrainingPair:
        """Gray levels in [0, 1] to these powers, so that either image may be the brighter one."""
        levels = np.arange(256) / 255
        of_infrared, of_visible = (np.rint(255 * levels**power).astype(np.uint8) for power in (infrared, visible))
        return TrainingPair(of_infrared[self.infrared], of_visible[self.visible], self.maps, self.boxes)

    def turned(self, quarters: int) -> TrainingPair:
        """By a multiple of 90 degrees, counter-clockwise."""
        boxes = self.boxes
        if boxes is not None:
            for turn in range(quarters):
                width = self.infrared.shape[1 - turn % 2]
                boxes = np.stack(
                    (boxes[:, 0], boxes[:, 2], width - boxes[:, 3], boxes[:, 4], width - boxes[:, 1]), axis=1
                )
        return self._mapped(lambda image: np.rot90(image, quarters), boxes)

    def _mapped(self, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], boxes: NDArray | None) -> TrainingPair:
        maps = {kind: change(m) for kind, m in self.maps.items()}
        return TrainingPair(change(self.infrared), change(self.visible), maps, boxes)


def read_scene(pair: ImagePair, labels: Sequence[str], classes: Sequence[LabelClass] = ()) -> TrainingPair:
    """A pair with its labels. Raises DataError for what cannot be read or is missing.

    Args:
        pair: the files.
        labels: kinds that are read: classes, boxes, salient.
        classes: of the boxes.

    Raises:
        DataError: a file that cannot be read, a label that is missing or of another size.
    """
    infrared, visible = read_pair(pair)
    colour = visible if visible.ndim == 3 else np.repeat(visible[..., None], 3, axis=2)
    scene = TrainingPair(to_gray(infrared), colour)
    height, width = scene.infrared.shape
    for kind in labels:
        path = pair.labels.get(kind)
        if path is None:
            raise DataError(f"the pair {pair.stem} has no label of the kind {kind}, which this recipe learns from.")
        if kind == "boxes":
            boxes = read_boxes(path, boxes_form(path), classes, (width, height))
            rows = [(id, x - w / 2, y - h / 2, x + w / 2, y + h / 2) for id, x, y, w, h in boxes]
            scale = np.array([1, width, height, width, height], np.float32)
            scene.boxes = np.array(rows, np.float32).reshape(-1, 5) * scale
            continue
        label = read_mask(path) if kind == "classes" else read_salient(path)
        if label.shape != (height, width):
            raise DataError(f"{path} is {label.shape[1]}x{label.shape[0]}, its images are {width}x{height}.")
        scene.maps[kind] = label
    return scene


def augmented(scene: TrainingPair, augment: Augment, random: np.random.Generator | None) -> TrainingPair:
    """One random view of a scene; without random numbers the middle of it, neither flipped nor turned.

    Args:
        scene: the pair.
        augment: what becomes of it.
        random: where the choices are drawn from.
    """
    height, width = scene.infrared.shape
    if augment.resize:
        scene = scene.resized(augment.resize)
    elif augment.crop and augment.area and random is not None:
        scene = _random_part(scene, augment.area, random).resized(augment.crop)
    elif augment.crop and augment.area:
        scene = scene.resized(augment.crop)
    elif augment.crop:
        room = (height - augment.crop, width - augment.crop)
        top, left = (r // 2 if random is None else int(random.integers(r + 1)) for r in room)
        scene = scene.cut(top, left, augment.crop, augment.crop)
    if random is None:
        return scene
    if augment.gamma:
        low, high = np.log(augment.gamma)
        of_infrared, of_visible = np.exp(random.uniform(low, high, 2))
        scene = scene.toned(of_infrared, of_visible)
    for axis, flip in ((1, augment.flip_horizontal), (0, augment.flip_vertical)):
        if flip and random.random() < 0.5:
            scene = scene.flipped(axis)
    if augment.flip_either and (axis := int(random.integers(3))) < 2:
        scene = scene.flipped(axis)
    if augment.rotate and (quarters := int(random.integers(4))):
        scene = scene.turned(quarters)
    return scene


def _random_part(scene: TrainingPair, area: tuple[float, float], random: np.random.Generator) -> TrainingPair:
    """A part with a share of the area within these bounds and sides in a relation from 3:4 to 4:3."""
    height, width = scene.infrared.shape
    share = random.uniform(*area)
    relation = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    w = min(width, max(1, round(np.sqrt(height * width * share * relation))))
    h = min(height, max(1, round(np.sqrt(height * width * share / relation))))
    return scene.cut(int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w)


class Pairs(Dataset):
    """Samples by `SamplePlace`, as float tensors; decoded images are kept up to CACHE bytes."""

    def __init__(
        self,
        pairs: Sequence[ImagePair],
        augment: Augment,
        labels: Sequence[str] = (),
        classes: Sequence[LabelClass] = (),
        seed: int = 0,
        random: bool = True,
    ) -> None:
        self.pairs, self.augment, self.labels, self.classes = list(pairs), augment, tuple(labels), list(classes)
        self.seed, self.random = seed, random
        self.kept: dict[int, TrainingPair] = {}
        self.kept_bytes = 0
        self.squares = self._grid() if augment.stride else None

    def __len__(self) -> int:
        return len(self.pairs if self.squares is None else self.squares)

    def scene(self, index: int) -> TrainingPair:
        if index not in self.kept:
            scene = read_scene(self.pairs[index], self.labels, self.classes)
            if self.kept_bytes + scene.size > CACHE:
                return scene
            self.kept[index], self.kept_bytes = scene, self.kept_bytes + scene.size
        return self.kept[index]

    def __getitem__(self, place: SamplePlace) -> Batch:
        random = np.random.default_rng((self.seed, place.epoch, place.position)) if self.random else None
        if self.squares is not None:
            index, top, left = self.squares[place.item]
            side = self.augment.crop or 0
            scene = self.scene(index).cut(top, left, side, side)
            scene = augmented(scene, self.augment.model_copy(update={"crop": None}), random)
        else:
            index, scene = self._large_enough(place.item)
            scene = augmented(scene, self.augment, random)
        return as_tensors(scene, self.pairs[index].stem)

    def _large_enough(self, index: int) -> tuple[int, TrainingPair]:
        """The pair, or the next one that the square fits into."""
        side = self.augment.crop or 0
        for offset in range(len(self.pairs)):
            candidate = (index + offset) % len(self.pairs)
            scene = self.scene(candidate)
            if self.augment.area or min(scene.infrared.shape) >= side:
                return candidate, scene
        raise DataError(f"no pair is as large as the {side}x{side} pixels that this recipe cuts out.")

    def _grid(self) -> list[tuple[int, int, int]]:
        """(pair, top, left) of every square on the grid that is not flat in one of its images."""
        side, stride = self.augment.crop or 0, self.augment.stride or 1
        squares = []
        for index in range(len(self.pairs)):
            scene = self.scene(index)
            height, width = scene.infrared.shape
            for top in range(0, height - side + 1, stride):
                for left in range(0, width - side + 1, stride):
                    part = scene.cut(top, left, side, side)
                    if not self.augment.drop_flat or not any(
                        is_flat(image, self.augment.drop_flat) for image in (part.infrared, to_gray(part.visible))
                    ):
                        squares.append((index, top, left))
        if not squares:
            raise DataError(f"no square of {side}x{side} pixels is left to learn from: images too small or too flat.")
        return squares


def is_flat(image: NDArray, least: float) -> bool:
    """Whether (p90 - p10) / p90 of the gray levels is below `least`."""
    low, high = np.percentile(image, (10, 90))
    return bool(high == 0 or (high - low) / high < least)


def as_tensors(scene: TrainingPair, stem: str) -> Batch:
    """A scene as a sample."""
    sample: Batch = {
        "infrared": torch.from_numpy(scene.infrared.astype(np.float32) / 255)[None],
        "visible": torch.from_numpy(scene.visible.transpose(2, 0, 1).astype(np.float32) / 255),
        "stem": stem,
    }
    if "classes" in scene.maps:
        sample["classes"] = torch.from_numpy(scene.maps["classes"].astype(np.int64))
    if "salient" in scene.maps:
        sample["salient"] = torch.from_numpy(scene.maps["salient"].astype(np.float32) / 255)[None]
    if scene.boxes is not None:
        sample["boxes"] = torch.from_numpy(np.ascontiguousarray(scene.boxes))
    return sample


def collate(samples: Sequence[Batch]) -> Batch:
    """Samples of one size as a batch."""
    batch: Batch = {"stems": [sample["stem"] for sample in samples]}
    for key in samples[0]:
        if key == "boxes":
            batch[key] = [sample[key] for sample in samples]
        elif key != "stem":
            tensors: list[Tensor] = [sample[key] for sample in samples]
            if len({t.shape for t in tensors}) > 1:
                raise DataError(
                    f"the pairs {', '.join(batch['stems'])} differ in size: cut squares (crop), or take a batch of 1."
                )
            batch[key] = torch.stack(tensors)
    return batch


def divided(batch: Batch, parts: int, shared: Callable[[Batch], Batch]) -> Iterator[tuple[Batch, float]]:
    """A batch in parts as equal as can be, each with its share of the samples; in one it stays as it is.

    Args:
        batch: of N samples.
        parts: how many; no more than N.
        shared: what every part has to know of the whole batch, with a first axis of N.
    """
    if parts == 1:
        yield batch, 1.0
        return
    whole, count = batch | shared(batch), len(batch["stems"])
    for places in np.array_split(np.arange(count), min(parts, count)):
        first, last = int(places[0]), int(places[-1]) + 1
        yield {key: values[first:last] for key, values in whole.items()}, (last - first) / count


def places(count: int, batch: int, steps: int | None, seed: int, epoch: int) -> list[list[SamplePlace]]:
    """The batches of one epoch: all items in random order, what does not fill a batch left out.

    With `steps` there are that many batches, going through the items as often as it takes.

    Args:
        count: items.
        batch: samples of a batch.
        steps: batches; as many as the items fill when None.
        seed, epoch: what the order depends on.

    Raises:
        DataError: fewer items than a batch takes, and no `steps`.
    """
    if steps is None:
        steps = count // batch
        if steps == 0:
            raise DataError(
                f"{count} samples do not fill a batch of {batch}: fewer per batch, or `steps` in the recipe."
            )
    random = np.random.default_rng((seed, epoch))
    order: list[int] = []
    while len(order) < steps * batch:
        order += random.permutation(count).tolist()
    samples = [SamplePlace(epoch, position, item) for position, item in enumerate(order)]
    return [samples[i * batch : (i + 1) * batch] for i in range(steps)]


def batches(data: Pairs, places: list[list[SamplePlace]], workers: int) -> Iterator[Batch]:
    """The batches, read ahead by worker processes where there are any.

    Args:
        data: the samples.
        places: which ones each batch has.
        workers: processes that read; none for 0.
    """
    with deaf_children():
        loader = DataLoader(
            data, batch_sampler=places, collate_fn=collate, num_workers=workers, worker_init_fn=_let_the_parent_tell
        )
        return iter(loader)


def _let_the_parent_tell(_: int) -> None:
    """In a worker: a parent that is interrupted while it takes a batch says so itself; the thread that hands the batch
    over does not tell of the broken connection too."""
    tell = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, (BrokenPipeError, ConnectionResetError, EOFError)):
            tell(kind, error, trace)

    sys.excepthook = excepthook
