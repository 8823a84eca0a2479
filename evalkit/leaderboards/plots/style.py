"""How every plot looks, and how it becomes a file: the same input gives the same bytes."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, ParamSpec

import matplotlib
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.text import Text

from evalkit.errors import EvalkitError
from evalkit.files.write import write_bytes
from evalkit.leaderboards.plots.common import COLOURS, missing_lines

P = ParamSpec("P")
Width = Literal["column", "page"]
WIDTHS: dict[Width, float] = {"column": 3.5, "page": 7.16}  # inches, of an IEEE column and page
FORMATS = ("pdf", "svg", "png")
TALLEST = 9.25  # inches, of the text on a journal's page
DPI = 300
SMALL = 5.5  # points, of captions
GAP = 0.05  # inches between panels, legend and caption

MARKERS = "os^DvPX<>p*h"
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "oo", "||||", "++++", "xx..", "//..", "\\\\--")
# first the font that matplotlib brings, then what an operating system may have for Chinese, Japanese and Korean names
FONTS = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "Droid Sans Fallback", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "SimHei", "FandolHei",
)  # fmt: skip

RC: dict[str, Any] = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.2,
    "hatch.linewidth": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "svg.fonttype": "path",
    "svg.hashsalt": "evalkit",
    "text.parse_math": False,  # a method's name may hold a dollar sign
    "axes.unicode_minus": True,
}
METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}


@functools.cache
def _fonts() -> list[str]:
    here = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in FONTS if name in here]


@contextlib.contextmanager
def style() -> Iterator[None]:
    """This module's style, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # `unwritable` says it once
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC | {"font.family": _fonts()})  # type: ignore[arg-type]
        yield


def styled(draw: Callable[P, Drawing]) -> Callable[P, Drawing]:
    """Run a drawing function under this module's style."""

    @functools.wraps(draw)
    def run(*args: P.args, **options: P.kwargs) -> Drawing:
        with style():
            return draw(*args, **options)

    return run


@dataclass
class Drawing:
    """A finished figure. `subject` says what is drawn; `missing`: what is not -> why."""

    figure: Figure
    subject: str
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def caption(self) -> str:
        """What is drawn, and what is missing."""
        return "\n".join([self.subject, *missing_lines(self.missing)])

    def data(self, form: str) -> bytes:
        """The file's bytes as pdf, svg or png; the same for the same input. Images keep their pixels in pdf and svg."""
        with style():
            for image in self.figure.findobj(AxesImage):
                shown = image.axes.get_window_extent().width / self.figure.dpi * DPI
                reduced = shown < image.get_array().shape[1]  # type: ignore[union-attr]
                # a reduced image is averaged, or it would alias; an enlarged one shows its pixels
                image.set_interpolation("antialiased" if form == "png" and reduced else "none")
            buffer = io.BytesIO()
            self.figure.savefig(buffer, format=form, dpi=DPI, metadata=METADATA[form])
            return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        """The drawing as a notebook shows it."""
        return self.data("png")

    def texts(self) -> list[Text]:
        """Everything that is written in the figure."""
        return self.figure.findobj(Text)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, in the format of its suffix. Raises EvalkitError for another suffix, OutputError."""
        write_bytes(path, self.data(check_suffix(path)))


def check_suffix(path: str | os.PathLike[str]) -> str:
    """pdf, svg or png. Raises EvalkitError."""
    form = Path(path).suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise EvalkitError(f"{path} ends in {Path(path).suffix or 'no suffix'!r}. Plots are .pdf, .svg or .png files.")
    return form


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def line_style(i: int) -> dict[str, Any]:
    """Colour, marker and dashes of the i-th method: 84 differ in colour and marker, without colour 12 do."""
    return {
        "color": colour(i),
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": DASHES[i // len(COLOURS) % len(DASHES)],
        "markerfacecolor": "white" if i // len(COLOURS) % 2 else colour(i),
        "markeredgewidth": 0.7,
    }


def handle(i: int, label: str) -> Line2D:
    """The legend's line of the i-th method."""
    return Line2D([], [], label=label, **line_style(i))


def missing_handle(method: str) -> Line2D:
    """The legend's entry of a method that has nothing to draw."""
    return Line2D([], [], linestyle="", marker="_", color="0.4", label=f"{method} (missing)")


