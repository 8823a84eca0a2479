"""Zoom boxes: as the user writes them, or where the methods differ most."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from evalkit.data.images import to_gray
from evalkit.errors import EvalkitError

SHARE = 0.2  # of width and height, of an automatic box
WRITE = (
    "Write x,y,w,h in pixels, or as fractions of width and height, e.g. 0.5,0.4,0.2,0.2 or 007_smoke:320,200,128,96."
)


@dataclass(frozen=True)
class Box:
    """Columns x .. x + w - 1 and rows y .. y + h - 1 of an image."""

    x: int
    y: int
    w: int
    h: int

    def crop(self, image: NDArray) -> NDArray:
        return image[self.y : self.y + self.h, self.x : self.x + self.w]


def parse_boxes(texts: Iterable[str], scenes: Sequence[str]) -> dict[str, list[tuple[float, ...]]]:
    """Scene -> its boxes as numbers, in the order given; a box without `SCENE:` is every scene's that has none itself.

    Raises:
        EvalkitError: not four numbers, a scene that is not drawn, or more than two boxes of a scene.
    """
    by_scene: dict[str, list[tuple[float, ...]]] = {}
    for text in texts:
        scene, _, numbers = text.rpartition(":")
        try:
            box = tuple(float(number) for number in numbers.split(","))
        except ValueError:
            box = ()
        if len(box) != 4 or not all(map(math.isfinite, box)) or min(box) < 0 or min(box[2:]) == 0:
            raise EvalkitError(f"--box is {text!r}. {WRITE}")
        if scene and scene not in scenes:
            raise EvalkitError(f"--box is {text!r}, and the scene {scene!r} is not drawn. Drawn: {', '.join(scenes)}.")
        by_scene.setdefault(scene, []).append(box)
    if any(len(boxes) > 2 for boxes in by_scene.values()):
        raise EvalkitError("--box is given more than twice for a scene: the first is red, the second green.")
    return {scene: by_scene.get(scene, by_scene.get("", [])) for scene in scenes}


def place_box(numbers: tuple[float, ...], width: int, height: int) -> Box:
    """A box in pixels.

    Args:
        numbers: x, y, w, h; fractions of width and height where all are at most 1, else pixels.
        width, height: of the image, in pixels.

    Raises:
        EvalkitError: the box leaves the image.
    """
    x, y, w, h = numbers
    if max(numbers) <= 1:
        x, y, w, h = x * width, y * height, w * width, h * height
    box = Box(round(x), round(y), max(1, round(w)), max(1, round(h)))
    if box.x + box.w > width or box.y + box.h > height:
        shown = ",".join(f"{n:g}" for n in numbers)
        raise EvalkitError(f"the box {shown} leaves the image, which is {width}x{height} pixels. {WRITE}")
    return box


def choose_boxes(images: Sequence[NDArray[np.uint8]]) -> list[Box]:
    """Two boxes of a fifth of width and height where the images' details differ most, one beside the other.

    Details are the gray levels less their mean over the window around them, so that a method that is brighter as a
    whole decides nothing. Each box is the window with the largest mean of the details' standard deviation over the
    images; the second is the best of those that do not touch the first. Of equal windows the upper, then the left one
    is taken.

    Args:
        images: (H, W) or (H, W, 3) uint8 of one size, two at least; else there is nothing that differs: no boxes.
    """
    if len(images) < 2:
        return []
    height, width = images[0].shape[:2]
    w, h = max(1, round(SHARE * width)), max(1, round(SHARE * height))
    grays = [to_gray(image).astype(np.float64) for image in images]
    deviation = np.std([gray - cv2.blur(gray, (w, h)) for gray in grays], axis=0)
    total = np.pad(deviation, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    score = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    boxes = []
    for _ in range(2):
        if np.isneginf(score).all():
            break
        y, x = (int(i) for i in np.unravel_index(np.argmax(score.round(6)), score.shape))
        boxes.append(Box(x, y, w, h))
        score[max(0, y - h) : y + h + 1, max(0, x - w) : x + w + 1] = -np.inf
    return boxes
