"""Cumulative distributions of a metric over the images, as PSFusion's Figures 11 to 14 draw them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.transforms import ScaledTranslation

from evalkit.leaderboards.plots.common import Panel, distribution, gather
from evalkit.leaderboards.plots.style import Drawing, Width, finish, line_style, missing_handle, panels, styled
from evalkit.leaderboards.plots.values import image_values, label, place, said
from evalkit.leaderboards.run_values import ValueBlock

MARKS = 7  # markers along a curve
BELOW = 0.36  # inches from an axis to the legend below its label


@styled
def cumulative(blocks: Sequence[ValueBlock], width: Width = "column", caption: bool = True) -> Drawing:
    """A panel per data set and metric; the legend of each panel carries the mean per method.

    Args:
        blocks: a measured data set each.
        width: of the figure: "column" is 3.5, "page" 7.16 inches.
        caption: write it below the panels.

    Raises:
        DataError: published numbers, or no method has a value for every image.
    """
    shown = [(block, metric) for block in blocks for metric in block.values.columns]
    methods = list(dict.fromkeys(str(method) for block in blocks for method in block.values.index))
    longest = max(map(len, methods))
    columns = 1 if width == "column" or len(shown) == 1 else 2 if longest > 16 else 3
    per_row = max(1, round((3.5 if columns == 1 and width == "column" else 7.16 / columns) / (0.62 + 0.052 * longest)))
    height = 1.75 + 0.115 * -(-len(methods) // per_row)
    figure, axes = panels(len(shown), width, height, columns)
    left_out: dict[tuple[str, Panel], str] = {}
    for one, (block, metric) in zip(axes, shown, strict=True):
        scores, missing = image_values(block, metric)
        handles = []
        for i, method in enumerate(methods):
            if method not in scores:
                handles.append(missing_handle(method))
                continue
            x, y = distribution(scores[method])
            step = max(1, len(x) // MARKS)
            every = (i * step // max(len(methods), 1), step)
            text = f"{method}: {scores[method].mean():.4f}"
            handles += one.plot(x, y, label=text, markevery=every, clip_on=False, zorder=3, **line_style(i))
        one.set(xlim=(0, 1), xlabel="share of the image pairs", ylabel=label(block, metric))
        one.set_title(f"{metric} · {place(block)} · {len(scores)} pairs")
        one.grid(True)
        below = one.transAxes + ScaledTranslation(0, -BELOW, figure.dpi_scale_trans)
        one.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, ncols=per_row,
            fontsize=5.5, columnspacing=0.9, handlelength=1.8, handletextpad=0.4, borderpad=0.1, labelspacing=0.3,
        )  # fmt: skip
        for method, why in missing.items():
            left_out[method, (block.dataset, metric)] = why
    text = (
        f"Cumulative distribution, {said(blocks)}: a point (x, y) means that 100x % of the image pairs have values not "
        "above y. The mean over all pairs stands behind each name."
    )
    return finish(figure, text, gather(left_out, [(b.dataset, m) for b, m in shown]), (), caption)