def panels(count: int, width: Width, height: float, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """A figure of panels, filled row by row.

    Args:
        count: number of panels.
        width: of the figure.
        height: of a panel, in inches.
        columns: panels in a row; one on a column, three on a page when None.
    """
    columns = min(count, columns or (1 if width == "column" else 3))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTHS[width], height * rows), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.04, hspace=0.04, wspace=0.04)  # type: ignore[union-attr,call-arg]
    grid = figure.add_gridspec(rows, columns)
    return figure, [figure.add_subplot(grid[i // columns, i % columns]) for i in range(count)]


def text_width(figure: Figure, text: str, size: float) -> float:
    """How wide a line of text is, in inches.

    Args:
        figure: what it is to be drawn in.
        text: one line.
        size: of the letters, in points.
    """
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    properties = font_manager.FontProperties(family=_fonts(), size=size)
    return renderer.get_text_width_height_descent(text, properties, False)[0] / figure.dpi


def wrapped(figure: Figure, text: str, width: float, size: float) -> str:
    """The text in lines; a word that is longer than a line is broken.

    Args:
        figure: what it is to be drawn in.
        text: its own line breaks are kept.
        width: of a line at most, in inches.
        size: of the letters, in points.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}".strip()
            while text_width(figure, longer, size) > width:
                if line:
                    lines.append(line)
                    line, longer = "", word
                    continue
                fits = next((n for n in range(len(word) - 1, 1, -1) if text_width(figure, word[:n], size) <= width), 1)
                if fits >= len(word):
                    break
                lines.append(word[:fits])
                word = longer = word[fits:]
            line = longer
        lines.append(line)
    return "\n".join(lines)


def finish(
    figure: Figure, caption: str, missing: Mapping[str, str], handles: Sequence[Artist] = (), show_caption: bool = True
) -> Drawing:
    """Put legend and caption below the panels. The figure grows by their height: nothing lies on anything else.

    Args:
        figure: with everything drawn.
        caption: what is drawn; the missing are named behind it.
        missing: what is not drawn -> why.
        handles: entries of the legend; without any there is none.
        show_caption: write the caption into the figure, too.
    """
    figure.draw_without_rendering()
    drawing = Drawing(figure, caption, dict(missing))
    width, height = map(float, figure.get_size_inches())
    below, inches = 0.0, figure.dpi_scale_trans
    if show_caption:
        text = figure.text(
            GAP, GAP, wrapped(figure, drawing.caption, width - 2 * GAP, SMALL), fontsize=SMALL, transform=inches,
            va="bottom", linespacing=1.25, color="0.25",
        )  # fmt: skip
        text.set_in_layout(False)
        below = GAP + text.get_window_extent().height / figure.dpi
    if handles:
        for columns in range(min(len(handles), 6), 0, -1):
            legend = figure.legend(
                handles=handles, ncols=columns, loc="lower center", bbox_to_anchor=(width / 2, below),
                bbox_transform=inches, borderpad=0.3, columnspacing=1.2, handlelength=2.2, handletextpad=0.5,
            )  # fmt: skip
            legend.set_in_layout(False)
            extent = legend.get_window_extent()
            if extent.width / figure.dpi <= width - 2 * GAP or columns == 1:
                break
            legend.remove()
        below += GAP + extent.height / figure.dpi
    figure.set_size_inches(width, height + below)
    if (engine := figure.get_layout_engine()) is None:
        _lift(figure, height, below)
    else:
        rect = (0, below / (height + below), 1, height / (height + below))
        engine.set(rect=rect)  # type: ignore[call-arg]
        figure.draw_without_rendering()
        figure.draw_without_rendering()  # the layout is settled before any file is made: each format gets the same
        figure.set_layout_engine("none")
    return drawing


def _lift(figure: Figure, height: float, below: float) -> None:
    """Move what stands at a place of its own up by `below` inches, in a figure that has grown by as much."""
    total = height + below
    for axes in figure.axes:
        left, bottom, width, high = axes.get_position(original=True).bounds
        axes.set_position((left, (bottom * height + below) / total, width, high * height / total))
    for text in figure.texts:
        if text.get_transform() == figure.transSubfigure:
            text.set_y((text.get_position()[1] * height + below) / total)


def unwritable(texts: Iterable[str]) -> str:
    """The characters that no font here can draw, each once."""
    paths = [font_manager.findfont(name, fallback_to_default=False) for name in _fonts()]
    known = set().union(*(font_manager.get_font(path).get_charmap() for path in paths))
    return "".join(dict.fromkeys(c for text in texts for c in text if c.isprintable() and ord(c) not in known))
