"""Loss curves of a training run."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evalkit.files.write import write_bytes
from evalkit.training.recipe import Recipe
from evalkit.training.state import Log


def draw_curves(log: Log, recipe: Recipe, path: Path) -> None:
    """Training and validation loss over the epochs, one panel per stage, as PNG. Raises OutputError.

    Args:
        log: of the run.
        recipe: for the title.
        path: of the PNG file.
    """
    stages = list(dict.fromkeys(stage for _, stage, _ in log.series("train", "total")))
    figure = Figure(figsize=(4.2 * max(len(stages), 1), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for i, name in enumerate(stages):
        axes = figure.add_subplot(1, len(stages), i + 1)
        for split, style in (("train", "-"), ("validation", "--")):
            points = [(epoch + 1, value) for epoch, stage, value in log.series(split, "total") if stage == name]
            if points:
                axes.plot(*zip(*points, strict=True), style, marker="." if len(points) < 40 else "", label=split)
        axes.set(title=name.replace("$", r"\$"), xlabel="epoch", ylabel="loss" if i == 0 else "")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(f"{recipe.title}, recipe {recipe.name}".replace("$", r"\$"))  # text, not mathematics
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_bytes(path, buffer.getvalue())
