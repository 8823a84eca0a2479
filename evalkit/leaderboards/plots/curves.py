"""Precision-recall curves, and F against the threshold, of saliency maps: SMR-Net's Figure 6."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from evalkit.data.pairs import natural_key
from evalkit.errors import DataError
from evalkit.leaderboards.maps import MapScores, saliency_folder
from evalkit.leaderboards.plots.style import Drawing, Width, finish, line_style, missing_handle, panels, styled
from evalkit.leaderboards.rank import chosen_names

LEVELS = 256
MARKS = 10


def read_maps(
    maps: Path,
    truth: Path,
    methods: Iterable[str] | None = None,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
) -> tuple[dict[str, MapScores], dict[str, str]]:
    """Measure MAPS/<method>/*.png against the masks; methods that lack a map, or have one that is damaged, apart.

    Args:
        maps: holds a folder per method: gray images of 8 bits, 0 .. 255, each of its mask's height and width.
        truth: folder of the masks.
        methods: folders; all when None.
        progress: wraps the maps as they are measured, given their number and what is done.

    Returns:
        Method -> its scores and curves over every mask; and the missing methods with the reason.

    Raises:
        DataError: no such folder, or no method in it has a map for every mask.
        UnknownNameError: a method without a folder.
    """
    if not maps.is_dir():
        raise DataError(f"the folder {maps} does not exist. Expected {maps}/<method>/<stem>.png, a folder per method.")
    folders = {path.name: path for path in maps.iterdir() if path.is_dir() and not path.name.startswith(".")}
    if not folders:
        raise DataError(f"{maps} holds no folders. Expected {maps}/<method>/<stem>.png, a folder per method.")
    measured: dict[str, MapScores] = {}
    missing: dict[str, str] = {}
    for method in chosen_names("method", methods, sorted(folders, key=natural_key)):
        try:
            result = saliency_folder(folders[method], truth, progress)
        except DataError as error:
            missing[method] = str(error).rstrip(".")
            continue
        missing_values = {where: why for where, why in result.missing.items() if where not in result.scores}
        if missing_values:
            where, why = next(iter(missing_values.items()))
            missing[method] = (
                f"no curve: {len(missing_values)} of {len(result.images) + len(missing_values)} maps, "
                f"e.g. {where}: {why}"
            )
        else:
            measured[method] = result
    if not measured:
        raise DataError("nothing to draw: " + "; ".join(f"{method}: {why}" for method, why in missing.items()) + ".")
    return measured, missing


@styled
def curves(
    kind: Literal["pr", "f"],
    maps: Mapping[str, MapScores],
    missing: Mapping[str, str],
    title: str = "",
    width: Width = "column",
    caption: bool = True,
) -> Drawing:
    """The curves averaged over the maps, of each method; the legend carries the maximum of F on the curve.

    Args:
        kind: "pr", precision against recall; or "f", F against the threshold.
        maps: method -> its curves, as `read_maps` gives them.
        missing: method -> why it has none.
        title: above the panel.
        width: of the figure: "column" is 3.5, "page" 7.16 inches.
        caption: write it below the panels.
    """
    figure, (axes,) = panels(1, width, 2.3 if width == "column" else 3.2)
    handles = []
    order = sorted([*maps, *missing], key=natural_key)
    for i, method in enumerate(order):
        if method not in maps:
            handles.append(missing_handle(method))
            continue
        result = maps[method]
        text = f"{method}: max F {result.scores['F_max']:.4f}"
        handles += _curve(axes, kind, result, i, len(order), text)
    axes.grid(True)
    axes.set_title(title)
    count = len(next(iter(maps.values())).images)
    if kind == "pr":
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
        subject = "Precision and recall of the maps binarised at level ≥ t, t = 0..255"
    else:
        axes.set(xlabel="threshold", ylabel="F (β² = 0.3)", xlim=(0, LEVELS - 1), ylim=(0, 1))
        axes.set_xticks([0, 51, 102, 153, 204, 255])
        subject = "F of the maps binarised at level ≥ t"
    text = f"{subject}, averaged over {count} maps at each threshold; convention pysodmetrics."
    return finish(figure, text, missing, handles, caption)


def _curve(axes: Axes, kind: str, result: MapScores, i: int, count: int, text: str) -> list:
    every = (i * LEVELS // MARKS // count, LEVELS // MARKS)
    style = {"label": text, "clip_on": False, "zorder": 3, **line_style(i)}
    if kind == "f":
        return axes.plot(np.arange(LEVELS), result.curves.f, markevery=every, **style)
    # markers at equal distances along the curve: most thresholds crowd at its ends
    share = 1 / MARKS
    return axes.plot(result.curves.recall, result.curves.precision, markevery=(i * share / count, share), **style)
