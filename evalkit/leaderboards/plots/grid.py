"""Qualitative comparison: scenes by methods, with red and green zoom boxes and their enlarged insets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from evalkit.errors import ImageError
from evalkit.leaderboards.plots.style import GAP, TALLEST, WIDTHS, Drawing, Width, finish, styled, text_width, wrapped
from evalkit.leaderboards.plots.zoom import Box

FRAMES = (("#E3000F", "-"), ("#00A651", (0, (3, 1))))  # red; green, which dashes tell apart without colour
SPACE = 0.03  # inches between panels
LETTER = 6.5  # points, of the names; as small as 5 before a name is put in two lines
MOST = {"column": 4, "page": 8}  # panels in a line when not told


@dataclass(frozen=True)
class GridScene:
    """One scene: its images by name, None where a method has none, and its zoom boxes (red, green)."""

    name: str
    images: Mapping[str, NDArray[np.uint8] | None]
    boxes: Sequence[Box] = ()

    def __post_init__(self) -> None:
        first = next((name for name, image in self.images.items() if image is not None), "")
        for name, image in self.images.items():
            if image is not None and image.shape[:2] != self.size:
                height, width = image.shape[:2]
                raise ImageError(
                    f"scene {self.name}: {name} is {width}x{height} pixels, {first} {self.size[1]}x{self.size[0]}. "
                    "Give images of one size."
                )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = next(image.shape[:2] for image in self.images.values() if image is not None)
        return height, width


@styled
def grid(
    scenes: Sequence[GridScene],
    missing: Mapping[str, str],
    width: Width = "page",
    caption: bool = True,
    per_line: int | None = None,
    methods_down: bool = False,
) -> Drawing:
    """A line of panels per scene (several where there are many methods), or a column per scene with `methods_down`.

    Args:
        scenes: with the same names of images in the same order.
        missing: method -> why it has no image somewhere; its panel there says so.
        width: of the figure: "column" is 3.5, "page" 7.16 inches.
        caption: write it below the panels.
        per_line: panels in a line; where it is not given, as even as can be with at most 8 on a page, 4 on a column.
        methods_down: a line per method and a column per scene.
    """
    names = list(scenes[0].images)
    if methods_down:
        lines = [[(scene, name) for scene in scenes] for name in names]
        columns = len(scenes)
    else:
        per_line = min(per_line or math.ceil(len(names) / math.ceil(len(names) / MOST[width])), len(names))
        starts = range(0, len(names), per_line)
        lines = [[(scene, name) for name in names[i : i + per_line]] for scene in scenes for i in starts]
        columns = per_line
    figure = Figure(figsize=(WIDTHS[width], 1), dpi=100)
    FigureCanvasAgg(figure)
    stub = max((_stub(figure, name) for name in names), default=0.0) if methods_down else 0.17 * (len(scenes) > 1)
    panel = (WIDTHS[width] - 2 * GAP - stub - (columns - 1) * SPACE) / columns
    if methods_down:
        images = len(names) * (max(_height(scene, panel) for scene in scenes) - SPACE)
        panel *= min(1, (TALLEST - 0.5 - 2 * SPACE * len(names)) / images)  # of many methods smaller ones, on one page
    labels = {name: _label(figure, name, panel) for name in names}
    under = max(size * (1.6 + 1.25 * text.count("\n")) for text, size in labels.values()) / 72
    heights = []
    for line in lines:
        tallest = max(_height(scene, panel) for scene, _ in line)
        last = methods_down or line[0][0] is scenes[-1] or len(lines) > len(scenes)
        heights.append(tallest + (under if last and not methods_down else 0))
    head = 0.18 if methods_down and len(scenes) > 1 else 0.0
    total = sum(heights) + SPACE * (len(lines) - 1) + 2 * GAP + head
    needed = 2 * GAP + stub + columns * panel + (columns - 1) * SPACE
    across = max(needed, WIDTHS["column"])
    figure.set_size_inches(across, total)
    start = GAP + stub + (across - needed) / 2
    top = total - GAP - head
    for i, (line, height) in enumerate(zip(lines, heights, strict=True)):
        for j, (scene, name) in enumerate(line):
            left = start + j * (panel + SPACE)
            bottom = _panel(figure, scene, name, left, top, panel, total)
            if methods_down:
                if i == 0 and head:
                    _text(figure, left + panel / 2, total - GAP, scene.name, "center", "top")
            elif height > _height(scene, panel) + 1e-9:
                label, size = labels[name]
                # a text's baseline is that of its last line
                low = bottom - 0.03 - size / 72 * (1 + 1.25 * label.count("\n"))
                _text(figure, left + panel / 2, low, label, "center", "baseline", size)
        if methods_down:
            label = wrapped(figure, line[0][1], stub, LETTER)
            _text(figure, start - 0.04, top - height / 2, label, "right", "center")
        elif stub and line[0][1] == names[0]:
            own = [h for (h, row) in zip(heights, lines, strict=True) if row[0][0] is line[0][0]]
            middle = top - (sum(own) + SPACE * (len(own) - 1)) / 2
            _text(figure, GAP + stub / 2, middle, line[0][0].name, "center", "center", rotation=90)
        top -= height + SPACE
    boxes = max(len(scene.boxes) for scene in scenes)
    where = ": red left, green (dashed) right" if boxes > 1 else ""
    text = f"Below each image its boxes, enlarged{where}." if boxes else ""
    return finish(figure, text, missing, (), caption)


def _stub(figure: Figure, name: str) -> float:
    """Width of the names on the left: their own, 1 inch at most."""
    return min(1.0, text_width(figure, name, LETTER) + 0.06)


def _label(figure: Figure, name: str, room: float) -> tuple[str, float]:
    """A name that fits under a panel: smaller, then in lines."""
    for size in np.arange(LETTER, 4.9, -0.5):
        if text_width(figure, name, size) <= room:
            return name, float(size)
    return wrapped(figure, name, room, 5), 5.0


def _insets(scene: GridScene, panel: float) -> float:
    """Inches of the tallest inset; two share the width."""
    if not scene.boxes:
        return 0.0
    wide = (panel - SPACE * (len(scene.boxes) - 1)) / len(scene.boxes)
    return max(wide * box.h / box.w for box in scene.boxes)


def _height(scene: GridScene, panel: float) -> float:
    """Inches of an image with its insets below."""
    height, width = scene.size
    return panel * height / width + (SPACE + _insets(scene, panel) if scene.boxes else 0)


def _panel(figure: Figure, scene: GridScene, name: str, left: float, top: float, panel: float, total: float) -> float:
    """Draw one image and its insets; gives the lower edge in inches."""
    height, width = scene.size
    bottom = top - panel * height / width
    image = scene.images[name]
    lower = top - _height(scene, panel)
    if image is None:
        bottom = lower
    axes = _axes(figure, left, bottom, panel, top - bottom, total)
    axes.set_gid(f"{scene.name}|{name}")
    if image is None:
        axes.set(xlim=(0, 1), ylim=(0, 1), facecolor="0.93")
        axes.text(0.5, 0.5, "missing", ha="center", va="center", fontsize=6, color="0.3")
        return lower
    _show(axes, image)
    for i, (box, (shade, dashes)) in enumerate(zip(scene.boxes, FRAMES, strict=False)):
        corner = (box.x - 0.5, box.y - 0.5)
        axes.add_patch(Rectangle(corner, box.w, box.h, fill=False, edgecolor=shade, linestyle=dashes, linewidth=0.9))
        wide = (panel - SPACE * (len(scene.boxes) - 1)) / len(scene.boxes)
        high = wide * box.h / box.w
        inset = _axes(figure, left + i * (wide + SPACE), bottom - SPACE - high, wide, high, total)
        inset.set_gid(f"{scene.name}|{name}|{i}")
        _show(inset, box.crop(image))
        for spine in inset.spines.values():
            spine.set(visible=True, edgecolor=shade, linewidth=1.0, linestyle=dashes, capstyle="butt")
    return lower


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float, total: float) -> Axes:
    page = figure.get_size_inches()[0]
    axes = figure.add_axes((left / page, bottom / total, width / page, height / total))
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _show(axes: Axes, image: NDArray[np.uint8]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="auto")


def _text(
    figure: Figure, x: float, y: float, text: str, ha: str, va: str, size: float = LETTER, rotation: float = 0
) -> None:
    """Text at a place in inches."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, ha=ha, va=va, fontsize=size, rotation=rotation, linespacing=1.1)
