"""The figures of a saliency run: curves, and F against cost. Needs matplotlib and pandas."""

from __future__ import annotations

from pathlib import Path

from evalkit.files.names import file_name
from evalkit.files.write import write_text
from evalkit.leaderboards.maps import MapScores, curves_csv
from evalkit.leaderboards.plots.curves import curves as draw
from evalkit.leaderboards.plots.scatter import read_cost, scatter
from evalkit.leaderboards.plots.values import blocks
from evalkit.protocols.table.table import Table


def write_scatter(table: Table, out: Path) -> None:
    """scatter.svg: F against multiply-adds, where a row has both. Raises OutputError."""
    have = [{c.method for c in table.cells if c.metric == name and c.value is not None} for name in ("F", "FLOPs")]
    (out / "scatter.svg").unlink(missing_ok=True)  # of an earlier run
    if have[0] & have[1]:
        table.write(out)  # what the plot reads
        scatter(blocks([out], metrics=["F"]), read_cost(str(out), "FLOPs"), "page").save(out / "scatter.svg")
        table.note += " The figure: scatter.svg."


def write_curves(dataset: str, curves: dict[str, MapScores], missing: dict[str, str], out: Path) -> None:
    """curves/<data set>/<method>.csv, and both figures as SVG; those of an earlier run go. Raises OutputError.

    Args:
        dataset: names files and titles.
        curves: method -> curves.
        missing: method -> why it has none, for the caption.
        out: the run's folder.
    """
    for file in (*(out / "curves" / dataset).glob("*.csv"), out / f"pr-{dataset}.svg", out / f"f-{dataset}.svg"):
        file.unlink(missing_ok=True)
    if not curves:
        return
    for method, scores in curves.items():
        write_text(out / "curves" / dataset / f"{file_name(method)}.csv", curves_csv(scores))
    draw("pr", curves, missing, dataset, "page").save(out / f"pr-{dataset}.svg")
    draw("f", curves, missing, dataset, "page").save(out / f"f-{dataset}.svg")
