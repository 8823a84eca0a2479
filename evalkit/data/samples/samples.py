"""Sample scenes: generated infrared-visible street pairs with classes, salient objects and boxes, free of any licence.

They let everything be tried without a download: the metrics, the methods, training, detection and segmentation. The two
images truly complete each other: people are bright in the infrared where night, glare or smoke hides them from the
visible camera, and lane paint, bricks, signs and lit windows are in the visible image only. The same index and seed
always give the same scene, whatever the number of scenes written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evalkit.data.card import load_card
from evalkit.data.images import max_pixels, write_png
from evalkit.data.pairs import find_pairs
from evalkit.data.samples.canvas import BIKE, CAR, PERSON, Canvas
from evalkit.data.samples.layout import CONDITIONS, SCALE, draw, place_camera
from evalkit.data.samples.light import Layers, infrared_image, smoke_in_front, visible_image
from evalkit.errors import DataError, EvalkitError
from evalkit.files.write import write_text

MIN_SIDE = 64
DETECTED = {PERSON: 0, BIKE: 1, CAR: 2}  # MSRS class -> class of its detection labels

Box = tuple[int, float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """One generated pair with its annotations; all arrays have the same height and width."""

    name: str  # e.g. "000_day"
    condition: str
    infrared: NDArray[np.uint8]  # (H, W)
    visible: NDArray[np.uint8]  # (H, W, 3) RGB
    classes: NDArray[np.uint8]  # (H, W), MSRS ids 0..8
    salient: NDArray[np.uint8]  # (H, W), 0 or 255
    boxes: tuple[Box, ...]  # class, centre x, centre y, width, height; the last four relative to the image


def make_scene(index: int, seed: int = 0, width: int = 640, height: int = 480) -> Scene:
    """Generate scene `index`; the condition cycles through CONDITIONS.

    Args:
        index: 0 or more. Any eight scenes in a row contain all eight MSRS classes; each has a person and a car.
        seed: 0 or more; another seed gives other streets.
        width, height: of the images in pixels, 64 or more each.

    Raises:
        EvalkitError: a negative index or seed, or a side of less than 64 pixels, or too many pixels.
    """
    if index < 0 or seed < 0:
        raise EvalkitError(f"index {index} and seed {seed} of a sample scene must be 0 or more.")
    if min(width, height) < MIN_SIDE:
        raise EvalkitError(
            f"a sample scene of {width}x{height} pixels is too small; use {MIN_SIDE} or more for each side."
        )
    if width * height > (limit := max_pixels()):
        raise EvalkitError(f"a sample scene of {width}x{height} pixels is too large: images have {limit} at most.")
    # the layout has its own generator, so that the same street appears at every size
    layout, grain = np.random.default_rng([seed, index]).spawn(2)
    condition = CONDITIONS[index % len(CONDITIONS)]
    canvas = Canvas(width * SCALE, height * SCALE, place_camera(layout, width * SCALE, height * SCALE))
    plan = draw(canvas, index, condition, layout, grain)

    label = np.ascontiguousarray(canvas.label[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE])
    layers = Layers(canvas, label)
    smoke = smoke_in_front(layers, layout, grain) if condition == "smoke" else np.zeros(label.shape, np.float32)
    infrared = infrared_image(layers, smoke, grain)
    visible = visible_image(layers, plan, condition, smoke, grain)
    if layout.random() < 0.5:  # left-hand traffic; else people would always come from the right
        infrared, visible = np.ascontiguousarray(infrared[:, ::-1]), np.ascontiguousarray(visible[:, ::-1])
        label = np.ascontiguousarray(label[:, ::-1])
    kinds = np.array([t.kind for t in canvas.things], np.uint8)
    hot = np.array([255 if t.hot else 0 for t in canvas.things], np.uint8)
    name = f"{index:03d}_{condition}"
    return Scene(name, condition, infrared, visible, kinds[label], hot[label], _boxes(label, canvas))


def _boxes(label: NDArray[np.int32], canvas: Canvas) -> tuple[Box, ...]:
    """Tight boxes of what is left to see of people, bicycles and cars; slivers get none."""
    height, width = label.shape
    least = max(8, round(1.5e-4 * height * width))
    boxes = []
    for number in np.unique(label).tolist():
        kind = canvas.things[number].kind
        if kind not in DETECTED:
            continue
        rows, columns = np.nonzero(label == number)
        if len(rows) < least:
            continue
        x0, x1, y0, y1 = int(columns.min()), int(columns.max()) + 1, int(rows.min()), int(rows.max()) + 1
        values = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
        cx, cy, w, h = (round(v, 6) for v in values)
        boxes.append((DETECTED[kind], cx, cy, w, h))
    return tuple(boxes)


# --- files and figure ------------------------------------------------------------------------------------------------


def box_text(boxes: Sequence[Box]) -> str:
    """YOLO label text: one line `class cx cy w h` per box, six decimals; empty for no boxes."""
    return "".join(f"{k} {cx:.6f} {cy:.6f} {w:.6f} {h:.6f}\n" for k, cx, cy, w, h in boxes)


def write_scenes(
    root: str | os.PathLike[str],
    count: int = 8,
    seed: int = 0,
    width: int = 640,
    height: int = 480,
    progress: Callable[[], object] | None = None,
) -> Path:
    """Write `count` scenes in the layout of MSRS under ROOT/samples and return that folder.

    Folders: ir, vi, Segmentation_labels (MSRS ids), salient (0 or 255) with PNG files, detection_labels with YOLO text.

    Args:
        progress: called once after each scene.

    Raises:
        EvalkitError: a count below 1, or what `make_scene` and the disk refuse.
    """
    if count < 1:
        raise EvalkitError(f"the number of sample scenes must be 1 or more, not {count}.")
    folder = Path(root) / "samples"
    for index in range(count):
        scene = make_scene(index, seed, width, height)
        images = (
            ("ir", scene.infrared),
            ("vi", scene.visible),
            ("Segmentation_labels", scene.classes),
            ("salient", scene.salient),
        )
        for name, image in images:
            write_png(folder / name / f"{scene.name}.png", image)
        write_text(folder / "detection_labels" / f"{scene.name}.txt", box_text(scene.boxes))
        if progress is not None:
            progress()
    return folder


def draw_scenes(
    root: Path,
    count: int,
    seed: int = 0,
    width: int = 640,
    height: int = 480,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
    text: str = "draw sample scenes",
) -> Path:
    """A data root with so many scenes, drawn unless they are there already; `write_scenes` says what may go wrong.

    Args:
        root: the data root; the scenes lie in its folder `samples`.
        count: scenes, 1 or more.
        seed, width, height: as for `make_scene`.
        progress: wraps the steps, called with (items, count, text).
        text: what the progress says.
    """
    if _are_complete(root, count):
        return root
    steps = iter(progress(range(count + 1), count, text))
    next(steps)
    write_scenes(root, count, seed, width, height, progress=lambda: next(steps, None))
    next(steps, None)  # the bar is complete
    return root


def _are_complete(root: Path, count: int) -> bool:
    """Whether so many scenes are there with all their labels; boxes are what is written last."""
    card = load_card("samples")
    try:
        pairs = find_pairs(card, root).pairs
    except DataError:  # none are there
        return False
    kinds = card.layouts[0].labels.keys()
    return len(pairs) == count and all(pair.labels.keys() == kinds for pair in pairs)
